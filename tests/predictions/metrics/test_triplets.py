"""Listed triplets against a plain loop, and resamples that really hold copies."""

import itertools

import numpy as np
import pytest

from heareval.errors import HearevalError
from heareval.predictions.metrics import find_metric, triplets
from heareval.predictions.metrics.triplets import ListedTriplets, TripletDistances

METRIC = find_metric("triplet_acc")


def _triplets(seed, number=60, clips=12, units=7):
    rng = np.random.default_rng(seed)
    listed = np.array([rng.permutation(clips)[:3] for _ in range(number)])
    distances = rng.integers(1, 5, (number, 2)) + rng.integers(2, size=number)[:, None] * [0.0, 1.0]
    return ListedTriplets(listed, rng.integers(units, size=clips)), TripletDistances(distances)


def _judge(distances):
    values = [1.0 if near < far else 0.5 if near == far else 0.0 for near, far in distances]
    return sum(values) / len(values) if values else np.nan


def test_accuracy_is_that_of_a_plain_loop():
    reference, predicted = _triplets(0)
    assert METRIC.function(reference, predicted) == pytest.approx(_judge(predicted.distances), abs=1e-12)


@pytest.mark.parametrize("at_once", [triplets.WEIGHTS_AT_ONCE, 40])
def test_resamples_are_those_of_really_copied_clips(at_once, monkeypatch):
    """Clips of one unit are in one copy, so that a triplet of two units has as many copies as both allow."""
    monkeypatch.setattr(triplets, "WEIGHTS_AT_ONCE", at_once)
    reference, predicted = _triplets(1)
    counts = np.random.default_rng(0).multinomial(7, np.full(7, 1 / 7), size=20).T
    found = METRIC.resample(reference, predicted, 7).scores(counts)
    for column, score in zip(counts.T, found, strict=True):
        drawn = []
        for clips, distances in zip(reference.clips, predicted.distances, strict=True):
            units = sorted(set(reference.unit[clips]))
            drawn += [distances for _ in itertools.product(*(range(column[unit]) for unit in units))]
        assert score == pytest.approx(_judge(drawn), abs=1e-12, nan_ok=True)
    assert np.ptp(found[np.isfinite(found)]) > 0


def test_equal_distances_score_chance():
    reference, predicted = _triplets(0)
    constant = TripletDistances(np.zeros_like(predicted.distances))
    assert METRIC.report(reference, constant).value == METRIC.chance(reference, constant, 7, 0) == 0.5


def test_order_of_triplets_does_not_matter():
    reference, predicted = _triplets(2)
    order, counts = (
        np.random.default_rng(0).permutation(60),
        np.random.default_rng(1).integers(3, size=(7, 4)),
    )
    shuffled = ListedTriplets(reference.clips[order], reference.unit)
    found = METRIC.resample(shuffled, TripletDistances(predicted.distances[order]), 7).scores(counts)
    np.testing.assert_allclose(found, METRIC.resample(reference, predicted, 7).scores(counts), atol=1e-12)


def test_resamples_without_a_triplet_are_undefined():
    reference = ListedTriplets(np.array([[0, 1, 2]]), np.arange(4))
    scorer = METRIC.resample(reference, TripletDistances(np.array([[1.0, 2.0]])), 4)
    assert scorer.scores(np.array([[1, 2], [1, 2], [1, 0], [1, 0]])).tolist() == pytest.approx(
        [1.0, np.nan], nan_ok=True
    )
    nothing = ListedTriplets(np.zeros((0, 3), int), np.arange(4)), TripletDistances(np.zeros((0, 2)))
    assert np.isnan(METRIC.function(*nothing))
    assert np.isnan(METRIC.chance(*nothing, 4, 0))


def test_shapes_are_checked():
    reference, predicted = _triplets(0)
    with pytest.raises(HearevalError, match=r"got \(3, 2\), expected two per triplet"):
        METRIC.function(reference, TripletDistances(predicted.distances[:3]))
    with pytest.raises(HearevalError, match=r"expected \(triplets, 3\)"):
        ListedTriplets(np.zeros((4, 2), int), np.arange(4))
