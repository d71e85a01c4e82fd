"""Same/different against scikit-learn, and resamples that really hold copies."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from heareval.errors import HearevalError
from heareval.predictions.metrics import METRICS, same_different
from heareval.predictions.metrics.same_different import (
    PairHistogram,
    UnitPairs,
    bin_distances,
    find_edges,
    score_all,
)

NAMES = tuple(same_different.METRICS)
EXACTLY = np.zeros(0)


def _all_pairs(seed, clips=24, units=6, levels=30):
    """Return all pairs of clips, the same if they are of one unit, each in a group of its own."""
    rng = np.random.default_rng(seed)
    unit, place = rng.integers(units, size=clips), rng.normal(size=(clips, 3))
    place += np.eye(units, 3)[unit] * 2
    first, second = np.array(list(itertools.combinations(range(clips), 2))).T
    distances = np.round(np.abs(place[first] - place[second]).sum(axis=1) * levels / 10) / levels
    is_same = unit[first] == unit[second]
    ones = np.ones(len(first), dtype=int)
    reference = UnitPairs(unit[first], unit[second], is_same, ones, units)
    return reference, PairHistogram(np.arange(len(first)), distances, ones, EXACTLY)


def _equal_error_rate(is_same, distances):
    """Follow scikit-learn's ROC curve to the point where both error rates are equal."""
    accepted, found, _ = roc_curve(is_same, -distances, drop_intermediate=False)
    gap = accepted - (1 - found)
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return accepted[after - 1] + share * (accepted[after] - accepted[after - 1])


def _judge(is_same, distances):
    if is_same.all() or not is_same.any():
        return [np.nan] * 3
    return [
        roc_auc_score(is_same, -distances),
        _equal_error_rate(is_same, distances),
        average_precision_score(is_same, -distances),
    ]


def _draw(reference, predicted, counts):
    """Return labels and distances of the pairs of a resample, without pairs of two copies of one unit."""
    is_same, distances = [], []
    for group, distance in zip(predicted.group, predicted.distance, strict=True):
        units = reference.first[group], reference.second[group]
        for one, other in itertools.product(*(range(counts[unit]) for unit in units)):
            if units[0] != units[1] or one == other:
                is_same.append(reference.is_same[group])
                distances.append(distance)
    return np.array(is_same, dtype=bool), np.array(distances)


def _bin(reference, predicted, edges, blocks=3):
    """Return the same pairs grouped by units and counted in ranges of distances."""
    keys = np.stack([reference.first, reference.second, reference.is_same])
    keys[:2].sort(axis=0)
    groups, place = np.unique(keys, axis=1, return_inverse=True)
    place = place.reshape(-1)
    grouped = UnitPairs(groups[0], groups[1], groups[2].astype(bool), np.bincount(place), reference.units)
    is_same = reference.is_same
    exact = np.array(score_all(predicted.distance[is_same], predicted.distance[~is_same]))
    parts = zip(np.array_split(place, blocks), np.array_split(predicted.distance, blocks), strict=True)
    return grouped, bin_distances(parts, edges, len(groups.T), exact)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([1, 3, 10**6]), units=st.integers(1, 8))
def test_scores_are_those_of_scikit_learn(seed, levels, units):
    reference, predicted = _all_pairs(seed, clips=9, units=units, levels=levels)
    expected = _judge(reference.is_same, predicted.distance)
    found = [METRICS[name].function(reference, predicted) for name in NAMES]
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)
    exact = score_all(predicted.distance[reference.is_same], predicted.distance[~reference.is_same])
    assert exact == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_blocks_of_distances_change_nothing(monkeypatch):
    reference, predicted = _all_pairs(0)
    before = [METRICS[name].function(reference, predicted) for name in NAMES]
    counts = np.random.default_rng(0).integers(3, size=(6, 7))
    resampled = [METRICS[name].resample(reference, predicted, 6).scores(counts) for name in NAMES]
    monkeypatch.setattr(same_different, "VALUES_AT_ONCE", 5)
    same, different = (predicted.distance[mask] for mask in (reference.is_same, ~reference.is_same))
    assert score_all(same, different) == pytest.approx(before, abs=1e-12)
    for name, expected in zip(NAMES, resampled, strict=True):
        found = METRICS[name].resample(reference, predicted, 6).scores(counts)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_resamples_are_those_of_really_copied_clips():
    reference, predicted = _all_pairs(2)
    counts = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=30).T
    found = np.array([METRICS[name].resample(reference, predicted, 6).scores(counts) for name in NAMES])
    expected = np.array([_judge(*_draw(reference, predicted, column)) for column in counts.T]).T
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (np.ptp(found, axis=1) > 0).all()


