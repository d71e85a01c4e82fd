"""Metrics of rated pairs: do distances of embeddings agree with the dissimilarities that people rated?

Pairs come in sets, such as the sounds of one listening experiment. Each clip of a set is an anchor in turn.
Its distances to its partners, which are the clips that it was rated with, are compared with the ratings. The
score is the mean over anchors.

All scores follow from the signs of differences between two partners of an anchor, `sign(v_j - v_k)`. The sum
of a partner's signs over all others is the average rank of its value, centred and doubled, so that Spearman's
rho, Kendall's tau-b and the triplet agreement of many resamples are products of sign matrices and counts.

Spearman: The proof and measurement of association between two things, American Journal of Psychology 15(1),
1904. Kendall: The treatment of ties in ranking problems, Biometrika 33(3), 1945.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval.errors import HearevalError
from heareval.predictions.metrics.metric import Metric, make_report
from heareval.predictions.metrics.resampled import BootstrapScorer, Counts, divide

# Two partners of an anchor form a triplet if their ratings differ by more than this share of the set's
# largest.
MIN_CONTRAST = 0.1
# Ratings such as 0.4 and 0.3 differ by slightly more than 0.1 in binary numbers, but not for their author.
ROUNDING = 1e-9
# Signs computed at a time, so that an anchor with thousands of partners needs little memory.
SIGNS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class RatedPairs:
    """Pairs of clips with the dissimilarity that people rated.

    Args:
        first: index of one clip, `(pairs,)`.
        second: index of the other clip, `(pairs,)`.
        rating: dissimilarity, `(pairs,)`; higher means less alike.
        group: index of the set that the pair belongs to, `(pairs,)`.
        unit: index of the unit of each clip that bootstrap resamples hold or leave out, `(clips,)`.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    rating: NDArray[np.float64]
    group: NDArray[np.int64]
    unit: NDArray[np.int64]

    def __post_init__(self) -> None:
        shapes = {column.shape for column in (self.first, self.second, self.rating, self.group)}
        if shapes != {(len(self.first),)}:
            raise HearevalError("columns of rated pairs", got=str(shapes), expected="one shape (pairs,)")


@dataclass(frozen=True)
class PairDistances:
    """The distance of each pair of clips, `(pairs,)`."""

    distances: NDArray[np.float64]


@dataclass(frozen=True)
class Anchor:
    """A clip of a set, and the clips of the set that it was rated with.

    Args:
        unit: unit of the clip.
        partner_units: unit of each partner, `(partners,)`.
        ratings: dissimilarity to each partner, as a share of the set's largest, `(partners,)`.
        distances: distance to each partner, as a share of the set's largest, `(partners,)`.
    """

    unit: int
    partner_units: NDArray[np.int64]
    ratings: NDArray[np.float64]
    distances: NDArray[np.float64]


# Maps an anchor and the weights of its partners, `(partners, resamples)`, to its score in each resample,
# `(resamples,)`, NaN where it is undefined.
AnchorScore = Callable[[Anchor, NDArray[np.float64]], NDArray[np.float64]]


def spearman(reference: RatedPairs, predicted: PairDistances) -> float:
    """Return the mean over anchors of Spearman's rho of distances and ratings, with average ranks.

    An anchor whose distances are all equal scores 0. An anchor whose ratings are all equal is left out.

    Raises:
        HearevalError: there is not one distance per pair.

    >>> clips = np.array([0, 0, 0]), np.array([1, 2, 3])
    >>> pairs = RatedPairs(*clips, np.array([0.2, 0.5, 0.9]), np.zeros(3, int), np.arange(4))
    >>> spearman(pairs, PairDistances(np.array([1.0, 3.0, 2.0])))
    0.5
    """
    return _average_anchors(reference, predicted, _spearman)


def kendall(reference: RatedPairs, predicted: PairDistances) -> float:
    """Return the mean over anchors of Kendall's tau-b of distances and ratings.

    An anchor whose distances are all equal scores 0. An anchor whose ratings are all equal is left out.

    Raises:
        HearevalError: there is not one distance per pair.

    >>> clips = np.array([0, 0, 0]), np.array([1, 2, 3])
    >>> pairs = RatedPairs(*clips, np.array([0.2, 0.5, 0.9]), np.zeros(3, int), np.arange(4))
    >>> round(kendall(pairs, PairDistances(np.array([1.0, 3.0, 2.0]))), 3)
    0.333
    """
    return _average_anchors(reference, predicted, _kendall)


