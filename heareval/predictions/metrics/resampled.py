"""Metrics of bootstrap resamples, computed for many resamples at once.

A resample is given by how often it holds each clip, so many resamples are an array `(clips, resamples)` of
counts. The score of each follows from the counts without copying a clip. Most metrics are ratios of sums
over clips; the others rank the clips of each label, and one ranking serves all resamples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import ndtri

# How often each resample holds each clip, `(clips, resamples)`.
Counts = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ClipSums:
    """What each clip adds to a score that is a ratio of two sums over clips.

    Args:
        numerator: `(clips,)`.
        denominator: `(clips,)`.
        support: `(clips,)`; the score of a resample is undefined if its clips add up to none.
    """

    numerator: NDArray[np.float64]
    denominator: NDArray[np.float64]
    support: NDArray[np.float64]

    def scores(self, counts: Counts) -> NDArray[np.float64]:
        """Return the score of each resample, `(resamples,)`."""
        parts = np.stack([self.numerator, self.denominator, self.support])
        return divide(*(parts @ counts.astype(np.float64)))


@dataclass(frozen=True)
class BootstrapScorer:
    """A metric on given clips, prepared to score resamples of them.

    Args:
        scores: maps counts `(clips, resamples)` to scores `(resamples,)`, NaN where the score is undefined.
        sums: what each clip adds, if the score is a ratio of sums over clips.
    """

    scores: Callable[[Counts], NDArray[np.float64]]
    sums: ClipSums | None = None


def divide(
    numerator: NDArray[np.float64], denominator: NDArray[np.float64], support: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return numerator / denominator, NaN where there is no support.

    >>> divide(np.array([1.0, 0.0]), np.array([4.0, 0.0]), np.array([4.0, 0.0])).tolist()
    [0.25, nan]
    """
    scores = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=scores, where=support > 0)
    return scores


def resample_sums(sums: ClipSums) -> BootstrapScorer:
    """Prepare a score that is a ratio of sums over clips."""
    return BootstrapScorer(sums.scores, sums)


def resample_share(hits: NDArray[np.bool_]) -> BootstrapScorer:
    """Prepare a score that is the share of clips with a hit, `(clips,)`.

    >>> resample_share(np.array([True, False])).scores(np.array([[2, 1], [0, 1]])).tolist()
    [1.0, 0.5]
    """
    ones = np.ones(len(hits))

    def scores(counts: Counts) -> NDArray[np.float64]:
        # Whole numbers have the same sums as in `ClipSums.scores`, without a copy of the counts as floats.
        drawn = counts.sum(axis=0).astype(np.float64)
        return divide(counts[hits].sum(axis=0).astype(np.float64), drawn, drawn)

    return BootstrapScorer(scores, ClipSums(hits.astype(np.float64), ones, ones))


@dataclass(frozen=True)
class Ranking:
    """The clips of one label, from the most likely down.

    Args:
        positives: index of each clip that has the label, `(positives,)`.
        stretches: `(edges, clips)`, 1 for the clips from each edge to the next one. Edges are the top of the
            ranking, and where ties of positives begin and end.
        starts: index of the edge above each positive's tie, `(positives,)`.
        stops: index of the edge below each positive's tie, `(positives,)`; the bottom is the last edge.
        found: how many positives there are down to the end of each positive's tie, `(positives,)`.
    """

    positives: NDArray[np.int64]
    stretches: csr_matrix
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    found: NDArray[np.int64]


def rank_labels(targets: NDArray[Any], predictions: NDArray[np.floating[Any]]) -> tuple[Ranking, ...]:
    """Return the ranking of each label.

    Args:
        targets: `(clips, labels)` of 0 and 1.
        predictions: `(clips, labels)`.
    """
    return tuple(_rank_clips(*column) for column in zip(targets.T, predictions.T, strict=True))


def _rank_clips(target: NDArray[Any], predicted: NDArray[np.floating[Any]]) -> Ranking:
    clips = len(target)
    order = np.argsort(-predicted, kind="stable")
    ascending, ranks = -predicted[order], np.flatnonzero(target[order])
    starts = np.searchsorted(ascending, ascending[ranks], side="left")
    stops = np.searchsorted(ascending, ascending[ranks], side="right")
    edges = np.unique(np.concatenate([[0], starts, stops, [clips]]))
    ones = np.ones(clips, dtype=np.uint8)
    return Ranking(
        order[ranks],
        csr_matrix((ones, order, edges), shape=(len(edges) - 1, clips)),
        np.searchsorted(edges, starts),
        np.searchsorted(edges, stops),
        np.searchsorted(ranks, stops),
    )


