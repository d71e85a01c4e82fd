"""Metrics of event tasks, computed from reference and estimated events.

The fast functions `event_f_measure` and `segment_error_rate` serve model selection. Published scores come
from sed_eval and must agree with them.

Mesaros, Heittola, Virtanen: Metrics for polyphonic sound event detection, Applied Sciences 6(6), 2016.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from heareval.errors import HearevalError
from heareval.predictions.metrics.metric import DetailedScore, Metric
from heareval.predictions.metrics.resampled import BootstrapScorer, ClipSums, count_per_clip, resample_sums

# Largest difference between sed_eval's scores and ours.
TOLERANCE = 1e-9
# How often events are moved to other clips for a chance level.
MOVES = 20


@dataclass(frozen=True)
class EventTable:
    """The events of many clips, one per row.

    Args:
        clip: index of the clip, `(events,)`.
        label: index of the label, `(events,)`.
        onset_ms: `(events,)` milliseconds.
        offset_ms: `(events,)` milliseconds.
    """

    clip: NDArray[np.int64]
    label: NDArray[np.int64]
    onset_ms: NDArray[np.float64]
    offset_ms: NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = {column.shape for column in (self.clip, self.label, self.onset_ms, self.offset_ms)}
        if shapes != {(len(self.clip),)}:
            raise HearevalError("columns of an event table", got=str(shapes), expected="one shape (events,)")

    def __len__(self) -> int:
        return len(self.clip)

    def select(self, keep: NDArray[Any]) -> EventTable:
        """Return the rows that a mask or an index array selects."""
        return EventTable(self.clip[keep], self.label[keep], self.onset_ms[keep], self.offset_ms[keep])

    @property
    def onset_s(self) -> NDArray[np.float64]:
        """Return the onsets in seconds, `(events,)`."""
        return self.onset_ms / 1000.0

    @property
    def offset_s(self) -> NDArray[np.float64]:
        """Return the offsets in seconds, `(events,)`."""
        return self.offset_ms / 1000.0


@dataclass(frozen=True)
class Collar:
    """How far an estimated event may differ from a reference event that it is matched with.

    Args:
        onset_s: largest difference of the onsets in seconds; the collar of the offsets is at least this
            large.
        share_of_length: the offsets may differ by this share of the reference event's length if that is more;
            None ignores offsets.
    """

    onset_s: float
    share_of_length: float | None = None


def event_f_measure(reference: EventTable, estimated: EventTable, collar: Collar) -> float:
    """Return the F-measure of a largest one-to-one matching of events, counted over all clips and labels.

    The score is NaN without reference events, and 0 without estimated ones (sed_eval's "zero_score").

    >>> reference = EventTable(np.array([0]), np.array([0]), np.array([500.0]), np.array([900.0]))
    >>> late = EventTable(np.array([0]), np.array([0]), np.array([650.0]), np.array([900.0]))
    >>> event_f_measure(reference, late, Collar(0.2)), event_f_measure(reference, late, Collar(0.05))
    (1.0, 0.0)
    """
    if len(reference) == 0:
        return float("nan")
    return 2.0 * count_true_positives(reference, estimated, collar) / (len(reference) + len(estimated))


def count_true_positives(reference: EventTable, estimated: EventTable, collar: Collar) -> int:
    """Return the size of a largest one-to-one matching of events with equal clip and label."""
    return int(np.count_nonzero(find_matched(reference, estimated, collar)))


def find_matched(reference: EventTable, estimated: EventTable, collar: Collar) -> NDArray[np.bool_]:
    """Return which reference events a largest one-to-one matching includes, `(reference events,)`."""
    if len(reference) == 0 or len(estimated) == 0:
        return np.zeros(len(reference), dtype=bool)
    pairs = _pairs_within(reference, estimated, collar)
    graph = csr_matrix((np.ones(len(pairs[0]), dtype=np.int8), pairs), shape=(len(reference), len(estimated)))
    return np.asarray(maximum_bipartite_matching(graph, perm_type="column") >= 0)


def _pairs_within(
    reference: EventTable, estimated: EventTable, collar: Collar
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows (reference, estimated) of all pairs that may be matched."""
    # One sorted search serves all clips and labels: each pair of them gets its own stretch of a common time
    # axis, too far from the next one for their events to match.
    onsets = np.concatenate([reference.onset_s, estimated.onset_s])
    stretch = np.ptp(onsets) + 4 * collar.onset_s + 1.0
    labels = int(max(reference.label.max(), estimated.label.max())) + 1
    where_ref = (reference.clip * labels + reference.label) * stretch + reference.onset_s
    where_est = (estimated.clip * labels + estimated.label) * stretch + estimated.onset_s
    order = np.argsort(where_est, kind="stable")
    # Times on the common axis are rounded. Search slightly further, and let the exact rule below decide.
    reach = collar.onset_s * 1.001 + 1e-9 * where_est.max() + 1e-9
    first = np.searchsorted(where_est[order], where_ref - reach, side="left")
    last = np.searchsorted(where_est[order], where_ref + reach, side="right")
    counts = last - first
    ref = np.repeat(np.arange(len(reference)), counts)
    est = order[
        np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts) + np.repeat(first, counts)
    ]
    keep = _within(reference.select(ref), estimated.select(est), collar)
    return ref[keep], est[keep]


