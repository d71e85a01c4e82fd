"""Event tasks: one embedding per frame, and events with onset, offset and label as predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heareval import layout
from heareval.errors import HearevalError
from heareval.formats.embeddings_folder import EMBED_AGAIN, open_timestamps
from heareval.formats.results_folder import EVALUATE_AGAIN, SplitPredictions
from heareval.predictions.bootstrap import RESAMPLES, ScoredSplit, draw_counts
from heareval.predictions.data import Split, SplitOrder
from heareval.predictions.events import (
    Postprocessing,
    choose_postprocessing,
    expand_postprocessing_grid,
    find_events,
)
from heareval.predictions.kinds.kind import (
    LABEL_SEED,
    ClipEvents,
    ClipLabels,
    ClipMeasure,
    LabelScores,
    Probabilities,
    TimelineEvent,
    TrainedKind,
    check_finite,
    divide_where_positive,
    interval_of_label,
)
from heareval.predictions.metrics import find_metric
from heareval.predictions.metrics.event import EventTable
from heareval.predictions.results import LabelPredictions, Score, Validation
from heareval.predictions.rows import Rows

# A frame at an event's end belongs to the event. The evaluation of 2021 looked frames up in half-open
# intervals that it made this much longer.
END_MARGIN_MS = 0.0001


@dataclass(frozen=True)
class EventSplit(Split):
    """A split with what event tasks add.

    Args:
        timestamps_ms: `(clips, timestamps)` milliseconds.
        events: the reference events.
    """

    timestamps_ms: NDArray[np.float64]
    events: EventTable


@dataclass(frozen=True)
class EventPredictions(LabelPredictions):
    """Predictions with what event tasks need to score them.

    Args:
        timestamps_ms: `(clips, timestamps)` milliseconds.
        events: the reference events.
        postprocessing: what turns frames into events.
    """

    timestamps_ms: NDArray[np.float64]
    events: EventTable
    postprocessing: Postprocessing


class EventKind(TrainedKind[EventSplit, EventPredictions]):
    """Tasks with one embedding per frame."""

    name = "event"
    predicted_unit = "events"
    has_frames = True

    def make_split(self, order: SplitOrder, x: Rows) -> EventSplit:
        timestamps_ms = self._read_timestamps(order, len(x) // len(order.clips))
        events = make_event_table(order, self.task.labels)
        y = label_frames(events, timestamps_ms, len(self.task.labels))
        y_rows = torch.from_numpy(y).flatten(0, 1).to(x.device)
        return EventSplit(order.name, order.clip_names, x, y_rows, timestamps_ms, events)

    def _read_timestamps(self, order: SplitOrder, frames: int) -> NDArray[np.float64]:
        """Return the timestamps of the clips in their order, `(clips, timestamps)` milliseconds."""
        path = self.task.folder / layout.split_timestamps(order.name)
        array = open_timestamps(self.task.folder, order.name, clips=len(order.clips))
        expected = (len(order.clips), frames)
        if array.shape != expected:
            raise HearevalError(
                f"{path}",
                got=f"shape {array.shape}",
                expected=f"{expected}, as for the embeddings",
                remedy=EMBED_AGAIN,
            )
        timestamps_ms = np.asarray(array, dtype=np.float64)[order.rows]
        is_finite = np.isfinite(timestamps_ms).all(axis=1)
        bad = ~(is_finite & (np.diff(timestamps_ms, axis=1) > 0).all(axis=1))
        if bad.any():
            raise HearevalError(
                f"timestamps of {order.name}/{order.clips[int(bad.argmax())].name} in {path}",
                expected="numbers that increase along the clip",
                remedy=EMBED_AGAIN,
            )
        return timestamps_ms

    def targets(self, split: EventSplit) -> NDArray[np.uint8]:
        return self.shape_rows(split, split.y).astype(np.uint8)

    def mark_labels(self, order: SplitOrder) -> NDArray[np.bool_]:
        events = make_event_table(order, self.task.labels)
        marks = np.zeros((len(order.clips), len(self.task.labels)), dtype=bool)
        marks[events.clip, events.label] = True
        return marks

    # ----------------------------------------------------------------------- predictions and scores

    def shape_rows(self, split: EventSplit, rows: Tensor) -> NDArray[np.float32]:
        return np.asarray(rows.cpu().numpy().reshape(*split.timestamps_ms.shape, len(self.task.labels)))

    @property
    def postprocessings(self) -> tuple[Postprocessing, ...]:
        return expand_postprocessing_grid(self.task.metadata.postprocessing_grid)

    def make_validator(self, valid: EventSplit) -> Callable[[Probabilities], Validation]:
        metric, grid = find_metric(self.task.metrics[0]), self.postprocessings

        def validate(probabilities: Probabilities) -> Validation:
            best = choose_postprocessing(
                probabilities,
                valid.timestamps_ms,
                grid,
                lambda estimated: metric.function(valid.events, estimated),
                maximise=metric.maximise,
            )
            return Validation(best.score, best.postprocessing)

        return validate

    def predict(
        self, split: EventSplit, probabilities: NDArray[np.float32], postprocessing: Postprocessing | None
    ) -> EventPredictions:
        check_finite(split, probabilities)
        if postprocessing is None:
            raise ValueError("predictions of events need a postprocessing, which validation chooses")
        return EventPredictions(
            split.clips, self.targets(split), probabilities, split.timestamps_ms, split.events, postprocessing
        )

    def prepare_scoring(self, predictions: EventPredictions) -> ScoredSplit:
        estimated = find_events(
            predictions.probabilities, predictions.timestamps_ms, predictions.postprocessing
        )
        return ScoredSplit(len(predictions.clips), predictions.events, estimated)

    def score(self, split_name: str, predictions: EventPredictions) -> tuple[Score, ...]:
        scored = self.prepare_scoring(predictions)
        return tuple(_score(name, split_name, scored) for name in self.task.metrics)

    def describe_missing(self, valid: EventSplit, metric: str) -> str:
        # Predictions that equal the reference have a score, unless the reference leaves it undefined.
        is_defined = not math.isnan(find_metric(metric).function(valid.events, valid.events))
        return "" if is_defined else "reference events of some length"

    # ----------------------------------------------------------------------- stored predictions

    def to_stored(self, predictions: Sequence[EventPredictions]) -> SplitPredictions:
        first = predictions[0]
        chosen = [each.postprocessing for each in predictions]
        return SplitPredictions(
            first.clips,
            first.targets,
            np.stack([each.probabilities for each in predictions]),
            first.timestamps_ms,
            {
                "median_filter_ms": np.array([one.median_filter_ms for one in chosen], dtype=np.float64),
                "min_duration_ms": np.array([one.min_duration_ms for one in chosen], dtype=np.float64),
            },
        )

    def from_stored(self, order: SplitOrder, stored: SplitPredictions, seed: int) -> EventPredictions:
        timestamps_ms = self._stored_timestamps(order, stored)
        values = {name: float(column[seed]) for name, column in stored.postprocessing.items()}
        return EventPredictions(
            stored.clips,
            stored.targets,
            stored.predictions[seed],
            timestamps_ms,
            make_event_table(order, self.task.labels),
            Postprocessing(**values),
        )

    def _stored_timestamps(self, order: SplitOrder, stored: SplitPredictions) -> NDArray[np.float64]:
        names = {"median_filter_ms", "min_duration_ms"}
        if stored.timestamps_ms is None or set(stored.postprocessing) != names:
            raise HearevalError(
                f"predictions for {order.name} in {self.task.folder}",
                got="no timestamps or no postprocessing",
                expected="those of an event task",
                remedy=EVALUATE_AGAIN,
            )
        return stored.timestamps_ms

    def stored_targets(self, order: SplitOrder, stored: SplitPredictions) -> NDArray[np.uint8]:
        timestamps_ms, events = (
            self._stored_timestamps(order, stored),
            make_event_table(order, self.task.labels),
        )
        return label_frames(events, timestamps_ms, len(self.task.labels)).astype(np.uint8)

    def stored_shape(self, order: SplitOrder) -> tuple[int | None, ...]:
        # The number of timestamps isn't checked against the embeddings, which may have been removed.
        return (len(order.clips), None, len(self.task.labels))

    # ----------------------------------------------------------------------- diagnostics

    def score_labels(self, folds: Sequence[ScoredSplit]) -> tuple[LabelScores, ...]:
        """Return the task's metrics on each label's events, over the clips of all folds."""
        reference = _join_tables([fold.reference for fold in folds], folds)
        estimated = _join_tables([fold.predicted for fold in folds], folds)
        counts = _draw_clips(folds)
        plotted = find_metric(self.plotted_score)
        scores = []
        for index, label in enumerate(self.task.labels):
            true, found = (table.select(table.label == index) for table in (reference, estimated))
            by_metric = {name: find_metric(name).function(true, found) for name in self.task.metrics}
            interval = interval_of_label(plotted.resample(true, found, len(counts)).scores(counts))
            scores.append(LabelScores(label, len(true), len(found), by_metric, interval))
        return tuple(scores)

    @property
    def averaging(self) -> Mapping[str, str]:
        pooled = dict.fromkeys(self.task.metrics, "over the events of all folds together")
        return {**pooled, "interval_95": f"of {self.plotted_score}: bootstrap over the test clips"}

    @property
    def plotted_score(self) -> str:
        return self.task.metrics[0]

    @property
    def clip_measure(self) -> ClipMeasure:
        """Return the task's first metric; clips without reference and estimated events are left out."""
        name = self.task.metrics[0]
        metric = find_metric(name)

        def score_clips(fold: ScoredSplit) -> NDArray[np.float64]:
            # Every event metric is a ratio of sums over clips.
            sums = metric.resample(fold.reference, fold.predicted, fold.clips).sums
            if sums is None:
                return np.full(fold.clips, math.nan)
            return divide_where_positive(sums.numerator, sums.denominator)

        return ClipMeasure(name, not metric.maximise, score_clips)

    def describe_clip(self, fold: ScoredSplit, row: int) -> ClipLabels:
        reference, predicted = (
            np.unique(table.label[table.clip == row], return_counts=True)
            for table in (fold.reference, fold.predicted)
        )
        labels = self.task.labels
        return ClipLabels(
            tuple(labels[i] for i in reference[0]),
            tuple((labels[i], float(count)) for i, count in zip(*predicted, strict=True)),
        )

    def list_events(self, fold: ScoredSplit, row: int) -> ClipEvents:
        return ClipEvents(*(self._list_events(table, row) for table in (fold.reference, fold.predicted)))

    def _list_events(self, table: EventTable, row: int) -> tuple[TimelineEvent, ...]:
        of_clip = table.select(table.clip == row)
        return tuple(
            TimelineEvent(self.task.labels[label], float(onset_ms), float(offset_ms))
            for label, onset_ms, offset_ms in zip(
                of_clip.label, of_clip.onset_ms, of_clip.offset_ms, strict=True
            )
        )


