"""The search for the best settings, and the rounds of a task's splits."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from heareval.errors import HearevalError
from heareval.predictions.data import Split, Task, read_splits, read_task
from heareval.predictions.network import predict_logits
from heareval.predictions.protocol import Protocol, Settings, draw_settings
from heareval.predictions.results import FoldResult, GridResult, TaskResult
from heareval.predictions.scoring import (
    check_metrics,
    decided_by,
    judge_of,
    predictions_of,
    score_predictions,
    undecided,
)
from heareval.predictions.training import Fitted, fit
from heareval.spec import Progress

# Progress is told in hundredths of a training.
UNITS_PER_FIT = 100
MIN_TRAINING_ROWS = 2


@dataclass(frozen=True)
class Round:
    """Which split plays which part."""

    test: str
    valid: str
    train: tuple[str, ...]


@dataclass(frozen=True)
class Search:
    """The grid points that were tried, and the best of the trained predictors."""

    tried: tuple[GridResult, ...]
    best: Fitted


@dataclass(frozen=True)
class Bench:
    """What all trainings of an evaluation share.

    Args:
        fits: how many predictors will be trained in all.
    """

    task: Task
    protocol: Protocol
    splits: Mapping[str, Split]
    fits: int
    progress: Progress


def evaluate_folder(
    folder: Path, protocol: Protocol, progress: Progress, *, in_memory: bool | None = None
) -> TaskResult:
    """Train, choose and test predictors on an embeddings folder; nothing is written.

    Args:
        in_memory: whether embeddings are held in memory; None = if there is room for them.

    Raises:
        HearevalError: the folder can't be evaluated.
    """
    started = time.perf_counter()
    task = read_task(folder)
    check_metrics(task)
    rounds = plan_rounds(task)
    points = draw_settings(protocol, task.name, task.settings_grid)
    device = choose_device(protocol)
    splits = read_splits(task, device, in_memory=in_memory)
    check_rows(rounds, splits)
    bench = Bench(task, protocol, splits, len(points) + len(rounds) - 1, progress)
    search = search_grid(bench, rounds[0], points)
    folds = score_rounds(bench, rounds, search.best)
    progress(bench.fits * UNITS_PER_FIT, bench.fits * UNITS_PER_FIT)
    return TaskResult(
        protocol=protocol,
        task=task,
        decided_by=decided_by(task),
        grid=search.tried,
        folds=folds,
        clips={name: len(split.clips) for name, split in splits.items()},
        device=device_name(device),
        seconds=time.perf_counter() - started,
    )


def search_grid(bench: Bench, first: Round, points: Sequence[Settings]) -> Search:
    """Every grid point tried on the first round; the best validation score wins, ties go to the earlier."""
    judge = judge_of(bench.task, bench.splits[first.valid])
    best, tried = None, []
    for number, settings in enumerate(points):
        fitted = fit_round(bench, first, settings, fit_number=number)
        tried.append(_without_network(fitted))
        if best is None or judge.prefers(fitted.validation.score, best.validation.score):
            best = fitted
    if best is None:
        raise HearevalError("grid points", got="none", expected="at least one")
    _check_chosen(bench, first, best)
    return Search(tuple(tried), best)


def score_rounds(bench: Bench, rounds: Sequence[Round], best: Fitted) -> tuple[FoldResult, ...]:
    """The result of every round: the searched model tests the first, its settings train the others."""
    folds = [score_round(bench, rounds[0], best)]
    searched = bench.fits - (len(rounds) - 1)
    for number, turn in enumerate(rounds[1:]):
        fitted = fit_round(bench, turn, best.settings, fit_number=searched + number)
        _check_chosen(bench, turn, fitted)
        folds.append(score_round(bench, turn, fitted))
    return tuple(folds)


def fit_round(bench: Bench, turn: Round, settings: Settings, *, fit_number: int) -> Fitted:
    """A predictor trained on the round's training splits, chosen on its validation split."""
    valid = bench.splits[turn.valid]

    def progress(epoch: int, epochs: int) -> None:
        done = fit_number * UNITS_PER_FIT + UNITS_PER_FIT * epoch // epochs
        bench.progress(done, bench.fits * UNITS_PER_FIT)

    return fit(
        [bench.splits[name] for name in turn.train],
        valid.x,
        len(bench.task.labels),
        settings,
        judge_of(bench.task, valid),
        # Every training has its own chance, which doesn't depend on how many others there are.
        seed=random.Random(f"{bench.protocol.seed}/{turn.test}/{settings}").getrandbits(63),
        order=bench.protocol.order,
        progress=progress,
    )


