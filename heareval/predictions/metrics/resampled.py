"""Metrics of bootstrap resamples, computed for many resamples at once.

A resample is given by how often it holds each clip, so many resamples are an array `(clips, resamples)` of
counts. The score of each follows from the counts without copying a clip. Most metrics are ratios of sums
over clips; the others rank the clips of each label, and one ranking serves all resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    return resample_sums(ClipSums(hits.astype(np.float64), ones, ones))


@dataclass(frozen=True)
class Ranking:
    """The clips of one label, from the most likely down.

    Args:
        order: index of the clip at each rank, `(clips,)`.
        positives: ranks of the clips that have the label, `(positives,)`.
        starts: first rank of each positive's tie, `(positives,)`.
        stops: rank after each positive's tie, `(positives,)`.
        edges: sorted ranks out of starts and stops, and 0, without the one after the last clip.
    """

    order: NDArray[np.int64]
    positives: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    edges: NDArray[np.int64]


def _rank_clips(target: NDArray[Any], predicted: NDArray[np.floating[Any]]) -> Ranking:
    order = np.argsort(-predicted, kind="stable")
    ascending = -predicted[order]
    positives = np.flatnonzero(target[order])
    starts = np.searchsorted(ascending, ascending[positives], side="left")
    stops = np.searchsorted(ascending, ascending[positives], side="right")
    edges = np.unique(np.concatenate([[0], starts, stops]))
    return Ranking(order, positives, starts, stops, edges[edges < len(order)])


@dataclass(frozen=True)
class ResampledRanking:
    """The ranking of one label in each resample; all counts are whole numbers stored as floats.

    Args:
        positives: how often each positive was drawn, `(positives, resamples)`.
        clips_above: how many clips were drawn above each edge, then in all, `(edges + 1, resamples)`.
        positives_above: how many positives were drawn above each positive, then in all,
            `(positives + 1, resamples)`.
    """

    ranking: Ranking
    positives: NDArray[np.float64]
    clips_above: NDArray[np.float64]
    positives_above: NDArray[np.float64]

    def count_clips_above(self, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the number of drawn clips above some ranks, which must be edges, `(ranks, resamples)`."""
        return self.clips_above[np.searchsorted(self.ranking.edges, ranks)]

    def count_positives_above(self, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the number of drawn positives above some ranks, `(ranks, resamples)`."""
        return self.positives_above[np.searchsorted(self.ranking.positives, ranks)]


# Maps the resampled ranking of one label to its score in each resample, `(resamples,)`.
LabelScore = Callable[[ResampledRanking], NDArray[np.float64]]


def _prepare_rankings(rankings: Sequence[Ranking]) -> Callable[[Counts], Iterator[ResampledRanking]]:
    """Return a function from counts to the resampled ranking of each label."""
    # Scores only look at the edges of positives' ties. So the clips between two edges are summed up, by a
    # product with a sparse matrix of ones that has one row for each stretch between two edges of a label.
    clips = len(rankings[0].order)
    starts = np.concatenate([ranking.edges + i * clips for i, ranking in enumerate(rankings)])
    bounds = np.append(starts, len(rankings) * clips)
    order = np.concatenate([ranking.order for ranking in rankings])
    stretches = csr_matrix((np.ones(len(order), dtype=np.float32), order, bounds), shape=(len(starts), clips))
    first = np.cumsum([0, *(len(ranking.edges) for ranking in rankings)])

    def resample(counts: Counts) -> Iterator[ResampledRanking]:
        # float32 is exact here: sums of counts stay far below 2 ** 24.
        sums = stretches @ counts.astype(np.float32)
        for ranking, start, stop in zip(rankings, first[:-1], first[1:], strict=True):
            positives = counts[ranking.order[ranking.positives]].astype(np.float64)
            yield ResampledRanking(
                ranking, positives, _sum_from_zero(sums[start:stop]), _sum_from_zero(positives)
            )

    return resample


def _sum_from_zero(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the running sums along the first axis, starting with 0."""
    sums = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=sums[1:])
    return sums


def average_precision(resampled: ResampledRanking) -> NDArray[np.float64]:
    """Return the average precision of one label in each resample, `(resamples,)`."""
    ranking, total = resampled.ranking, resampled.positives_above[-1]
    if len(ranking.positives) == 0:
        return np.zeros(resampled.clips_above.shape[1])
    # If no clips were drawn down to a positive, the positive wasn't drawn either and has no weight below.
    clips = np.maximum(resampled.count_clips_above(ranking.stops), 1.0)
    precision = resampled.count_positives_above(ranking.stops) / clips
    return divide(np.einsum("ij,ij->j", precision, resampled.positives), total, total)


def roc_auc(resampled: ResampledRanking) -> NDArray[np.float64]:
    """Return the area under the ROC curve of one label in each resample, `(resamples,)`; ties count half."""
    ranking = resampled.ranking
    wrong = np.zeros(resampled.clips_above.shape[1])
    for ranks in (ranking.starts, ranking.stops):
        negatives = resampled.count_clips_above(ranks) - resampled.count_positives_above(ranks)
        wrong += np.einsum("ij,ij->j", negatives, resampled.positives) / 2
    positives = resampled.positives_above[-1]
    pairs = positives * (resampled.clips_above[-1] - positives)
    return 1.0 - divide(wrong, pairs, pairs)


def d_prime(resampled: ResampledRanking) -> NDArray[np.float64]:
    """Return d' of one label in each resample, `(resamples,)`."""
    return np.asarray(np.sqrt(2.0) * ndtri(roc_auc(resampled)))


def resample_rankings(
    targets: NDArray[Any], predictions: NDArray[np.floating[Any]], clips: int, score_label: LabelScore
) -> BootstrapScorer:
    """Prepare a score that is the mean over labels of a score of the label's ranked clips.

    A label that is undefined on all clips together makes every resample undefined. A label that is undefined
    only on a resample is left out of the mean of that resample.

    Args:
        targets: `(clips, labels)` of 0 and 1.
        predictions: `(clips, labels)`.
        clips: number of clips.
        score_label: scores one label.
    """
    resample = _prepare_rankings(
        [_rank_clips(*column) for column in zip(targets.T, predictions.T, strict=True)]
    )
    each_once = np.ones((len(targets), 1), dtype=np.int64)
    is_defined = not any(np.isnan(score_label(label)).any() for label in resample(each_once))

    def scores(counts: Counts) -> NDArray[np.float64]:
        total, defined = np.zeros((2, counts.shape[1]))
        for label in resample(counts) if is_defined else ():
            score = score_label(label)
            total += np.where(np.isnan(score), 0.0, score)
            defined += ~np.isnan(score)
        return divide(total, defined, defined)

    return BootstrapScorer(scores)


def count_per_clip(clip: NDArray[np.int64], clips: int) -> NDArray[np.float64]:
    """Return how often each clip's index occurs, `(clips,)`."""
    return np.bincount(clip, minlength=clips).astype(np.float64)
