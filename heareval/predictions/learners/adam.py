"""Adam, with the same numbers as `torch.optim.Adam`, without torch's compiler.

The first optimizer of a class of `torch.optim` imports the compiler of torch: more than a second of CPU time
and 70 MB of memory in each worker process, for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.adam import adam


@dataclass(frozen=True)
class _Moments:
    """A parameter with the moving averages of its gradient and of the gradient's square."""

    parameter: nn.Parameter
    mean: Tensor
    mean_square: Tensor
    steps: Tensor

    @classmethod
    def of(cls, parameter: nn.Parameter) -> _Moments:
        """Return the averages before the first step."""
        mean, mean_square = (
            torch.zeros_like(parameter, requires_grad=False, memory_format=torch.preserve_format)
            for _ in range(2)
        )
        steps = torch.zeros((), dtype=torch.float32, device=parameter.device)
        return cls(parameter, mean, mean_square, steps)


class Adam:
    """Adam (Kingma and Ba, https://arxiv.org/abs/1412.6980) with the settings that torch has by default.

    It computes the same numbers as `torch.optim.Adam(..., fused=True)`.

    Args:
        by_lr: the parameters for each learning rate. All that have one learning rate share their kernels.

    Example:
        >>> weight = nn.Parameter(torch.ones(1))
        >>> optimizer = Adam({0.5: [weight]})
        >>> weight.sum().backward()
        >>> optimizer.step()
        >>> round(weight.item(), 6)
        0.5
    """

    def __init__(self, by_lr: Mapping[float, Sequence[nn.Parameter]]) -> None:
        self._by_lr = {lr: [_Moments.of(each) for each in group] for lr, group in by_lr.items()}

    @property
    def moments(self) -> list[Tensor]:
        """The moving averages and the number of steps of every parameter, in an order that never changes."""
        every = [one for group in self._by_lr.values() for one in group]
        return [tensor for one in every for tensor in (one.mean, one.mean_square, one.steps)]

    def clear_gradients(self) -> None:
        """Free the gradients of all parameters."""
        for group in self._by_lr.values():
            for one in group:
                one.parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters that have a gradient; the others and their averages stay as they are."""
        for lr, group in self._by_lr.items():
            moved = [(one, one.parameter.grad) for one in group if one.parameter.grad is not None]
            adam(
                [one.parameter for one, _ in moved],
                [gradient for _, gradient in moved],
                [one.mean for one, _ in moved],
                [one.mean_square for one, _ in moved],
                [],
                [one.steps for one, _ in moved],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=lr,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )
