"""Adam gives the bits of torch's optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from heareval.predictions.learners.adam import Adam


def _train(make: Callable[[dict[float, list[nn.Parameter]]], Any], clear: Callable[[Any], None]) -> bytes:
    """Train three networks, of which one stops early, and return all their weights."""
    torch.manual_seed(0)
    networks = [
        nn.Sequential(nn.Linear(20, 33), nn.BatchNorm1d(33), nn.ReLU(), nn.Linear(33, 7)) for _ in range(3)
    ]
    first, second, third = (list(network.parameters()) for network in networks)
    optimizer = make({1e-2: [*first, *second], 1e-3: third})
    for step in range(40):
        clear(optimizer)
        x = torch.randn(16, 20)
        active = networks if step < 20 else networks[1:]
        torch.stack([network(x).square().mean() for network in active]).sum().backward()
        optimizer.step()
    weights = torch.cat([each.detach().flatten() for network in networks for each in network.parameters()])
    return weights.numpy().tobytes()


def test_the_weights_are_those_of_torchs_adam() -> None:
    ours = _train(Adam, Adam.clear_gradients)
    theirs = _train(
        lambda by_lr: torch.optim.Adam([{"params": of, "lr": lr} for lr, of in by_lr.items()], fused=True),
        lambda optimizer: optimizer.zero_grad(set_to_none=True),
    )
    assert ours == theirs
