"""Metrics of retrieval: are the right items of a gallery nearer to the query than the others?

Each query has a value of each metric; the score is their mean, or the mean over classes of the mean over the
queries of a class. Ties are not successes: values are expected values over the orders of equal
distances, and the rank of MRR is the expected rank. So a model whose distances are all equal scores chance,
or less.

Musgrave, Belongie, Lim: A metric learning reality check, ECCV 2020 (MAP@R).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import gammaln

from heareval.errors import HearevalError
from heareval.predictions.metrics.metric import Metric, make_report
from heareval.predictions.metrics.resampled import BootstrapScorer, ClipSums, Counts, divide, resample_sums

# The metrics, in the order of the rows of `Queries.chance` and `QueryValues.values`.
RETRIEVAL_METRICS = ("mrr", "recall_at_1", "recall_at_10", "map_at_r", "precision_at_1")


@dataclass(frozen=True)
class Queries:
    """The queries that are scored.

    Args:
        unit: index of the unit of each query that bootstrap resamples hold or leave out, `(queries,)`.
        group: index of the class of each query if the score is a mean over classes, else 0, `(queries,)`.
        chance: value of each query if the gallery is in random order, `(metrics, queries)`.
        left_out: number of queries without a right item in the gallery, which are not among these.
    """

    unit: NDArray[np.int64]
    group: NDArray[np.int64]
    chance: NDArray[np.float64]
    left_out: int = 0

    def __post_init__(self) -> None:
        expected = (len(RETRIEVAL_METRICS), len(self.unit))
        if self.group.shape != self.unit.shape or self.chance.shape != expected:
            raise HearevalError(
                "columns of queries",
                got=f"{self.unit.shape}, {self.group.shape} and {self.chance.shape}",
                expected=f"(queries,), (queries,) and {expected}",
            )


@dataclass(frozen=True)
class QueryValues:
    """The value of each metric for each query, `(metrics, queries)`, in the order of `RETRIEVAL_METRICS`."""

    values: NDArray[np.float64]


def measure_queries(
    distances: NDArray[np.float64], is_right: NDArray[np.bool_], is_candidate: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return the value of each metric for some queries, `(metrics, queries)`, NaN without a right item.

    * mrr: 1 / rank of the nearest right item: 1 + closer items + tied wrong items / (tied right items + 1);
    * recall_at_1, recall_at_10: the probability that one of the nearest 1 or 10 items is right;
    * map_at_r: mean over the nearest R items of the precision down to each right one, for R right items;
    * precision_at_1: the same as recall_at_1.

    Args:
        distances: from each query to each item, `(queries, items)`.
        is_right: whether the item is a right answer, `(queries, items)`.
        is_candidate: whether the query searches the item, `(queries, items)`; None searches all.

    >>> measure_queries(np.array([[1.0, 2.0, 3.0]]), np.array([[False, True, False]]))[0].tolist()
    [0.5]
    """
    if distances.ndim != 2 or distances.shape != is_right.shape:
        raise HearevalError(
            "distances and right answers of queries",
            got=f"{distances.shape} and {is_right.shape}",
            expected="the same (queries, items)",
        )
    if is_candidate is not None:
        # Items that aren't searched are behind all others, and never right.
        distances, is_right = np.where(is_candidate, distances, np.inf), is_right & is_candidate
    order = np.argsort(distances, axis=1)
    hits = np.take_along_axis(is_right, order, axis=1)
    return _measure_ranking(hits, _find_ties(np.take_along_axis(distances, order, axis=1)))


