"""Bootstrap confidence intervals over test clips.

Clips are drawn with replacement, as many as there are, and scored again. With k folds the clips of each
fold are resampled separately, and the score of a resample is the mean over folds, as in the protocol.

Efron, Tibshirani: An Introduction to the Bootstrap, 1993.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval.predictions.metrics import find_metric
from heareval.predictions.metrics.resampled import Counts, resample_rankings

RESAMPLES = 1000
COVERAGE = 0.95
# Counts computed at a time. Sums are fastest if the counts fit into the processor's cache.
COUNTS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class ScoredSplit:
    """What metrics need to score a tested split.

    Args:
        clips: number of clips.
        reference: targets `(clips, labels)`, or the reference events.
        predicted: probabilities `(clips, labels)`, or the estimated events.
    """

    clips: int
    reference: Any
    predicted: Any


@dataclass(frozen=True)
class Interval:
    """The 95 % confidence interval of a score; its ends are NaN if no resample has a score.

    Args:
        resamples: number of resamples with a score.
        undefined: number of resamples without one.
    """

    low: float
    high: float
    resamples: int
    undefined: int


def resample_scores(
    metrics: Sequence[str], folds: Sequence[ScoredSplit], *, resamples: int = RESAMPLES, seed: Any
) -> dict[str, NDArray[np.float64]]:
    """Return the scores of bootstrap resamples for each metric, `(resamples,)`, NaN where undefined.

    Scores are means over folds. The same seed draws the same clips for two results on the same clips, so
    their differences are paired. The same holds for several trainings.

    Args:
        seed: one or several integers, as accepted by `numpy.random.default_rng`.
    """
    # A d' may be infinite for one label and minus infinite for another.
    with np.errstate(invalid="ignore"):
        of_folds = [
            _resample_fold(metrics, fold, resamples, np.random.default_rng([*np.atleast_1d(seed), number]))
            for number, fold in enumerate(folds)
        ]
        return {name: np.mean([scores[i] for scores in of_folds], axis=0) for i, name in enumerate(metrics)}


def _resample_fold(
    metrics: Sequence[str], fold: ScoredSplit, resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the scores of one fold's resamples, `(metrics, resamples)`."""
    score = _prepare_scores(metrics, fold)
    return np.concatenate([score(counts) for counts in draw_counts(fold.clips, resamples, rng)], axis=1)


def _prepare_scores(metrics: Sequence[str], fold: ScoredSplit) -> Callable[[Counts], NDArray[np.float64]]:
    """Return a function from counts `(clips, resamples)` to the scores, `(metrics, resamples)`."""
    rules = {name: find_metric(name) for name in metrics}
    of_labels = {name: rule.score_label for name, rule in rules.items() if rule.score_label is not None}
    scorers = {
        name: rule.resample(fold.reference, fold.predicted, fold.clips).scores
        for name, rule in rules.items()
        if name not in of_labels
    }
    # Counting the clips above each positive takes most of the time, so metrics do it together.
    score_rankings = (
        resample_rankings(fold.reference, fold.predicted, list(of_labels.values())) if of_labels else None
    )

    def score(counts: Counts) -> NDArray[np.float64]:
        scores = {name: score_clips(counts) for name, score_clips in scorers.items()}
        if score_rankings:
            scores |= zip(of_labels, score_rankings(counts), strict=True)
        return np.stack([scores[name] for name in metrics])

    return score


def draw_counts(clips: int, resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.int32]]:
    """Draw how often each resample holds each clip, in blocks `(clips, resamples of the block)`."""
    at_once = max(1, COUNTS_AT_ONCE // clips)
    for start in range(0, resamples, at_once):
        draws = min(at_once, resamples - start)
        taken = rng.integers(clips, size=(clips, draws)) * draws + np.arange(draws)
        counts = np.bincount(taken.ravel(), minlength=clips * draws)
        yield counts.astype(np.int32).reshape(clips, draws)


def recenter(value: float, metric: str, resampled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift resampled scores of a biased metric so that their median is the observed score, `(resamples,)`.

    A clip that was drawn twice stands next to its copy in a ranking, which raises precision. With few clips
    per label nearly all resamples score higher than the clips that they were drawn from. Metrics that are
    ratios of sums have no such bias, and their scores are returned unchanged.

    Args:
        value: the observed score, or the difference of two.
        resampled: scores or differences of the resamples, `(resamples,)`. If their median or the observed
            value is infinite, the result is NaN.
    """
    if not find_metric(metric).is_biased_by_copies:
        return resampled
    defined = resampled[~np.isnan(resampled)]
    median = float(np.sort(defined)[len(defined) // 2]) if len(defined) else math.nan
    is_finite = math.isfinite(median) and math.isfinite(value)
    return resampled - median + value if is_finite else np.full(len(resampled), np.nan)


def confidence_interval(scores: NDArray[np.float64]) -> Interval:
    """Return the central 95 % of resampled scores `(resamples,)`; undefined scores are only counted.

    >>> confidence_interval(np.arange(100.0))
    Interval(low=2.0, high=97.0, resamples=100, undefined=0)
    """
    defined = np.sort(scores[~np.isnan(scores)])
    undefined = len(scores) - len(defined)
    if len(defined) == 0:
        return Interval(math.nan, math.nan, 0, undefined)
    # Take resampled scores and don't interpolate between them, because the next one may be infinite.
    tail = math.floor((1.0 - COVERAGE) / 2 * len(defined))
    return Interval(float(defined[tail]), float(defined[-1 - tail]), len(defined), undefined)
