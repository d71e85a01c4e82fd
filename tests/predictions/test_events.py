"""Median filter and events against scipy and a plain loop."""

import numpy as np
import pytest
from scipy.ndimage import median_filter

from heareval.errors import HearevalError
from heareval.predictions.events import (
    Postprocessing,
    choose_postprocessing,
    expand_postprocessing_grid,
    filter_active,
    find_events,
    median_widths,
)

RNG_SEED = 8


def _times(clips, frames, hop_ms=50.0):
    return np.tile(np.arange(frames) * hop_ms + hop_ms / 2, (clips, 1))


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 9, 41])
def test_median_is_scipys(width):
    probabilities = np.random.default_rng(RNG_SEED).random((3, 17, 4)).astype(np.float32)
    expected = np.stack(
        [[median_filter(clip[:, i], size=width, mode="reflect") for i in range(4)] for clip in probabilities]
    ).transpose(0, 2, 1)
    assert np.array_equal(filter_active(probabilities > 0.5, width), expected > 0.5)


def test_width_is_rounded_frames_of_the_mean_hop():
    times = np.stack([np.arange(10) * 50.0, np.arange(10) * 51.0, np.arange(10) * 600.0])
    assert median_widths(times, 250).tolist() == [5, 5, 0]
    assert median_widths(_times(2, 1), 250).tolist() == [0, 0]


@pytest.mark.parametrize("min_duration_ms", [0, 50, 125, 250])
def test_events_by_a_plain_loop(min_duration_ms):
    probabilities = np.random.default_rng(RNG_SEED).random((3, 60, 2)).astype(np.float32)
    times, found = _times(3, 60), []
    for clip in range(3):
        for label in range(2):
            start = None
            for frame in range(61):
                active = frame < 60 and probabilities[clip, frame, label] > 0.5
                if active and start is None:
                    start = frame
                if not active and start is not None:
                    onset, offset, start = times[clip, start], times[clip, frame - 1], None
                    if offset - onset >= min_duration_ms:
                        found.append((clip, label, onset, offset))
    table = find_events(probabilities, times, Postprocessing(0, min_duration_ms))
    rows = zip(table.clip, table.label, table.onset_ms, table.offset_ms, strict=True)
    assert sorted(tuple(map(float, row)) for row in rows) == sorted(found)


def test_each_clip_is_filtered_by_its_own_hop():
    probabilities = np.random.default_rng(RNG_SEED).random((2, 40, 2))
    times = np.concatenate([_times(1, 40, 50.0), _times(1, 40, 80.0)])
    both = find_events(probabilities, times, Postprocessing(250, 100))
    for clip in range(2):
        alone = find_events(probabilities[clip : clip + 1], times[clip : clip + 1], Postprocessing(250, 100))
        assert np.array_equal(both.select(both.clip == clip).onset_ms, alone.onset_ms)


def test_one_half_is_not_active():
    assert len(find_events(np.full((1, 4, 1), 0.5), _times(1, 4), Postprocessing(0, 0))) == 0


def test_shapes_are_checked():
    with pytest.raises(HearevalError, match="probabilities and timestamps"):
        find_events(np.zeros((2, 4, 1)), _times(2, 5), Postprocessing(0, 0))


def test_grids_of_2021():
    assert expand_postprocessing_grid({}) == (Postprocessing(250, 125), Postprocessing(250, 250))
    assert expand_postprocessing_grid({"median_filter_ms": [150], "min_duration": [50]}) == (
        Postprocessing(150, 50),
    )
    with pytest.raises(HearevalError, match="Did you mean min_duration"):
        expand_postprocessing_grid({"min_durations": [50]})


@pytest.mark.parametrize(
    ("scores", "maximise", "winner"),
    [
        ([0.1, 0.3, 0.2], True, 1),
        ([0.1, 0.3, 0.2], False, 0),
        ([0.3, 0.1, 0.3], True, 2),
        ([np.nan, 0.1, np.nan], True, 1),
    ],
)
def test_best_postprocessing(scores, maximise, winner):
    grid = [Postprocessing(0, duration) for duration in (1, 2, 3)]
    said = iter(scores)
    best = choose_postprocessing(
        np.zeros((1, 4, 1)), _times(1, 4), grid, lambda _: next(said), maximise=maximise
    )
    assert best.postprocessing == grid[winner]
