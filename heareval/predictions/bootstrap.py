"""How far a score might lie from this one had the test clips been others: the bootstrap over clips.

Clips are drawn with replacement, as many as there are, and scored; Efron, Tibshirani: An Introduction to the
Bootstrap, 1993. Of k folds each is drawn anew, scored, and the mean taken, as the protocol does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval.predictions.metrics import find_metric

RESAMPLES = 1000
COVERAGE = 0.95
# Counts held at a time: what fits into a processor's cache is summed fastest.
COUNTS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Judged:
    """What a predictor said about the clips of a tested split, and what is true, as metrics take them.

    Args:
        clips: how many clips there are.
        truth: targets `(clips, labels)`, or the reference events.
        said: probabilities `(clips, labels)`, or the estimated events.
    """

    clips: int
    truth: Any
    said: Any


@dataclass(frozen=True)
class Interval:
    """Where 95 % of the resampled scores lie; NaN where none is defined, infinite where scores are.

    Args:
        resamples: how many scores it is made of.
        undefined: how many more were drawn, but had no score.
    """

    low: float
    high: float
    resamples: int
    undefined: int


def resampled_scores(
    metrics: Sequence[str], folds: Sequence[Judged], *, resamples: int = RESAMPLES, seed: Any
) -> dict[str, NDArray[np.float64]]:
    """For each metric the scores of the resamples, `(resamples,)`: means over folds, NaN where undefined.

    Two results on the same clips get the same draws from the same seed, so their difference is paired; and so
    is the mean over several trainings.

    Args:
        seed: a number or several, as numpy's generators take them.
    """
    # A d' may be infinite for one label, and of another sign for the next.
    with np.errstate(invalid="ignore"):
        of_folds = [
            _fold_scores(metrics, fold, resamples, np.random.default_rng([*np.atleast_1d(seed), number]))
            for number, fold in enumerate(folds)
        ]
        return {name: np.mean([scores[i] for scores in of_folds], axis=0) for i, name in enumerate(metrics)}


def _fold_scores(
    metrics: Sequence[str], fold: Judged, resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Scores of one fold's resamples, `(metrics, resamples)`."""
    redrawn = [find_metric(name).redraw(fold.truth, fold.said, fold.clips) for name in metrics]
    blocks = [[each.scores(counts) for each in redrawn] for counts in draw_counts(fold.clips, resamples, rng)]
    return np.concatenate(blocks, axis=1)


def draw_counts(clips: int, resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.int32]]:
    """How often each clip is drawn in each resample, in blocks `(clips, resamples of the block)`."""
    at_once = max(1, COUNTS_AT_ONCE // clips)
    for start in range(0, resamples, at_once):
        draws = min(at_once, resamples - start)
        taken = rng.integers(clips, size=(clips, draws)) * draws + np.arange(draws)
        counts = np.bincount(taken.ravel(), minlength=clips * draws)
        yield counts.astype(np.int32).reshape(clips, draws)


def around(value: float, metric: str, resampled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Resampled scores of a metric, or differences of two, as they lie around the one found, `(resamples,)`.

    In a ranking a clip that was drawn twice stands beside itself, which lifts precision: with few clips to a
    label nearly every draw scores above the clips it comes from. So these are moved until their median is the
    value found; all are NaN where either is infinite. Ratios of sums have no such lift and stay as they are.
    """
    if not find_metric(metric).ranks:
        return resampled
    defined = resampled[~np.isnan(resampled)]
    middle = float(np.sort(defined)[len(defined) // 2]) if len(defined) else math.nan
    is_finite = math.isfinite(middle) and math.isfinite(value)
    return resampled - middle + value if is_finite else np.full(len(resampled), np.nan)


def interval(scores: NDArray[np.float64]) -> Interval:
    """The central 95 % of resampled scores `(resamples,)`; undefined ones are left out, and counted."""
    defined = np.sort(scores[~np.isnan(scores)])
    undefined = len(scores) - len(defined)
    if len(defined) == 0:
        return Interval(math.nan, math.nan, 0, undefined)
    # Scores that were drawn, not points between them: the next one may be infinite.
    tail = math.floor((1.0 - COVERAGE) / 2 * len(defined))
    return Interval(float(defined[tail]), float(defined[-1 - tail]), len(defined), undefined)
