"""Event scores against sed_eval on thousands of random cases; events against scipy and a plain loop."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import median_filter
from sed_eval.sound_event import EventBasedMetrics, SegmentBasedMetrics

from heareval.predictions.events import Postprocessing, find_events
from heareval.predictions.metrics import METRICS
from heareval.predictions.metrics.event import Collar, EventTable

CLIPS, LABELS = 4, 3
COLLARS = {
    "event_onset_200ms_fms": Collar(0.2),
    "event_onset_50ms_fms": Collar(0.05),
    "event_onset_offset_50ms_20perc_fms": Collar(0.05, 0.2),
}
# Cases of a fast test, and of a slow one; each is judged by all four metrics.
FEW, MANY = 100, 6000


@dataclass(frozen=True)
class Case:
    """Reference and estimated events."""

    reference: EventTable
    estimated: EventTable


def _table(rows, step_ms, origin_ms):
    """Rows (clip, label, onset, length), times in steps; few steps make ties, also at the collar's edge."""
    clip, label, onset, length = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    onset_ms = onset * step_ms + origin_ms
    return EventTable(clip, label, onset_ms, (onset + length) * step_ms + origin_ms)


@st.composite
def _cases(draw):
    # The last onsets are long after the others: past the end of a clip, which sed_eval doesn't know.
    onsets = st.integers(-3, 50) | st.integers(900, 910)
    lengths = st.integers(0, 6) | st.integers(0, 60)
    events = st.tuples(st.integers(0, CLIPS - 1), st.integers(0, LABELS - 1), onsets, lengths)
    reference = draw(st.lists(events, max_size=12))
    estimated = draw(st.lists(events, max_size=6))
    if reference:
        shifts = st.tuples(st.integers(0, len(reference) - 1), st.integers(-5, 5), st.integers(-5, 5))
        for source, later, longer in draw(st.lists(shifts, max_size=15)):
            clip, label, onset, length = reference[source]
            estimated.append((clip, label, onset + later, max(0, length + longer)))
    step_ms = draw(st.sampled_from([50.0, 25.0, 10.0, 12.5, 100 / 3, 250.0]))
    origin_ms = draw(st.sampled_from([0.0, 25.0, 0.1, -25.0]))
    return Case(_table(reference, step_ms, origin_ms), _table(estimated, step_ms, origin_ms))


def _as_sed_eval(table, clip):
    mine = table.select(table.clip == clip)
    return [
        {"event_label": f"label {label}", "event_onset": onset, "event_offset": offset}
        for label, onset, offset in zip(
            mine.label, mine.onset_s.tolist(), mine.offset_s.tolist(), strict=True
        )
    ]


def _judged(judge, case):
    """Run sed_eval on all labels together, and also on clips without events."""
    for clip in range(CLIPS):
        judge.evaluate(_as_sed_eval(case.reference, clip), _as_sed_eval(case.estimated, clip))
    return judge


def _by_sed_eval(name, case):
    """The metric and its details."""
    labels = [f"label {label}" for label in range(LABELS)]
    if name == "segment_1s_er":
        judge = _judged(SegmentBasedMetrics(labels, time_resolution=1.0), case)
        said = judge.overall_error_rate()
        # Undefined, where sed_eval divides by almost 0.
        return (said.pop("error_rate"), said) if judge.overall["Nref"] else (np.nan, {})
    judge = EventBasedMetrics(
        labels,
        evaluate_offset=COLLARS[name].share_of_length is not None,
        t_collar=COLLARS[name].onset_s,
        percentage_of_length=COLLARS[name].share_of_length or 0.0,
        empty_system_output_handling="zero_score",
    )
    said = _judged(judge, case).overall_f_measure()
    return said.pop("f_measure"), said


def _check(case):
    """Every metric, quick and reported, is sed_eval's."""
    for name, metric in METRICS.items():
        if metric.kind != "event":
            continue
        value, details = _by_sed_eval(name, case)
        report = metric.report(case.reference, case.estimated)
        assert metric.function(case.reference, case.estimated) == pytest.approx(value, abs=1e-9, nan_ok=True)
        assert report.value == pytest.approx(value, abs=1e-9, nan_ok=True)
        assert report.details == pytest.approx(details, abs=1e-9, nan_ok=True)


@settings(max_examples=FEW, deadline=None, derandomize=True)
@given(_cases())
def test_scores_are_sed_evals(case):
    _check(case)


@pytest.mark.slow
@settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
@given(_cases())
def test_scores_are_sed_evals_in_thousands_of_cases(case):
    _check(case)


@dataclass(frozen=True)
class Frames:
    """Probabilities of frames, and the postprocessing that turns them into events."""

    probabilities: np.ndarray
    timestamps_ms: np.ndarray
    postprocessing: Postprocessing


@st.composite
def _frames(draw):
    clips, frames, labels = (draw(st.integers(1, most)) for most in (3, 40, 3))
    # Of a few values one is the threshold itself.
    quarters = draw(arrays(np.int8, (clips, frames, labels), elements=st.integers(0, 4)))
    hops_ms = draw(
        st.lists(st.sampled_from([50.0, 20.0, 62.5, 100 / 3, 700.0]), min_size=clips, max_size=clips)
    )
    timestamps_ms = np.arange(frames) * np.array(hops_ms)[:, None] + draw(st.sampled_from([0.0, 25.0, -10.0]))
    filter_ms = draw(st.sampled_from([0, 20, 50, 75, 100, 150, 200, 250, 2500]))
    # Beyond that, scipy's filters of one and of two dimensions don't agree either.
    assume(filter_ms / min(hops_ms) <= 2 * frames)
    min_duration_ms = draw(st.sampled_from([0, 50, 100, 125, 250]))
    return Frames(quarters / np.float32(4), timestamps_ms, Postprocessing(filter_ms, min_duration_ms))


def _events_by_a_loop(frames):
    """Clip, label, onset and offset of each event, as 2021 found them."""
    found = []
    for clip, times in enumerate(frames.timestamps_ms):
        width = round(frames.postprocessing.median_filter_ms / np.diff(times).mean()) if len(times) > 1 else 0
        for label, said in enumerate(frames.probabilities[clip].T):
            filtered = median_filter(said, size=width, mode="reflect") if width else said
            start = None
            for frame in range(len(times) + 1):
                is_active = frame < len(times) and filtered[frame] > 0.5
                if is_active and start is None:
                    start = frame
                if not is_active and start is not None:
                    if times[frame - 1] - times[start] >= frames.postprocessing.min_duration_ms:
                        found.append((clip, label, times[start], times[frame - 1]))
                    start = None
    return found


def _check_events(frames):
    table = find_events(frames.probabilities, frames.timestamps_ms, frames.postprocessing)
    rows = zip(table.clip, table.label, table.onset_ms, table.offset_ms, strict=True)
    assert [tuple(row) for row in rows] == _events_by_a_loop(frames)


@settings(max_examples=FEW, deadline=None, derandomize=True)
@given(_frames())
def test_events_are_those_of_scipy_and_a_loop(frames):
    _check_events(frames)


@pytest.mark.slow
@settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
@given(_frames())
def test_events_are_those_of_scipy_and_a_loop_in_thousands_of_cases(frames):
    _check_events(frames)