def _within(reference: EventTable, estimated: EventTable, collar: Collar) -> NDArray[np.bool_]:
    """Return whether row i of one table may be matched with row i of the other, in sed_eval's arithmetic."""
    near = (reference.clip == estimated.clip) & (reference.label == estimated.label)
    near &= np.abs(reference.onset_s - estimated.onset_s) <= collar.onset_s
    if collar.share_of_length is not None:
        length_s = reference.offset_s - reference.onset_s
        allowed_s = np.maximum(collar.onset_s, collar.share_of_length * length_s)
        near &= np.abs(reference.offset_s - estimated.offset_s) <= allowed_s
    return np.asarray(near)


def find_precision_and_recall(
    reference: EventTable, estimated: EventTable, collar: Collar
) -> Mapping[str, float]:
    """Return the precision and the recall of `event_f_measure`; the recall is NaN without reference events.

    >>> reference = EventTable(np.array([0]), np.array([0]), np.array([500.0]), np.array([900.0]))
    >>> find_precision_and_recall(reference, reference, Collar(0.2))
    {'precision': 1.0, 'recall': 1.0}
    """
    hits = count_true_positives(reference, estimated, collar)
    return {
        "precision": hits / len(estimated) if len(estimated) else 0.0,
        "recall": hits / len(reference) if len(reference) else math.nan,
    }


def segment_error_rate(reference: EventTable, estimated: EventTable, segment_s: float = 1.0) -> float:
    """Return substitutions, deletions and insertions per active reference label, in segments of `segment_s`.

    Lower is better. The score is NaN if no reference label is active in any segment.

    >>> reference = EventTable(np.array([0]), np.array([0]), np.array([0.0]), np.array([2000.0]))
    >>> half = EventTable(np.array([0]), np.array([0]), np.array([0.0]), np.array([1000.0]))
    >>> segment_error_rate(reference, half)
    0.5
    """
    if len(reference) == 0:
        return float("nan")
    counts = count_segment_errors(reference, estimated, segment_s)
    active = counts.active.sum()
    return float(counts.errors.sum() / active) if active else float("nan")


def find_error_rates(
    reference: EventTable, estimated: EventTable, segment_s: float = 1.0
) -> Mapping[str, float]:
    """Return the three parts of `segment_error_rate`; none where that is undefined.

    >>> reference = EventTable(np.array([0]), np.array([0]), np.array([0.0]), np.array([2000.0]))
    >>> half = EventTable(np.array([0]), np.array([0]), np.array([0.0]), np.array([1000.0]))
    >>> find_error_rates(reference, half)
    {'substitution_rate': 0.0, 'deletion_rate': 0.5, 'insertion_rate': 0.0}
    """
    roll_ref, roll_est = _activity(reference, estimated, segment_s)
    n_ref, n_est = roll_ref.sum(axis=-1), roll_est.sum(axis=-1)
    errors = {
        "substitution_rate": np.minimum(n_ref, n_est) - (roll_ref & roll_est).sum(axis=-1),
        "deletion_rate": np.maximum(n_ref - n_est, 0),
        "insertion_rate": np.maximum(n_est - n_ref, 0),
    }
    active = n_ref.sum()
    return {name: float(counts.sum() / active) for name, counts in errors.items()} if active else {}


@dataclass(frozen=True)
class SegmentErrors:
    """The errors and the active reference labels of each clip, summed over its segments, both `(clips,)`.

    Clips after the last one with an event are left out.
    """

    errors: NDArray[np.int64]
    active: NDArray[np.int64]


def count_segment_errors(
    reference: EventTable, estimated: EventTable, segment_s: float = 1.0
) -> SegmentErrors:
    """Count the substitutions, deletions and insertions, and the active reference labels, of each clip."""
    roll_ref, roll_est = _activity(reference, estimated, segment_s)
    n_ref, n_est = roll_ref.sum(axis=-1), roll_est.sum(axis=-1)
    hits = (roll_ref & roll_est).sum(axis=-1)
    # As many errors as possible count as substitutions, so that one wrong label is one error, not two.
    return SegmentErrors((np.maximum(n_ref, n_est) - hits).sum(axis=-1), n_ref.sum(axis=-1))


