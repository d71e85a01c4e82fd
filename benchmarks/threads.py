"""Measure what a second thread costs a network in training, and whether it changes the weights.

python -m benchmarks.threads

Prints CPU milliseconds per training step, of all threads together, and a digest of the weights. If one thread
takes 0.8 of the CPU time of two, two networks side by side with a thread each take at best 0.8 of the time of
one after the other with two threads each.
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

import torch

from benchmarks.predict import Case, choose_loss, make_split
from heareval.predictions.learners.learner import Criterion
from heareval.predictions.learners.training import Objective, Training, fit_stack
from heareval.predictions.protocol import Settings
from heareval.predictions.results import Validation
from heareval.predictions.worker import ENVIRONMENT
from heareval.worker_process import THREAD_VARIABLES

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


def main() -> None:
    """Print a line for each shape and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4, 16])
    parser.add_argument("--train", type=int, nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
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
        turns = [[train_in_process(each, shape) for each in given.threads] for _ in range(given.turns)]
        for place, threads in enumerate(given.threads):
            milliseconds = statistics.median(turn[place][0] for turn in turns)
            digests = {turn[place][1] for turn in turns}
            name = "{} dimensions, {} units, {} hidden layers".format(*shape)
            print(f"{name}, {threads} threads: {milliseconds:.1f} ms, {digests}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
