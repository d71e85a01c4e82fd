"""Predictors other than the protocol's network, on the same splits and by the same metrics.

Each has one thing to choose, how many neighbours or how strong a ridge. It is chosen as the network's
settings are: on the validation split of the first round, by the task's first metric.
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from heareval.predictions.data import Split, Task, read_splits, read_task
from heareval.predictions.knn import NEIGHBOURS, KnnSettings, fit_knn
from heareval.predictions.linear import ROWS_AT_ONCE, STRENGTHS, LinearSettings, fit_ridge
from heareval.predictions.metrics import find_metric
from heareval.predictions.protocol import Protocol
from heareval.predictions.results import FoldResult, GridResult, Run, TaskResult
from heareval.predictions.scoring import (
    by_clip,
    check_metrics,
    predictions_with,
    score_predictions,
    undecided,
    validation_on,
)
from heareval.predictions.selection import Round, check_rows, choose_device, device_name, plan_rounds
from heareval.spec import Progress

# Neighbours among frames are looked for in so many of them, drawn from the training splits: a hundred
# thousand frames are near copies of their neighbours in time, and comparing all of them takes hours.
MOST_NEIGHBOUR_FRAMES = 10_000
# Distances held at a time.
DISTANCES_AT_ONCE = 1 << 24

# From embeddings `(rows, dim)` and some settings to what each says, `(rows, labels)`.
Says = Callable[[Tensor, Sequence[Any]], list[Tensor]]


@dataclass(frozen=True)
class Fitted:
    """A probe that has seen its training splits, and the settings that it may take.

    Args:
        rows_at_once: of how many embeddings it is asked at a time.
    """

    says: Says
    settings: tuple[Any, ...]
    rows_at_once: int


@dataclass(frozen=True)
class Bench:
    """What all rounds of an evaluation share."""

    task: Task
    protocol: Protocol
    splits: Mapping[str, Split]
    rounds: tuple[Round, ...]
    progress: Progress

    def rows_before(self, turn: Round, split: str) -> int:
        """How many embeddings have been asked about before a round gets to a split, valid and then test."""
        earlier = self.rounds[: self.rounds.index(turn)]
        before = [name for each in earlier for name in (each.valid, each.test)]
        before += [turn.valid] if split == turn.test else []
        return sum(len(self.splits[name].x) for name in before)

    @property
    def rows(self) -> int:
        """How many embeddings will be asked in all."""
        return sum(len(self.splits[name].x) for turn in self.rounds for name in (turn.valid, turn.test))


def evaluate_with_probe(
    folder: Path, protocol: Protocol, progress: Progress, *, in_memory: bool | None = None
) -> TaskResult:
    """Fit, choose and test a probe on an embeddings folder; nothing is written.

    Args:
        in_memory: whether all embeddings are held in memory; None = if there is room. Those that the probe
            learns from are in any case.

    Raises:
        HearevalError: the folder can't be evaluated.
    """
    started = time.perf_counter()
    task = read_task(folder)
    check_metrics(task)
    device = choose_device(protocol)
    splits = read_splits(task, device, in_memory=in_memory)
    bench = Bench(task, protocol, splits, plan_rounds(task), progress)
    check_rows(bench.rounds, splits)
    run = run_rounds(bench)
    return TaskResult(
        protocol=protocol,
        task=task,
        decided_by=task.metrics[0],
        runs=(run,),
        clips={name: len(split.clips) for name, split in splits.items()},
        device=device_name(device),
        seconds=time.perf_counter() - started,
    )


def run_rounds(bench: Bench) -> Run:
    """What was tried in the first round, and the result of every round with the best of it."""
    tried: tuple[GridResult, ...] = ()
    folds: list[FoldResult] = []
    for turn in bench.rounds:
        fitted = fit_probe(bench, turn)
        candidates = fitted.settings if not folds else (_as_in(folds[0].model.settings, fitted),)
        validated = validate(bench, turn, fitted, candidates)
        tried = tried or validated
        folds.append(_tested(bench, turn, fitted, _best(bench, turn, validated)))
    bench.progress(bench.rows, bench.rows)
    return Run(bench.protocol.seed, tried, tuple(folds))


def _as_in(chosen: Any, fitted: Fitted) -> Any:
    """The chosen settings, as far as another round's training rows allow them."""
    rows = fitted.settings[0].training_rows
    changed = {"neighbours": min(chosen.neighbours, rows)} if isinstance(chosen, KnnSettings) else {}
    return dataclasses.replace(chosen, training_rows=rows, **changed)


