"""Training predictors, against the bare matrix products, and a plain loop over a DataLoader.

python -m benchmarks.predict --case esc50 --epochs 5

All train the same network for the same epochs on the same rows, in turn in one process, on the GPU if there
is one; nothing is validated. The bare way multiplies the matrices of the forward and the backward pass and
does nothing else. The plain loop is the one most people write: a DataLoader over a TensorDataset, batches put
together row by row, the loss of each step logged.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from heareval.predictions.data import Split
from heareval.predictions.protocol import Settings
from heareval.predictions.training import Judge, Validation, batch_bounds, fit

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Case:
    """Data of the size of a task, one training of it."""

    rows: int
    dim: int
    labels: int
    is_multilabel: bool


CASES = {
    "esc50": Case(1200, 2048, 50, False),
    "speech": Case(16000, 1024, 12, False),
    "fsd50k": Case(40000, 2048, 200, True),
    "dcase": Case(43 * 2400, 1024, 11, True),
    "maestro": Case(3 * 37 * 2400, 512, 88, True),
}


def make_split(case: Case) -> Split:
    """Noise, with labels that it could be."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(case.rows, case.dim, generator=draw)
    y = torch.randint(case.labels, (case.rows,), generator=draw)
    if case.is_multilabel:
        y = functional.one_hot(y, case.labels).float()
    return Split("train", tuple(map(str, range(case.rows))), x.to(DEVICE), y.to(DEVICE))


def loss_of(case: Case) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of the protocol."""
    return functional.binary_cross_entropy_with_logits if case.is_multilabel else functional.cross_entropy


def heareval(case: Case, split: Split, settings: Settings) -> None:
    """One grid point as the pipeline trains it, validated at the end on a single row."""
    judge = Judge(loss_of(case), lambda logits: Validation(0.0), maximise=True)
    fit([split], split.x[:1], case.labels, settings, judge, seed=0, order="fixed", progress=lambda *_: None)


def bare(case: Case, split: Split, settings: Settings) -> None:
    """The matrix products of every step."""
    widths = [case.dim, *[settings.hidden_dim] * settings.hidden_layers, case.labels]
    weights = [torch.randn(a, b, device=DEVICE) for a, b in itertools.pairwise(widths)]
    bounds = batch_bounds(case.rows, settings.batch_size)
    with torch.inference_mode():
        for _ in range(settings.max_epochs):
            for start, stop in bounds:
                inputs = [split.x[start:stop]]
                for weight in weights:
                    inputs.append(inputs[-1] @ weight)
                gradient = inputs.pop()
                for i in reversed(range(len(weights))):
                    inputs[i].T @ gradient
                    # The embeddings need no gradient.
                    gradient = gradient @ weights[i].T if i else gradient
        _wait()


def plain(case: Case, split: Split, settings: Settings) -> None:
    """A DataLoader, nn.Sequential, Adam, and a log."""
    layers: list[nn.Module] = []
    width = case.dim
    for _ in range(settings.hidden_layers):
        layers += [
            nn.Linear(width, settings.hidden_dim),
            nn.BatchNorm1d(settings.hidden_dim),
            nn.Dropout(settings.dropout),
            nn.ReLU(),
        ]
        width = settings.hidden_dim
    network = nn.Sequential(*layers, nn.Linear(width, case.labels)).to(DEVICE)
    optimizer, loss = torch.optim.Adam(network.parameters(), lr=settings.lr), loss_of(case)
    data = torch.utils.data.TensorDataset(split.x.cpu(), split.y.cpu())
    loader = torch.utils.data.DataLoader(data, batch_size=settings.batch_size)
    log = []
    for _ in range(settings.max_epochs):
        for x, y in loader:
            x, y = x.to(DEVICE), y.to(DEVICE)
            optimizer.zero_grad()
            value = loss(network(x), y)
            value.backward()
            optimizer.step()
            log.append(value.item())


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


Way = Callable[["Case", Split, Settings], None]
WAYS = {"heareval": heareval, "bare products": bare, "plain loop": plain}


def seconds(way: Way, case: Case, split: Split, settings: Settings) -> float:
    """How long a way takes."""
    started = time.perf_counter()
    way(case, split, settings)
    _wait()
    return time.perf_counter() - started


def main() -> None:
    """Print medians of the times, and of the ratios in the same turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=list(CASES), nargs="+", default=list(CASES))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--hidden-layers", type=int, default=1)
    given = parser.parse_args()
    settings = Settings(
        given.hidden_layers,
        1e-3,
        "xavier_uniform",
        max_epochs=given.epochs,
        check_val_every_n_epoch=given.epochs,
    )
    for name in given.case:
        case = CASES[name]
        split = make_split(case)
        turns = [
            {way: seconds(function, case, split, settings) for way, function in WAYS.items()}
            for _ in range(given.turns + 1)
        ][1:]
        for way in WAYS:
            median = statistics.median(turn[way] for turn in turns)
            ratio = statistics.median(turn[way] / turn["heareval"] for turn in turns)
            print(f"{name:8} {way:14} {median:8.3f} s   {ratio:6.2f} x our time", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
