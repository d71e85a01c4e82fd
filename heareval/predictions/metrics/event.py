"""Metrics of event tasks: reference and estimated events in, a score out.

The quick functions serve model selection. What is reported comes from sed_eval (Mesaros, Heittola,
Virtanen: Metrics for polyphonic sound event detection, Applied Sciences 6(6), 2016) and must agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from heareval.errors import HearevalError

AGREEMENT = 1e-9


@dataclass(frozen=True)
class EventTable:
    """Events of many clips, a row each.

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

    def rows(self, keep: NDArray[Any]) -> EventTable:
        """The rows that a mask or an index array names."""
        return EventTable(self.clip[keep], self.label[keep], self.onset_ms[keep], self.offset_ms[keep])

    @property
    def onset_s(self) -> NDArray[np.float64]:
        """Onsets in seconds, `(events,)`."""
        return self.onset_ms / 1000.0

    @property
    def offset_s(self) -> NDArray[np.float64]:
        """Offsets in seconds, `(events,)`."""
        return self.offset_ms / 1000.0


@dataclass(frozen=True)
class Collar:
    """How far an estimated event may be off.

    Args:
        onset_s: seconds between the onsets; a collar of the offsets too.
        share_of_length: offsets may differ by this share of the reference's length where that is more
            than the collar; None leaves offsets out.
    """

    onset_s: float
    share_of_length: float | None = None


@dataclass(frozen=True)
class Report:
    """A score and the numbers it is made of."""

    value: float
    details: dict[str, float]


def event_f_measure(reference: EventTable, estimated: EventTable, collar: Collar) -> float:
    """F-measure of a largest one-to-one matching of events, counted over all clips and labels.

    NaN without reference events; 0 without estimated ones, as sed_eval's "zero_score".
    """
    if len(reference) == 0:
        return float("nan")
    return 2.0 * true_positives(reference, estimated, collar) / (len(reference) + len(estimated))


def true_positives(reference: EventTable, estimated: EventTable, collar: Collar) -> int:
    """Size of a largest one-to-one matching of events of equal clip and label within the collar."""
    return int(np.count_nonzero(found_events(reference, estimated, collar)))


def found_events(reference: EventTable, estimated: EventTable, collar: Collar) -> NDArray[np.bool_]:
    """Which reference events have a partner in a largest one-to-one matching, `(reference events,)`."""
    if len(reference) == 0 or len(estimated) == 0:
        return np.zeros(len(reference), dtype=bool)
    pairs = _pairs_within(reference, estimated, collar)
    graph = csr_matrix((np.ones(len(pairs[0]), dtype=np.int8), pairs), shape=(len(reference), len(estimated)))
    return np.asarray(maximum_bipartite_matching(graph, perm_type="column") >= 0)


