"""Measure what a second thread costs a network in training, and whether it changes the weights.

python -m benchmarks.threads
python -m benchmarks.threads --side-by-side

The first prints CPU milliseconds per training step, of all threads together, and a digest of the weights. If
one thread takes 0.8 of the CPU time of two, two networks side by side with a thread each take at best 0.8 of
the time of one after the other with two threads each. The second measures that: the seconds by the clock that
as many trainings as there are cores take one after the other on all cores, and side by side with the given
numbers of threads. The ways are processes that take turns.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import IO, cast

import torch

from benchmarks.predict import CASES, Case, choose_loss, limit_rows, make_split, train_with_heareval
from heareval.predictions.cpu_features import has_fast_bf16
from heareval.predictions.learners.learner import Criterion
from heareval.predictions.learners.side_by_side import SideBySide, use_threads
from heareval.predictions.learners.training import Objective, Training, fit_stack
from heareval.predictions.protocol import Settings, TrainPrecision
from heareval.predictions.results import Validation
from heareval.predictions.worker import ENVIRONMENT
from heareval.worker_process import THREAD_VARIABLES
from heareval.workflow.machine import count_cores

ROWS, LABELS, EPOCHS = 4096, 50, 12
# Dimensions, units and hidden layers.
SHAPES = ((64, 512, 1), (512, 512, 1), (1024, 1024, 1), (1024, 1024, 2))


def train(epochs: int, dim: int, units: int, layers: int) -> str:
    """Train a network, and return a digest of its weights."""
    case = Case(ROWS, dim, LABELS, is_multilabel=False)
    split, digest = make_split(case), hashlib.sha256()
    objective = Objective(
        choose_loss(case), lambda logits: Validation(0.0), Criterion("score", maximise=True)
    )
    settings = Settings(
        layers, 1e-3, "xavier_uniform", units, max_epochs=epochs, check_val_every_n_epoch=epochs
    )
    training = Training((split,), split.x[:1], settings, objective, seed=0)
    (trained,) = fit_stack([training], LABELS, order="fixed")
    for weights in trained.network.state_dict().values():
        digest.update(weights.numpy().tobytes())
    return digest.hexdigest()[:8]


def train_in_process(threads: int, shape: Sequence[int]) -> tuple[float, str]:
    """Return CPU milliseconds per step and the digest, of a training in a separate process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.threads", "--train", *map(str, (threads, *shape))],
        env={**os.environ, **THREAD_VARIABLES, **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=True,
    )
    milliseconds, digest = done.stdout.split()
    return float(milliseconds), digest


def train_on_demand(case_name: str, precision: str, threads: int) -> None:
    """Train as many networks as there are cores for every line of the input, and print the seconds.

    Args:
        threads: number of threads of each network, side by side; 0 trains one after the other on all cores.
    """
    case, cores = limit_rows(case_name, ROWS), count_cores()
    split = make_split(case)
    settings = Settings(1, 1e-3, "xavier_uniform", max_epochs=EPOCHS, check_val_every_n_epoch=EPOCHS)
    warm_up = replace(settings, max_epochs=1, check_val_every_n_epoch=1)
    how = SideBySide(threads, cores // threads) if threads else None

    def train_all(point: Settings) -> None:
        with use_threads(threads or None):
            train_with_heareval(case, split, [point] * cores, cast(TrainPrecision, precision), how)

    train_all(warm_up)
    print("ready", flush=True)  # noqa: T201
    for _ in sys.stdin:
        begun = time.perf_counter()
        train_all(settings)
        print(time.perf_counter() - begun, flush=True)  # noqa: T201


def compare_side_by_side(case: str, precision: TrainPrecision, threads: Sequence[int], turns: int) -> None:
    """Print the median seconds of the ways, and the median ratio to one after the other in the same turn."""
    ways, seconds = (0, *threads), []
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.threads", "--on-demand", case, precision, str(way)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    bufsize=1,
                    env={**os.environ, **THREAD_VARIABLES, **ENVIRONMENT},
                )
            )
            for way in ways
        ]
        pipes = [(cast(IO[str], each.stdin), cast(IO[str], each.stdout)) for each in processes]
        for _, said in pipes:
            said.readline()
        for _ in range(turns):
            turn = []
            for asked, said in pipes:
                asked.write("\n")
                turn.append(float(said.readline()))
            seconds.append(turn)
        for asked, _ in pipes:
            asked.close()
    for place, way in enumerate(ways):
        noun = "thread" if way == 1 else "threads"
        name = f"side by side, {way} {noun} each" if way else "one after the other"
        middle = statistics.median(turn[place] for turn in seconds)
        ratio = statistics.median(turn[place] / turn[0] for turn in seconds)
        print(f"{case}-like in {precision}, {name}: {middle:.2f} s, {ratio:.2f} x", flush=True)  # noqa: T201


def main() -> None:
    """Print a line for each shape and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", help="by default 1 2 4 16, and 1 side by side")
    parser.add_argument("--side-by-side", action="store_true")
    parser.add_argument("--case", choices=list(CASES), nargs="+", default=["speech", "maestro"])
    parser.add_argument("--train", type=int, nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--on-demand", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.on_demand:
        case, precision, way = given.on_demand
        train_on_demand(case, precision, int(way))
        return
    if given.side_by_side:
        precisions: tuple[TrainPrecision, ...] = ("float32", "bf16") if has_fast_bf16() else ("float32",)
        print(f"{count_cores()} trainings on as many cores")  # noqa: T201
        for case in given.case:
            for precision in precisions:
                compare_side_by_side(case, precision, given.threads or [1], given.turns)
        return
    if given.train:
        threads, *shape = given.train
        torch.set_num_threads(threads)
        train(1, *shape)
        begun = time.process_time()
        digest = train(EPOCHS, *shape)
        seconds = time.process_time() - begun
        print(f"{seconds / EPOCHS / (ROWS / 1024) * 1000:.2f} {digest}")  # noqa: T201
        return
    for shape in SHAPES:
        counts = given.threads or [1, 2, 4, 16]
        turns = [[train_in_process(each, shape) for each in counts] for _ in range(given.turns)]
        for place, threads in enumerate(counts):
            milliseconds = statistics.median(turn[place][0] for turn in turns)
            digests = {turn[place][1] for turn in turns}
            name = "{} dimensions, {} units, {} hidden layers".format(*shape)
            print(f"{name}, {threads} threads: {milliseconds:.1f} ms, {digests}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