def score_round(bench: Bench, turn: Round, fitted: Fitted) -> FoldResult:
    """What a trained predictor scores on the round's test split."""
    split = bench.splits[turn.test]
    predictions = predictions_of(bench.task, split, predict_logits(fitted.network, split.x))
    scores = score_predictions(bench.task, split, predictions, fitted.validation.postprocessing)
    return FoldResult(turn.test, turn.valid, turn.train, _without_network(fitted), scores, predictions)


def _check_chosen(bench: Bench, turn: Round, fitted: Fitted) -> None:
    """Refuse a predictor that was never validated by a defined score: its weights are untrained."""
    if math.isnan(fitted.validation.score):
        raise undecided(bench.task, bench.splits[turn.valid], decided_by(bench.task))


def _without_network(fitted: Fitted) -> GridResult:
    return GridResult(
        fitted.settings,
        fitted.validation.score,
        fitted.validation.postprocessing,
        fitted.best_epoch,
        fitted.epochs,
        fitted.seconds,
        fitted.curve,
    )


def check_rows(rounds: Sequence[Round], splits: Mapping[str, Split]) -> None:
    """Refuse rounds that have too little to learn from, or embeddings of several sizes."""
    for turn in rounds:
        rows = sum(len(splits[name].x) for name in turn.train)
        if rows < MIN_TRAINING_ROWS:
            raise HearevalError(
                f"training data for {turn.test}: splits {', '.join(turn.train)}",
                got=f"{rows} embedding",
                expected=f"at least {MIN_TRAINING_ROWS}",
            )
        dims = {name: splits[name].x.shape[1] for name in (*turn.train, turn.valid, turn.test)}
        if len(set(dims.values())) > 1:
            raise HearevalError("embedding sizes of the splits", got=str(dims), expected="one size")


def plan_rounds(task: Task) -> tuple[Round, ...]:
    """The rounds of a task; of folds, round i tests fold i and validates the next."""
    if not task.is_kfold:
        missing = {"train", "valid", "test"} - set(task.splits)
        if missing:
            raise HearevalError(
                f"splits of {task.name}", got=", ".join(task.splits), expected="train, valid, test"
            )
        return (Round("test", "valid", ("train",)),)
    folds = sorted(task.splits)
    k = len(folds)
    if k < 3:
        raise HearevalError(
            f"folds of {task.name}", got=str(k), expected="at least 3: to train, validate and test"
        )
    return tuple(
        Round(
            test=folds[i],
            valid=folds[(i + 1) % k],
            train=tuple(folds[j] for j in range(k) if j not in (i, (i + 1) % k)),
        )
        for i in range(k)
    )


def choose_device(protocol: Protocol) -> torch.device:
    """The device to train on; asking for an absent one is an error."""
    there = torch.cuda.is_available()
    if protocol.device == "cuda" and not there:
        raise HearevalError(
            "device", got="no CUDA device", expected="cuda", remedy="Use --gpus 0, or leave it out."
        )
    return torch.device("cpu" if protocol.device == "cpu" or not there else "cuda:0")


def device_name(device: torch.device) -> str:
    """`cpu`, or the name of the GPU."""
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
