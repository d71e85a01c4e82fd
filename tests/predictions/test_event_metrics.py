"""The quick event score against sed_eval, on random and degenerate events."""

import numpy as np
import pytest
from sed_eval.sound_event import EventBasedMetrics, SegmentBasedMetrics

from heareval.errors import HearevalError
from heareval.predictions.metrics import METRICS, event
from heareval.predictions.metrics.event import Collar, EventTable, count_true_positives, segment_error_rate

EVENT_METRICS = [name for name, metric in METRICS.items() if metric.kind == "event"]


def _table(*rows):
    columns = np.array(rows, dtype=float).reshape(-1, 4).T
    return EventTable(columns[0].astype(int), columns[1].astype(int), columns[2], columns[3])


def _random_tables(seed, clips=4, labels=3, events=40):
    """A reference, and an estimate that hits about half of it, with repetitions."""
    rng = np.random.default_rng(seed)
    onset = rng.uniform(0, 8000, events)
    reference = np.column_stack(
        [
            rng.integers(clips, size=events),
            rng.integers(labels, size=events),
            onset,
            onset + rng.uniform(50, 900, events),
        ]
    )
    estimated = reference[rng.integers(events, size=events + 7)]
    estimated[:, 2:] += rng.normal(0, 90, (len(estimated), 2))
    estimated[:, 2:] = np.sort(np.abs(estimated[:, 2:]), axis=1)
    return _table(*reference), _table(*estimated)


def _as_sed_eval(table, clip):
    mine = table.select(table.clip == clip)
    return [
        {"event_label": f"label {label}", "event_onset": onset, "event_offset": offset}
        for label, onset, offset in zip(
            mine.label, mine.onset_s.tolist(), mine.offset_s.tolist(), strict=True
        )
    ]


def _judge_all(judge, reference, estimated):
    """sed_eval in one go over clips, labels together."""
    for clip in range(4):
        judge.evaluate(_as_sed_eval(reference, clip), _as_sed_eval(estimated, clip))
    return judge


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("collar", [Collar(0.2), Collar(0.05), Collar(0.05, 0.2)])
def test_quick_f_measure_and_report_are_sed_evals(collar, seed):
    reference, estimated = _random_tables(seed)
    judge = EventBasedMetrics(
        [f"label {i}" for i in range(3)],
        evaluate_offset=collar.share_of_length is not None,
        t_collar=collar.onset_s,
        percentage_of_length=collar.share_of_length or 0.0,
    )
    expected = _judge_all(judge, reference, estimated).overall_f_measure()
    report = event.report_f_measure(reference, estimated, collar)
    assert count_true_positives(reference, estimated, collar) == judge.overall["Ntp"] > 0
    assert event.event_f_measure(reference, estimated, collar) == pytest.approx(
        expected["f_measure"], abs=1e-12
    )
    assert report.value == pytest.approx(expected["f_measure"], abs=1e-12)
    assert report.details["precision"] == pytest.approx(expected["precision"], abs=1e-12)
    assert report.details["recall"] == pytest.approx(expected["recall"], abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_segment_error_rate_is_sed_evals(seed):
    reference, estimated = _random_tables(seed)
    judge = _judge_all(SegmentBasedMetrics([f"label {i}" for i in range(3)]), reference, estimated)
    expected = judge.overall_error_rate()["error_rate"]
    assert segment_error_rate(reference, estimated) == pytest.approx(expected, abs=1e-12)
    assert event.report_error_rate(reference, estimated).value == pytest.approx(expected, abs=1e-12)


def test_matching_is_a_largest_one():
    # The first estimate could take either reference; the second only the later one.
    reference = _table((0, 0, 1000, 1100), (0, 0, 1300, 1400))
    estimated = _table((0, 0, 1150, 1200), (0, 0, 1450, 1500))
    assert count_true_positives(reference, estimated, Collar(0.2)) == 2


def test_collar_includes_its_end():
    reference = _table((0, 0, 1000, 2000))
    assert count_true_positives(reference, _table((0, 0, 1125, 2000)), Collar(0.125)) == 1
    assert count_true_positives(reference, _table((0, 0, 1126, 2000)), Collar(0.125)) == 0


@pytest.mark.parametrize("other", [(1, 0, 1000, 2000), (0, 1, 1000, 2000)])
def test_clip_and_label_must_be_the_same(other):
    assert count_true_positives(_table((0, 0, 1000, 2000)), _table(other), Collar(0.2)) == 0


@pytest.mark.parametrize("name", EVENT_METRICS)
def test_no_estimated_events(name):
    nothing = METRICS[name].report(_table((0, 0, 100, 900)), _table())
    quick = METRICS[name].function(_table((0, 0, 100, 900)), _table())
    assert nothing.value == pytest.approx(quick) == (0.0 if METRICS[name].maximise else 1.0)


@pytest.mark.parametrize("name", EVENT_METRICS)
@pytest.mark.parametrize("estimated", [(), ((0, 0, 100, 900),)])
def test_no_reference_events_is_undefined(name, estimated):
    assert np.isnan(METRICS[name].function(_table(), _table(*estimated)))
    assert np.isnan(METRICS[name].report(_table(), _table(*estimated)).value)


@pytest.mark.parametrize("name", EVENT_METRICS)
def test_reports_refuse_to_disagree(name, monkeypatch):
    for quick in ("event_f_measure", "segment_error_rate"):
        monkeypatch.setattr(event, quick, lambda *_: 0.25)
    with pytest.raises(HearevalError, match="two computations disagree"):
        METRICS[name].report(*_random_tables(0))


@pytest.mark.parametrize("estimated", [(), ((0, 0, 100, 900),)])
def test_references_that_are_in_no_segment_are_undefined(estimated):
    reference = _table((0, 0, 1000, 1000), (1, 1, 0, 0))
    assert np.isnan(segment_error_rate(reference, _table(*estimated)))
    assert np.isnan(event.report_error_rate(reference, _table(*estimated)).value)


def test_events_that_begin_before_0_are_in_sed_evals_segments():
    # A clip of one segment is where it matters; the other clip is longer.
    reference = _table((0, 0, 0, 400), (1, 0, 0, 2400))
    estimated = _table((0, 0, -10, 390), (1, 0, -10, 2390))
    assert event.report_error_rate(reference, estimated).value == segment_error_rate(reference, estimated)


def test_columns_of_one_length():
    with pytest.raises(HearevalError, match="columns of an event table"):
        EventTable(np.zeros(2, int), np.zeros(3, int), np.zeros(2), np.zeros(2))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", EVENT_METRICS)
@pytest.mark.parametrize("case", ["both", "nothing estimated", "no reference"])
def test_quick_details_are_those_of_the_report(case, name, seed):
    reference, estimated = _random_tables(seed)
    tables = {"both": (reference, estimated), "nothing estimated": (reference, _table())}
    pair = tables.get(case, (_table(), estimated))
    expected = METRICS[name].report(*pair).details
    assert METRICS[name].details(*pair) == pytest.approx(expected, abs=1e-12, nan_ok=True)
