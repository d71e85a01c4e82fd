"""What lies behind a score, from the predictions that an evaluation left: labels, clips and events."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval.predictions.bootstrap import Judged
from heareval.predictions.events import THRESHOLD
from heareval.predictions.metrics import find_metric
from heareval.predictions.metrics.clip import average_precisions, roc_aucs
from heareval.predictions.metrics.event import EventTable
from heareval.predictions.stored import Stored, StoredFold

# Probabilities this near to 0 and 1 count as this near in a cross entropy, which would be infinite.
LEAST_PROBABILITY = 1e-7
# How many labels are told of what was predicted for a clip.
LIKELIEST = 3


@dataclass(frozen=True)
class LabelScores:
    """How well one label is found.

    Args:
        support: how many tested clips, or events, have the label.
        predicted: how many were said to have it.
        scores: by name; NaN where undefined.
    """

    label: str
    support: int
    predicted: int
    scores: Mapping[str, float]


@dataclass(frozen=True)
class ClipScore:
    """How badly one clip went.

    Args:
        score: in the measure that clips are ranked by.
        truth: its labels.
        said: what was predicted, with probabilities, the likeliest first; of events how many there are.
    """

    split: str
    clip: str
    score: float
    truth: tuple[str, ...]
    said: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ClipRanking:
    """The tested clips, the worst first.

    Args:
        measure: what the clips are ranked by.
        high_is_bad: whether the worst have the most of it.
    """

    measure: str
    high_is_bad: bool
    clips: tuple[ClipScore, ...]


@dataclass(frozen=True)
class Sounding:
    """An event of a timeline."""

    label: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True)
class Timeline:
    """What sounds in a clip, and what was predicted to."""

    split: str
    clip: str
    truth: tuple[Sounding, ...]
    said: tuple[Sounding, ...]


def label_scores(stored: Stored) -> tuple[LabelScores, ...]:
    """How well each label of the vocabulary is found, over all tested clips."""
    judge = _event_labels if stored.task.is_event else _clip_labels
    return judge(stored)


def _clip_labels(stored: Stored) -> tuple[LabelScores, ...]:
    """Precision and recall over all clips; where clips are ranked, the mean over folds, each on its own."""
    folds = [fold.judged for fold in stored.runs[0]]
    truth = np.concatenate([fold.truth for fold in folds]).astype(bool)
    said = np.concatenate([decided(fold.said, is_multilabel=stored.task.is_multilabel) for fold in folds])
    hits, support, predicted = (truth & said).sum(axis=0), truth.sum(axis=0), said.sum(axis=0)
    columns = {
        "precision": _share(hits, predicted),
        "recall": _share(hits, support),
        "f1": _share(2 * hits, support + predicted),
        "average_precision": _over_folds(folds, _defined_average_precisions),
        "roc_auc": _over_folds(folds, roc_aucs),
    }
    return tuple(
        LabelScores(
            label,
            int(support[i]),
            int(predicted[i]),
            {name: float(column[i]) for name, column in columns.items()},
        )
        for i, label in enumerate(stored.task.labels)
    )


def decided(probabilities: NDArray[np.floating[Any]], *, is_multilabel: bool) -> NDArray[np.bool_]:
    """What is said of each clip, `(clips, labels)`: labels above one half, or the one most likely.

    >>> decided(np.array([[0.2, 0.7], [0.3, 0.4]]), is_multilabel=False).tolist()
    [[False, True], [False, True]]
    """
    if is_multilabel:
        return np.asarray(probabilities > THRESHOLD)
    return np.asarray(np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None])


def _defined_average_precisions(targets: Any, predictions: Any) -> NDArray[np.float64]:
    return np.where(targets.any(axis=0), average_precisions(targets, predictions), np.nan)


def _over_folds(folds: list[Judged], score: Callable[[Any, Any], NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over the folds in which a label's score is defined, `(labels,)`."""
    found = np.stack([score(fold.truth, fold.said) for fold in folds])
    return _share(np.nansum(found, axis=0), (~np.isnan(found)).sum(axis=0))


