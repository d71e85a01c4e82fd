"""The keys of the scores files of 2021, which scripts in the wild read, derived from ours.

`KIT["test"]["test_score"]` is the score of the task's first metric, or `KIT["fold00"]["test_score"]` with
folds, whose means and standard deviations are in `KIT["aggregated_scores"]`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heareval.formats.scores import FoldEntry, ScoreEntry, Scores

# Our name of a metric's detail -> its name in the keys of 2021. Other details have no key there.
DETAIL_NAMES = {"precision": "precision", "recall": "recall"}
POSTPROCESSING_NAMES = {"min_duration_ms": "min_duration"}
# The number that an event metric consists of has a key of its own beside its details.
MAIN_NAMES = {"fms": "f_measure", "er": "error_rate"}


def list_kit2021_values(scores: Scores) -> dict[str, Any]:
    """Return the values of a result under the keys that a scores file had in 2021.

    With several seeds the scores are means over the seeds; settings, validation, epoch and time are those of
    the first one. `test_loss` is None, because the loss on the test split is not computed.
    """
    run = scores.runs[0]
    values: dict[str, Any] = {fold.test: _describe_split(scores, fold) for fold in run.folds}
    if len(run.folds) > 1:
        values["aggregated_scores"] = _aggregate([values[fold.test] for fold in run.folds])
    postprocessing = run.folds[0].model.postprocessing or {}
    return {
        **values,
        "hparams": dict(run.settings),
        "postprocessing": [
            [POSTPROCESSING_NAMES.get(name, name), value] for name, value in postprocessing.items()
        ],
        "score_mode": scores.score_mode,
        "embedding_path": scores.embedding_path,
    }


def _describe_split(scores: Scores, fold: FoldEntry) -> dict[str, Any]:
    first = scores.scores[scores.metrics[0]]
    values: dict[str, Any] = {"test_loss": None, "test_score": first.folds[fold.test]}
    for metric, score in scores.scores.items():
        values |= _describe_metric(metric, score, fold.test)
    model = fold.model
    return {
        **values,
        "validation_score": model.validation_score,
        "epoch": model.best_epoch,
        "time_in_min": round(model.seconds / 60, 4),
    }


def _describe_metric(metric: str, score: ScoreEntry, split: str) -> dict[str, Any]:
    value = score.folds[split]
    values = {f"test_{metric}": value}
    if main := MAIN_NAMES.get(metric.rpartition("_")[2]):
        values[f"test_{metric}_{main}"] = value
    for name, detail in score.details.get(split, {}).items():
        if name in DETAIL_NAMES:
            values[f"test_{metric}_{DETAIL_NAMES[name]}"] = detail
    return values


def _aggregate(folds: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the mean and the standard deviation (ddof 1) over folds of every `test_` key with numbers."""
    values: dict[str, float | None] = {}
    for name in folds[0]:
        if name.startswith("test_") and name != "test_loss":
            numbers = [fold.get(name) for fold in folds]
            values |= {f"{name}_mean": find_mean(numbers), f"{name}_std": find_std(numbers)}
    return values


def find_mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of scores, None if one is undefined or if they are infinite with both signs.

    >>> find_mean([0.25, 0.75]), find_mean([0.5, None]), find_mean([1.0, math.inf])
    (0.5, None, inf)
    """
    numbers = [value for value in values if value is not None]
    mean = sum(numbers) / len(numbers) if len(numbers) == len(values) > 0 else math.nan
    return None if math.isnan(mean) else mean


def find_std(values: Sequence[float | None]) -> float | None:
    """Return the standard deviation (ddof 1) of scores, None for one score, or if one is infinite or huge.

    >>> find_std([1.0, 3.0]), find_std([1.0]), find_std([1.0, math.inf]), find_std([1.0, 1e300])
    (1.4142135623730951, None, None, None)
    """
    mean = find_mean(values)
    if mean is None or math.isinf(mean) or len(values) < 2:
        return None
    try:
        squares = sum((value - mean) ** 2 for value in values if value is not None)
    except OverflowError:
        # No metric has such scores, but a file that somebody else wrote may hold any.
        return None
    return math.sqrt(squares / (len(values) - 1))
