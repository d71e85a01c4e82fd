"""Results of a task, and the two files they are kept in."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import heareval
from heareval import files, layout
from heareval.errors import replaced
from heareval.predictions.bootstrap import Interval, Judged, around, interval, resampled_scores
from heareval.predictions.data import Task, embeddings_fingerprint
from heareval.predictions.events import Postprocessing, find_events
from heareval.predictions.knn import KnnSettings
from heareval.predictions.linear import LinearSettings
from heareval.predictions.metrics.event import EventTable
from heareval.predictions.protocol import Protocol, Settings

_PACKAGES = ("numpy", "torch", "scikit-learn", "scipy", "sed_eval")
# Of the draws of test clips, the same for every seed of the protocol.
DRAWS_SEED = 0


@dataclass(frozen=True)
class Score:
    """One metric on one split; NaN or infinite where it is undefined, and then `problems` says why."""

    metric: str
    value: float
    details: Mapping[str, float]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class GridResult:
    """What came of one grid point.

    Args:
        validation_score: of the best validation.
        best_epoch: epochs after which the kept weights were reached; None where there are no epochs.
        epochs: epochs trained.
        curve: epoch and score of every validation.
    """

    settings: Settings | KnnSettings | LinearSettings
    validation_score: float
    postprocessing: Postprocessing | None
    best_epoch: int | None
    epochs: int | None
    seconds: float
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Predictions:
    """What the predictor said about a split.

    Args:
        targets: `(clips, labels)`, or `(clips, timestamps, labels)` in event tasks, of 0 and 1.
        probabilities: of the same shape.
        timestamps_ms: `(clips, timestamps)` milliseconds, event tasks only.
        events: the reference events, event tasks only.
    """

    clips: tuple[str, ...]
    targets: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    timestamps_ms: NDArray[np.float64] | None
    events: EventTable | None = None


def judged(predictions: Predictions, postprocessing: Postprocessing | None) -> Judged:
    """What metrics are asked about a split: of clips their probabilities, of events those found."""
    clips, probabilities = len(predictions.clips), predictions.probabilities
    if postprocessing is None or predictions.timestamps_ms is None:
        return Judged(clips, predictions.targets, probabilities)
    found = find_events(probabilities, predictions.timestamps_ms, postprocessing)
    return Judged(clips, predictions.events, found)


@dataclass(frozen=True)
class FoldResult:
    """One round: which splits played which part, the model that was tested and its scores."""

    test: str
    valid: str
    train: tuple[str, ...]
    model: GridResult
    scores: tuple[Score, ...]
    predictions: Predictions


@dataclass(frozen=True)
class TaskResult:
    """Everything that an evaluation found.

    Args:
        decided_by: what chose the model: a metric's name or "loss", always on the validation split.
        grid: every tried grid point, in the order they were tried.
        folds: one result per tested split.
        clips: number of clips of each split.
    """

    protocol: Protocol
    task: Task
    decided_by: str
    grid: tuple[GridResult, ...]
    folds: tuple[FoldResult, ...]
    clips: Mapping[str, int]
    device: str
    seconds: float


def write_results(folder: Path, result: TaskResult, fingerprint: str, embeddings: str) -> Path:
    """Write the predictions, then the scores, each whole or not at all; returns the path of the scores.

    Args:
        embeddings: fingerprint of the embeddings that were to be scored.

    Raises:
        HearevalError: the folder held, or holds by now, other embeddings.
    """
    for found in (result.task.embeddings_fingerprint, embeddings_fingerprint(folder)):
        if found != embeddings:
            raise replaced(f"embeddings folder {folder}", found, embeddings)
    name = result.protocol.recorded_name
    # Without scores no run takes the new predictions for those of the old scores.
    (folder / layout.scores(name)).unlink(missing_ok=True)
    _write_predictions(folder / layout.predictions(name), result, fingerprint)
    files.write_json(folder / layout.scores(name), scores_json(result, fingerprint))
    return folder / layout.scores(name)


def scores_json(result: TaskResult, fingerprint: str) -> dict[str, Any]:
    """The content of test.predicted-scores.json; undefined numbers are null."""
    winner = result.folds[0].model
    return {
        "protocol": result.protocol.recorded_name,
        "task": result.task.name,
        "version": result.task.version,
        "mode": result.task.mode,
        "fingerprint": fingerprint,
        "embeddings_fingerprint": result.task.embeddings_fingerprint,
        "submission": dict(result.task.submission),
        "is_the_published_corpus": result.task.is_published,
        "made_from": dict(result.task.made_from),
        "unusual_embedding": dict(result.task.unusual_embedding),
        "scores": _task_scores(result),
        "problems": [text for fold in result.folds for score in fold.scores for text in score.problems],
        "decided_by": result.decided_by,
        "settings": dataclasses.asdict(winner.settings),
        "folds": [_fold_json(fold) for fold in result.folds],
        "grid": [_grid_json(point) for point in result.grid],
        "labels": len(result.task.labels),
        "clips": dict(result.clips),
        "seed": result.protocol.seed,
        "device": result.device,
        "deterministic": result.protocol.deterministic,
        "seconds": round(result.seconds, 3),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of everything that takes part in the numbers."""
    found = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found, "heareval": heareval.__version__}


