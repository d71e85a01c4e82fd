"""Metrics of retrieval: are the right items of a gallery nearer to the query than the others?

Each query has a value of each metric, which `ranking.py` computes from the distances. The score is the mean
over queries, or the mean over classes of the mean over the queries of a class.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

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

    Raises:
        HearevalError: there is not one value per metric and query.

    >>> queries = Queries(np.arange(2), np.zeros(2, int), np.zeros((5, 2)))
    >>> values = QueryValues(np.tile([1.0, 0.25], (5, 1)))
    >>> resample_queries(queries, values, 2, name="mrr").scores(np.array([[1, 2], [1, 0]])).tolist()
    [0.625, 1.0]
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
