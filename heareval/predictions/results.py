"""Results of a task, and the two files they are kept in."""

from __future__ import annotations

import dataclasses
import math
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import heareval
from heareval import files, layout
from heareval.errors import replaced_error
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
class Run:
    """The whole protocol, gone through with one seed.

    Args:
        grid: every tried grid point, in the order they were drawn.
        folds: one result per tested split.
    """

    seed: int
    grid: tuple[GridResult, ...]
    folds: tuple[FoldResult, ...]


@dataclass(frozen=True)
class TaskResult:
    """Everything that an evaluation found.

    Args:
        decided_by: what chose the models: a metric's name or "loss", always on the validation split.
        runs: one for each seed; all tested the same splits.
        clips: number of clips of each split.
    """

    protocol: Protocol
    task: Task
    decided_by: str
    runs: tuple[Run, ...]
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
            raise replaced_error(f"embeddings folder {folder}", found, embeddings)
    name = result.protocol.recorded_name
    # Without scores no run takes the new predictions for those of the old scores.
    (folder / layout.scores(name)).unlink(missing_ok=True)
    # A report on them would be taken for one on the new scores.
    shutil.rmtree(folder / layout.report(name), ignore_errors=True)
    _write_predictions(folder / layout.predictions(name), result, fingerprint)
    files.write_json(folder / layout.scores(name), scores_json(result, fingerprint))
    return folder / layout.scores(name)


def scores_json(result: TaskResult, fingerprint: str) -> dict[str, Any]:
    """The content of test.predicted-scores.json; undefined numbers are null.

    Scores are means over seeds; what was chosen and tried is told of the first one, and under `more_seeds` of
    the others.
    """
    first, *others = result.runs
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
        "problems": _problems(result.runs),
        "decided_by": result.decided_by,
        **_run_json(first),
        "seeds": len(result.runs),
        "more_seeds": [_run_json(run) for run in others],
        "labels": len(result.task.labels),
        "clips": dict(result.clips),
        "device": result.device,
        "deterministic": result.protocol.deterministic,
        "seconds": round(result.seconds, 3),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of everything that takes part in the numbers."""
    found = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found, "heareval": heareval.__version__}


def _problems(runs: Sequence[Run]) -> list[str]:
    """What is to be told about scores; what holds for several seeds once."""
    scores = [score for run in runs for fold in run.folds for score in fold.scores]
    return list(dict.fromkeys(text for score in scores for text in score.problems))


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "settings": dataclasses.asdict(run.folds[0].model.settings),
        "folds": [_fold_json(fold) for fold in run.folds],
        "grid": [_grid_json(point) for point in run.grid],
    }


def _task_scores(result: TaskResult) -> dict[str, Any]:
    """Per metric the score (the mean of folds and seeds), its spread and interval, and those of each."""
    drawn = [_resampled(result.task, run) for run in result.runs]
    first = result.runs[0].folds
    scores = {}
    for i, metric in enumerate(score.metric for score in first[0].scores):
        # (seeds, folds)
        values = np.array([[fold.scores[i].value for fold in run.folds] for run in result.runs])
        defined = bool(np.isfinite(values).all())
        # Of scores that are infinite there may be no mean, which is told.
        with np.errstate(invalid="ignore"):
            mean, of_folds, of_seeds = float(values.mean()), values.mean(axis=0), values.mean(axis=1)
            resampled = around(mean, metric, np.mean([one[metric] for one in drawn], axis=0))
        scores[metric] = {
            "score": mean if defined else None,
            "std": float(of_folds.std(ddof=1)) if defined and len(of_folds) > 1 else None,
            **interval_json(interval(resampled) if defined else None),
            "folds": {fold.test: _number(value) for fold, value in zip(first, of_folds, strict=True)},
            "details": {fold.test: _details(result.runs, place, i) for place, fold in enumerate(first)},
            **_seeds_json(result.runs, of_seeds),
        }
    return scores


def _resampled(task: Task, run: Run) -> dict[str, NDArray[np.float64]]:
    folds = [judged(fold.predictions, fold.model.postprocessing) for fold in run.folds]
    return resampled_scores(task.metrics, folds, seed=DRAWS_SEED)


def _details(runs: Sequence[Run], place: int, metric: int) -> dict[str, float | None]:
    """What else a metric tells of a fold, the mean over seeds."""
    details = [run.folds[place].scores[metric].details for run in runs]
    return {name: _number(float(np.mean([each[name] for each in details]))) for name in details[0]}


def _seeds_json(runs: Sequence[Run], values: NDArray[np.float64]) -> dict[str, Any]:
    """Each seed's score and their standard deviation, if there are several."""
    if len(runs) == 1:
        return {}
    defined = bool(np.isfinite(values).all())
    return {
        "seed_std": float(values.std(ddof=1)) if defined else None,
        "seeds": {str(run.seed): _number(value) for run, value in zip(runs, values, strict=True)},
    }


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


def _write_predictions(path: Path, result: TaskResult, fingerprint: str) -> None:
    with files.building_file(path) as scratch, open(scratch, "wb") as stream:
        np.savez_compressed(stream, **_arrays(result, fingerprint))  # type: ignore[arg-type]


def _arrays(result: TaskResult, fingerprint: str) -> dict[str, NDArray[Any]]:
    """The members of test.predictions.npz: `<split>/clips`, `<split>/targets` and so on.

    Of several seeds, what they said and chose has one more axis, the first.
    """
    arrays: dict[str, NDArray[Any]] = {"fingerprint": np.array(fingerprint)}
    for folds in zip(*(run.folds for run in result.runs), strict=True):
        split, said = folds[0].test, folds[0].predictions
        arrays[f"{split}/clips"] = np.array(said.clips, dtype=np.str_)
        arrays[f"{split}/targets"] = said.targets
        arrays[f"{split}/predictions"] = _of_seeds([fold.predictions.probabilities for fold in folds])
        if said.timestamps_ms is not None:
            arrays[f"{split}/timestamps_ms"] = said.timestamps_ms
        chosen = [fold.model.postprocessing for fold in folds]
        for name in (field.name for field in dataclasses.fields(Postprocessing) if chosen[0]):
            arrays[f"{split}/{name}"] = _of_seeds([np.float64(getattr(one, name)) for one in chosen])
    return arrays


def _of_seeds(values: Sequence[Any]) -> NDArray[Any]:
    return np.asarray(values[0] if len(values) == 1 else np.stack(values))
