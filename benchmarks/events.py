"""Scoring events and finding them in frames, against sed_eval, and scipy with a plain loop.

python -m benchmarks.events --case maestro --turns 3

Events are noise in the numbers of a task; those found are noisy copies of the true ones, with misses,
extras and shifts, at the times of frames. sed_eval is asked about whole clips, as most people do, and label
by label, which gives the same numbers sooner and is how they are reported. Whole clips take it minutes in
maestro, so there it gets only some, and its time is scaled. Every score is compared with ours.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from sed_eval.sound_event import EventBasedMetrics, SegmentBasedMetrics

from heareval.predictions.events import Postprocessing, find_events
from heareval.predictions.metrics import METRICS
from heareval.predictions.metrics.event import TOLERANCE, Collar, EventTable

HOP_MS = 50.0
COLLARS = {
    "event_onset_200ms_fms": Collar(0.2),
    "event_onset_50ms_fms": Collar(0.05),
    "event_onset_offset_50ms_20perc_fms": Collar(0.05, 0.2),
}
EVENT_METRICS = (*COLLARS, "segment_1s_er")


@dataclass(frozen=True)
class Case:
    """A split of the size of a task's, and how its frames become events."""

    clips: int
    frames: int
    labels: int
    fewest: int
    most: int
    mean_length_ms: float
    postprocessing: Postprocessing
    clips_in_one_go: int


CASES = {
    "maestro": Case(37, 2400, 88, 600, 1000, 400.0, Postprocessing(150, 50), 1),
    "dcase": Case(12, 2400, 11, 30, 50, 800.0, Postprocessing(250, 125), 12),
}


@dataclass(frozen=True)
class Data:
    """The true events, the ones found, and probabilities `(clips, frames, labels)` of others."""

    reference: EventTable
    estimated: EventTable
    probabilities: NDArray[np.float32]
    timestamps_ms: NDArray[np.float64]


def make_data(case: Case) -> Data:
    """Events at random times, their noisy copies, and frames in which those sound."""
    draw = np.random.default_rng(0)
    reference = draw_events(case, draw)
    estimated = _noisy(case, reference, draw)
    timestamps_ms = np.tile((np.arange(case.frames) + 0.5) * HOP_MS, (case.clips, 1))
    probabilities = 0.45 * draw.random((case.clips, case.frames, case.labels), dtype=np.float32)
    # Frames that flicker: the median filter has something to do.
    loud = 0.4 + 0.5 * draw.random(probabilities.shape, dtype=np.float32)
    first, last = ((times / HOP_MS).astype(int) for times in (estimated.onset_ms, estimated.offset_ms))
    for clip, label, start, stop in zip(estimated.clip, estimated.label, first, last, strict=True):
        probabilities[clip, start : stop + 1, label] = loud[clip, start : stop + 1, label]
    return Data(reference, estimated, probabilities, timestamps_ms)


def draw_events(case: Case, draw: np.random.Generator) -> EventTable:
    """Notes at random times, with labels around the middle."""
    counts = draw.integers(case.fewest, case.most, case.clips, endpoint=True)
    clip = np.repeat(np.arange(case.clips), counts)
    onset_ms = draw.uniform(0, case.frames * HOP_MS - 100, len(clip))
    offset_ms = onset_ms + 30 + draw.exponential(case.mean_length_ms, len(clip))
    # Notes of a piece are those of a key, most of them in the middle of the keyboard.
    label = np.clip(draw.normal(case.labels / 2, case.labels / 6, len(clip)), 0, case.labels - 1).astype(int)
    return EventTable(clip, label, onset_ms, np.minimum(offset_ms, case.frames * HOP_MS))


def _noisy(case: Case, true: EventTable, draw: np.random.Generator) -> EventTable:
    """Four of five events, shifted, and one extra for every six, at the times of frames."""
    found = true.select(draw.random(len(true)) < 0.8)
    extra = true.select(draw.random(len(true)) < 1 / 6)
    clip, label = np.concatenate([found.clip, extra.clip]), np.concatenate([found.label, extra.label])
    onset_ms = np.concatenate([found.onset_ms, draw.uniform(0, case.frames * HOP_MS - 100, len(extra))])
    length_ms = np.concatenate([table.offset_ms - table.onset_ms for table in (found, extra)])
    onset_ms += draw.normal(0, 40, len(clip))
    offset_ms = onset_ms + length_ms * draw.uniform(0.7, 1.2, len(clip))
    onset_ms, offset_ms = (_at_frames(case, times) for times in (onset_ms, offset_ms))
    return EventTable(clip, label, onset_ms, offset_ms)


