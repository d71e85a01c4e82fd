"""Metrics of same or different: do distances tell pairs that are the same from pairs that are different?

A pair is accepted as the same if its distance is at most a threshold, as in speaker verification. All metrics
are computed from tables of distances, with the number of pairs at each distance. Each listed pair has a row.
If all pairs of many clips are used, a row counts the pairs of two units in a range of distances; the exact
scores then come from all distances, and the table only serves the bootstrap.

Fawcett: An introduction to ROC analysis, Pattern Recognition Letters 27(8), 2006.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from heareval.errors import HearevalError
from heareval.predictions.metrics.metric import Metric, make_report
from heareval.predictions.metrics.resampled import BootstrapScorer, Counts, divide

# Values computed at a time: weights of groups in resamples, or ranks of distances.
VALUES_AT_ONCE = 1 << 22
# Ranges of distances that pairs are counted in.
BINS = 100


@dataclass(frozen=True)
class UnitPairs:
    """Groups of pairs of clips. The pairs of a group join the same two units, and all are same or different.

    Args:
        first: index of one unit, `(groups,)`.
        second: index of the other unit, which may be the same, `(groups,)`.
        is_same: whether the pairs are the same, `(groups,)`.
        pairs: number of pairs, `(groups,)`.
        units: number of units.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    is_same: NDArray[np.bool_]
    pairs: NDArray[np.int64]
    units: int

    def __post_init__(self) -> None:
        shapes = {column.shape for column in (self.first, self.second, self.is_same, self.pairs)}
        if shapes != {(len(self.first),)}:
            raise HearevalError("columns of unit pairs", got=str(shapes), expected="one shape (groups,)")


@dataclass(frozen=True)
class PairHistogram:
    """How many pairs of each group have which distance.

    Args:
        group: index of the group, `(rows,)`.
        distance: the distance, or the upper end of a range of distances, `(rows,)`.
        count: number of pairs, `(rows,)`.
        exact: pair_auc, pair_eer and pair_ap of all distances, `(3,)`; empty if the rows hold every distance.
    """

    group: NDArray[np.int64]
    distance: NDArray[np.float64]
    count: NDArray[np.int64]
    exact: NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = {column.shape for column in (self.group, self.distance, self.count)}
        if shapes != {(len(self.group),)} or self.exact.shape not in ((0,), (3,)):
            raise HearevalError(
                "columns of a histogram of pairs",
                got=f"{shapes} and {self.exact.shape}",
                expected="one shape (rows,), and three exact scores or none",
            )


# Maps the numbers of same and of different pairs at each distance, both `(distances, resamples)` in ascending
# order of the distance, to the score of each resample, `(resamples,)`.
TableScore = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def pair_auc(reference: UnitPairs, predicted: PairHistogram) -> float:
    """Return the area under the ROC curve: the share of (same, different) pairs of pairs in the right order.

    Equal distances count one half. The score is NaN without same pairs or without different ones.

    >>> units, is_same = np.array([[0, 0, 1], [1, 2, 2]]), np.array([True, False, False])
    >>> pairs, distances = UnitPairs(*units, is_same, np.ones(3, int), 3), np.array([1.0, 2.0, 1.0])
    >>> pair_auc(pairs, PairHistogram(np.arange(3), distances, np.ones(3, int), np.zeros(0)))
    0.75
    """
    return _score(reference, predicted, "pair_auc")


def pair_eer(reference: UnitPairs, predicted: PairHistogram) -> float:
    """Return the equal error rate: where as many different pairs are accepted as same pairs are rejected.

    A pair is accepted if its distance is at most the threshold. Both rates are shares, and linear between two
    neighbouring distances. The score is NaN without same pairs or without different ones.

    >>> units, is_same = np.array([[0, 0, 1], [1, 2, 2]]), np.array([True, False, False])
    >>> pairs, distances = UnitPairs(*units, is_same, np.ones(3, int), 3), np.array([1.0, 2.0, 1.0])
    >>> round(pair_eer(pairs, PairHistogram(np.arange(3), distances, np.ones(3, int), np.zeros(0))), 3)
    0.333
    """
    return _score(reference, predicted, "pair_eer")