def test_a_histogram_of_every_distance_is_the_list_of_pairs():
    reference, predicted = _all_pairs(3)
    grouped, histogram = _bin(reference, predicted, np.unique(predicted.distance))
    assert len(histogram.group) < len(predicted.group)
    assert histogram.count.sum() == grouped.pairs.sum() == len(predicted.group)
    counts = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=30).T
    for name in NAMES:
        found = METRICS[name].resample(grouped, histogram, 6).scores(counts)
        expected = METRICS[name].resample(reference, predicted, 6).scores(counts)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert METRICS[name].function(grouped, histogram) == pytest.approx(
            METRICS[name].function(reference, predicted), abs=1e-12
        )


def test_ranges_of_distances_resample_nearly_like_every_distance():
    reference, predicted = _all_pairs(4, clips=120, levels=10**6)
    same, different = (predicted.distance[mask] for mask in (reference.is_same, ~reference.is_same))
    grouped, histogram = _bin(reference, predicted, find_edges(same, different))
    assert len(np.unique(histogram.distance)) <= same_different.BINS
    counts = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=30).T
    for name in NAMES:
        scorer = METRICS[name].resample(grouped, histogram, 6)
        expected = METRICS[name].resample(reference, predicted, 6).scores(counts)
        np.testing.assert_allclose(scorer.scores(counts), expected, atol=0.006)
        each_once = scorer.scores(np.ones((6, 1), dtype=int))
        assert each_once[0] == pytest.approx(METRICS[name].function(grouped, histogram), abs=1e-12)


def test_equal_distances_score_chance():
    reference, predicted = _all_pairs(0)
    constant = PairHistogram(
        predicted.group, np.zeros_like(predicted.distance), predicted.count, predicted.exact
    )
    share = reference.is_same.mean()
    assert [METRICS[name].function(reference, constant) for name in NAMES] == [0.5, 0.5, share]
    assert [METRICS[name].chance(reference, constant, 6, 0) for name in NAMES] == [0.5, 0.5, share]
    zeros = np.zeros(5), np.zeros(7)
    assert score_all(*zeros) == (0.5, 0.5, pytest.approx(5 / 12))
    assert find_edges(*zeros).tolist() == [0.0]
    grouped, histogram = _bin(reference, constant, find_edges(constant.distance, constant.distance))
    assert set(histogram.distance) == {0.0}
    assert METRICS["pair_auc"].resample(grouped, histogram, 6).scores(np.ones((6, 1), int)) == 0.5


def test_the_share_of_same_pairs_stands_beside_the_average_precision():
    reference, predicted = _all_pairs(0)
    share = {"share_of_same": pytest.approx(reference.is_same.mean())}
    assert METRICS["pair_ap"].report(reference, predicted).details == share
    assert METRICS["pair_ap"].details(reference, predicted) == share
    assert METRICS["pair_auc"].report(reference, predicted).details == {}
    assert not METRICS["pair_eer"].maximise


def test_order_of_pairs_and_units_does_not_matter():
    reference, predicted = _all_pairs(1)
    rng = np.random.default_rng(0)
    order, unit = rng.permutation(len(predicted.group)), rng.permutation(6)
    shuffled = UnitPairs(
        unit[reference.second][order],
        unit[reference.first][order],
        reference.is_same[order],
        reference.pairs,
        6,
    )
    moved = PairHistogram(predicted.group, predicted.distance[order], predicted.count, EXACTLY)
    counts = rng.integers(3, size=(6, 5))
    for name in NAMES:
        found = METRICS[name].resample(shuffled, moved, 6).scores(counts[np.argsort(unit)])
        expected = METRICS[name].resample(reference, predicted, 6).scores(counts)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_resamples_of_one_unit_have_no_different_pairs():
    reference, predicted = _all_pairs(1)
    alone = np.zeros((6, 1), dtype=int)
    alone[reference.first[reference.is_same][0]] = 6
    for name in NAMES:
        assert np.isnan(METRICS[name].resample(reference, predicted, 6).scores(alone)).all()


def test_shapes_are_checked():
    reference, predicted = _all_pairs(1)
    with pytest.raises(HearevalError, match="one shape"):
        UnitPairs(reference.first[:2], *(np.zeros(3, int),) * 3, 6)
    with pytest.raises(HearevalError, match="three exact scores or none"):
        PairHistogram(predicted.group, predicted.distance, predicted.count, np.zeros(2))
    stray = PairHistogram(predicted.group + 1, predicted.distance, predicted.count, EXACTLY)
    with pytest.raises(HearevalError, match="got group 276, expected less than 276"):
        METRICS["pair_auc"].function(reference, stray)
