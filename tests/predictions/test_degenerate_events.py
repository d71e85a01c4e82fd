"""Degenerate event tasks end with a score, or with one line that explains why there is none."""

import math

import numpy as np
import pytest

from heareval.errors import HearevalError
from heareval.predictions.protocol import PROBES
from tests.predictions.degenerate import (
    EVENT_METRICS,
    LARGEST,
    SILENT,
    SPLITS,
    TINY,
    embed,
    evaluated,
    frames,
    keep,
    one_row,
    relabel,
    written,
)

pytestmark = SILENT


def _event(start, end, label="drum"):
    return {"label": label, "start": start, "end": end}


def _move(change):
    """Changes every event of the parts named."""

    def move(*parts):
        return relabel(
            lambda part, i, mine: [dict(each, **change(each)) for each in mine] if part in parts else mine
        )

    return move


EVERYWHERE = ("train", "valid", "test")
LASTING_NOTHING = _move(lambda event: {"end": event["start"]})
EVENTS = {
    "test has one event": relabel(
        lambda part, i, mine: mine if part != "test" else mine[:1] if i == 0 else []
    ),
    "no clip has a label": relabel(lambda part, i, mine: [each for each in mine if each["label"] != 7]),
    "without length": LASTING_NOTHING(*EVERYWHERE),
    "longer than the clip": _move(lambda event: {"end": event["end"] + 60_000})(*EVERYWHERE),
    "after the clip": _move(lambda event: {"start": 60_000, "end": 61_000})(*EVERYWHERE),
    "each twice": relabel(lambda part, i, mine: mine + mine),
    "one frame a clip": frames(30, 31),
    "two frames a clip": frames(30, 32),
    "one clip in each split": keep(train=1, valid=1, test=1),
    "one dimension": embed(lambda part, x: x[..., :1]),
    "constant": embed(lambda part, x: np.full_like(x, 3.3)),
    "huge": embed(lambda part, x: x * np.float32(1e30)),
}


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("case", list(EVENTS))
def test_events_end_with_numbers(case, probe, event_folder):
    # Let each kind of metric decide model selection in some cases.
    metrics = EVENT_METRICS[:: -1 if SPLITS[probe] else 1]
    folder = event_folder(clips=3, evaluation=metrics, **TINY, **SPLITS[probe])
    EVENTS[case](folder)
    scores = written(folder, probe)["scores"]
    assert all(0 <= score["score"] <= 1 for name, score in scores.items() if name != "segment_1s_er")
    assert scores["segment_1s_er"]["score"] >= 0


@pytest.mark.parametrize("probe", PROBES)
def test_nothing_sounds_in_training(probe, event_folder):
    folder = event_folder(evaluation=EVENT_METRICS, **TINY)
    relabel(lambda part, i, mine: [] if part == "train" else mine)(folder)
    results = written(folder, probe)
    if probe != "mlp":
        assert [score["score"] for score in results["scores"].values()] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("times", [None, (0.0, 0.0), (1000.0, 1000.0)])
def test_events_of_no_length_at_all_have_no_error_rate(probe, times, event_folder):
    folder = event_folder(evaluation=EVENT_METRICS, **TINY)
    events = [_event(*times)] if times else []
    relabel(lambda part, i, mine: events if part == "test" else mine)(folder)
    results = written(folder, probe)
    reason = "no reference events of some length" if times else "no reference events"
    assert results["scores"]["segment_1s_er"]["score"] is None
    assert f"segment_1s_er is undefined on test: {reason}" in results["problems"]
    assert (results["scores"]["event_onset_200ms_fms"]["score"] is None) == (times is None)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize(("metric", "times"), [(EVENT_METRICS[0], None), ("segment_1s_er", (1000.0, 1000.0))])
def test_nothing_to_validate_events_by(metric, times, probe, event_folder):
    folder = event_folder(evaluation=[metric], **TINY)
    events = [_event(*times)] if times else []
    relabel(lambda part, i, mine: events if part == "valid" else mine)(folder)
    message = f"event can be selected on split valid: got {metric} undefined.*reference events of some length"
    with pytest.raises(HearevalError, match=message):
        evaluated(folder, probe)


def test_a_loss_needs_no_events_to_decide_by(event_folder):
    folder = event_folder(evaluation=EVENT_METRICS, use_scoring_for_early_stopping=False, **TINY)
    relabel(lambda part, i, mine: [] if part == "valid" else mine)(folder)
    assert written(folder, "mlp")["decided_by"] == "loss"
    one_row("valid", LARGEST)(folder)
    with pytest.raises(HearevalError, match=r"got loss undefined.*expected a training that converges"):
        evaluated(folder, "mlp")


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (100.0, 99.0, "got from 100 to 99 ms, expected 0 <= start"),
        (-1.0, 99.0, "got from -1 to 99 ms, expected 0 <= start"),
        (0.0, 1e12, r"got from 0 to 1e\+12 ms, expected 0 <= start"),
        (0.0, math.nan, "end: got nan, expected a number"),
        (0.0, math.inf, "end: got inf, expected a number"),
        (None, 5.0, "start: got null, expected a number"),
    ],
)
def test_times_that_are_none_of_a_sound(start, end, message, event_folder):
    folder = event_folder()
    relabel(lambda part, i, mine: [_event(start, end)] if (part, i) == ("test", 3) else mine)(folder)
    with pytest.raises(HearevalError, match=rf"test/test_3\.wav: an event: {message}"):
        evaluated(folder, "knn-l1")
