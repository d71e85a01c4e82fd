"""Compare training predictors with the bare matrix products, and with a plain loop over a DataLoader.

python -m benchmarks.predict --case esc50 --epochs 5
python -m benchmarks.predict --way heareval --way "heareval bf16" --way "plain loop"

All ways train the same networks for the same number of epochs on the same rows. They alternate, each in a
separate process, on the GPU if there is one, without validation. heareval runs with the environment
variables that the pipeline sets and stacks the same networks as the pipeline. The bare way has the same
variables; it only multiplies the matrices of the forward and backward passes. The plain loop is the one that
most people write: a DataLoader over a TensorDataset, which collates batches row by row, with the loss of
each step logged. Ways with "bf16" multiply in it; the plain loop then does so by autocast.
"""

from __future__ import annotations

import argparse
import functools
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
from heareval.predictions.learners.precision import activations_of
from heareval.predictions.learners.side_by_side import SideBySide
from heareval.predictions.learners.training import (
    Objective,
    Training,
    batch_bounds,
    fit_all,
    max_stacked,
)
from heareval.predictions.protocol import Settings, TrainPrecision
from heareval.predictions.results import Validation
from heareval.predictions.worker import ENVIRONMENT
from heareval.worker_process import THREAD_VARIABLES

LEARNING_RATES = (3.2e-3, 1e-3, 3.2e-4, 1e-4)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Case:
    """The size of the training data of one predictor."""

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


def limit_rows(name: str, most: int | None) -> Case:
    """Return a case with at most this many rows; None means all of them."""
    case = CASES[name]
    return replace(case, rows=min(case.rows, most or case.rows))


def make_split(case: Case) -> Split:
    """Return a split of noise with random labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.rows, case.dim, generator=generator)
    y = torch.randint(case.labels, (case.rows,), generator=generator)
    if case.is_multilabel:
        y = functional.one_hot(y, case.labels).float()
    return Split("train", tuple(map(str, range(case.rows))), x.to(DEVICE), y.to(DEVICE))


def choose_loss(case: Case) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss that the protocol uses for a case."""
    return functional.binary_cross_entropy_with_logits if case.is_multilabel else functional.cross_entropy


def train_with_heareval(
    case: Case,
    split: Split,
    points: Sequence[Settings],
    precision: TrainPrecision = "float32",
    side_by_side: SideBySide | None = None,
) -> None:
    """Train grid points as the pipeline does, with one validation on a single row at the end."""
    valid_x = split.x[:1]
    split = replace(split, x=split.x[:].to(activations_of(precision)))
    objective = Objective(
        choose_loss(case), lambda logits: Validation(0.0), Criterion("score", maximise=True)
    )
    trainings = [Training((split,), valid_x, point, objective, seed) for seed, point in enumerate(points)]
    fitted = fit_all(
        trainings,
        case.labels,
        order="fixed",
        most=max_stacked(DEVICE),
        precision=precision,
        side_by_side=side_by_side,
    )
    for _ in fitted:
        pass


def multiply_matrices(
    case: Case, split: Split, points: Sequence[Settings], dtype: torch.dtype = torch.float32
) -> None:
    """Compute the matrix products of every training step of every grid point."""
    for settings in points:
        _multiply_matrices(case, split.x[:].to(dtype), settings)


def _multiply_matrices(case: Case, x: Tensor, settings: Settings) -> None:
    widths = [case.dim, *[settings.hidden_dim] * settings.hidden_layers, case.labels]
    weights = [torch.randn(a, b, device=DEVICE).to(x.dtype) for a, b in itertools.pairwise(widths)]
    bounds = batch_bounds(case.rows, settings.batch_size)
    with torch.inference_mode():
        for _ in range(settings.max_epochs):
            for start, stop in bounds:
                inputs = [x[start:stop]]
                for weight in weights:
                    inputs.append(inputs[-1] @ weight)
                gradient = inputs.pop()
                for i in reversed(range(len(weights))):
                    inputs[i].T @ gradient
                    # No gradient is needed for the embeddings.
                    gradient = gradient @ weights[i].T if i else gradient