def pair_ap(reference: UnitPairs, predicted: PairHistogram) -> float:
    """Return the average precision of the pairs, nearest first; equal distances share one threshold.

    Its chance level is the share of same pairs. The score is NaN without same pairs or without different
    ones.

    >>> units, is_same = np.array([[0, 0, 1], [1, 2, 2]]), np.array([True, False, False])
    >>> pairs, distances = UnitPairs(*units, is_same, np.ones(3, int), 3), np.array([1.0, 2.0, 1.0])
    >>> pair_ap(pairs, PairHistogram(np.arange(3), distances, np.ones(3, int), np.zeros(0)))
    0.5
    """
    return _score(reference, predicted, "pair_ap")


def find_share_of_same(reference: UnitPairs) -> float:
    """Return the share of same pairs among all pairs, NaN without same pairs or without different ones.

    >>> units, is_same = np.array([[0, 0, 1], [1, 2, 2]]), np.array([True, False, False])
    >>> round(find_share_of_same(UnitPairs(*units, is_same, np.ones(3, int), 3)), 3)
    0.333
    """
    same, pairs = int(reference.pairs[reference.is_same].sum()), int(reference.pairs.sum())
    return same / pairs if 0 < same < pairs else math.nan


def score_all(same: NDArray[np.float64], different: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return pair_auc, pair_eer and pair_ap of all distances, NaN without same or without different pairs.

    Both arrays are sorted in place, because they may be as large as the memory allows.

    Args:
        same: distances of same pairs, `(same pairs,)`.
        different: distances of different pairs, `(different pairs,)`.

    >>> score_all(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    (1.0, 0.0, 1.0)
    """
    if not len(same) or not len(different):
        return math.nan, math.nan, math.nan
    same.sort()
    different.sort()
    wrong = precision = 0.0
    for start in range(0, len(same), VALUES_AT_ONCE):
        distances = same[start : start + VALUES_AT_ONCE]
        accepted = np.searchsorted(different, distances, side="right")
        wrong += float(accepted.sum() + np.searchsorted(different, distances, side="left").sum()) / 2
        found = np.searchsorted(same, distances, side="right")
        precision += float((found / (found + accepted)).sum())
    auc = 1.0 - wrong / len(same) / len(different)
    return auc, _find_equal_error_rate(same, different), precision / len(same)


def _find_equal_error_rate(same: NDArray[np.float64], different: NDArray[np.float64]) -> float:
    """Return the equal error rate of two sorted arrays of distances."""

    def find_rates(threshold: float, side: str) -> tuple[float, float]:
        accepted = np.searchsorted(different, threshold, side=side) / len(different)  # type: ignore[call-overload]
        return accepted, 1.0 - np.searchsorted(same, threshold, side=side) / len(same)  # type: ignore[call-overload]

    def find_first(distances: NDArray[np.float64]) -> float:
        low, high = 0, len(distances) - 1
        while low < high:
            middle = (low + high) // 2
            accepted, rejected = find_rates(distances[middle], "right")
            low, high = (low, middle) if accepted >= rejected else (middle + 1, high)
        return float(distances[low])

    # The rates meet at the first threshold that accepts at least as many as it rejects, or just before.
    threshold = min(find_first(same), find_first(different))
    before, after = find_rates(threshold, "left"), find_rates(threshold, "right")
    gap, overlap = before[1] - before[0], after[0] - after[1]
    return float(before[0] + gap / (gap + overlap) * (after[0] - before[0]))


def find_edges(
    same: NDArray[np.float64], different: NDArray[np.float64], bins: int = BINS
) -> NDArray[np.float64]:
    """Return edges between ranges of distances, sorted and distinct, `(at most bins - 1,)`.

    Half of the ranges hold equal shares of the same pairs and half of the different ones, because few pairs
    are the same and the metrics look closely at their distances.

    Args:
        same: distances of same pairs, or a sample of them.
        different: distances of different pairs, or a sample of them.

    >>> find_edges(np.array([1.0, 2.0]), np.array([3.0, 4.0]), 4).tolist()
    [1.0, 3.0]
    """
    shares = np.linspace(0.0, 1.0, bins // 2 + 1)[1:-1]
    halves = [np.quantile(each, shares, method="lower") for each in (same, different) if len(each)]
    return np.unique(np.concatenate([np.zeros(0), *halves]))


def bin_distances(
    blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.float64]]],
    edges: NDArray[np.float64],
    groups: int,
    exact: NDArray[np.float64],
) -> PairHistogram:
    """Count the pairs of each group in each range of distances. Equal distances are always in one range.

    Args:
        blocks: group and distance of some pairs, both `(pairs of the block,)`.
        edges: see `find_edges`. A range includes its upper edge.
        groups: number of groups.
        exact: see `PairHistogram`.

    >>> pairs = np.array([0, 0, 1]), np.array([1.0, 2.0, 9.0])
    >>> bin_distances([pairs], np.array([2.0]), 2, np.zeros(0)).count.tolist()
    [2, 1]
    """
    bins = len(edges) + 1
    counts = np.zeros(groups * bins, dtype=np.int64)
    for group, distance in blocks:
        counts += np.bincount(
            group * bins + np.searchsorted(edges, distance, side="left"), minlength=len(counts)
        )
    rows = np.flatnonzero(counts)
    return PairHistogram(rows // bins, np.append(edges, np.inf)[rows % bins], counts[rows], exact)


def resample_pairs(
    reference: UnitPairs, predicted: PairHistogram, units: int, *, name: str
) -> BootstrapScorer:
    """Prepare a score of resampled units.

    A resample holds the pairs of two units once for each choice of a copy of both, and those within a unit
    once for each of its copies. A clip is never paired with another copy of its unit.

    Args:
        units: number of units.
        name: one of pair_auc, pair_eer and pair_ap.

    >>> units, is_same = np.array([[0, 0, 1], [1, 2, 2]]), np.array([True, False, False])
    >>> pairs, distances = UnitPairs(*units, is_same, np.ones(3, int), 3), np.array([1.0, 2.0, 1.0])
    >>> listed = PairHistogram(np.arange(3), distances, np.ones(3, int), np.zeros(0))
    >>> resample_pairs(pairs, listed, 3, name="pair_auc").scores(np.array([[1], [1], [1]])).tolist()
    [0.75]
    """
    table, (score, place) = _Table(reference, predicted), SCORES[name]
    # Ranges of distances shift the scores slightly. A resample that holds each unit once has the exact score.
    each_once = np.ones((units, 1), dtype=np.int64)
    shift = predicted.exact[place] - score(*table.count(each_once))[0] if len(predicted.exact) else 0.0

    def scores(counts: Counts) -> NDArray[np.float64]:
        at_once = max(1, VALUES_AT_ONCE // max(table.size, 1))
        blocks = [
            score(*table.count(counts[:, start : start + at_once]))
            for start in range(0, counts.shape[1], at_once)
        ]
        return np.concatenate(blocks) + shift

    return BootstrapScorer(scores)


class _Table:
    """The numbers of same and of different pairs at each distance, counted in resamples."""

    def __init__(self, reference: UnitPairs, predicted: PairHistogram) -> None:
        groups = len(reference.first)
        if len(predicted.group) and predicted.group.max() >= groups:
            raise HearevalError(
                "groups of pairs", got=f"group {predicted.group.max()}", expected=f"less than {groups}"
            )
        distances, place = np.unique(predicted.distance, return_inverse=True)
        self._distances = len(distances)
        # Same pairs have the first rows, different pairs those below.
        rows = place + np.where(reference.is_same[predicted.group], 0, self._distances)
        entries = (predicted.count.astype(np.float64), (rows, predicted.group))
        self._matrix = csr_matrix(entries, shape=(2 * self._distances, groups))
        self._first = reference.first
        # The weight of a unit's own pairs is its count. The second factor is 1, the last row of the counts.
        self._second = np.where(reference.second == reference.first, reference.units, reference.second)
        self.size = max(groups, 2 * self._distances)

    def count(self, counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the numbers of same and of different pairs, both `(distances, resamples)`."""
        padded = np.pad(counts.astype(np.float64), ((0, 1), (0, 0)), constant_values=1.0)
        found = self._matrix @ (padded[self._first] * padded[self._second])
        return found[: self._distances], found[self._distances :]


def _score(reference: UnitPairs, predicted: PairHistogram, name: str) -> float:
    score, place = SCORES[name]
    if len(predicted.exact):
        return float(predicted.exact[place])
    each_once = np.ones((reference.units, 1), dtype=np.int64)
    return float(score(*_Table(reference, predicted).count(each_once))[0])


def _score_auc(same: NDArray[np.float64], different: NDArray[np.float64]) -> NDArray[np.float64]:
    right = np.einsum("ij,ij->j", different, same.cumsum(axis=0) - same / 2)
    pairs = same.sum(axis=0) * different.sum(axis=0)
    return divide(right, pairs, pairs)


def _score_eer(same: NDArray[np.float64], different: NDArray[np.float64]) -> NDArray[np.float64]:
    total = same.sum(axis=0), different.sum(axis=0)
    is_defined = (total[0] > 0) & (total[1] > 0)
    # Rates at a threshold below all distances and at each distance, (distances + 1, resamples).
    accepted, found = (np.pad(each.cumsum(axis=0), ((1, 0), (0, 0))) for each in (different, same))
    accepted /= np.where(is_defined, total[1], 1.0)
    rejected = 1.0 - found / np.where(is_defined, total[0], 1.0)
    after = (accepted >= rejected).argmax(axis=0)[None]
    gap, overlap = (
        np.take_along_axis(each, at, axis=0)[0]
        for each, at in ((rejected - accepted, np.maximum(after - 1, 0)), (accepted - rejected, after))
    )
    low, high = (np.take_along_axis(accepted, at, axis=0)[0] for at in (np.maximum(after - 1, 0), after))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(is_defined, low + gap / (gap + overlap) * (high - low), np.nan)


def _score_ap(same: NDArray[np.float64], different: NDArray[np.float64]) -> NDArray[np.float64]:
    found, accepted = same.cumsum(axis=0), different.cumsum(axis=0)
    precision = found / np.maximum(found + accepted, 1.0)
    is_defined = (found[-1:] > 0).any(axis=0) & (accepted[-1:] > 0).any(axis=0)
    total = same.sum(axis=0)
    return divide(np.einsum("ij,ij->j", precision, same), total, np.where(is_defined, total, 0.0))


# The score of each metric, and its place among the exact scores.
SCORES: Mapping[str, tuple[TableScore, int]] = {
    "pair_auc": (_score_auc, 0),
    "pair_eer": (_score_eer, 1),
    "pair_ap": (_score_ap, 2),
}


def _even_chance(reference: UnitPairs, predicted: PairHistogram, units: int, common_label: int) -> float:
    return math.nan if math.isnan(find_share_of_same(reference)) else 0.5


def _share_as_chance(reference: UnitPairs, predicted: PairHistogram, units: int, common_label: int) -> float:
    return find_share_of_same(reference)


def _find_details(reference: UnitPairs, predicted: PairHistogram) -> Mapping[str, float]:
    return {"share_of_same": find_share_of_same(reference)}


METRICS: Mapping[str, Metric] = {
    "pair_auc": Metric(
        "pairwise",
        pair_auc,
        make_report(pair_auc),
        functools.partial(resample_pairs, name="pair_auc"),
        _even_chance,
    ),
    "pair_eer": Metric(
        "pairwise",
        pair_eer,
        make_report(pair_eer),
        functools.partial(resample_pairs, name="pair_eer"),
        _even_chance,
        maximise=False,
    ),
    "pair_ap": Metric(
        "pairwise",
        pair_ap,
        make_report(pair_ap, _find_details),
        functools.partial(resample_pairs, name="pair_ap"),
        _share_as_chance,
        _find_details,
    ),
}
