"""The interface of the kinds of tasks, and the types that kinds share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from heareval import layout
from heareval.errors import HearevalError
from heareval.formats.results_folder import (
    EVALUATE_AGAIN,
    SplitPredictions,
    read_predictions,
    write_predictions,
)
from heareval.formats.scores import ResampledUnits, Scores
from heareval.predictions.bootstrap import ScoredSplit, confidence_interval
from heareval.predictions.data import Split, SplitOrder, Task
from heareval.predictions.events import Postprocessing
from heareval.predictions.metrics import METRICS, find_metric
from heareval.predictions.results import LabelPredictions, Predictions, Score, Validation
from heareval.predictions.rows import Rows

Probabilities = NDArray[np.floating[Any]]
SplitT = TypeVar("SplitT", bound=Split)
PredictionsT = TypeVar("PredictionsT", bound=Predictions)
LabelPredictionsT = TypeVar("LabelPredictionsT", bound=LabelPredictions)
# Seed of the bootstrap resamples behind the intervals of labels.
LABEL_SEED = 0


@dataclass(frozen=True)
class LabelScores:
    """The performance on one label.

    Args:
        support: number of tested clips, or events, with the label.
        predicted: number of clips, or events, for which the label was predicted.
        scores: by name; NaN where undefined.
        interval_95: ends of the 95 % interval of the score that is plotted; None if it has none.
    """

    label: str
    support: int
    predicted: int
    scores: Mapping[str, float]
    interval_95: tuple[float, float] | None = None


@dataclass(frozen=True)
class ClipMeasure:
    """A number by which clips are ranked in reports.

    Args:
        name: name of the number.
        high_is_bad: whether the worst clips have the highest number.
        of_clips: computes the number of each clip, `(clips,)`; NaN leaves a clip out.
    """

    name: str
    high_is_bad: bool
    of_clips: Callable[[ScoredSplit], NDArray[np.float64]]


@dataclass(frozen=True)
class ClipLabels:
    """The labels of one clip.

    Args:
        reference: the true labels.
        predicted: predicted labels with a number each: the probability, or how many events there are.
    """

    reference: tuple[str, ...]
    predicted: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class TimelineEvent:
    """An event on a timeline."""

    label: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True)
class ClipEvents:
    """The reference events and the predicted events of one clip."""

    reference: tuple[TimelineEvent, ...]
    predicted: tuple[TimelineEvent, ...]


@dataclass(frozen=True)
class Kind(ABC, Generic[PredictionsT]):
    """What scoring and storing need to know about one kind of tasks.

    Each kind is a subclass in a file of this folder.

    Predictions pass through the evaluation without being looked into. Each kind may add fields to them, which
    only its own methods read.
    """

    task: Task

    # Name of the kind, as in `Metric.kind`.
    name: ClassVar[str]
    # Whether the embeddings are those of frames, which hold events, instead of whole clips.
    has_frames: ClassVar[bool] = False

    def mark_labels(self, order: SplitOrder) -> NDArray[np.bool_]:
        """Return which labels each clip of a split has, `(clips, labels)`."""
        return np.zeros((len(order.clips), len(self.task.labels)), dtype=bool)

    @property
    def resampled_units(self) -> ResampledUnits | None:
        """Return what confidence intervals resample; None, the default, means the test clips."""
        return None

    # ----------------------------------------------------------------------- scores

    @abstractmethod
    def prepare_scoring(self, predictions: PredictionsT) -> ScoredSplit:
        """Return what metrics need to score predictions."""

    @abstractmethod
    def score(self, split_name: str, predictions: PredictionsT) -> tuple[Score, ...]:
        """Return the scores of all metrics of the task, as published."""

    def check_metrics(self) -> None:
        """Raise HearevalError if a metric of the task is unknown or scores another kind of tasks."""
        for name in self.task.metrics:
            if find_metric(name).kind != self.name:
                fitting = ", ".join(each for each, metric in METRICS.items() if metric.kind == self.name)
                raise HearevalError(f"metric {name} of task {self.task.name}", expected=f"one of {fitting}")

    # ----------------------------------------------------------------------- stored predictions

    @abstractmethod
    def write_stored(
        self, folder: Path, protocol: str, fingerprint: str, splits: Mapping[str, Sequence[PredictionsT]]
    ) -> None:
        """Write the predictions of all seeds into a folder.

        Args:
            fingerprint: fingerprint of the results.
            splits: by tested split.
        """

    @abstractmethod
    def read_stored(self, folder: Path, scores: Scores) -> Mapping[str, Sequence[PredictionsT]]:
        """Return the predictions that belong to scores, of all seeds, by tested split.

        Args:
            folder: the folder of the scores, which need not be that of the task.

        Raises:
            HearevalError: the file is missing or damaged, or doesn't belong to the scores or to the clips.
        """

    def find_order(self, split: str) -> SplitOrder:
        """Return the clips of a split."""
        return next(order for order in self.task.orders if order.name == split)


@dataclass(frozen=True)
class TrainedKind(Kind[LabelPredictionsT], Generic[SplitT, LabelPredictionsT]):
    """A kind of tasks whose labels a trained predictor predicts.

    Splits pass through the evaluation without being looked into, like predictions.
    """

    # What the numbers of `ClipLabels.predicted` are.
    predicted_unit: ClassVar[str] = "probability"

    # ----------------------------------------------------------------------- targets

    @abstractmethod
    def make_split(self, order: SplitOrder, x: Rows) -> SplitT:
        """Return a split with its embeddings and targets.

        Args:
            x: the embeddings, `(rows, dim)`.
        """

    @abstractmethod
    def targets(self, split: SplitT) -> NDArray[np.uint8]:
        """Return the targets of a split as 0 and 1, in the shape of its probabilities."""

    # ----------------------------------------------------------------------- predictions

    @abstractmethod
    def shape_rows(self, split: SplitT, rows: Tensor) -> NDArray[np.float32]:
        """Return probabilities `(rows, labels)` with an axis for clips."""

    @abstractmethod
    def make_validator(self, valid: SplitT) -> Callable[[Probabilities], Validation]:
        """Return a function that scores probabilities of a validation split by the task's first metric."""

    @abstractmethod
    def predict(
        self, split: SplitT, probabilities: NDArray[np.float32], postprocessing: Postprocessing | None
    ) -> LabelPredictionsT:
        """Return the predictions that follow from probabilities of a split.

        Args:
            postprocessing: the postprocessing that was chosen on the validation split.
        """

    @abstractmethod
    def describe_missing(self, valid: SplitT, metric: str) -> str:
        """Return what a validation split lacks to make a metric defined, "" if it lacks nothing."""

    @property
    def postprocessings(self) -> tuple[Postprocessing, ...]:
        """Return the postprocessings among which validation chooses; none by default."""
        return ()

    # ----------------------------------------------------------------------- stored predictions

    @abstractmethod
    def to_stored(self, predictions: Sequence[LabelPredictionsT]) -> SplitPredictions:
        """Return the predictions of all seeds for one split as they are written."""

    @abstractmethod
    def from_stored(self, order: SplitOrder, stored: SplitPredictions, seed: int) -> LabelPredictionsT:
        """Return the predictions of one seed as they were before they were written.

        Args:
            seed: number of the seed, from 0.
        """

    @abstractmethod
    def stored_targets(self, order: SplitOrder, stored: SplitPredictions) -> NDArray[np.uint8]:
        """Return the targets that stored predictions must have, by the labels of the clips."""

    @abstractmethod
    def stored_shape(self, order: SplitOrder) -> tuple[int | None, ...]:
        """Return the shape of a split's targets; None is an axis of any length."""

    def write_stored(
        self, folder: Path, protocol: str, fingerprint: str, splits: Mapping[str, Sequence[LabelPredictionsT]]
    ) -> None:
        stored = {split: self.to_stored(of_seeds) for split, of_seeds in splits.items()}
        write_predictions(folder, protocol, fingerprint, stored)

    def read_stored(self, folder: Path, scores: Scores) -> Mapping[str, Sequence[LabelPredictionsT]]:
        orders = {fold.test: self.find_order(fold.test) for fold in scores.runs[0].folds}
        shapes = {split: self.stored_shape(order) for split, order in orders.items()}
        found = {}
        for split, stored in read_predictions(folder, scores, shapes).items():
            order = orders[split]
            where = f"of {split} in {folder / layout.predictions(scores.protocol)}"
            check_stored_clips(order, order.clip_names, stored.clips, where)
            if not np.array_equal(stored.targets, self.stored_targets(order, stored)):
                expected = f"those of {layout.split_json(split)}"
                raise HearevalError(
                    f"targets {where}", got="other labels", expected=expected, remedy=EVALUATE_AGAIN
                )
            found[split] = [self.from_stored(order, stored, seed) for seed in range(len(scores.runs))]
        return found

    # ----------------------------------------------------------------------- diagnostics

    @abstractmethod
    def score_labels(self, folds: Sequence[ScoredSplit]) -> tuple[LabelScores, ...]:
        """Return the scores of each label of the vocabulary over all tested clips."""

    @property
    @abstractmethod
    def averaging(self) -> Mapping[str, str]:
        """Return how folds and labels are put together in each label score, as reports say it."""

    @property
    @abstractmethod
    def plotted_score(self) -> str:
        """Return the name of the label score that reports plot."""

    @property
    @abstractmethod
    def clip_measure(self) -> ClipMeasure:
        """Return the number by which reports rank clips."""

    @abstractmethod
    def describe_clip(self, fold: ScoredSplit, row: int) -> ClipLabels:
        """Return the reference labels and the predicted labels of one clip."""

    def count_confusions(self, folds: Sequence[ScoredSplit]) -> NDArray[np.int64] | None:
        """Return how often each label (row) was predicted as each other (column); None by default."""
        return None

    def list_events(self, fold: ScoredSplit, row: int) -> ClipEvents:
        """Return the events of one clip; none by default."""
        return ClipEvents((), ())


