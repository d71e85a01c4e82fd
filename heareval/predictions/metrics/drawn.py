"""The metrics on clips that are drawn several times or not at all: many draws at once.

A draw is how often each clip is taken; many are an array `(clips, draws)` of counts. What a metric would
say about the drawn clips follows from the counts without copying a clip: most metrics are ratios of sums
over clips, the others rank the clips of each label, which is done once for all draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import ndtri

from heareval.predictions.metrics.clip import Predictions, Targets, chroma_hits, top1_hits
from heareval.predictions.metrics.event import Collar, EventTable, found_events, segment_errors

# Counts `(clips, draws)` of whole numbers.
Counts = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ClipSums:
    """What each clip adds to a score that is a ratio of two sums over clips.

    Args:
        numerator: `(clips,)`.
        denominator: `(clips,)`.
        support: `(clips,)`; the score is undefined where the drawn clips have none of it.
    """

    numerator: NDArray[np.float64]
    denominator: NDArray[np.float64]
    support: NDArray[np.float64]

    def scores(self, counts: Counts) -> NDArray[np.float64]:
        """The score of each draw, `(draws,)`."""
        parts = np.stack([self.numerator, self.denominator, self.support])
        return ratio(*(parts @ counts.astype(np.float64)))


@dataclass(frozen=True)
class Redrawn:
    """A metric on some clips, ready to be asked what it becomes for draws of them.

    Args:
        scores: counts to the score of each draw, `(draws,)`; NaN where it is undefined.
        sums: what each clip adds, if the score is a ratio of sums.
    """

    scores: Callable[[Counts], NDArray[np.float64]]
    sums: ClipSums | None = None


def ratio(
    numerator: NDArray[np.float64], denominator: NDArray[np.float64], support: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Numerator by denominator, NaN where there is no support."""
    scores = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=scores, where=support > 0)
    return scores


def top1_accuracy(targets: Targets, predictions: Predictions, clips: int) -> Redrawn:
    """`clip.top1_accuracy` of drawn clips."""
    return _share(top1_hits(targets, predictions))


def chroma_accuracy(targets: Targets, predictions: Predictions, clips: int) -> Redrawn:
    """`clip.chroma_accuracy` of drawn clips."""
    return _share(chroma_hits(targets, predictions))


def event_f_measure(reference: EventTable, estimated: EventTable, clips: int, collar: Collar) -> Redrawn:
    """`event.event_f_measure` of drawn clips; a matching never joins two clips, so each has its own."""
    found = reference.clip[found_events(reference, estimated, collar)]
    hits, wanted, said = (_per_clip(clip, clips) for clip in (found, reference.clip, estimated.clip))
    return _of_sums(ClipSums(2.0 * hits, wanted + said, wanted))


def segment_error_rate(reference: EventTable, estimated: EventTable, clips: int) -> Redrawn:
    """`event.segment_error_rate` of drawn clips."""
    if len(reference) == 0:
        return _of_sums(ClipSums(*np.zeros((3, clips))))
    counted = segment_errors(reference, estimated)
    missing = (0, clips - len(counted.errors))
    errors, active = (np.pad(part, missing).astype(np.float64) for part in (counted.errors, counted.active))
    return _of_sums(ClipSums(errors, active, active))


def mean_average_precision(targets: Targets, predictions: Predictions, clips: int) -> Redrawn:
    """`clip.mean_average_precision` of drawn clips.

    A label that no clip has counts 0, as it does in the score; one that only the draw has no clip of is
    left out of that draw's mean.
    """
    return _mean_over_labels(targets, predictions, _average_precisions)


def mean_roc_auc(targets: Targets, predictions: Predictions, clips: int) -> Redrawn:
    """`clip.mean_roc_auc` of drawn clips; labels that only the draw can't tell apart are left out of it."""
    return _mean_over_labels(targets, predictions, _roc_aucs)


def mean_d_prime(targets: Targets, predictions: Predictions, clips: int) -> Redrawn:
    """`clip.mean_d_prime` of drawn clips; labels as in `mean_roc_auc`."""
    return _mean_over_labels(targets, predictions, _d_primes)


@dataclass(frozen=True)
class _Ranking:
    """The clips of one label, from the likeliest down.

    Args:
        order: index of the clip at each rank, `(clips,)`.
        positives: ranks of the clips that have the label, `(positives,)`.
        starts: for each positive the first rank of its tie.
        stops: and the rank after its tie.
        edges: those of starts and stops that have clips below them, each once, and 0.
    """

    order: NDArray[np.int64]
    positives: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    edges: NDArray[np.int64]


def _ranking(target: NDArray[Any], predicted: NDArray[np.floating[Any]]) -> _Ranking:
    order = np.argsort(-predicted, kind="stable")
    falling = -predicted[order]
    positives = np.flatnonzero(target[order])
    starts = np.searchsorted(falling, falling[positives], side="left")
    stops = np.searchsorted(falling, falling[positives], side="right")
    edges = np.unique(np.concatenate([[0], starts, stops]))
    return _Ranking(order, positives, starts, stops, edges[edges < len(order)])


