"""The search for the best settings, and the rounds of a task's splits."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from heareval.errors import HearevalError
from heareval.predictions.data import Split, Task, read_splits, read_task
from heareval.predictions.network import predict_logits
from heareval.predictions.protocol import Protocol, Settings, draw_settings
from heareval.predictions.results import FoldResult, GridResult, Run, TaskResult
from heareval.predictions.scoring import (
    check_metrics,
    decided_by,
    judge_of,
    predictions_of,
    score_predictions,
    undecided,
)
from heareval.predictions.training import UNITS_PER_FIT, Fitted, Judge, Training, fit_all, most_stacked
from heareval.spec import Progress

MIN_TRAINING_ROWS = 2


@dataclass(frozen=True)
class Round:
    """Which split plays which part."""

    test: str
    valid: str
    train: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """A predictor to be trained: by which seed, on which round, with which settings."""

    seed: int
    turn: Round
    settings: Settings


@dataclass(frozen=True)
class Trained:
    """A candidate and its predictor; of candidates of one search, `number` is its place."""

    number: int
    candidate: Candidate
    fitted: Fitted


@dataclass(frozen=True)
class Search:
    """The grid points that one seed tried, and the best of the trained predictors."""

    tried: tuple[GridResult, ...]
    best: Trained


@dataclass(frozen=True)
class Bench:
    """What all trainings of an evaluation share.

    Args:
        judges: of each split that validates.
        most: how many are trained side by side at most.
    """

    task: Task
    protocol: Protocol
    splits: Mapping[str, Split]
    judges: Mapping[str, Judge]
    most: int


def evaluate_folder(
    folder: Path,
    protocol: Protocol,
    progress: Progress,
    *,
    in_memory: bool | None = None,
    most: int | None = None,
) -> TaskResult:
    """Train, choose and test predictors on an embeddings folder; nothing is written.

    Args:
        in_memory: whether embeddings are held in memory; None = if there is room for them.
        most: how many predictors are trained side by side at most; None = what the device gains from.

    Raises:
        HearevalError: the folder can't be evaluated.
    """
    started = time.perf_counter()
    task = read_task(folder)
    check_metrics(task)
    rounds = plan_rounds(task)
    points = {seed: _draw_settings(protocol, task, seed) for seed in protocol.all_seeds}
    device = choose_device(protocol)
    splits = read_splits(task, device, in_memory=in_memory)
    check_rows(rounds, splits)
    judges = {turn.valid: judge_of(task, splits[turn.valid]) for turn in rounds}
    bench = Bench(task, protocol, splits, judges, most or most_stacked(device))
    searched = sum(map(len, points.values()))
    total = UNITS_PER_FIT * (searched + len(points) * (len(rounds) - 1))
    searches = search_grids(bench, rounds[0], points, lambda done, _: progress(done, total))
    runs = run_rounds(
        bench, rounds, searches, lambda done, _: progress(UNITS_PER_FIT * searched + done, total)
    )
    progress(total, total)
    return TaskResult(
        protocol=protocol,
        task=task,
        decided_by=decided_by(task),
        runs=runs,
        clips={name: len(split.clips) for name, split in splits.items()},
        device=device_name(device),
        seconds=time.perf_counter() - started,
    )


def _draw_settings(protocol: Protocol, task: Task, seed: int) -> tuple[Settings, ...]:
    return draw_settings(replace(protocol, seed=seed), task.name, task.settings_grid)


def search_grids(
    bench: Bench, first: Round, points: Mapping[int, Sequence[Settings]], progress: Progress
) -> dict[int, Search]:
    """Every seed's grid points tried on the first round; the best score wins, of equals the earlier."""
    candidates = [Candidate(seed, first, settings) for seed in points for settings in points[seed]]
    judge = bench.judges[first.valid]
    tried: dict[int, dict[int, GridResult]] = {seed: {} for seed in points}
    best: dict[int, Trained] = {}
    for new in train(bench, candidates, progress):
        seed = new.candidate.seed
        tried[seed][new.number] = _without_network(new.fitted)
        if seed not in best or _is_better(judge, new, best[seed]):
            best[seed] = new
    searches = {}
    for seed, found in tried.items():
        _check_chosen(bench, best[seed])
        searches[seed] = Search(tuple(found[number] for number in sorted(found)), best[seed])
    return searches


def _is_better(judge: Judge, new: Trained, best: Trained) -> bool:
    """Stacks may be done in another order than that of the grid."""
    a, b = new.fitted.validation.score, best.fitted.validation.score
    return judge.prefers(a, b) or (not judge.prefers(b, a) and new.number < best.number)


def run_rounds(
    bench: Bench, rounds: Sequence[Round], searches: Mapping[int, Search], progress: Progress
) -> tuple[Run, ...]:
    """The results of every seed: the searched model tests the first round, its settings train the others."""
    folds = {seed: {0: score_round(bench, search.best)} for seed, search in searches.items()}
    candidates = [
        Candidate(seed, turn, search.best.candidate.settings)
        for seed, search in searches.items()
        for turn in rounds[1:]
    ]
    for trained in train(bench, candidates, progress):
        _check_chosen(bench, trained)
        place = rounds.index(trained.candidate.turn)
        folds[trained.candidate.seed][place] = score_round(bench, trained)
    return tuple(
        Run(seed, search.tried, tuple(folds[seed][place] for place in range(len(rounds))))
        for seed, search in searches.items()
    )


def train(bench: Bench, candidates: Sequence[Candidate], progress: Progress) -> Iterator[Trained]:
    """Predictors trained on the training splits of their rounds, chosen on the validation splits."""
    trainings = [
        Training(
            train=tuple(bench.splits[name] for name in turn.train),
            valid_x=bench.splits[turn.valid].x,
            settings=settings,
            judge=bench.judges[turn.valid],
            # Every training has its own chance, which doesn't depend on how many others there are.
            seed=random.Random(f"{seed}/{turn.test}/{settings}").getrandbits(63),
        )
        for seed, turn, settings in ((each.seed, each.turn, each.settings) for each in candidates)
    ]
    labels, order = len(bench.task.labels), bench.protocol.order
    for number, fitted in fit_all(trainings, labels, order=order, most=bench.most, progress=progress):
        yield Trained(number, candidates[number], fitted)


def score_round(bench: Bench, trained: Trained) -> FoldResult:
    """What a trained predictor scores on its round's test split."""
    turn, fitted = trained.candidate.turn, trained.fitted
    split = bench.splits[turn.test]
    predictions = predictions_of(bench.task, split, predict_logits(fitted.network, split.x))
    scores = score_predictions(bench.task, split, predictions, fitted.validation.postprocessing)
    return FoldResult(turn.test, turn.valid, turn.train, _without_network(fitted), scores, predictions)


def _check_chosen(bench: Bench, trained: Trained) -> None:
    """Refuse a predictor that was never validated by a defined score: its weights are untrained."""
    if math.isnan(trained.fitted.validation.score):
        valid = bench.splits[trained.candidate.turn.valid]
        raise undecided(bench.task, valid, decided_by(bench.task))


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
