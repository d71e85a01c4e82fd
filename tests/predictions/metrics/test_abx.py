"""The ABX error against plain loops, and resamples that really hold copies."""

import itertools

import numpy as np
import pytest

from heareval.errors import HearevalError
from heareval.predictions.metrics import find_metric
from heareval.predictions.metrics.abx import AbxCells, AbxOutcomes, find_outcomes

METRIC = find_metric("abx_error")


def _cells(seed, speakers=3, digits=3, takes=3):
    """Return the cells of all speakers and digits, some of them with fewer recordings, and their outcomes."""
    rng = np.random.default_rng(seed)
    clips = np.arange(speakers * digits * takes).reshape(speakers, digits, takes)

    def take(speaker, digit):
        kept = rng.permutation(clips[speaker, digit])[: rng.integers(1, takes + 1)]
        return np.pad(kept, (0, takes - len(kept)), constant_values=-1)

    rows = [
        (take(ab, one), take(ab, other), take(x, one), x, ab, one * digits + other)
        for one, other in itertools.permutations(range(digits), 2)
        for ab, x in itertools.permutations(range(speakers), 2)
        # One speaker fewer in some pairs, so that means over cells and over speakers differ.
        if (one + ab + x) % 4
    ]
    a, b, x, speaker_x, speaker_ab, pair = map(np.array, zip(*rows, strict=True))
    cells = AbxCells(a, b, x, speaker_x, speaker_ab, pair, np.arange(clips.size))
    return cells, AbxOutcomes(rng.integers(3, size=(len(a), takes, takes, takes)).astype(np.uint8))


def _mean_by(values, keys):
    """Return the mean of the values of each key; values that are None are left out."""
    groups = {}
    for key, value in zip(keys, values, strict=True):
        if value is not None:
            groups.setdefault(key, []).append(value)
    return {key: sum(group) / len(group) for key, group in groups.items()}


def _judge(cells, outcomes, counts):
    """Return the error by plain loops over copies."""
    shares = []
    for a, b, x, of_cell in zip(cells.a, cells.b, cells.x, outcomes.outcomes, strict=True):
        drawn = []
        for (i, one), (j, other), (k, third) in itertools.product(enumerate(a), enumerate(b), enumerate(x)):
            if min(one, other, third) >= 0:
                copies = itertools.product(*(range(counts[cells.unit[clip]]) for clip in (one, other, third)))
                drawn += [of_cell[i, j, k] / 2 for _ in copies]
        shares.append(sum(drawn) / len(drawn) if drawn else None)
    keys = list(zip(cells.pair, cells.speaker_ab, cells.speaker_x, strict=True))
    by_x = _mean_by(shares, keys)
    by_ab = _mean_by(by_x.values(), [key[:2] for key in by_x])
    by_pair = _mean_by(by_ab.values(), [key[0] for key in by_ab])
    return 1 - sum(by_pair.values()) / len(by_pair) if by_pair else np.nan


def test_error_is_that_of_plain_loops():
    for seed in range(5):
        case = _cells(seed)
        assert METRIC.function(*case) == pytest.approx(_judge(*case, np.ones(27, int)), abs=1e-6)


def test_resamples_are_those_of_really_copied_recordings():
    case = _cells(7)
    counts = np.random.default_rng(0).multinomial(27, np.full(27, 1 / 27), size=20).T
    # In the last two resamples a digit or nearly everything is missing.
    counts[:9, -2], counts[4:, -1] = 0, 0
    found = METRIC.resample(*case, 27).scores(counts)
    expected = [_judge(*case, column) for column in counts.T]
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert np.isnan(found[-1])
    assert np.ptp(found[:-1]) > 0


def test_outcomes_by_a_plain_loop():
    rng = np.random.default_rng(0)
    to_a, to_b = rng.integers(3, size=(4, 2, 5)) * 1.0, rng.integers(3, size=(4, 3, 5)) * 1.0
    found = find_outcomes(to_a, to_b)
    assert found.shape == (4, 2, 3, 5)
    assert found.dtype == np.uint8
    for cell, i, j, k in np.ndindex(found.shape):
        one, other = to_a[cell, i, k], to_b[cell, j, k]
        assert found[cell, i, j, k] == (2 if one < other else 1 if one == other else 0)


def test_equal_distances_score_chance():
    cells = _cells(0)[0]
    constant = AbxOutcomes(find_outcomes(np.zeros((*cells.a.shape, 3)), np.zeros((*cells.b.shape, 3))))
    assert METRIC.report(cells, constant).value == METRIC.chance(cells, constant, 27, 0) == 0.5
    counts = np.random.default_rng(0).multinomial(27, np.full(27, 1 / 27), size=20).T
    assert (METRIC.resample(cells, constant, 27).scores(counts) == 0.5).all()
    assert not METRIC.maximise


def test_order_of_cells_and_recordings_does_not_matter():
    cells, outcomes = _cells(2)
    rng = np.random.default_rng(0)
    order, clip, inner = rng.permutation(len(cells.a)), rng.permutation(27), rng.permutation(3)
    renamed = [np.where(each >= 0, clip[each], -1)[order] for each in (cells.a, cells.b, cells.x)]
    others = (each[order] for each in (cells.speaker_x, cells.speaker_ab, cells.pair))
    shuffled = AbxCells(renamed[0][:, inner], *renamed[1:], *others, np.arange(27))
    counts = rng.integers(3, size=(27, 6))
    moved = np.empty_like(counts)
    moved[clip] = counts
    found = METRIC.resample(shuffled, AbxOutcomes(outcomes.outcomes[order][:, inner]), 27).scores(moved)
    np.testing.assert_allclose(found, METRIC.resample(cells, outcomes, 27).scores(counts), atol=1e-6)


def test_shapes_are_checked():
    cells, outcomes = _cells(0)
    with pytest.raises(HearevalError, match="one per triple"):
        METRIC.function(cells, AbxOutcomes(outcomes.outcomes[:, :2]))
    with pytest.raises(HearevalError, match="one number of cells"):
        AbxCells(cells.a[:2], cells.b, cells.x, cells.speaker_x, cells.speaker_ab, cells.pair, cells.unit)
