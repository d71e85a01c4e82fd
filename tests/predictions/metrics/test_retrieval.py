"""Means over queries, and resampled units; tests/predictions/test_ranking.py is about single queries."""

import numpy as np
import pytest

from heareval.errors import HearevalError
from heareval.predictions.metrics import METRICS
from heareval.predictions.metrics.retrieval import (
    RETRIEVAL_METRICS,
    Queries,
    QueryValues,
)


def _queries(seed, queries=40, units=9, classes=1):
    rng = np.random.default_rng(seed)
    unit = rng.integers(units, size=queries)
    values = rng.random((5, queries))
    reference = Queries(unit, rng.integers(classes, size=queries), rng.random((5, queries)))
    return reference, QueryValues(values)


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("place", range(5))
def test_resamples_are_those_of_really_copied_units(classes, place):
    reference, predicted = _queries(1, classes=classes)
    metric = METRICS[RETRIEVAL_METRICS[place]]
    counts = np.random.default_rng(0).multinomial(9, np.full(9, 1 / 9), size=30).T
    scorer = metric.resample(reference, predicted, 9)
    assert (scorer.sums is None) == (classes > 1)
    found = scorer.scores(counts)
    for column, score in zip(counts.T, found, strict=True):
        rows = np.repeat(np.arange(40), column[reference.unit])
        values, group = predicted.values[place, rows], reference.group[rows]
        expected = np.mean([values[group == each].mean() for each in np.unique(group)])
        assert score == pytest.approx(expected, abs=1e-12)
    assert np.ptp(found) > 0
    each_once = scorer.scores(np.ones((9, 1), dtype=int))[0]
    assert each_once == pytest.approx(metric.function(reference, predicted), abs=1e-12)


def test_a_mean_over_classes_counts_classes_alike():
    reference = Queries(np.arange(3), np.array([0, 0, 2]), np.tile([0.1, 0.3, 0.6], (5, 1)))
    values = QueryValues(np.tile([1.0, 0.5, 0.25], (5, 1)))
    assert METRICS["mrr"].function(reference, values) == pytest.approx(0.5)
    assert METRICS["mrr"].chance(reference, values, 3, 0) == pytest.approx(0.4)
    without = METRICS["mrr"].resample(reference, values, 3).scores(np.array([[2], [1], [0]]))
    assert without[0] == pytest.approx((2 * 1.0 + 0.5) / 3)


def test_queries_that_are_left_out_are_counted():
    reference, values = _queries(0)
    reference = Queries(reference.unit, reference.group, reference.chance, left_out=2)
    assert METRICS["mrr"].report(reference, values).details == {"queries": 40, "queries_left_out": 2}
    nothing = Queries(np.zeros(0, int), np.zeros(0, int), np.zeros((5, 0)))
    assert np.isnan(METRICS["mrr"].function(nothing, QueryValues(np.zeros((5, 0)))))
    assert np.isnan(METRICS["mrr"].chance(nothing, QueryValues(np.zeros((5, 0))), 0, 0))


def test_shapes_are_checked():
    reference, predicted = _queries(0)
    with pytest.raises(HearevalError, match="one per metric and query"):
        METRICS["mrr"].function(reference, QueryValues(predicted.values[:2]))
    with pytest.raises(HearevalError, match=r"and \(5, 3\)"):
        Queries(np.arange(3), np.zeros(3, int), np.zeros((4, 3)))