def _at_frames(case: Case, times_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    return (np.clip(times_ms // HOP_MS, 0, case.frames - 1) + 0.5) * HOP_MS


def sed_eval(name: str, data: Data, case: Case) -> float:
    """A metric by sed_eval, as it takes whole clips."""
    labels = [str(label) for label in range(case.labels)]
    if name == "segment_1s_er":
        judge = SegmentBasedMetrics(labels, time_resolution=1.0)
    else:
        judge = EventBasedMetrics(
            labels,
            evaluate_offset=COLLARS[name].share_of_length is not None,
            t_collar=COLLARS[name].onset_s,
            percentage_of_length=COLLARS[name].share_of_length or 0.0,
        )
    for clip in np.unique(data.reference.clip):
        judge.evaluate(_listed(data.reference, clip), _listed(data.estimated, clip))
    if name == "segment_1s_er":
        return float(judge.overall_error_rate()["error_rate"])
    return float(judge.overall_f_measure()["f_measure"])


def _listed(table: EventTable, clip: int) -> list[dict[str, Any]]:
    mine = table.select(table.clip == clip)
    return [
        {"event_label": str(label), "event_onset": onset, "event_offset": offset}
        for label, onset, offset in zip(
            mine.label, mine.onset_s.tolist(), mine.offset_s.tolist(), strict=True
        )
    ]


def scipy_and_a_loop(data: Data, case: Case) -> int:
    """Events of each clip and label, filtered by scipy and read off frame by frame; their number."""
    width, found = round(case.postprocessing.median_filter_ms / HOP_MS), []
    for clip, times_ms in enumerate(data.timestamps_ms.tolist()):
        for label in range(case.labels):
            said = median_filter(data.probabilities[clip, :, label], size=width, mode="reflect")
            start = None
            for frame, is_active in enumerate([*(said > 0.5).tolist(), False]):
                if is_active and start is None:
                    start = frame
                elif not is_active and start is not None:
                    if times_ms[frame - 1] - times_ms[start] >= case.postprocessing.min_duration_ms:
                        found.append((clip, label, times_ms[start], times_ms[frame - 1]))
                    start = None
    return len(found)


def first_clips(data: Data, clips: int) -> Data:
    """The events of some clips."""
    reference, estimated = (table.select(table.clip < clips) for table in (data.reference, data.estimated))
    return replace(data, reference=reference, estimated=estimated)


@dataclass(frozen=True)
class Way:
    """A way of doing the work, of which the time is `scale` times that of the call."""

    name: str
    work: Callable[[], float]
    scale: float = 1.0


def ways_of(metric: str, data: Data, case: Case) -> tuple[Way, ...]:
    """Ours first."""
    some = first_clips(data, case.clips_in_one_go)
    rule, tables = METRICS[metric], (data.reference, data.estimated)
    reported = "sed_eval label by label" if metric in COLLARS else "sed_eval, as reported"
    return (
        Way("heareval", functools.partial(rule.function, *tables)),
        Way(reported, lambda: rule.report(*tables).value),
        Way("sed_eval, whole clips", lambda: sed_eval(metric, some, case), case.clips / case.clips_in_one_go),
    )


def ways_to_find(data: Data, case: Case) -> tuple[Way, ...]:
    """Ours first."""
    mine = (data.probabilities, data.timestamps_ms, case.postprocessing)
    return (
        Way("heareval", lambda: len(find_events(*mine))),
        Way("scipy and a loop", lambda: scipy_and_a_loop(data, case)),
    )


def check(what: str, ways: tuple[Way, ...], data: Data, case: Case) -> None:
    """End where two ways come to different results."""
    some = first_clips(data, case.clips_in_one_go)
    for way in ways:
        tables = (some.reference, some.estimated) if way.scale > 1 else (data.reference, data.estimated)
        wanted = METRICS[what].function(*tables) if what in METRICS else ways[0].work()
        if abs(way.work() - wanted) > TOLERANCE:
            raise SystemExit(f"{what}: {way.name} says {way.work()}, not {wanted}")


def seconds(way: Way) -> float:
    """How long a way takes."""
    started = time.perf_counter()
    way.work()
    return (time.perf_counter() - started) * way.scale


def main() -> None:
    """Print medians of the times, and of the ratios in the same turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=list(CASES), nargs="+", default=list(CASES))
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    for name in given.case:
        case = CASES[name]
        data = make_data(case)
        print(f"{name}: {len(data.reference)} true events, {len(data.estimated)} found")  # noqa: T201
        tables = {metric: ways_of(metric, data, case) for metric in EVENT_METRICS}
        for what, ways in {**tables, "filter and events": ways_to_find(data, case)}.items():
            check(what, ways, data, case)
            turns = [{way.name: seconds(way) for way in ways} for _ in range(given.turns)]
            for way in ways:
                median = statistics.median(turn[way.name] for turn in turns)
                ratio = statistics.median(turn[way.name] / turn["heareval"] for turn in turns)
                print(f"{what:36} {way.name:24} {median:9.4f} s {ratio:9.1f} x our time", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