def check_stored_clips(
    order: SplitOrder, expected: tuple[str, ...], found: tuple[str, ...], where: str
) -> None:
    """Raise HearevalError if stored predictions are about other clips than the split has.

    Args:
        expected: file names in the order in which this kind stores them.
        where: the split and the file, in errors.
    """
    if found != expected:
        names = f"those of {layout.split_json(order.name)}"
        raise HearevalError(f"clips {where}", got="other names", expected=names, remedy=EVALUATE_AGAIN)


def check_finite(split: Split, probabilities: Probabilities) -> None:
    """Raise HearevalError if predictions hold NaN or infinity, because most metrics would still score them.

    Args:
        probabilities: `(clips, ...)`.
    """
    bad = ~np.isfinite(probabilities).reshape(len(split.clips), -1).all(axis=1)
    if bad.any():
        raise HearevalError(
            f"predictions for {split.name}/{split.clips[int(bad.argmax())]}",
            got="NaN or infinity",
            expected="finite numbers",
            remedy="Look for embeddings far larger than others: `heareval validate` reports some.",
        )


def interval_of_label(resampled: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the ends of the central 95 % of a label's resampled scores `(resamples,)`.

    There is no interval without scores, nor where all are equal: an interval of no width would mean nothing.
    """
    interval = confidence_interval(resampled)
    has_width = interval.resamples > 0 and interval.low < interval.high
    return (interval.low, interval.high) if has_width else None


def divide_where_positive(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[np.float64]:
    """Return numerator / denominator, NaN where the denominator is not positive."""
    shares = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=shares, where=denominator > 0)
    return shares