@dataclass(frozen=True)
class ResampledRanking:
    """The ranking of one label in each resample. What several metrics need is computed once.

    Args:
        positives: how often each positive was drawn, `(positives, resamples)`.
        clips_above: how many clips were drawn above each edge, `(edges + 1, resamples)`.
    """

    ranking: Ranking
    positives: NDArray[np.unsignedinteger[Any]]
    clips_above: NDArray[np.unsignedinteger[Any]]

    @functools.cached_property
    def weights(self) -> NDArray[np.float64]:
        """Return how often each positive was drawn, as floats, `(positives, resamples)`."""
        return self.positives.astype(np.float64)

    @functools.cached_property
    def roc_auc(self) -> NDArray[np.float64]:
        """Return the area under the ROC curve in each resample, `(resamples,)`; ties count half."""
        above, ranking = self.clips_above, self.ranking
        positives, clips = self.weights.sum(axis=0), above[-1].astype(np.float64)
        # A pair is wrong if the negative is above the positive, and half wrong if they are tied. Positives
        # are above each other, too: counted twice in the same way, they add up to the square of their number.
        twice_above = np.add(above[ranking.starts], above[ranking.stops], dtype=np.float64)
        wrong = (np.einsum("ij,ij->j", twice_above, self.weights) - positives**2) / 2
        pairs = positives * (clips - positives)
        return 1.0 - divide(wrong, pairs, pairs)


# Maps the resampled ranking of one label to its score in each resample, `(resamples,)`.
LabelScore = Callable[[ResampledRanking], NDArray[np.float64]]


def resample_labels(rankings: Iterable[Ranking], counts: Counts) -> Iterator[ResampledRanking]:
    """Yield the ranking of each label in resamples.

    Args:
        counts: how often each resample holds each clip, `(clips, resamples)`.
    """
    # No sum is larger than the number of drawn clips. Small integers are added several times faster.
    small = counts.astype(np.min_scalar_type(int(counts.sum(axis=0).max())))
    for ranking in rankings:
        clips_above = _sum_from_zero(ranking.stretches @ small)
        yield ResampledRanking(ranking, small[ranking.positives], clips_above)


def _sum_from_zero(values: NDArray[Any]) -> NDArray[Any]:
    """Return the running sums along the first axis, starting with 0, in the same type."""
    sums = np.zeros((len(values) + 1, *values.shape[1:]), dtype=values.dtype)
    np.cumsum(values, axis=0, dtype=values.dtype, out=sums[1:])
    return sums


def average_precision(resampled: ResampledRanking) -> NDArray[np.float64]:
    """Return the average precision of one label in each resample, `(resamples,)`."""
    ranking = resampled.ranking
    if len(ranking.positives) == 0:
        return np.zeros(resampled.clips_above.shape[1])
    positives_above = _sum_from_zero(resampled.positives)
    # If no clips were drawn down to a positive, the positive wasn't drawn either and has no weight below.
    clips = np.maximum(resampled.clips_above[ranking.stops], 1)
    precision = np.divide(positives_above[ranking.found], clips, dtype=np.float64)
    total = positives_above[-1].astype(np.float64)
    return divide(np.einsum("ij,ij->j", precision, resampled.weights), total, total)


def roc_auc(resampled: ResampledRanking) -> NDArray[np.float64]:
    """Return the area under the ROC curve of one label in each resample, `(resamples,)`."""
    return resampled.roc_auc


def d_prime(resampled: ResampledRanking) -> NDArray[np.float64]:
    """Return d' of one label in each resample, `(resamples,)`."""
    return np.asarray(np.sqrt(2.0) * ndtri(resampled.roc_auc))


def resample_rankings(
    targets: NDArray[Any], predictions: NDArray[np.floating[Any]], score_labels: Sequence[LabelScore]
) -> Callable[[Counts], NDArray[np.float64]]:
    """Prepare scores that are means over labels of scores of each label's ranked clips.

    A label that is undefined on all clips together makes every resample undefined. A label that is undefined
    only on a resample is left out of the mean of that resample.

    Args:
        targets: `(clips, labels)` of 0 and 1.
        predictions: `(clips, labels)`.
        score_labels: each scores one label. All of them share the rankings.

    Returns:
        a function from counts `(clips, resamples)` to the scores, `(score_labels, resamples)`.
    """
    rankings = rank_labels(targets, predictions)
    each_once = np.ones((len(targets), 1), dtype=np.uint8)
    is_defined = np.full(len(score_labels), True)
    for label in resample_labels(rankings, each_once):
        is_defined &= [not np.isnan(score(label)).any() for score in score_labels]

    def scores(counts: Counts) -> NDArray[np.float64]:
        total, defined = np.zeros((2, len(score_labels), counts.shape[1]))
        for label in resample_labels(rankings, counts):
            of_label = np.stack([score(label) for score in score_labels])
            total += np.where(np.isnan(of_label), 0.0, of_label)
            defined += ~np.isnan(of_label)
        return divide(total, defined, np.where(is_defined[:, None], defined, 0.0))

    return scores


def count_per_clip(clip: NDArray[np.int64], clips: int) -> NDArray[np.float64]:
    """Return how often each clip's index occurs, `(clips,)`."""
    return np.bincount(clip, minlength=clips).astype(np.float64)