def _activity(
    reference: EventTable, estimated: EventTable, segment_s: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the segments in which each label is active, two arrays `(clips, segments, labels)`."""
    tables = (reference, estimated)
    clips = max(int(table.clip.max(initial=-1)) for table in tables) + 1
    labels = max(int(table.label.max(initial=-1)) for table in tables) + 1
    segments = max(int(np.ceil(table.offset_s.max(initial=0.0) / segment_s)) for table in tables)
    reference_roll, estimated_roll = (
        _roll(table, (clips, segments + 1, labels), segment_s) for table in tables
    )
    return reference_roll, estimated_roll


def _roll(table: EventTable, shape: tuple[int, int, int], segment_s: float) -> NDArray[np.bool_]:
    """Return the segments in which each label of a table is active, in the given shape."""
    started, ended = (
        np.bincount(
            np.ravel_multi_index((table.clip, segment, table.label), shape), minlength=math.prod(shape)
        )
        for segment in _segments(table, shape[0], segment_s)
    )
    # Compute in place, because these are the largest arrays of a score.
    started -= ended
    active = started.reshape(shape)
    return np.asarray(np.cumsum(active, axis=1, out=active) > 0)


def _segments(table: EventTable, clips: int, segment_s: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first segment of each event and the one after its last, both `(events,)`."""
    ends_s = np.zeros(clips)
    np.maximum.at(ends_s, table.clip, table.offset_s)
    length = np.ceil(ends_s / segment_s).astype(np.int64)[table.clip]
    bounds = np.array([np.floor(table.onset_s / segment_s), np.ceil(table.offset_s / segment_s)], dtype=int)
    # Timestamps may begin before 0. sed_eval slices the clip's segments, so that negative times count from
    # the end.
    first, last = np.clip(np.where(bounds < 0, bounds + length, bounds), 0, length)
    return first, np.maximum(first, last)


def report_f_measure(reference: EventTable, estimated: EventTable, collar: Collar) -> DetailedScore:
    """Return sed_eval's F-measure, precision and recall.

    Raises:
        HearevalError: the F-measure differs from that of `event_f_measure`.
    """
    from sed_eval import metric
    from sed_eval.sound_event import EventBasedMetrics

    hits = 0.0
    # Events of different labels never match, so counts add up over labels. Given all labels at once, sed_eval
    # compares every event of a clip with every other one, which takes minutes for piano music.
    for label in np.union1d(reference.label, estimated.label):
        scorer = EventBasedMetrics(
            event_label_list=[_sed_eval_label(label)],
            evaluate_offset=collar.share_of_length is not None,
            t_collar=collar.onset_s,
            percentage_of_length=collar.share_of_length or 0.0,
        )
        for reference_clip, estimated_clip in _by_clip(
            reference.select(reference.label == label), estimated.select(estimated.label == label)
        ):
            scorer.evaluate(_sed_eval_events(reference_clip), _sed_eval_events(estimated_clip))
        hits += scorer.overall["Ntp"]
    precision = metric.precision(Ntp=hits, Nsys=len(estimated)) if len(estimated) else 0.0
    recall = metric.recall(Ntp=hits, Nref=len(reference))
    f_measure = float(metric.f_measure(precision, recall))
    _check_agreement("event F-measure", f_measure, event_f_measure(reference, estimated, collar))
    return DetailedScore(f_measure, {"precision": float(precision), "recall": float(recall)})


def report_error_rate(reference: EventTable, estimated: EventTable, segment_s: float = 1.0) -> DetailedScore:
    """Return sed_eval's error rate and its parts.

    Raises:
        HearevalError: the error rate differs from that of `segment_error_rate`.
    """
    from sed_eval.sound_event import SegmentBasedMetrics

    labels = [_sed_eval_label(label) for label in np.union1d(reference.label, estimated.label)]
    scorer = SegmentBasedMetrics(event_label_list=labels, time_resolution=segment_s)
    for reference_clip, estimated_clip in _by_clip(reference, estimated):
        scorer.evaluate(_sed_eval_events(reference_clip), _sed_eval_events(estimated_clip))
    # sed_eval would divide by almost 0. Events of no length at a segment's edge are in no segment.
    if scorer.overall["Nref"] == 0:
        return DetailedScore(float("nan"), {})
    rates = {name: float(value) for name, value in scorer.overall_error_rate().items()}
    error_rate = rates.pop("error_rate")
    _check_agreement("segment error rate", error_rate, segment_error_rate(reference, estimated, segment_s))
    return DetailedScore(error_rate, rates)


def _by_clip(reference: EventTable, estimated: EventTable) -> Iterator[tuple[EventTable, EventTable]]:
    for clip in np.union1d(reference.clip, estimated.clip):
        yield reference.select(reference.clip == clip), estimated.select(estimated.clip == clip)


def _sed_eval_events(table: EventTable) -> list[dict[str, Any]]:
    columns: Iterable[tuple[Any, ...]] = zip(table.label, table.onset_s, table.offset_s, strict=True)
    return [
        {"event_label": _sed_eval_label(label), "event_onset": float(onset), "event_offset": float(offset)}
        for label, onset, offset in columns
    ]


def _sed_eval_label(label: int) -> str:
    # dcase_util reads some labels ("none") as no label, so don't pass those of the vocabulary.
    return f"label {int(label)}"


def _check_agreement(what: str, sed_eval: float, ours: float) -> None:
    if abs(sed_eval - ours) > TOLERANCE or np.isnan(sed_eval) != np.isnan(ours):
        raise HearevalError(
            f"{what}: two computations disagree",
            got=f"{sed_eval!r} from sed_eval",
            expected=f"{ours!r}",
            remedy="Please report this with the predictions; don't trust the scores.",
        )


def resample_f_measure(
    reference: EventTable, estimated: EventTable, clips: int, collar: Collar
) -> BootstrapScorer:
    """Prepare `event_f_measure` of resamples. A matching never joins two clips, so each clip has its own."""
    matched = reference.clip[find_matched(reference, estimated, collar)]
    hits, expected, found = (
        count_per_clip(clip, clips) for clip in (matched, reference.clip, estimated.clip)
    )
    return resample_sums(ClipSums(2.0 * hits, expected + found, expected))


def resample_error_rate(reference: EventTable, estimated: EventTable, clips: int) -> BootstrapScorer:
    """Prepare `segment_error_rate` of resamples."""
    if len(reference) == 0:
        return resample_sums(ClipSums(*np.zeros((3, clips))))
    counted = count_segment_errors(reference, estimated)
    missing = (0, clips - len(counted.errors))
    errors, active = (np.pad(part, missing).astype(np.float64) for part in (counted.errors, counted.active))
    return resample_sums(ClipSums(errors, active, active))


def score_moved_events(
    reference: EventTable,
    estimated: EventTable,
    clips: int,
    common_label: int,
    *,
    function: Callable[[EventTable, EventTable], float],
    better: Callable[[float, float], float],
) -> float:
    """Return the chance level of a metric: the better of no events, and of events moved to other clips.

    All clips exchange their estimated events in a circle, by up to `MOVES` different numbers of places, and
    the scores are averaged. The clips of a split are in random order.

    Args:
        function: the metric.
        better: `max` or `min`.

    >>> table = EventTable(np.array([0, 1]), np.array([0, 0]), np.array([0.0, 500.0]), np.array([9.0, 600.0]))
    >>> score_moved_events(table, table, 2, 0, function=segment_error_rate, better=min)
    0.0
    """
    nothing = function(reference, estimated.select(np.zeros(len(estimated), dtype=bool)))
    places = np.unique(np.linspace(1, clips - 1, min(clips - 1, MOVES)).round().astype(int))
    moved = [
        function(reference, replace(estimated, clip=(estimated.clip + shift) % clips)) for shift in places
    ]
    return better(nothing, float(np.mean(moved))) if moved else nothing


def _f_measure(collar: Collar) -> Metric:
    function = functools.partial(event_f_measure, collar=collar)
    return Metric(
        "event",
        function,
        functools.partial(report_f_measure, collar=collar),
        functools.partial(resample_f_measure, collar=collar),
        functools.partial(score_moved_events, function=function, better=max),
        functools.partial(find_precision_and_recall, collar=collar),
    )


METRICS: Mapping[str, Metric] = {
    "event_onset_200ms_fms": _f_measure(Collar(onset_s=0.2)),
    "event_onset_50ms_fms": _f_measure(Collar(onset_s=0.05)),
    "event_onset_offset_50ms_20perc_fms": _f_measure(Collar(onset_s=0.05, share_of_length=0.2)),
    "segment_1s_er": Metric(
        "event",
        segment_error_rate,
        report_error_rate,
        resample_error_rate,
        functools.partial(score_moved_events, function=segment_error_rate, better=min),
        find_error_rates,
        maximise=False,
    ),
}