def _pairs_within(
    reference: EventTable, estimated: EventTable, collar: Collar
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (reference, estimated) of all pairs that may be matched, in one search."""
    # Every clip and label gets its own stretch of one line, too far from the next to meet it.
    onsets = np.concatenate([reference.onset_s, estimated.onset_s])
    stretch = np.ptp(onsets) + 4 * collar.onset_s + 1.0
    labels = int(max(reference.label.max(), estimated.label.max())) + 1
    where_ref = (reference.clip * labels + reference.label) * stretch + reference.onset_s
    where_est = (estimated.clip * labels + estimated.label) * stretch + estimated.onset_s
    order = np.argsort(where_est, kind="stable")
    # The line's numbers are rounded, so look a little further and let the exact rule decide below.
    reach = collar.onset_s * 1.001 + 1e-9 * where_est.max() + 1e-9
    first = np.searchsorted(where_est[order], where_ref - reach, side="left")
    last = np.searchsorted(where_est[order], where_ref + reach, side="right")
    counts = last - first
    ref = np.repeat(np.arange(len(reference)), counts)
    est = order[
        np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts) + np.repeat(first, counts)
    ]
    keep = _within(reference.rows(ref), estimated.rows(est), collar)
    return ref[keep], est[keep]


def _within(reference: EventTable, estimated: EventTable, collar: Collar) -> NDArray[np.bool_]:
    """Whether row i of one table may be matched with row i of the other; sed_eval's arithmetic."""
    near = (reference.clip == estimated.clip) & (reference.label == estimated.label)
    near &= np.abs(reference.onset_s - estimated.onset_s) <= collar.onset_s
    if collar.share_of_length is not None:
        length_s = reference.offset_s - reference.onset_s
        allowed_s = np.maximum(collar.onset_s, collar.share_of_length * length_s)
        near &= np.abs(reference.offset_s - estimated.offset_s) <= allowed_s
    return np.asarray(near)


def segment_error_rate(reference: EventTable, estimated: EventTable, segment_s: float = 1.0) -> float:
    """Substitutions, deletions and insertions per active reference label, in segments of `segment_s`.

    NaN without an active reference segment.
    """
    if len(reference) == 0:
        return float("nan")
    counts = segment_errors(reference, estimated, segment_s)
    active = counts.active.sum()
    return float(counts.errors.sum() / active) if active else float("nan")


@dataclass(frozen=True)
class SegmentErrors:
    """Of each clip, how many errors its segments hold and how many active reference labels, `(clips,)`.

    Clips after the last one with an event are left out.
    """

    errors: NDArray[np.int64]
    active: NDArray[np.int64]


def segment_errors(reference: EventTable, estimated: EventTable, segment_s: float = 1.0) -> SegmentErrors:
    """Substitutions, deletions and insertions, and active reference labels, of each clip."""
    roll_ref, roll_est = _activity(reference, estimated, segment_s)
    n_ref, n_est = roll_ref.sum(axis=-1), roll_est.sum(axis=-1)
    hits = (roll_ref & roll_est).sum(axis=-1)
    # Of the labels that differ, as many as possible count as one label taken for another.
    return SegmentErrors((np.maximum(n_ref, n_est) - hits).sum(axis=-1), n_ref.sum(axis=-1))


def _activity(
    reference: EventTable, estimated: EventTable, segment_s: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two arrays `(clips, segments, labels)`: which label sounds in which segment."""
    tables = (reference, estimated)
    clips = max(int(table.clip.max(initial=-1)) for table in tables) + 1
    labels = max(int(table.label.max(initial=-1)) for table in tables) + 1
    segments = max(int(np.ceil(table.offset_s.max(initial=0.0) / segment_s)) for table in tables)
    reference_roll, estimated_roll = (
        _roll(table, (clips, segments + 1, labels), segment_s) for table in tables
    )
    return reference_roll, estimated_roll


def _roll(table: EventTable, shape: tuple[int, int, int], segment_s: float) -> NDArray[np.bool_]:
    """Which label of a table sounds in which segment, in the shape given."""
    begun, over = (
        np.bincount(
            np.ravel_multi_index((table.clip, segment, table.label), shape), minlength=math.prod(shape)
        )
        for segment in _segments(table, shape[0], segment_s)
    )
    # In place: these are the largest arrays of a score.
    begun -= over
    sounding = begun.reshape(shape)
    return np.asarray(np.cumsum(sounding, axis=1, out=sounding) > 0)


def _segments(table: EventTable, clips: int, segment_s: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first segment of each event, and the one after its last, `(events,)`."""
    ends_s = np.zeros(clips)
    np.maximum.at(ends_s, table.clip, table.offset_s)
    length = np.ceil(ends_s / segment_s).astype(np.int64)[table.clip]
    bounds = np.array([np.floor(table.onset_s / segment_s), np.ceil(table.offset_s / segment_s)], dtype=int)
    # sed_eval takes slices of a clip's segments, where a time before 0 (timestamps may begin there) counts
    # from the end.
    first, last = np.clip(np.where(bounds < 0, bounds + length, bounds), 0, length)
    return first, np.maximum(first, last)


def report_f_measure(reference: EventTable, estimated: EventTable, collar: Collar) -> Report:
    """F-measure, precision and recall as sed_eval computes them, checked against `event_f_measure`."""
    from sed_eval import metric
    from sed_eval.sound_event import EventBasedMetrics

    hits = 0.0
    # Events of different labels never match, so counts add up over labels; in one go sed_eval compares
    # every event of a clip with every other, which takes it minutes for piano music.
    for label in np.union1d(reference.label, estimated.label):
        judge = EventBasedMetrics(
            event_label_list=[_sed_eval_label(label)],
            evaluate_offset=collar.share_of_length is not None,
            t_collar=collar.onset_s,
            percentage_of_length=collar.share_of_length or 0.0,
        )
        for ours, theirs in _by_clip(
            reference.rows(reference.label == label), estimated.rows(estimated.label == label)
        ):
            judge.evaluate(_sed_eval_events(ours), _sed_eval_events(theirs))
        hits += judge.overall["Ntp"]
    precision = metric.precision(Ntp=hits, Nsys=len(estimated)) if len(estimated) else 0.0
    recall = metric.recall(Ntp=hits, Nref=len(reference))
    f_measure = float(metric.f_measure(precision, recall))
    _check_agreement("event F-measure", f_measure, event_f_measure(reference, estimated, collar))
    return Report(f_measure, {"precision": float(precision), "recall": float(recall)})


def report_error_rate(reference: EventTable, estimated: EventTable, segment_s: float = 1.0) -> Report:
    """Error rate and its parts as sed_eval computes them, checked against `segment_error_rate`."""
    from sed_eval.sound_event import SegmentBasedMetrics

    labels = [_sed_eval_label(label) for label in np.union1d(reference.label, estimated.label)]
    judge = SegmentBasedMetrics(event_label_list=labels, time_resolution=segment_s)
    for ours, theirs in _by_clip(reference, estimated):
        judge.evaluate(_sed_eval_events(ours), _sed_eval_events(theirs))
    # sed_eval then divides by almost 0. Events without a length, on the second, are in no segment.
    if judge.overall["Nref"] == 0:
        return Report(float("nan"), {})
    rates = {name: float(value) for name, value in judge.overall_error_rate().items()}
    error_rate = rates.pop("error_rate")
    _check_agreement("segment error rate", error_rate, segment_error_rate(reference, estimated, segment_s))
    return Report(error_rate, rates)


def _by_clip(reference: EventTable, estimated: EventTable) -> Iterator[tuple[EventTable, EventTable]]:
    for clip in np.union1d(reference.clip, estimated.clip):
        yield reference.rows(reference.clip == clip), estimated.rows(estimated.clip == clip)


def _sed_eval_events(table: EventTable) -> list[dict[str, Any]]:
    columns: Iterable[tuple[Any, ...]] = zip(table.label, table.onset_s, table.offset_s, strict=True)
    return [
        {"event_label": _sed_eval_label(label), "event_onset": float(onset), "event_offset": float(offset)}
        for label, onset, offset in columns
    ]


def _sed_eval_label(label: int) -> str:
    # dcase_util reads some names ("none") as no label at all, so the vocabulary's own are not used.
    return f"label {int(label)}"


def _check_agreement(what: str, theirs: float, ours: float) -> None:
    if abs(theirs - ours) > AGREEMENT or np.isnan(theirs) != np.isnan(ours):
        raise HearevalError(
            f"{what}: two computations disagree",
            got=f"{theirs!r} from sed_eval",
            expected=f"{ours!r}",
            remedy="Please report this with the predictions; the scores can't be trusted.",
        )
