"""Retrieval against plain loops over all orders of equal distances, and against scikit-learn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from heareval.predictions.distances import ClipEmbeddings
from heareval.predictions.metrics.retrieval import RETRIEVAL_METRICS
from heareval.predictions.ranking import chance_of_queries, rank_block, rank_queries


def score_order(right):
    """The measures of one order of candidates, of which the right ones are marked."""
    first, relevant = right.index(True), sum(right)
    at_r = [sum(right[: i + 1]) / (i + 1) for i in range(relevant) if right[i]]
    return {
        "mrr": 1 / (first + 1),
        "recall_at_1": float(first < 1),
        "recall_at_10": float(first < 10),
        "map_at_r": sum(at_r) / relevant,
        "precision_at_1": float(right[0]),
    }


def score_all_orders(distances, right):
    """The mean over all orders of equal distances, and the reciprocal of the mean rank of the nearest."""
    orders = [
        score_order([right[item] for item in order])
        for order in itertools.permutations(range(len(right)))
        if all(distances[a] <= distances[b] for a, b in itertools.pairwise(order))
    ]
    expected = {name: np.mean([each[name] for each in orders]) for name in RETRIEVAL_METRICS}
    nearest = min(d for d, hit in zip(distances, right, strict=True) if hit)
    wrong = [d for d, hit in zip(distances, right, strict=True) if not hit]
    rank = 1 + sum(d < nearest for d in wrong) + sum(d == nearest for d in wrong) / 2
    return expected | {"mrr": 1 / rank}


def rank_one(distances, right, candidate=None):
    row = np.array([distances], dtype=float)
    is_candidate = np.ones(row.shape, dtype=bool) if candidate is None else np.array([candidate])
    return rank_block(row, is_candidate, np.array([right]) & is_candidate, np.arange(row.shape[1]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_values_and_chance_are_means_over_orders(items):
    distances, right = map(list, zip(*items, strict=True))
    ranked = rank_one(distances, right)
    if not any(right):
        assert all(
            np.isnan([ranked.values[name][0], ranked.chance[name][0]]).all() for name in RETRIEVAL_METRICS
        )
        return
    expected = score_all_orders(distances, right)
    assert {name: ranked.values[name][0] for name in RETRIEVAL_METRICS} == pytest.approx(expected, abs=1e-12)
    orders = [score_order(list(order)) for order in itertools.permutations(right)]
    chance = {name: np.mean([each[name] for each in orders]) for name in RETRIEVAL_METRICS}
    assert {name: ranked.chance[name][0] for name in RETRIEVAL_METRICS} == pytest.approx(chance, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.data())
def test_a_constant_embedder_is_never_above_chance(candidates, data):
    relevant = data.draw(st.integers(1, candidates))
    ranked = rank_one([1.0] * candidates, [True] * relevant + [False] * (candidates - relevant))
    for name in RETRIEVAL_METRICS:
        assert ranked.values[name][0] <= ranked.chance[name][0] * (1 + 1e-12), name


def test_recall_at_10_by_simulated_orders():
    """A tie that reaches beyond rank 10, with several relevant items in it."""
    distances = [0.0] * 6 + [1.0] * 9
    right = [False] * 6 + [True] * 2 + [False] * 7
    rng, hits = np.random.default_rng(0), 0
    for _ in range(20_000):
        hits += bool((rng.permutation(9)[:4] < 2).any())
    assert rank_one(distances, right).values["recall_at_10"][0] == pytest.approx(hits / 20_000, abs=0.015)


def make_case(count=80, levels=None, seed=0):
    """Clips, their labels in folds, and whether an item is a candidate: it lies in another fold."""
    rng = np.random.default_rng(seed)
    array = rng.standard_normal((count, 5)).astype(np.float32)
    if levels:
        array = np.round(array * levels) / levels
    names = tuple(f"{number:03}.wav" for number in rng.permutation(count))
    clips = ClipEmbeddings(array, np.arange(count), names)
    return clips, rng.integers(0, 7, count), rng.integers(0, 4, count)


def rank_case(clips, labels, folds, order, **options):
    chosen, label, fold = clips.select(order), labels[order], folds[order]
    return rank_queries(
        chosen,
        chosen,
        "l1",
        lambda rows: fold[rows, None] != fold,
        lambda rows: label[rows, None] == label,
        **options,
    )


def test_map_over_all_ranks_is_scikit_learns():
    """If all relevant items come before rank R is passed, MAP@R is the average precision."""
    rng = np.random.default_rng(0)
    distances = rng.permutation(50).astype(float)
    right = distances < 20
    ranked = rank_one(distances, right)
    assert ranked.values["map_at_r"][0] == average_precision_score(right, -distances) == 1
    right[distances == 7] = False
    # One wrong item among the first R: the last relevant one adds to average precision only.
    ranked = rank_one(distances, right)
    assert ranked.values["map_at_r"][0] == pytest.approx(
        average_precision_score(right, -distances) - (19 / 20) / 19, abs=1e-12
    )


@pytest.mark.parametrize("levels", [None, 1])
def test_neither_order_nor_blocks_change_anything(levels):
    case = make_case(levels=levels)
    count = len(case[0])
    whole = rank_case(*case, np.arange(count))
    assert whole.relevant.max() > whole.relevant.min() > 0
    order = np.random.default_rng(1).permutation(count)
    for found, by in (
        (rank_case(*case, order), order),
        (rank_case(*case, np.arange(count), block_bytes=1), np.arange(count)),
    ):
        for name in RETRIEVAL_METRICS:
            assert np.array_equal(found.values[name], whole.values[name][by]), name
            assert np.array_equal(found.chance[name], whole.chance[name][by]), name
        assert np.array_equal(by[found.nearest_right], whole.nearest_right[by])
        assert np.array_equal(by[found.nearest_wrong], whole.nearest_wrong[by])
        assert np.array_equal(found.distances_wrong, whole.distances_wrong[by])


def test_nearest_items_by_a_plain_loop():
    clips, labels, folds = make_case(levels=1)
    ranked = rank_case(clips, labels, folds, np.arange(len(clips)))
    for query in range(len(clips)):
        items = [
            (np.abs(clips.array[query] - clips.array[item]).sum(), clips.names[item], item)
            for item in range(len(clips))
            if folds[item] != folds[query]
        ]
        right = min(each for each in items if labels[each[2]] == labels[query])
        wrong = min(each for each in items if labels[each[2]] != labels[query])
        assert (ranked.distances_right[query], ranked.nearest_right[query]) == (right[0], right[2])
        assert (ranked.distances_wrong[query], ranked.nearest_wrong[query]) == (wrong[0], wrong[2])
        assert ranked.candidates[query] == len(items)


def test_queries_without_anything_relevant_are_marked():
    ranked = rank_one([1.0, 2.0], [True, False], candidate=[False, True])
    assert (ranked.candidates[0], ranked.relevant[0], ranked.nearest_right[0]) == (1, 0, -1)
    assert np.isnan([ranked.values[name][0] for name in RETRIEVAL_METRICS]).all()
    assert np.isinf(ranked.distances_right[0])
    assert ranked.nearest_wrong[0] == 1


def test_chance_of_one_right_item_of_302_is_the_harmonic_mean() -> None:
    chance = chance_of_queries(np.array([302, 302]), np.array([1, 0]))
    assert chance["mrr"][0] == pytest.approx(sum(1 / rank for rank in range(1, 303)) / 302)
    assert chance["recall_at_10"][0] == pytest.approx(10 / 302)
    assert np.isnan([chance[name][1] for name in RETRIEVAL_METRICS]).all()