def _task_scores(result: TaskResult) -> dict[str, Any]:
    """Per metric the score (the mean of the folds), its spread, its interval and each fold's own."""
    folds = [judged(fold.predictions, fold.model.postprocessing) for fold in result.folds]
    resampled = resampled_scores(result.task.metrics, folds, seed=DRAWS_SEED)
    scores = {}
    for i, first in enumerate(result.folds[0].scores):
        values = np.array([fold.scores[i].value for fold in result.folds])
        defined = bool(np.isfinite(values).all())
        drawn = around(float(values.mean()), first.metric, resampled[first.metric])
        scores[first.metric] = {
            "score": float(values.mean()) if defined else None,
            "std": float(values.std(ddof=1)) if defined and len(values) > 1 else None,
            **interval_json(interval(drawn) if defined else None),
            "folds": {fold.test: _number(fold.scores[i].value) for fold in result.folds},
            "details": {fold.test: _numbers(fold.scores[i].details) for fold in result.folds},
        }
    return scores


def interval_json(found: Interval | None) -> dict[str, Any]:
    """An interval as the results keep it: its ends, null where they are undefined or infinite."""
    if found is None or found.resamples == 0:
        return {"interval_95": None, "resamples": 0, "undefined_resamples": found.undefined if found else 0}
    return {
        "interval_95": [_number(found.low), _number(found.high)],
        "resamples": found.resamples,
        "undefined_resamples": found.undefined,
    }


def _fold_json(fold: FoldResult) -> dict[str, Any]:
    return {"test": fold.test, "valid": fold.valid, "train": list(fold.train), **_grid_json(fold.model)}


def _grid_json(point: GridResult) -> dict[str, Any]:
    return {
        "settings": dataclasses.asdict(point.settings),
        "validation_score": _number(point.validation_score),
        "postprocessing": dataclasses.asdict(point.postprocessing) if point.postprocessing else None,
        "best_epoch": point.best_epoch,
        "epochs": point.epochs,
        "seconds": round(point.seconds, 3),
        "curve": [[epoch, _number(score)] for epoch, score in point.curve],
    }


def _number(value: float) -> float | None:
    # JSON has no NaN and no infinity.
    return float(value) if math.isfinite(value) else None


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}


def _write_predictions(path: Path, result: TaskResult, fingerprint: str) -> None:
    with files.building_file(path) as scratch, open(scratch, "wb") as stream:
        np.savez_compressed(stream, **_arrays(result, fingerprint))  # type: ignore[arg-type]


def _arrays(result: TaskResult, fingerprint: str) -> dict[str, NDArray[Any]]:
    """The members of test.predictions.npz: `<split>/clips`, `<split>/targets` and so on."""
    arrays: dict[str, NDArray[Any]] = {"fingerprint": np.array(fingerprint)}
    for fold in result.folds:
        said = fold.predictions
        arrays[f"{fold.test}/clips"] = np.array(said.clips, dtype=np.str_)
        arrays[f"{fold.test}/targets"] = said.targets
        arrays[f"{fold.test}/predictions"] = said.probabilities
        if said.timestamps_ms is not None:
            arrays[f"{fold.test}/timestamps_ms"] = said.timestamps_ms
        if fold.model.postprocessing:
            for name, value in dataclasses.asdict(fold.model.postprocessing).items():
                arrays[f"{fold.test}/{name}"] = np.array(value, dtype=np.float64)
    return arrays