def _share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    shares = np.full(part.shape, np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _event_labels(stored: Stored) -> tuple[LabelScores, ...]:
    """The task's own metrics of each label's events, over the clips of all folds."""
    truth, said = _all_events(stored.runs[0])
    found = []
    for index, label in enumerate(stored.task.labels):
        mine, theirs = truth.rows(truth.label == index), said.rows(said.label == index)
        scores = {name: find_metric(name).function(mine, theirs) for name in stored.results["scores"]}
        found.append(LabelScores(label, len(mine), len(theirs), scores))
    return tuple(found)


def _all_events(run: tuple[StoredFold, ...]) -> tuple[EventTable, EventTable]:
    """Reference and estimated events of all folds, their clips counted on from fold to fold."""
    folds = [fold.judged for fold in run]
    before = np.cumsum([0, *(fold.clips for fold in folds)])
    tables = []
    for each in ([fold.truth for fold in folds], [fold.said for fold in folds]):
        clip = np.concatenate([table.clip + first for table, first in zip(each, before, strict=False)])
        rest = (np.concatenate([getattr(table, name) for table in each]) for name in EVENT_COLUMNS)
        tables.append(EventTable(clip, *rest))
    return tables[0], tables[1]


EVENT_COLUMNS = ("label", "onset_ms", "offset_ms")


def confusion(stored: Stored) -> NDArray[np.int64] | None:
    """How often each label (row) was taken for each (column), `(labels, labels)`; multiclass tasks only."""
    if stored.task.is_multilabel:
        return None
    counts = np.zeros((len(stored.task.labels),) * 2, dtype=np.int64)
    for fold in stored.runs[0]:
        np.add.at(counts, (fold.judged.truth.argmax(axis=1), fold.judged.said.argmax(axis=1)), 1)
    return counts


@dataclass(frozen=True)
class _Measure:
    """What clips are ranked by, `(clips,)`; NaN where nothing can be said against a clip."""

    name: str
    high_is_bad: bool
    of_clips: Callable[[Judged], NDArray[np.float64]]


def ranked_clips(stored: Stored) -> ClipRanking:
    """All tested clips that something can be said against, the worst first."""
    measure = _event_measure(stored) if stored.task.is_event else _clip_measure(stored)
    clips = [each for fold in stored.runs[0] for each in _scored_clips(stored, fold, measure)]
    clips.sort(key=lambda each: each.score, reverse=measure.high_is_bad)
    return ClipRanking(measure.name, measure.high_is_bad, tuple(clips))


def _clip_measure(stored: Stored) -> _Measure:
    if stored.task.is_multilabel:
        return _Measure("cross entropy", True, _cross_entropies)
    return _Measure("probability of its label", False, lambda fold: (fold.truth * fold.said).sum(axis=1))


def _cross_entropies(fold: Judged) -> NDArray[np.float64]:
    """The binary cross entropy of each clip, the mean over labels."""
    said = np.clip(fold.said.astype(np.float64), LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    return np.asarray(-np.log(np.where(fold.truth, said, 1.0 - said)).mean(axis=1))


def _event_measure(stored: Stored) -> _Measure:
    """The task's first metric of each clip; a clip without events, true or said, has none."""
    name = next(iter(stored.results["scores"]))
    metric = find_metric(name)

    def of_clips(fold: Judged) -> NDArray[np.float64]:
        # Every event metric is a ratio of sums over clips.
        sums = metric.redraw(fold.truth, fold.said, fold.clips).sums
        return _share(sums.numerator, sums.denominator) if sums else np.full(fold.clips, math.nan)

    return _Measure(name, not metric.maximise, of_clips)


def _scored_clips(stored: Stored, fold: StoredFold, measure: _Measure) -> list[ClipScore]:
    judged = fold.judged
    tell = _told_events if stored.task.is_event else _told_labels
    return [
        ClipScore(fold.split, clip, float(value), *tell(stored.task.labels, judged, row))
        for row, (clip, value) in enumerate(
            zip(fold.predictions.clips, measure.of_clips(judged), strict=True)
        )
        if not math.isnan(value)
    ]


def _told_labels(
    labels: tuple[str, ...], fold: Judged, row: int
) -> tuple[tuple[str, ...], tuple[tuple[str, float], ...]]:
    said = fold.said[row]
    likeliest = np.argsort(-said, kind="stable")[:LIKELIEST]
    return (
        tuple(labels[i] for i in np.flatnonzero(fold.truth[row])),
        tuple((labels[i], float(said[i])) for i in likeliest),
    )


def _told_events(
    labels: tuple[str, ...], fold: Judged, row: int
) -> tuple[tuple[str, ...], tuple[tuple[str, float], ...]]:
    heard, said = (
        np.unique(table.label[table.clip == row], return_counts=True) for table in (fold.truth, fold.said)
    )
    return tuple(labels[i] for i in heard[0]), tuple(
        (labels[i], float(count)) for i, count in zip(*said, strict=True)
    )


def timeline(stored: Stored, split: str, clip: str) -> Timeline:
    """What sounds in a clip of an event task, and what was predicted to."""
    fold = next(fold for fold in stored.runs[0] if fold.split == split)
    row, judged = fold.predictions.clips.index(clip), fold.judged
    truth, said = (
        tuple(
            Sounding(stored.task.labels[label], float(onset), float(offset))
            for label, onset, offset in zip(mine.label, mine.onset_ms, mine.offset_ms, strict=True)
        )
        for mine in (table.rows(table.clip == row) for table in (judged.truth, judged.said))
    )
    return Timeline(split, clip, truth, said)