@dataclass(frozen=True)
class _Drawn:
    """What the ranking of a label becomes in draws; whole numbers, as floats.

    Args:
        mine: how often each positive was drawn, `(positives, draws)`.
        seen: how many clips were drawn above each edge, and in all, `(edges + 1, draws)`.
        found: how many positives among the first of them, `(positives + 1, draws)`.
    """

    ranking: _Ranking
    mine: NDArray[np.float64]
    seen: NDArray[np.float64]
    found: NDArray[np.float64]

    def clips_before(self, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """How many clips were drawn of those before some ranks, which are edges; `(ranks, draws)`."""
        return self.seen[np.searchsorted(self.ranking.edges, ranks)]

    def positives_before(self, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """The same of clips that have the label."""
        return self.found[np.searchsorted(self.ranking.positives, ranks)]


def _draw_rankings(rankings: Sequence[_Ranking]) -> Callable[[Counts], Iterator[_Drawn]]:
    """From counts to what becomes of each label's ranking."""
    # Only ranks at the edges of positives' ties are looked at, so clips between them are summed up: a product
    # with a sparse matrix of ones, a row for each stretch between two edges of a label.
    clips = len(rankings[0].order)
    starts = np.concatenate([ranking.edges + i * clips for i, ranking in enumerate(rankings)])
    bounds = np.append(starts, len(rankings) * clips)
    order = np.concatenate([ranking.order for ranking in rankings])
    stretches = csr_matrix((np.ones(len(order), dtype=np.float32), order, bounds), shape=(len(starts), clips))
    first = np.cumsum([0, *(len(ranking.edges) for ranking in rankings)])

    def draw(counts: Counts) -> Iterator[_Drawn]:
        # Exact: a sum of counts is far below 2 ** 24.
        sums = stretches @ counts.astype(np.float32)
        for ranking, start, stop in zip(rankings, first[:-1], first[1:], strict=True):
            mine = counts[ranking.order[ranking.positives]].astype(np.float64)
            yield _Drawn(ranking, mine, _from_zero(sums[start:stop]), _from_zero(mine))

    return draw


def _from_zero(values: NDArray[Any]) -> NDArray[np.float64]:
    """Running sums along the first axis, beginning with 0."""
    sums = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=sums[1:])
    return sums


def _average_precisions(drawn: _Drawn) -> NDArray[np.float64]:
    """Average precision of one label in each draw, `(draws,)`."""
    ranking, positives = drawn.ranking, drawn.found[-1]
    if len(ranking.positives) == 0:
        return np.zeros(drawn.seen.shape[1])
    # Where nothing was drawn up to a positive, neither was the positive.
    precision = drawn.positives_before(ranking.stops) / np.maximum(drawn.clips_before(ranking.stops), 1.0)
    return ratio(np.einsum("ij,ij->j", precision, drawn.mine), positives, positives)


def _roc_aucs(drawn: _Drawn) -> NDArray[np.float64]:
    """Area under the ROC curve of one label in each draw, `(draws,)`; pairs of a tie count half."""
    wrong = np.zeros(drawn.seen.shape[1])
    for ranks in (drawn.ranking.starts, drawn.ranking.stops):
        above = drawn.clips_before(ranks) - drawn.positives_before(ranks)
        wrong += np.einsum("ij,ij->j", above, drawn.mine) / 2
    pairs = drawn.found[-1] * (drawn.seen[-1] - drawn.found[-1])
    return 1.0 - ratio(wrong, pairs, pairs)


def _d_primes(drawn: _Drawn) -> NDArray[np.float64]:
    """d' of one label in each draw, `(draws,)`."""
    return np.asarray(np.sqrt(2.0) * ndtri(_roc_aucs(drawn)))


def _mean_over_labels(
    targets: Targets, predictions: Predictions, score: Callable[[_Drawn], NDArray[np.float64]]
) -> Redrawn:
    """The mean over labels; a label that all clips together leave undefined makes every draw undefined."""
    draw = _draw_rankings([_ranking(*column) for column in zip(targets.T, predictions.T, strict=True)])
    everything = np.ones((len(targets), 1), dtype=np.int64)
    is_defined = not any(np.isnan(score(drawn)).any() for drawn in draw(everything))

    def scores(counts: Counts) -> NDArray[np.float64]:
        total, defined = np.zeros((2, counts.shape[1]))
        for drawn in draw(counts) if is_defined else ():
            mine = score(drawn)
            total += np.where(np.isnan(mine), 0.0, mine)
            defined += ~np.isnan(mine)
        return ratio(total, defined, defined)

    return Redrawn(scores)


def _share(hits: NDArray[np.bool_]) -> Redrawn:
    ones = np.ones(len(hits))
    return _of_sums(ClipSums(hits.astype(np.float64), ones, ones))


def _of_sums(sums: ClipSums) -> Redrawn:
    return Redrawn(sums.scores, sums)


def _per_clip(clip: NDArray[np.int64], clips: int) -> NDArray[np.float64]:
    return np.bincount(clip, minlength=clips).astype(np.float64)
