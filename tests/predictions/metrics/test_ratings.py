"""Rated pairs against scipy, a plain loop and resamples that really hold copies."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from heareval.errors import HearevalError
from heareval.predictions.metrics import METRICS, ratings
from heareval.predictions.metrics.ratings import PairDistances, RatedPairs

NAMES = tuple(ratings.METRICS)


def _pairs(seed, sets=3, clips=7, sounds=9, share=1.0, levels=20):
    """Return pairs of several sets, of which some share sounds, with ties in ratings and distances."""
    rng = np.random.default_rng(seed)
    columns = []
    for group in range(sets):
        all_pairs = list(itertools.combinations(range(group * clips, (group + 1) * clips), 2))
        kept = [pair for pair in all_pairs if rng.random() < share] or all_pairs[:1]
        columns += [(*pair, group) for pair in kept]
    first, second, group = np.array(columns).T
    unit = np.concatenate([rng.permutation(sounds)[:clips] for _ in range(sets)])
    rating = rng.integers(1, levels, len(first)) / levels
    distances = np.round((rating + rng.normal(0, 0.3, len(first))).clip(0), 1) * 50
    return RatedPairs(first, second, rating, group, unit), PairDistances(distances)


def _find_anchors(reference, predicted):
    """Return the scaled ratings and distances of each clip of a set, by a plain loop over pairs."""
    anchors = {}
    for first, second, rating, group, distance in zip(
        reference.first,
        reference.second,
        reference.rating,
        reference.group,
        predicted.distances,
        strict=True,
    ):
        rating /= reference.rating[reference.group == group].max()
        distance /= predicted.distances[reference.group == group].max() or 1.0
        for clip in (first, second):
            anchors.setdefault((group, clip), []).append((rating, distance))
    return [np.array(partners).T for partners in anchors.values()]


def _mean(values):
    defined = [value for value in values if value is not None]
    return np.mean(defined) if defined else np.nan


def _correlate(correlation):
    def score(rated, measured):
        if np.ptp(rated) == 0:
            return None
        return correlation(rated, measured).statistic if np.ptp(measured) else 0.0

    return score


def _agree(rated, measured):
    triplets = [
        np.sign(rated[j] - rated[k]) == np.sign(measured[j] - measured[k])
        for j, k in itertools.permutations(range(len(rated)), 2)
        if abs(rated[j] - rated[k]) > 0.1 + 1e-9
    ]
    return np.mean(triplets) if triplets else None


JUDGES = {"spearman": _correlate(spearmanr), "kendall": _correlate(kendalltau), "triplet_agreement": _agree}


def _judge(name, reference, predicted):
    return _mean([JUDGES[name](*partners) for partners in _find_anchors(reference, predicted)])


def _draw(reference, predicted, counts):
    """Return the pairs of a resample, whose clips are copies of the drawn ones."""
    copies = [(clip, copy) for clip, unit in enumerate(reference.unit) for copy in range(counts[unit])]
    place = {copied: number for number, copied in enumerate(copies)}
    rows = []
    for pair, (first, second) in enumerate(zip(reference.first, reference.second, strict=True)):
        units = reference.unit[first], reference.unit[second]
        for one, other in itertools.product(*(range(counts[unit]) for unit in units)):
            if units[0] != units[1] or one == other:
                rows.append((place[first, one], place[second, other], pair))
    if not rows:
        return None
    first, second, pair = np.array(rows).T
    unit = np.array([reference.unit[clip] * 10 + copy for clip, copy in copies])
    drawn = RatedPairs(first, second, reference.rating[pair], reference.group[pair], unit)
    return drawn, PairDistances(predicted.distances[pair])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_scores_are_those_of_scipy_and_plain_loops(name, share):
    for seed in range(10):
        case = _pairs(seed, share=share)
        assert METRICS[name].function(*case) == pytest.approx(_judge(name, *case), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    clips=st.integers(2, 6),
    share=st.sampled_from([0.2, 0.6, 1.0]),
    levels=st.sampled_from([2, 3, 20]),
)
def test_any_pairs_with_many_ties(seed, clips, share, levels):
    case = _pairs(seed, clips=clips, share=share, levels=levels)
    for name in NAMES:
        assert METRICS[name].function(*case) == pytest.approx(_judge(name, *case), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_resamples_are_those_of_really_copied_clips(name):
    reference, predicted = _pairs(3, clips=6, sounds=8)
    # Ratings and distances are shares of the largest of the whole set, also if a resample lacks that pair.
    scaled = RatedPairs(
        reference.first,
        reference.second,
        ratings._divide_by_largest(reference.rating, reference.group),
        reference.group,
        reference.unit,
    )
    counts = np.random.default_rng(0).multinomial(8, np.full(8, 1 / 8), size=30).T
    found = METRICS[name].resample(reference, predicted, 8).scores(counts)
    for column, score in zip(counts.T, found, strict=True):
        drawn, distances = _draw(scaled, predicted, column)
        anchors = [
            (np.array(rated), np.array(measured))
            for rated, measured in _find_unscaled_anchors(drawn, distances)
        ]
        assert score == pytest.approx(_mean([JUDGES[name](*each) for each in anchors]), abs=1e-12)
    assert np.ptp(found) > 0


def _find_unscaled_anchors(reference, predicted):
    anchors = {}
    columns = (reference.first, reference.second, reference.rating, predicted.distances)
    for first, second, rating, distance in zip(*columns, strict=True):
        for clip in (first, second):
            anchors.setdefault(clip, ([], []))[0].append(rating)
            anchors[clip][1].append(distance)
    return anchors.values()


@pytest.mark.parametrize("name", NAMES)
def test_partners_of_the_anchors_own_unit_stay_in_its_copy(name):
    """Two clips of one sound that were rated in one set."""
    reference, predicted = _pairs(5, sets=1, clips=6, sounds=6)
    unit = reference.unit.copy()
    unit[1] = unit[0]
    reference = RatedPairs(reference.first, reference.second, reference.rating, reference.group, unit)
    counts = np.random.default_rng(1).multinomial(6, np.full(6, 1 / 6), size=20).T
    scaled = RatedPairs(
        reference.first,
        reference.second,
        ratings._divide_by_largest(reference.rating, reference.group),
        reference.group,
        unit,
    )
    found = METRICS[name].resample(reference, predicted, 6).scores(counts)
    for column, score in zip(counts.T, found, strict=True):
        drawn = _draw(scaled, predicted, column)
        anchors = _find_unscaled_anchors(*drawn) if drawn else []
        expected = _mean([JUDGES[name](*map(np.array, each)) for each in anchors])
        assert score == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_signs_change_nothing(name, monkeypatch):
    case, counts = _pairs(1), np.random.default_rng(0).integers(3, size=(9, 5))
    before = METRICS[name].resample(*case, 9).scores(counts)
    monkeypatch.setattr(ratings, "SIGNS_AT_ONCE", 10)
    np.testing.assert_allclose(METRICS[name].resample(*case, 9).scores(counts), before, atol=1e-12)


def test_only_resamples_of_spearman_are_biased():
    """With few partners to an anchor, copies lower rho by more than the resamples spread."""
    rng, reference = np.random.default_rng(0), _pairs(0, sets=20, clips=12, sounds=60, levels=10**6)[0]
    noisy = PairDistances(reference.rating + rng.normal(0, 0.3, len(reference.rating)) + 2)
    counts = rng.multinomial(60, np.full(60, 1 / 60), size=200).T
    for name in NAMES:
        resampled = METRICS[name].resample(reference, noisy, 60).scores(counts)
        bias = abs(resampled.mean() - METRICS[name].function(reference, noisy)) / resampled.std()
        assert (bias > 0.5) == METRICS[name].is_biased_by_copies, (name, bias)


def test_equal_distances_score_0_and_never_agree():
    reference, predicted = _pairs(0)
    constant = PairDistances(np.zeros_like(predicted.distances))
    assert [METRICS[name].function(reference, constant) for name in NAMES] == [0.0, 0.0, 0.0]
    assert [METRICS[name].chance(reference, constant, 9, 0) for name in NAMES] == [0.0, 0.0, 0.5]
    counts = np.random.default_rng(0).integers(3, size=(9, 5))
    assert (METRICS["spearman"].resample(reference, constant, 9).scores(counts) == 0).all()


def test_random_distances_score_chance():
    rng, reference = np.random.default_rng(0), _pairs(0, sets=20, clips=8)[0]
    scores = [
        [METRICS[name].function(reference, PairDistances(rng.random(len(reference.first)))) for name in NAMES]
        for _ in range(50)
    ]
    np.testing.assert_allclose(np.mean(scores, axis=0), [0.0, 0.0, 0.5], atol=0.02)


def test_perfect_and_reversed_distances():
    reference = _pairs(0)[0]
    assert [METRICS[name].function(reference, PairDistances(reference.rating)) for name in NAMES] == [1] * 3
    reverse = PairDistances(1 - reference.rating)
    assert [METRICS[name].function(reference, reverse) for name in NAMES] == [-1.0, -1.0, 0.0]


@pytest.mark.parametrize("name", NAMES)
def test_order_of_pairs_and_clips_does_not_matter(name):
    reference, predicted = _pairs(2, share=0.7)
    rng = np.random.default_rng(0)
    order, clip = rng.permutation(len(reference.first)), rng.permutation(len(reference.unit))
    ends = np.stack([clip[reference.first], clip[reference.second]])[:, order]
    ends = np.where(rng.random(len(order)) < 0.5, ends, ends[::-1])
    unit = np.empty_like(reference.unit)
    unit[clip] = reference.unit
    shuffled = RatedPairs(*ends, reference.rating[order], reference.group[order], unit)
    counts = rng.integers(3, size=(9, 4))
    found = [
        METRICS[name].resample(*each, 9).scores(counts)
        for each in ((reference, predicted), (shuffled, PairDistances(predicted.distances[order])))
    ]
    np.testing.assert_allclose(*found, atol=1e-12)


def test_anchors_without_a_score_are_left_out_and_counted():
    first, second = np.array([0, 0, 0]), np.array([1, 2, 3])
    reference = RatedPairs(first, second, np.array([0.1, 0.15, 0.9]), np.zeros(3, int), np.arange(4))
    predicted = PairDistances(np.array([1.0, 2.0, 3.0]))
    assert METRICS["spearman"].report(reference, predicted).details == {
        "anchors": 1,
        "anchors_left_out": 3,
    }
    alike = RatedPairs(first, second, np.full(3, 0.5), np.zeros(3, int), np.arange(4))
    for name in NAMES:
        assert np.isnan(METRICS[name].function(alike, predicted))
        assert np.isnan(METRICS[name].chance(alike, predicted, 4, 0))
        assert np.isnan(METRICS[name].resample(alike, predicted, 4).scores(np.ones((4, 2), int))).all()


def test_ratings_a_tenth_apart_form_no_triplet():
    """0.4 - 0.3 is more than 0.1 in binary numbers."""
    first, second = np.array([0, 0, 0]), np.array([1, 2, 3])
    rating = np.array([0.3, 0.4, 1.0])
    reference = RatedPairs(first, second, rating, np.zeros(3, int), np.arange(4))
    assert METRICS["triplet_agreement"].function(reference, PairDistances(np.array([2.0, 1.0, 3.0]))) == 1.0


def test_shapes_are_checked():
    reference, predicted = _pairs(0)
    with pytest.raises(HearevalError, match=r"got \(3,\), expected one per pair"):
        METRICS["spearman"].function(reference, PairDistances(predicted.distances[:3]))
    with pytest.raises(HearevalError, match="one shape"):
        RatedPairs(reference.first[:2], *(np.zeros(3, int),) * 4)