def triplet_agreement(reference: RatedPairs, predicted: PairDistances) -> float:
    """Return the mean over anchors of the share of triplets that distances and ratings order alike.

    A triplet is an anchor and two partners whose ratings differ by more than a tenth of the set's largest
    rating. Equal distances count as wrong. An anchor without a triplet is left out.

    Raises:
        HearevalError: there is not one distance per pair.

    >>> clips = np.array([0, 0, 0]), np.array([1, 2, 3])
    >>> pairs = RatedPairs(*clips, np.array([0.2, 0.25, 0.9]), np.zeros(3, int), np.arange(4))
    >>> triplet_agreement(pairs, PairDistances(np.array([1.0, 3.0, 2.0])))
    0.5
    """
    return _average_anchors(reference, predicted, _agreement)


def count_anchors(reference: RatedPairs, predicted: PairDistances, score: AnchorScore) -> Mapping[str, float]:
    """Return the number of anchors that have a score, and of those that are left out.

    Args:
        score: scores one anchor.

    Raises:
        HearevalError: there is not one distance per pair.

    >>> clips = np.array([0, 0, 0]), np.array([1, 2, 3])
    >>> pairs = RatedPairs(*clips, np.array([0.2, 0.5, 0.9]), np.zeros(3, int), np.arange(4))
    >>> METRICS["spearman"].details(pairs, PairDistances(np.array([1.0, 3.0, 2.0])))
    {'anchors': 1.0, 'anchors_left_out': 3.0}
    """
    anchors = find_anchors(reference, predicted)
    defined = sum(bool(np.isfinite(score(each, np.ones((len(each.ratings), 1))))[0]) for each in anchors)
    return {"anchors": float(defined), "anchors_left_out": float(len(anchors) - defined)}


def find_anchors(reference: RatedPairs, predicted: PairDistances) -> tuple[Anchor, ...]:
    """Return the anchors of all sets, with ratings and distances as shares of their set's largest.

    Raises:
        HearevalError: there is not one distance per pair.

    >>> clips = np.array([0, 0]), np.array([1, 2])
    >>> pairs = RatedPairs(*clips, np.array([1.0, 4.0]), np.zeros(2, int), np.arange(3))
    >>> [each.ratings.tolist() for each in find_anchors(pairs, PairDistances(np.array([2.0, 1.0])))]
    [[0.25, 1.0], [0.25], [1.0]]
    """
    if predicted.distances.shape != reference.rating.shape:
        raise HearevalError(
            "distances of rated pairs",
            got=str(predicted.distances.shape),
            expected=f"one per pair, {reference.rating.shape}",
        )
    ratings, distances = (
        _divide_by_largest(each, reference.group) for each in (reference.rating, predicted.distances)
    )
    # Each pair is written once and serves both of its clips.
    clip = np.concatenate([reference.first, reference.second])
    partner = np.concatenate([reference.second, reference.first])
    group = np.tile(reference.group, 2)
    order = np.lexsort((partner, clip, group))
    starts = np.flatnonzero(np.diff(clip[order], prepend=-1) | np.diff(group[order], prepend=-1))
    pair = order % max(len(ratings), 1)
    return tuple(
        Anchor(
            int(reference.unit[clip[order[start]]]),
            reference.unit[partner[order[start:stop]]],
            ratings[pair[start:stop]],
            distances[pair[start:stop]],
        )
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True)
    )