def measure_random_order(right: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the expected value of each metric if the gallery is in random order, `(metrics, queries)`.

    Args:
        right: number of right items of each query, `(queries,)`; none makes its values NaN.
        candidates: number of items that each query searches, `(queries,)`.

    >>> measure_random_order(np.array([1]), np.array([2]))[:2].ravel().tolist()
    [0.75, 0.5]
    """
    cases, place = np.unique(np.stack([right, candidates]), axis=1, return_inverse=True)
    values = np.full((len(RETRIEVAL_METRICS), cases.shape[1]), np.nan)
    for case, (hits, items) in enumerate(cases.T):
        if hits:
            values[:, case] = _measure_random_order(int(hits), int(items))
    return values[:, place.reshape(-1)]


def _measure_random_order(hits: int, items: int) -> tuple[float, ...]:
    ranks = np.arange(1, items + 1)
    # The probability that none of the first items is right, `(items + 1,)`.
    misses = _find_miss_probability(np.arange(items + 1), hits, items)
    mrr = float(((misses[:-1] - misses[1:]) / ranks).sum())
    first, ten = (float(1.0 - misses[min(k, items)]) for k in (1, 10))
    others = (hits - 1) / max(items - 1, 1)
    top = np.arange(1, hits + 1)
    map_at_r = float((hits / items * (1.0 + (top - 1) * others) / top).mean())
    return mrr, first, ten, map_at_r, first


def _find_miss_probability(
    drawn: NDArray[np.int64], hits: NDArray[np.int64] | int, items: NDArray[np.int64] | int
) -> NDArray[np.float64]:
    """Return the probability that none of the drawn items is a hit, if they are drawn without replacement."""
    misses = np.asarray(items) - hits
    # C(misses, drawn) / C(items, drawn)
    possible = drawn <= misses
    kept = np.where(possible, drawn, 0)
    logs = gammaln(misses + 1) - gammaln(misses - kept + 1) - gammaln(np.asarray(items) + 1)
    return np.where(possible, np.exp(logs + gammaln(np.asarray(items) - kept + 1)), 0.0)


@dataclass(frozen=True)
class _Ties:
    """The run of equal distances of each item of a ranking, `(queries, items)`: first rank, from 0, and the
    rank after its last one.
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]


def _find_ties(ranked: NDArray[np.float64]) -> _Ties:
    items = ranked.shape[1]
    is_first = np.ones(ranked.shape, dtype=bool)
    is_first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    ranks = np.arange(items)
    start = np.maximum.accumulate(np.where(is_first, ranks, 0), axis=1)
    is_last = np.ones(ranked.shape, dtype=bool)
    is_last[:, :-1] = is_first[:, 1:]
    ends = np.where(is_last, ranks + 1, items)[:, ::-1]
    return _Ties(start, np.minimum.accumulate(ends, axis=1)[:, ::-1])


def _measure_ranking(hits: NDArray[np.bool_], ties: _Ties) -> NDArray[np.float64]:
    values = np.full((len(RETRIEVAL_METRICS), len(hits)), np.nan)
    rows = np.flatnonzero(hits.any(axis=1))
    if not len(rows):
        return values
    hits, start, stop = hits[rows], ties.start[rows], ties.stop[rows]
    found = np.pad(hits.cumsum(axis=1), ((0, 0), (1, 0)))
    # The tie of the nearest right item.
    nearest = hits.argmax(axis=1)[:, None]
    first, last = (np.take_along_axis(each, nearest, axis=1) for each in (start, stop))
    closer, tied = first[:, 0], (last - first)[:, 0]
    right = np.take_along_axis(found, last, axis=1)[:, 0]
    values[0, rows] = 1.0 / (1.0 + closer + (tied - right) / (right + 1))
    for metric, k in ((1, 1), (2, 10)):
        drawn = np.clip(k - closer, 0, tied)
        values[metric, rows] = 1.0 - _find_miss_probability(drawn, right, tied)
    values[4] = values[1]
    values[3, rows] = _find_map_at_r(found, start, stop)
    return values