def train_with_loop(case: Case, split: Split, points: Sequence[Settings], *, in_bf16: bool = False) -> None:
    """Train one grid point after another with a DataLoader, nn.Sequential, Adam and a log."""
    for settings in points:
        _train_with_loop(case, split, settings, in_bf16)


def _train_with_loop(case: Case, split: Split, settings: Settings, in_bf16: bool) -> None:
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
    optimizer, loss = torch.optim.Adam(network.parameters(), lr=settings.lr), choose_loss(case)
    data = torch.utils.data.TensorDataset(split.x.cpu(), split.y.cpu())
    loader = torch.utils.data.DataLoader(data, batch_size=settings.batch_size)
    log = []
    for _ in range(settings.max_epochs):
        for x, y in loader:
            x, y = x.to(DEVICE), y.to(DEVICE)
            optimizer.zero_grad()
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=in_bf16):
                value = loss(network(x), y)
            value.backward()
            optimizer.step()
            log.append(value.item())


Way = Callable[["Case", Split, Sequence[Settings]], None]
WAYS: dict[str, Way] = {
    "heareval": train_with_heareval,
    "heareval bf16": functools.partial(train_with_heareval, precision="bf16"),
    "bare products": multiply_matrices,
    "bare products bf16": functools.partial(multiply_matrices, dtype=torch.bfloat16),
    "plain loop": train_with_loop,
    "plain loop bf16": functools.partial(train_with_loop, in_bf16=True),
}


def measure_seconds(way: str, case: Case, points: Sequence[Settings], clock: Callable[[], float]) -> float:
    """Return the seconds by a clock that a way takes after a warm-up of one epoch."""
    split = make_split(case)
    for settings in ([replace(points[0], max_epochs=1, check_val_every_n_epoch=1)], points):
        started = clock()
        WAYS[way](case, split, settings)
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        seconds = clock() - started
    return seconds


def measure_in_process(way: str, arguments: Sequence[str]) -> float:
    """Return the seconds that a way takes, measured in a separate process."""
    command = [sys.executable, "-m", "benchmarks.predict", "--measure", way, *arguments]
    variables = dict(os.environ) if "plain loop" in way else {**os.environ, **THREAD_VARIABLES, **ENVIRONMENT}
    return float(subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Print the median time of each way and the median ratio of times in the same turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=list(CASES), nargs="+", default=list(CASES))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, help="train on at most this many rows, in steps of the same size")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--hidden-layers", type=int, default=1)
    parser.add_argument("--networks", type=int, default=1 if DEVICE.type == "cpu" else 8)
    parser.add_argument(
        "--core-seconds",
        action="store_true",
        help="measure CPU time on one thread, which other programs on the machine hardly change",
    )
    parser.add_argument("--way", choices=list(WAYS), action="append", help="those to compare; default: all")
    parser.add_argument("--measure", choices=list(WAYS), help=argparse.SUPPRESS)
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
    if given.measure:
        if given.core_seconds:
            torch.set_num_threads(1)
        clock = time.process_time if given.core_seconds else time.perf_counter
        print(measure_seconds(given.measure, limit_rows(given.case[0], given.rows), points, clock))  # noqa: T201
        return
    ways = given.way or list(WAYS)
    for name in given.case:
        words = ["--case", name]
        for option in ("epochs", "hidden_layers", "networks"):
            words += [f"--{option.replace('_', '-')}", str(getattr(given, option))]
        words += ["--core-seconds"] if given.core_seconds else []
        words += ["--rows", str(given.rows)] if given.rows else []
        case = limit_rows(name, given.rows)
        steps = len(points) * given.epochs * len(batch_bounds(case.rows, points[0].batch_size))
        turns = [{way: measure_in_process(way, words) for way in ways} for _ in range(given.turns)]
        for way in ways:
            median = statistics.median(turn[way] for turn in turns)
            ratio = statistics.median(turn[way] / turn[ways[0]] for turn in turns)
            figures = f"{median:8.3f} s   {1000 * median / steps:6.1f} ms per step   {ratio:5.2f} x {ways[0]}"
            print(f"{name:8} {way:18} {figures}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
