"""Whether the numbers of a scores file agree with each other; an edited or damaged file seldom does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from heareval.formats.fields import Fields, is_number, shorten
from heareval.formats.kit2021 import find_mean, find_std, list_kit2021_values
from heareval.formats.scores import ScoreEntry, Scores, interval_bounds, number_to_json, scores_to_json

# Means may be summed in another order.
TOLERANCE = 1e-9
# More than any version draws. Numbers that no float can hold would be errors of arithmetic later.
MAX_RESAMPLES = 10**9


def check_agreement(fields: Fields, scores: Scores) -> None:
    """Raise HearevalError if numbers of a scores file contradict each other.

    Args:
        fields: the JSON object of the file, for the messages.
        scores: what it holds.
    """
    for run in scores.runs:
        if run.settings != run.folds[0].model.settings:
            got, expected = shorten(dict(run.settings)), shorten(dict(run.folds[0].model.settings))
            raise fields.error("settings", got, f"{expected}, those of the first tested model")
    for split, clips in scores.clips.items():
        if clips < 1:
            raise fields.error("clips", f"{clips} in {split}", "1 or more")
    seeds = [str(run.seed) for run in scores.runs]
    for metric, score in scores.scores.items():
        entry = fields.object("scores").object(metric)
        _check_metric(entry, score, seeds)
        # heareval 0.1.0 also wrote intervals that do not contain the score; `drop_intervals` removes them.
        if score.interval_95 is not None and scores.score_mode:
            _check_interval(entry, score, score.interval_95)
    written = scores_to_json(scores)
    for key, expected in number_to_json(list_kit2021_values(scores)).items():
        # One of our keys may have the name of a split, and folders may be moved.
        if written[key] == expected and key != "embedding_path":
            _check_equal(fields, key, expected)


def _check_metric(fields: Fields, score: ScoreEntry, seeds: list[str]) -> None:
    folds = list(score.folds.values())
    _check_number(fields, "score", score.score, find_mean(folds), "the mean of its folds")
    if score.std is not None:
        _check_number(fields, "std", score.std, find_std(folds), "the standard deviation of its folds")
    if score.seeds is not None:
        values = list(score.seeds.values())
        if list(score.seeds) != seeds:
            raise fields.error("seeds", shorten(list(score.seeds)), f"the seeds {', '.join(seeds)}")
        _check_number(fields, "score", score.score, find_mean(values), "the mean of its seeds")
        if score.seed_std is not None:
            what = "the standard deviation of its seeds"
            _check_number(fields, "seed_std", score.seed_std, find_std(values), what)
    for key in ("resamples", "undefined_resamples"):
        if getattr(score, key) < 0:
            raise fields.error(key, shorten(getattr(score, key)), "0 or more")
        if getattr(score, key) > MAX_RESAMPLES:
            raise fields.error(key, shorten(getattr(score, key)), f"{MAX_RESAMPLES} at most")


def _check_interval(fields: Fields, score: ScoreEntry, ends: tuple[float | None, float | None]) -> None:
    low, high = interval_bounds(ends)
    if score.score is None:
        raise fields.error("interval_95", f"{low} to {high}", "null, as the score is undefined")
    slack = TOLERANCE * max(1.0, abs(score.score))
    if not low - slack <= score.score <= high + slack:
        raise fields.error("interval_95", f"{low} to {high}", f"an interval around the score {score.score}")


def _check_number(fields: Fields, key: str, found: float | None, expected: float | None, what: str) -> None:
    if not _is_close(found, expected):
        raise fields.error(key, _show(found), f"{_show(expected)}, {what}")


def _check_equal(fields: Fields, key: str, expected: Any) -> None:
    """Raise HearevalError if a key of 2021 is there, as it isn't in results of 0.1.0, with another value."""
    if key not in fields.values:
        return
    found = fields.values[key]
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for name, value in expected.items():
            _check_equal(fields.object(key), name, value)
    elif not _is_equal(found, expected):
        raise fields.error(key, shorten(found), f"{shorten(expected)}, as under the other keys")


def _is_equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, float) and is_number(found):
        return _is_close(found, expected)
    return bool(found == expected)


def _is_close(found: float | None, expected: float | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _show(value: float | None) -> str:
    return "null" if value is None else str(value)
