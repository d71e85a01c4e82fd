"""Training predictors, against the bare matrix products, and a plain loop over a DataLoader.

python -m benchmarks.predict --case esc50 --epochs 5

All train the same networks for the same epochs on the same rows, in turn, each in processes of its own, on
the GPU if there is one; nothing is validated. Ours has the environment variables that the pipeline gives it,
and trains side by side what it would there. The bare way has them, too; it multiplies the matrices of the
forward and the backward pass and does nothing else. The plain loop is the one most people write: a DataLoader
over a TensorDataset, batches put together row by row, the loss of each step logged.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from heareval.predictions.data import Split
from heareval.predictions.learners.learner import Criterion
from heareval.predictions.learners.training import (
    Objective,
    Training,
    batch_bounds,
    fit_all,
    max_stacked,
)
from heareval.predictions.protocol import Settings
from heareval.predictions.results import Validation
from heareval.predictions.worker import ENVIRONMENT
from heareval.worker_process import PATIENCE

LEARNING_RATES = (3.2e-3, 1e-3, 3.2e-4, 1e-4)
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


def heareval(case: Case, split: Split, points: Sequence[Settings]) -> None:
    """Grid points as the pipeline trains them, validated at the end on a single row."""
    objective = Objective(loss_of(case), lambda logits: Validation(0.0), Criterion("score", maximise=True))
    trainings = [Training((split,), split.x[:1], point, objective, seed) for seed, point in enumerate(points)]
    most = max_stacked(DEVICE)
    for _ in fit_all(trainings, case.labels, order="fixed", most=most):
        pass


def bare(case: Case, split: Split, points: Sequence[Settings]) -> None:
    """The matrix products of every step of every grid point."""
    for settings in points:
        _bare(case, split, settings)


def _bare(case: Case, split: Split, settings: Settings) -> None:
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


def plain(case: Case, split: Split, points: Sequence[Settings]) -> None:
    """A DataLoader, nn.Sequential, Adam, and a log, grid point by grid point."""
    for settings in points:
        _plain(case, split, settings)


def _plain(case: Case, split: Split, settings: Settings) -> None:
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


Way = Callable[["Case", Split, Sequence[Settings]], None]
WAYS: dict[str, Way] = {"heareval": heareval, "bare products": bare, "plain loop": plain}


def seconds(way: str, case: Case, points: Sequence[Settings]) -> float:
    """How long a way takes when it is warm."""
    split = make_split(case)
    for measured in ([replace(points[0], max_epochs=1, check_val_every_n_epoch=1)], points):
        started = time.perf_counter()
        WAYS[way](case, split, measured)
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        took = time.perf_counter() - started
    return took


def seconds_apart(way: str, arguments: Sequence[str]) -> float:
    """The same, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.predict", "--way", way, *arguments]
    variables = dict(os.environ) if way == "plain loop" else {**os.environ, **PATIENCE, **ENVIRONMENT}
    return float(subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Print medians of the times, and of the ratios in the same turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=list(CASES), nargs="+", default=list(CASES))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--hidden-layers", type=int, default=1)
    parser.add_argument("--networks", type=int, default=1 if DEVICE.type == "cpu" else 8)
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    points = [
        Settings(
            given.hidden_layers,
            LEARNING_RATES[number % len(LEARNING_RATES)],
            "xavier_uniform",
            max_epochs=given.epochs,
            check_val_every_n_epoch=given.epochs,
        )
        for number in range(given.networks)
    ]
    if given.way:
        print(seconds(given.way, CASES[given.case[0]], points))  # noqa: T201
        return
    for name in given.case:
        words = ["--case", name]
        for option in ("epochs", "hidden_layers", "networks"):
            words += [f"--{option.replace('_', '-')}", str(getattr(given, option))]
        turns = [{way: seconds_apart(way, words) for way in WAYS} for _ in range(given.turns)]
        for way in WAYS:
            median = statistics.median(turn[way] for turn in turns)
            ratio = statistics.median(turn[way] / turn["heareval"] for turn in turns)
            print(f"{name:8} {way:14} {median:8.3f} s   {ratio:6.2f} x our time", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