def _score(name: str, split_name: str, scored: ScoredSplit) -> Score:
    detailed = find_metric(name).report(scored.reference, scored.predicted)
    missing = "no reference events" + (" of some length" if len(scored.reference) else "")
    problem = f"{name} is undefined on {split_name}: {missing}"
    return Score(name, detailed.value, detailed.details, (problem,) if math.isnan(detailed.value) else ())


def _draw_clips(folds: Sequence[ScoredSplit]) -> NDArray[np.int32]:
    """Return how often each resample holds each clip, `(clips of all folds, resamples)`; folds keep their
    sizes.
    """
    drawn = []
    for number, fold in enumerate(folds):
        rng = np.random.default_rng([LABEL_SEED, number])
        drawn.append(np.concatenate(list(draw_counts(fold.clips, RESAMPLES, rng)), axis=1))
    return np.concatenate(drawn)


def _join_tables(tables: Sequence[EventTable], folds: Sequence[ScoredSplit]) -> EventTable:
    """Return one table of all folds' events; clip numbers continue from fold to fold."""
    first_clips = np.cumsum([0, *(fold.clips for fold in folds)])
    return EventTable(
        np.concatenate([table.clip + first for table, first in zip(tables, first_clips, strict=False)]),
        np.concatenate([table.label for table in tables]),
        np.concatenate([table.onset_ms for table in tables]),
        np.concatenate([table.offset_ms for table in tables]),
    )