def _find_map_at_r(
    found: NDArray[np.int64], start: NDArray[np.int64], stop: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the expected MAP@R over the orders of equal distances, `(queries,)`.

    At rank i in a tie of n items, m of them right, an item is right in m of n cases. Above it are then all
    right items closer than the tie, and (m - 1) / (n - 1) of the items of the tie.
    """
    total = found[:, -1]
    top = int(total.max())
    ranks = np.arange(top)
    start, stop = start[:, :top], stop[:, :top]
    before = np.take_along_axis(found, start, axis=1)
    right, tied = np.take_along_axis(found, stop, axis=1) - before, stop - start
    above = before + (ranks - start) * (right - 1) / np.maximum(tied - 1, 1)
    precision = right / tied * (1.0 + above) / (ranks + 1)
    return np.asarray(np.where(ranks < total[:, None], precision, 0.0).sum(axis=1) / total)


def score_queries(reference: Queries, predicted: QueryValues, *, name: str) -> float:
    """Return the mean over queries of a metric, or the mean over classes of their queries' mean.

    The score is NaN without queries.

    Args:
        name: one of `RETRIEVAL_METRICS`.

    Raises:
        HearevalError: there is not one value per metric and query.

    >>> queries = Queries(np.arange(3), np.array([0, 0, 1]), np.zeros((5, 3)))
    >>> score_queries(queries, QueryValues(np.tile([1.0, 0.0, 1.0], (5, 1))), name="mrr")
    0.75
    """
    return _average(_select(reference, predicted, name), reference.group)


def _select(reference: Queries, predicted: QueryValues, name: str) -> NDArray[np.float64]:
    if predicted.values.shape != reference.chance.shape:
        raise HearevalError(
            "values of queries",
            got=str(predicted.values.shape),
            expected=f"one per metric and query, {reference.chance.shape}",
        )
    return np.asarray(predicted.values[RETRIEVAL_METRICS.index(name)])


def _average(values: NDArray[np.float64], group: NDArray[np.int64]) -> float:
    queries = np.bincount(group)
    sums = np.bincount(group, weights=values)
    return float((sums[queries > 0] / queries[queries > 0]).mean()) if len(values) else float("nan")


def resample_queries(reference: Queries, predicted: QueryValues, units: int, *, name: str) -> BootstrapScorer:
    """Prepare the score of resampled queries; a unit's queries go together, and the gallery stays as it is.

    A class without a query in a resample is left out of it.

    Args:
        units: number of units.
        name: one of `RETRIEVAL_METRICS`.
    """
    values, group = _select(reference, predicted, name), reference.group
    if not group.any():
        queries = np.bincount(reference.unit, minlength=units).astype(np.float64)
        sums = np.bincount(reference.unit, weights=values, minlength=units).astype(np.float64)
        return resample_sums(ClipSums(sums, queries, queries))
    shape = (int(group.max()) + 1, units)
    of_classes, sizes = (
        csr_matrix((each, (group, reference.unit)), shape=shape) for each in (values, np.ones(len(values)))
    )

    def scores(counts: Counts) -> NDArray[np.float64]:
        weights = counts.astype(np.float64)
        queries = sizes @ weights
        means = divide(of_classes @ weights, queries, queries)
        defined = (queries > 0).sum(axis=0).astype(np.float64)
        return divide(np.nansum(means, axis=0), defined, defined)

    return BootstrapScorer(scores)


def _chance(reference: Queries, predicted: QueryValues, units: int, common_label: int, *, name: str) -> float:
    return _average(reference.chance[RETRIEVAL_METRICS.index(name)], reference.group)


def _find_details(reference: Queries, predicted: QueryValues) -> Mapping[str, float]:
    return {"queries": float(len(reference.unit)), "queries_left_out": float(reference.left_out)}


def _retrieval_metric(name: str) -> Metric:
    function = functools.partial(score_queries, name=name)
    return Metric(
        "pairwise",
        function,
        make_report(function, _find_details),
        functools.partial(resample_queries, name=name),
        functools.partial(_chance, name=name),
        _find_details,
    )


METRICS: Mapping[str, Metric] = {name: _retrieval_metric(name) for name in RETRIEVAL_METRICS}