def fit_probe(bench: Bench, turn: Round) -> Fitted:
    """The protocol's probe on the training splits of a round."""
    name = bench.protocol.probe
    train = [bench.splits[split] for split in turn.train]
    x = torch.cat([split.x[:] for split in train])
    y = torch.cat([split.y for split in train])
    y = y if bench.task.is_multilabel else functional.one_hot(y, len(bench.task.labels))
    if name == "linear":
        ridge = fit_ridge(x, y)
        strengths = tuple(LinearSettings(name, strength, len(x)) for strength in STRENGTHS)
        return Fitted(ridge.estimates, strengths, ROWS_AT_ONCE)
    if bench.task.is_event and len(x) > MOST_NEIGHBOUR_FRAMES:
        drawn = random.Random(f"{bench.protocol.seed}/{turn.test}").sample(
            range(len(x)), MOST_NEIGHBOUR_FRAMES
        )
        rows = torch.tensor(sorted(drawn), device=x.device)
        x, y = x[rows], y[rows]
    neighbours = fit_knn(x, y, "l1" if name == "knn-l1" else "cosine")
    settings = tuple(KnnSettings(name, k, len(x)) for k in NEIGHBOURS if k <= len(x))
    return Fitted(neighbours.votes, settings, max(1, DISTANCES_AT_ONCE // len(x)))


def validate(
    bench: Bench, turn: Round, fitted: Fitted, candidates: tuple[Any, ...]
) -> tuple[GridResult, ...]:
    """What each of the candidates scores on the round's validation split; they share their seconds."""
    started = time.perf_counter()
    valid = bench.splits[turn.valid]
    score = validation_on(bench.task, valid)
    found = [score(said) for said in probabilities(bench, turn, valid, fitted, candidates)]
    seconds = (time.perf_counter() - started) / len(candidates)
    return tuple(
        GridResult(settings, one.score, one.postprocessing, None, None, seconds)
        for settings, one in zip(candidates, found, strict=True)
    )


def probabilities(
    bench: Bench, turn: Round, split: Split, fitted: Fitted, candidates: tuple[Any, ...]
) -> list[NDArray[np.float32]]:
    """What each of the candidates says about a split, in the shape of `Predictions`."""
    before, blocks = bench.rows_before(turn, split.name), []
    for start in range(0, len(split.x), fitted.rows_at_once):
        blocks.append(fitted.says(split.x[start : start + fitted.rows_at_once], candidates))
        bench.progress(before + start, bench.rows)
    return [by_clip(bench.task, split, torch.cat(said)) for said in zip(*blocks, strict=True)]


def _best(bench: Bench, turn: Round, validated: Sequence[GridResult]) -> GridResult:
    """The best validation score; ties go to the earlier, an undefined one never wins."""
    sign = 1.0 if find_metric(bench.task.metrics[0]).maximise else -1.0

    def goodness(one: GridResult) -> float:
        return -math.inf if math.isnan(one.validation_score) else sign * one.validation_score

    # Of equals, `max` takes the first.
    best = max(validated, key=goodness)
    if math.isnan(best.validation_score):
        raise undecided(bench.task, bench.splits[turn.valid], bench.task.metrics[0])
    return best


def _tested(bench: Bench, turn: Round, fitted: Fitted, chosen: GridResult) -> FoldResult:
    split = bench.splits[turn.test]
    (said,) = probabilities(bench, turn, split, fitted, (chosen.settings,))
    predictions = predictions_with(bench.task, split, said)
    scores = score_predictions(bench.task, split, predictions, chosen.postprocessing)
    return FoldResult(turn.test, turn.valid, turn.train, chosen, scores, predictions)