def _divide_by_largest(values: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return values divided by the largest of their set, unchanged if that is 0, `(pairs,)`."""
    largest = np.zeros(int(group.max(initial=-1)) + 1)
    np.maximum.at(largest, group, values)
    return np.asarray(values / np.where(largest > 0, largest, 1.0)[group])


def _average_anchors(reference: RatedPairs, predicted: PairDistances, score: AnchorScore) -> float:
    units = int(reference.unit.max(initial=-1)) + 1
    scores = resample_anchors(reference, predicted, units, score=score).scores
    return float(scores(np.ones((units, 1), dtype=np.int64))[0])


def resample_anchors(
    reference: RatedPairs, predicted: PairDistances, units: int, *, score: AnchorScore
) -> BootstrapScorer:
    """Prepare the mean over anchors of a score of their partners.

    A clip of a unit that was drawn twice stands for two anchors and for two partners. Copies of the anchor's
    own unit are never its partners. Ratings remain shares of the largest one of the whole set.

    Args:
        units: number of units.
        score: scores one anchor.

    Raises:
        HearevalError: there is not one distance per pair.

    >>> clips = np.array([0, 0, 0]), np.array([1, 2, 3])
    >>> pairs = RatedPairs(*clips, np.array([0.2, 0.5, 0.9]), np.zeros(3, int), np.arange(4))
    >>> scorer = METRICS["spearman"].resample(pairs, PairDistances(np.array([1.0, 3.0, 2.0])), 4)
    >>> scorer.scores(np.array([[1, 1], [1, 1], [1, 1], [1, 0]])).tolist()
    [0.5, 1.0]
    """
    anchors = find_anchors(reference, predicted)

    def scores(counts: Counts) -> NDArray[np.float64]:
        total, weight = np.zeros((2, counts.shape[1]))
        for anchor in anchors:
            partners = counts[anchor.partner_units].astype(np.float64)
            # A partner of the same unit is in the same copy of the unit.
            partners[anchor.partner_units == anchor.unit] = 1.0
            values = score(anchor, partners)
            mine = np.where(np.isnan(values), 0.0, counts[anchor.unit])
            total += mine * np.where(np.isnan(values), 0.0, values)
            weight += mine
        return divide(total, weight, weight)

    return BootstrapScorer(scores)


def _spearman(anchor: Anchor, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    products = np.zeros((3, weights.shape[1]))
    for rows, ratings, distances in _find_signs(anchor):
        # Centred and doubled average ranks. They are whole numbers, so that equal values are recognised.
        x, y, w = ratings @ weights, distances @ weights, weights[rows]
        products += np.stack([np.einsum("ij,ij,ij->j", w, *each) for each in ((x, y), (x, x), (y, y))])
    return _correlate(*products)


def _kendall(anchor: Anchor, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    products = np.zeros((3, weights.shape[1]))
    for rows, x, y in _find_signs(anchor):
        w = weights[rows]
        products += np.stack([np.einsum("ij,ij->j", w, each @ weights) for each in (x * y, x * x, y * y)])
    return _correlate(*products)


def _correlate(
    product: NDArray[np.float64], of_ratings: NDArray[np.float64], of_distances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the correlation, NaN if all ratings are equal and else 0 if all distances are equal."""
    scale = np.sqrt(of_ratings * of_distances)
    scores = divide(product, scale, scale)
    return np.where((of_ratings > 0) & (of_distances == 0), 0.0, scores)


def _agreement(anchor: Anchor, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    right, triplets = np.zeros((2, weights.shape[1]))
    for rows, ratings, distances in _find_signs(anchor):
        apart = np.abs(anchor.ratings[rows, None] - anchor.ratings) > MIN_CONTRAST + ROUNDING
        alike = apart & (ratings == distances)
        triplets += np.einsum("ij,ij->j", weights[rows], apart.astype(np.float64) @ weights)
        right += np.einsum("ij,ij->j", weights[rows], alike.astype(np.float64) @ weights)
    return divide(right, triplets, triplets)


def _find_signs(anchor: Anchor) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
    """Yield the signs of differences of ratings and of distances, `(partners of the block, partners)`."""
    partners = len(anchor.ratings)
    at_once = max(1, SIGNS_AT_ONCE // max(partners, 1))
    for start in range(0, partners, at_once):
        rows = slice(start, start + at_once)
        ratings, distances = (np.sign(each[rows, None] - each) for each in (anchor.ratings, anchor.distances))
        yield rows, ratings, distances


def _chance(
    reference: RatedPairs,
    predicted: PairDistances,
    units: int,
    common_label: int,
    *,
    function: Callable[[Any, Any], float],
    level: float,
) -> float:
    """Return the score of distances in random order, NaN if no anchor has a score."""
    return level if np.isfinite(function(reference, predicted)) else float("nan")


def _rating_metric(
    function: Callable[[Any, Any], float],
    score: AnchorScore,
    level: float,
    *,
    is_biased_by_copies: bool = False,
) -> Metric:
    details = functools.partial(count_anchors, score=score)
    return Metric(
        "pairwise",
        function,
        make_report(function, details),
        functools.partial(resample_anchors, score=score),
        functools.partial(_chance, function=function, level=level),
        details,
        is_biased_by_copies=is_biased_by_copies,
    )


METRICS: Mapping[str, Metric] = {
    # The fewer different partners an anchor has, the closer to 0 is the rho of the same agreement.
    "spearman": _rating_metric(spearman, _spearman, 0.0, is_biased_by_copies=True),
    "kendall": _rating_metric(kendall, _kendall, 0.0),
    "triplet_agreement": _rating_metric(triplet_agreement, _agreement, 0.5),
}
