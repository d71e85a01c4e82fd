"""Retrieval against plain loops over all orders of ties, and resampled units."""

import itertools

import numpy as np
import pytest

from heareval.errors import HearevalError
from heareval.predictions.metrics import METRICS
from heareval.predictions.metrics.retrieval import (
    RETRIEVAL_METRICS,
    Queries,
    QueryValues,
    measure_queries,
    measure_random_order,
)


def _value_of_order(hits):
    """Return recall at 1 and at 10, MAP@R and precision at 1 of one order of items, by their definitions."""
    right = sum(hits)
    precisions = [sum(hits[:i]) / i * hits[i - 1] for i in range(1, right + 1)]
    return [float(any(hits[:1])), float(any(hits[:10])), sum(precisions) / right, float(hits[0])]


def _mean_over_orders(distances, is_right):
    """Average over all orders of items with equal distances."""
    orders = [
        [is_right[i] for i in order]
        for order in itertools.permutations(range(len(distances)))
        if all(distances[a] <= distances[b] for a, b in itertools.pairwise(order))
    ]
    return np.mean([_value_of_order(order) for order in orders], axis=0)


def _reciprocal_rank(distances, is_right):
    nearest = min(d for d, right in zip(distances, is_right, strict=True) if right)
    items = list(zip(distances, is_right, strict=True))
    closer = sum(d < nearest for d, _ in items)
    wrong, right = (sum(d == nearest and r == is_hit for d, r in items) for is_hit in (False, True))
    return 1 / (1 + closer + wrong / (right + 1))


def _queries(seed, queries=40, units=9, classes=1):
    rng = np.random.default_rng(seed)
    unit = rng.integers(units, size=queries)
    values = rng.random((5, queries))
    reference = Queries(unit, rng.integers(classes, size=queries), rng.random((5, queries)))
    return reference, QueryValues(values)


@pytest.mark.parametrize("levels", [1, 2, 3, 100])
def test_values_are_means_over_all_orders_of_equal_distances(levels):
    rng = np.random.default_rng(levels)
    distances = rng.integers(levels, size=(30, 6)).astype(float)
    is_right = rng.random((30, 6)) < 0.4
    found = measure_queries(distances, is_right)
    assert np.isnan(found[:, ~is_right.any(axis=1)]).all()
    for query in np.flatnonzero(is_right.any(axis=1)):
        case = distances[query].tolist(), is_right[query].tolist()
        assert found[0, query] == pytest.approx(_reciprocal_rank(*case))
        assert found[1:, query] == pytest.approx(_mean_over_orders(*case), abs=1e-12)


def test_recall_at_10_is_the_probability_of_a_right_item_among_ten():
    """Two of 15 equally near items are right."""
    is_right = np.arange(15)[None] < 2
    value = measure_queries(np.zeros((1, 15)), is_right)[RETRIEVAL_METRICS.index("recall_at_10"), 0]
    assert value == pytest.approx(1 - (5 * 4) / (15 * 14))


def test_items_that_a_query_does_not_search_are_never_found():
    rng = np.random.default_rng(0)
    distances, is_right = rng.random((20, 30)), rng.random((20, 30)) < 0.2
    is_candidate = rng.random((20, 30)) < 0.5
    found = measure_queries(distances, is_right, is_candidate)
    for query, searched in enumerate(is_candidate):
        alone = measure_queries(distances[[query]][:, searched], is_right[[query]][:, searched])
        np.testing.assert_allclose(found[:, [query]], alone, atol=1e-12)


def test_order_of_items_does_not_matter():
    rng = np.random.default_rng(0)
    distances, is_right = rng.integers(4, size=(20, 30)) * 1.0, rng.random((20, 30)) < 0.2
    order = rng.permutation(30)
    found = measure_queries(distances[:, order], is_right[:, order])
    np.testing.assert_allclose(found, measure_queries(distances, is_right), atol=1e-12)


@pytest.mark.parametrize(("right", "candidates"), [(1, 7), (3, 7), (7, 7), (2, 40), (1, 302)])
def test_chance_is_the_mean_over_random_orders(right, candidates):
    rng = np.random.default_rng(0)
    distances = rng.random((20_000, candidates))
    is_right = np.tile(np.arange(candidates) < right, (len(distances), 1))
    chance = measure_random_order(np.array([right, right]), np.array([candidates, candidates]))
    assert chance.shape == (5, 2)
    np.testing.assert_allclose(chance[:, 0], measure_queries(distances, is_right).mean(axis=1), atol=0.01)
    constant = measure_queries(np.zeros((1, candidates)), is_right[:1])[:, 0]
    assert constant[0] <= chance[0, 0] + 1e-12
    np.testing.assert_allclose(constant[1:], chance[1:, 0], atol=1e-12)


def test_chance_of_one_right_item_of_302_is_the_harmonic_mean():
    chance = measure_random_order(np.array([1, 0]), np.array([302, 302]))
    assert chance[0, 0] == pytest.approx(sum(1 / rank for rank in range(1, 303)) / 302)
    assert chance[0, 0] == pytest.approx(0.0208, abs=5e-5)
    assert chance[1, 0] == pytest.approx(1 / 302)
    assert chance[2, 0] == pytest.approx(10 / 302)
    assert np.isnan(chance[:, 1]).all()


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
    with pytest.raises(HearevalError, match=r"the same \(queries, items\)"):
        measure_queries(np.zeros((2, 3)), np.zeros((2, 4), bool))
