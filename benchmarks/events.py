"""Compare scoring events with sed_eval, and finding events in frames with scipy and a plain loop.

python -m benchmarks.events --case maestro --turns 3
python -m benchmarks.events --shares

The reference events are random, with the numbers of a task. The estimated events are noisy copies of them,
with misses, insertions and shifts, at the times of frames. sed_eval is measured on whole clips, as most
people use it, and label by label, which gives the same scores in less time and is how scores are reported.
On whole clips of maestro it takes minutes, so it gets only some of them there, and its time is scaled. Every
score is compared with that of heareval.

--shares prints which share of an evaluation scoring takes, in processor time: at validations, at the end and
in resamples. Trainings are as short as they can be, because patience ends them after 21 validations.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from sed_eval.sound_event import EventBasedMetrics, SegmentBasedMetrics

from benchmarks import predict
from heareval.predictions.events import Postprocessing, find_events
from heareval.predictions.kinds.event import EventKind, EventSplit
from heareval.predictions.learners.network import build_predictor, predict_logits
from heareval.predictions.metrics import METRICS
from heareval.predictions.metrics.event import TOLERANCE, Collar, EventTable
from heareval.predictions.protocol import PUBLISHED_GRID_POINTS, Settings
from heareval.predictions.statistics import average_resamples

HOP_MS = 50.0
COLLARS = {
    "event_onset_200ms_fms": Collar(0.2),
    "event_onset_50ms_fms": Collar(0.05),
    "event_onset_offset_50ms_20perc_fms": Collar(0.05, 0.2),
}
EVENT_METRICS = (*COLLARS, "segment_1s_er")


@dataclass(frozen=True)
class Case:
    """The size of a task's split, and how its frames become events.

    Args:
        fewest, most: number of events in a clip.
        clips_in_one_go: how many clips sed_eval gets at once when it scores whole clips.
        metrics: the metrics of the task.
        grid: its grid of postprocessings.
        folds: number of tested splits.
        epochs_per_validation: epochs between validations.
    """

    clips: int
    frames: int
    labels: int
    fewest: int
    most: int
    mean_length_ms: float
    postprocessing: Postprocessing
    clips_in_one_go: int
    metrics: tuple[str, ...]
    grid: dict[str, list[float]]
    folds: int
    epochs_per_validation: int


CASES = {
    "maestro": Case(
        *(37, 2400, 88, 600, 1000, 400.0, Postprocessing(150, 50), 1),
        metrics=("event_onset_50ms_fms", "event_onset_offset_50ms_20perc_fms"),
        grid={"median_filter_ms": [150], "min_duration": [50]},
        folds=5,
        epochs_per_validation=3,
    ),
    "dcase": Case(
        *(12, 2400, 11, 30, 50, 800.0, Postprocessing(250, 125), 12),
        metrics=("event_onset_200ms_fms", "segment_1s_er"),
        grid={},
        folds=1,
        epochs_per_validation=10,
    ),
}


@dataclass(frozen=True)
class Data:
    """Reference events, estimated events, and probabilities of frames `(clips, frames, labels)`."""

    reference: EventTable
    estimated: EventTable
    probabilities: NDArray[np.float32]
    timestamps_ms: NDArray[np.float64]


def make_data(case: Case) -> Data:
    """Return random events, noisy copies of them, and frames in which the copies are active."""
    rng = np.random.default_rng(0)
    reference = draw_events(case, rng)
    estimated = _add_noise(case, reference, rng)
    timestamps_ms = np.tile((np.arange(case.frames) + 0.5) * HOP_MS, (case.clips, 1))
    probabilities = 0.45 * rng.random((case.clips, case.frames, case.labels), dtype=np.float32)
    # The frames flicker, so that the median filter has an effect.
    loud = 0.4 + 0.5 * rng.random(probabilities.shape, dtype=np.float32)
    first, last = ((times / HOP_MS).astype(int) for times in (estimated.onset_ms, estimated.offset_ms))
    for clip, label, start, stop in zip(estimated.clip, estimated.label, first, last, strict=True):
        probabilities[clip, start : stop + 1, label] = loud[clip, start : stop + 1, label]
    return Data(reference, estimated, probabilities, timestamps_ms)


def draw_events(case: Case, rng: np.random.Generator) -> EventTable:
    """Return events at random times, with labels around the middle of the range."""
    counts = rng.integers(case.fewest, case.most, case.clips, endpoint=True)
    clip = np.repeat(np.arange(case.clips), counts)
    onset_ms = rng.uniform(0, case.frames * HOP_MS - 100, len(clip))
    offset_ms = onset_ms + 30 + rng.exponential(case.mean_length_ms, len(clip))
    # Most notes of a piece are in the middle of the keyboard.
    label = np.clip(rng.normal(case.labels / 2, case.labels / 6, len(clip)), 0, case.labels - 1).astype(int)
    return EventTable(clip, label, onset_ms, np.minimum(offset_ms, case.frames * HOP_MS))


def _add_noise(case: Case, reference: EventTable, rng: np.random.Generator) -> EventTable:
    """Return four of five events, shifted, and one insertion for every six, at the times of frames."""
    found = reference.select(rng.random(len(reference)) < 0.8)
    extra = reference.select(rng.random(len(reference)) < 1 / 6)
    clip, label = np.concatenate([found.clip, extra.clip]), np.concatenate([found.label, extra.label])
    onset_ms = np.concatenate([found.onset_ms, rng.uniform(0, case.frames * HOP_MS - 100, len(extra))])
    length_ms = np.concatenate([table.offset_ms - table.onset_ms for table in (found, extra)])
    onset_ms += rng.normal(0, 40, len(clip))
    offset_ms = onset_ms + length_ms * rng.uniform(0.7, 1.2, len(clip))
    onset_ms, offset_ms = (_round_to_frames(case, times) for times in (onset_ms, offset_ms))
    return EventTable(clip, label, onset_ms, offset_ms)


def _round_to_frames(case: Case, times_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    return (np.clip(times_ms // HOP_MS, 0, case.frames - 1) + 0.5) * HOP_MS


def score_with_sed_eval(name: str, data: Data, case: Case) -> float:
    """Return a metric computed by sed_eval on whole clips."""
    labels = [str(label) for label in range(case.labels)]
    if name == "segment_1s_er":
        evaluator = SegmentBasedMetrics(labels, time_resolution=1.0)
    else:
        evaluator = EventBasedMetrics(
            labels,
            evaluate_offset=COLLARS[name].share_of_length is not None,
            t_collar=COLLARS[name].onset_s,
            percentage_of_length=COLLARS[name].share_of_length or 0.0,
        )
    for clip in np.unique(data.reference.clip):
        evaluator.evaluate(_events_of(data.reference, clip), _events_of(data.estimated, clip))
    if name == "segment_1s_er":
        return float(evaluator.overall_error_rate()["error_rate"])
    return float(evaluator.overall_f_measure()["f_measure"])


def _events_of(table: EventTable, clip: int) -> list[dict[str, Any]]:
    events = table.select(table.clip == clip)
    return [
        {"event_label": str(label), "event_onset": onset, "event_offset": offset}
        for label, onset, offset in zip(
            events.label, events.onset_s.tolist(), events.offset_s.tolist(), strict=True
        )
    ]


def count_with_scipy(data: Data, case: Case) -> int:
    """Filter each clip and label with scipy, find events frame by frame, and return their number."""
    width, found = round(case.postprocessing.median_filter_ms / HOP_MS), []
    for clip, times_ms in enumerate(data.timestamps_ms.tolist()):
        for label in range(case.labels):
            smoothed = median_filter(data.probabilities[clip, :, label], size=width, mode="reflect")
            start = None
            for frame, is_active in enumerate([*(smoothed > 0.5).tolist(), False]):
                if is_active and start is None:
                    start = frame
                elif not is_active and start is not None:
                    if times_ms[frame - 1] - times_ms[start] >= case.postprocessing.min_duration_ms:
                        found.append((clip, label, times_ms[start], times_ms[frame - 1]))
                    start = None
    return len(found)


def select_first_clips(data: Data, clips: int) -> Data:
    """Return the data with only the events of the first clips."""
    reference, estimated = (table.select(table.clip < clips) for table in (data.reference, data.estimated))
    return replace(data, reference=reference, estimated=estimated)


@dataclass(frozen=True)
class Way:
    """An implementation of the work; its time is `scale` times the time of the call."""

    name: str
    work: Callable[[], float]
    scale: float = 1.0


def list_scoring_ways(metric: str, data: Data, case: Case) -> tuple[Way, ...]:
    """Return the implementations of a metric, heareval first."""
    some = select_first_clips(data, case.clips_in_one_go)
    rule, tables = METRICS[metric], (data.reference, data.estimated)
    reported = "sed_eval label by label" if metric in COLLARS else "sed_eval, as reported"
    return (
        Way("heareval", functools.partial(rule.function, *tables)),
        Way(reported, lambda: rule.report(*tables).value),
        Way(
            "sed_eval, whole clips",
            lambda: score_with_sed_eval(metric, some, case),
            case.clips / case.clips_in_one_go,
        ),
    )


def list_detection_ways(data: Data, case: Case) -> tuple[Way, ...]:
    """Return the implementations of finding events in frames, heareval first."""
    arguments = (data.probabilities, data.timestamps_ms, case.postprocessing)
    return (
        Way("heareval", lambda: len(find_events(*arguments))),
        Way("scipy and a loop", lambda: count_with_scipy(data, case)),
    )


def check_agreement(what: str, ways: tuple[Way, ...], data: Data, case: Case) -> None:
    """Exit with an error if two implementations give different results."""
    some = select_first_clips(data, case.clips_in_one_go)
    for way in ways:
        tables = (some.reference, some.estimated) if way.scale > 1 else (data.reference, data.estimated)
        expected = METRICS[what].function(*tables) if what in METRICS else ways[0].work()
        if abs(way.work() - expected) > TOLERANCE:
            raise SystemExit(f"{what}: {way.name}: got {way.work()}, expected {expected}")


def measure_seconds(way: Way) -> float:
    """Return the seconds that a way takes, scaled to the whole work."""
    started = time.perf_counter()
    way.work()
    return (time.perf_counter() - started) * way.scale


def measure_shares(name: str) -> str:
    """Return the share of each part of an evaluation in its processor time, as text."""
    case, training = CASES[name], predict.CASES[name]
    data, labels = make_data(case), tuple(map(str, range(case.labels)))
    task: Any = SimpleNamespace(
        labels=labels, metrics=case.metrics, metadata=SimpleNamespace(postprocessing_grid=case.grid)
    )
    kind = EventKind(task)
    x = torch.randn(case.clips * case.frames, training.dim)
    y = torch.zeros(len(x), case.labels)
    valid = EventSplit("valid", tuple(map(str, range(case.clips))), x, y, data.timestamps_ms, data.reference)
    one_epoch = Settings(1, 1e-3, "xavier_uniform", max_epochs=1, check_val_every_n_epoch=1)
    network = build_predictor(training.dim, case.labels, one_epoch, seed=0)
    rows, validate = predict.make_split(training), kind.make_validator(valid)
    predictions = kind.predict(valid, data.probabilities, validate(data.probabilities).postprocessing)
    scored = [[kind.prepare_scoring(predictions)] * case.folds]
    validations = one_epoch.patience + 1
    trainings = PUBLISHED_GRID_POINTS + case.folds - 1
    epochs = trainings * validations * case.epochs_per_validation
    parts = {
        "training": epochs * measure_cpu(lambda: predict.train_with_heareval(training, rows, [one_epoch])),
        "validation, predicting": trainings * validations * measure_cpu(lambda: predict_logits(network, x)),
        "validation, scoring": trainings * validations * measure_cpu(lambda: validate(data.probabilities)),
        "final scores": case.folds * measure_cpu(lambda: kind.score("test", predictions)),
        "resampling": measure_cpu(lambda: average_resamples(case.metrics, scored, seed=0)),
    }
    total = sum(parts.values())
    shares = ", ".join(f"{part} {seconds / total:.3%}" for part, seconds in parts.items())
    return f"{name}: {trainings} trainings of {epochs // trainings} epochs: {total:.0f} s of CPU: {shares}"


def measure_cpu(work: Callable[[], object]) -> float:
    """Return the processor time of the second of two calls."""
    work()
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Print the median time of each way and the median ratio of times in the same turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=list(CASES), nargs="+", default=list(CASES))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--shares", action="store_true", help="Print the shares of scoring instead.")
    given = parser.parse_args()
    for name in given.case:
        if given.shares:
            print(measure_shares(name), flush=True)  # noqa: T201
            continue
        case = CASES[name]
        data = make_data(case)
        print(f"{name}: {len(data.reference)} reference events, {len(data.estimated)} estimated")  # noqa: T201
        tables = {metric: list_scoring_ways(metric, data, case) for metric in EVENT_METRICS}
        for what, ways in {**tables, "filter and events": list_detection_ways(data, case)}.items():
            check_agreement(what, ways, data, case)
            turns = [{way.name: measure_seconds(way) for way in ways} for _ in range(given.turns)]
            for way in ways:
                median = statistics.median(turn[way.name] for turn in turns)
                ratio = statistics.median(turn[way.name] / turn["heareval"] for turn in turns)
                print(f"{what:36} {way.name:24} {median:9.4f} s {ratio:9.1f} x heareval's time", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