def make_event_table(order: SplitOrder, labels: Sequence[str]) -> EventTable:
    """Return the reference events of a split, with the clips numbered in their order.

    Args:
        labels: the vocabulary, which holds every label of the events.
    """
    indices = {label: index for index, label in enumerate(labels)}
    rows = [
        (clip, indices[str(event.label)], event.onset_ms, event.offset_ms)
        for clip, labeled in enumerate(order.clips)
        for event in labeled.events
    ]
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return EventTable(columns[0].astype(int), columns[1].astype(int), columns[2], columns[3])


def label_frames(events: EventTable, timestamps_ms: NDArray[np.float64], labels: int) -> NDArray[np.float32]:
    """Return the labels of each frame, `(clips, timestamps, labels)`: 1 where an event covers the timestamp.

    Args:
        events: the reference events. Both ends of an event belong to it.
        timestamps_ms: `(clips, timestamps)` milliseconds, increasing along each clip.
        labels: size of the vocabulary.

    >>> events = EventTable(np.array([0]), np.array([0]), np.array([50.0]), np.array([100.0]))
    >>> label_frames(events, np.array([[0.0, 50.0, 100.0, 150.0]]), 1).ravel().tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    y = np.zeros((*timestamps_ms.shape, labels), dtype=np.float32)
    for clip, times_ms in enumerate(timestamps_ms):
        of_clip = events.select(events.clip == clip)
        first = np.searchsorted(times_ms, of_clip.onset_ms, side="left")
        last = np.searchsorted(times_ms, of_clip.offset_ms + END_MARGIN_MS, side="left")
        for label, start, stop in zip(of_clip.label, first, last, strict=True):
            y[clip, start:stop, label] = 1.0
    return y
