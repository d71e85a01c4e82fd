"""Stored results: scores and predictions read back, and checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heareval import layout
from heareval.errors import HearevalError, unknown_name
from heareval.formats.results_folder import EVALUATE_AGAIN, read_predictions, read_scores
from heareval.formats.scores import Scores
from heareval.predictions.bootstrap import ScoredSplit
from heareval.predictions.data import Task, read_task
from heareval.predictions.kinds import AnyKind, find_kind
from heareval.predictions.metrics import find_metric
from heareval.predictions.results import Predictions
from heareval.predictions.statistics import average_resamples

# Machines may round the last digits of a score differently.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class StoredFold:
    """The stored predictions for one tested split.

    Args:
        scored: what metrics need to score them.
    """

    split: str
    predictions: Predictions
    scored: ScoredSplit


@dataclass(frozen=True)
class StoredResult:
    """The stored result of one submission, task and protocol.

    Args:
        folder: the embeddings folder.
        scores: the content of the scores file.
        runs: the tested splits for each seed.
    """

    folder: Path
    task: Task
    kind: AnyKind
    scores: Scores
    runs: tuple[tuple[StoredFold, ...], ...]

    @property
    def protocol(self) -> str:
        """Return the recorded name of the protocol."""
        return self.scores.protocol

    @property
    def first_folds(self) -> list[ScoredSplit]:
        """Return the tested splits of the first seed, which diagnostics describe."""
        return [fold.scored for fold in self.runs[0]]

    def score(self, metric: str) -> float:
        """Return the score, the mean over folds and seeds, NaN where it is undefined."""
        return self.scores.scores[metric].value

    def resample(self, metrics: tuple[str, ...], seed: int) -> dict[str, NDArray[np.float64]]:
        """Return the scores of bootstrap resamples, `(resamples,)` each; equal seeds draw equal clips."""
        return average_resamples(metrics, [[fold.scored for fold in run] for run in self.runs], seed=seed)


def read_stored(folder: Path, protocol: str) -> StoredResult:
    """Return the result of a protocol in an embeddings folder.

    Raises:
        HearevalError: there is none, a file is damaged, or the embeddings, the predictions and the scores
            don't belong together.
    """
    if protocol not in (known := layout.scored_protocols(folder)):
        raise unknown_name(f"result in {folder}", protocol, known)
    path = folder / layout.scores(protocol)
    scores, task = read_scores(path), read_task(folder)
    for what, found, expected in (
        ("protocol", scores.protocol, protocol),
        ("embeddings_fingerprint", scores.embeddings_fingerprint, task.embeddings_fingerprint),
    ):
        if found != expected:
            raise HearevalError(f"{path}: {what}", got=found, expected=expected, remedy=EVALUATE_AGAIN)
    kind = find_kind(task)
    result = StoredResult(folder, task, kind, scores, _read_runs(kind, scores, path))
    _check_scores(result)
    return result


def _read_runs(kind: AnyKind, scores: Scores, path: Path) -> tuple[tuple[StoredFold, ...], ...]:
    task, orders = kind.task, {order.name: order for order in kind.task.orders}
    tested = [fold.test for fold in scores.runs[0].folds]
    for split in tested:
        if split not in orders:
            raise HearevalError(
                f"{path}: folds", got=f"split {split}", expected=", ".join(orders), remedy=EVALUATE_AGAIN
            )
    shapes = {split: kind.stored_shape(orders[split]) for split in tested}
    stored = read_predictions(task.folder, scores, shapes)
    for split in tested:
        if stored[split].clips != orders[split].clip_names:
            raise HearevalError(
                f"clips of {split} in {task.folder / layout.predictions(scores.protocol)}",
                got="other names",
                expected=f"those of {layout.split_json(split)}",
                remedy=EVALUATE_AGAIN,
            )
    runs = []
    for seed in range(len(scores.runs)):
        folds = []
        for split in tested:
            predictions = kind.from_stored(orders[split], stored[split], seed)
            folds.append(StoredFold(split, predictions, kind.prepare_scoring(predictions)))
        runs.append(tuple(folds))
    return tuple(runs)


def _check_scores(result: StoredResult) -> None:
    """Raise HearevalError if the predictions give other scores than the scores file."""
    for name, score in result.scores.scores.items():
        metric = find_metric(name)
        if metric.kind != result.kind.name:
            raise HearevalError(
                f"{name} in {result.folder / layout.scores(result.protocol)}",
                got=f"a metric of {metric.kind} tasks",
                expected=f"one of {result.kind.name} tasks",
                remedy=EVALUATE_AGAIN,
            )
        for number, split in enumerate(fold.split for fold in result.runs[0]):
            folds = [run[number].scored for run in result.runs]
            with np.errstate(invalid="ignore"):
                value = float(np.mean([metric.function(one.reference, one.predicted) for one in folds]))
            stored = score.folds[split]
            if stored is None or not np.isfinite(value):
                agrees = stored is None and not np.isfinite(value)
            else:
                agrees = abs(value - stored) <= TOLERANCE
            if not agrees:
                raise HearevalError(
                    f"{name} of {split} in {result.folder / layout.scores(result.protocol)}",
                    got=str(stored),
                    expected=f"{value:.6f}, as computed from the stored predictions",
                    remedy=EVALUATE_AGAIN,
                )
