"""Scene tasks: one embedding per clip, one prediction per clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from heareval.formats.results_folder import SplitPredictions
from heareval.predictions.bootstrap import RESAMPLES, ScoredSplit, draw_counts, recenter
from heareval.predictions.data import Split, SplitOrder
from heareval.predictions.events import Postprocessing
from heareval.predictions.kinds.kind import (
    LABEL_SEED,
    ClipLabels,
    ClipMeasure,
    LabelScores,
    Probabilities,
    TrainedKind,
    check_finite,
    divide_where_positive,
    interval_of_label,
)
from heareval.predictions.metrics import find_metric
from heareval.predictions.metrics.clip import (
    average_precisions,
    labels_without_contrast,
    labels_without_positives,
    roc_aucs,
    separable_labels,
)
from heareval.predictions.metrics.resampled import average_precision, rank_labels, resample_labels
from heareval.predictions.results import LabelPredictions, Score, Validation
from heareval.predictions.rows import Rows

# A label of a multilabel clip counts as predicted above this probability.
THRESHOLD = 0.5
# Cross entropies clip probabilities to this distance from 0 and 1, where they would be infinite.
MIN_PROBABILITY = 1e-7
# Standard deviations of a normal distribution that hold 95 % of it, to either side.
NORMAL_QUANTILE = 1.959964
# How many of a clip's predicted labels reports list.
TOP_LABELS = 3


class SceneKind(TrainedKind[Split, LabelPredictions]):
    """Tasks with one embedding per clip."""

    name = "scene"

    def make_split(self, order: SplitOrder, x: Rows) -> Split:
        y = torch.from_numpy(self._label_matrix(order))
        y = y if self.task.metadata.is_multilabel else y.argmax(dim=1)
        return Split(order.name, order.clip_names, x, y.to(x.device))

    def _label_matrix(self, order: SplitOrder) -> NDArray[np.float32]:
        indices = {label: index for index, label in enumerate(self.task.labels)}
        y = np.zeros((len(order.clips), len(indices)), dtype=np.float32)
        for row, clip in enumerate(order.clips):
            y[row, [indices[label] for label in clip.labels]] = 1.0
        return y

    def targets(self, split: Split) -> NDArray[np.uint8]:
        is_multilabel = self.task.metadata.is_multilabel
        y = split.y if is_multilabel else functional.one_hot(split.y, len(self.task.labels))
        return np.asarray(y.cpu().numpy().astype(np.uint8))

    def mark_labels(self, order: SplitOrder) -> NDArray[np.bool_]:
        return self._label_matrix(order).astype(bool)

    # ----------------------------------------------------------------------- predictions and scores

    def shape_rows(self, split: Split, rows: Tensor) -> NDArray[np.float32]:
        return np.asarray(rows.cpu().numpy())

    def make_validator(self, valid: Split) -> Callable[[Probabilities], Validation]:
        metric, targets = find_metric(self.task.metrics[0]), self.targets(valid)
        return lambda probabilities: Validation(metric.function(targets, probabilities))

    def predict(
        self, split: Split, probabilities: NDArray[np.float32], postprocessing: Postprocessing | None
    ) -> LabelPredictions:
        check_finite(split, probabilities)
        return LabelPredictions(split.clips, self.targets(split), probabilities)

    def prepare_scoring(self, predictions: LabelPredictions) -> ScoredSplit:
        return ScoredSplit(len(predictions.clips), predictions.targets, predictions.probabilities)

    def score(self, split_name: str, predictions: LabelPredictions) -> tuple[Score, ...]:
        return tuple(self._score(name, split_name, predictions) for name in self.task.metrics)

    def _score(self, name: str, split_name: str, predictions: LabelPredictions) -> Score:
        scored = find_metric(name).report(predictions.targets, predictions.probabilities)
        return Score(
            name, scored.value, scored.details, self._problems(name, scored.value, split_name, predictions)
        )

    def _problems(
        self, name: str, value: float, split_name: str, predictions: LabelPredictions
    ) -> tuple[str, ...]:
        """Return why a score is undefined, infinite or unusual, in the words of the scores file."""
        targets = predictions.targets
        absent, uniform = labels_without_positives(targets), labels_without_contrast(targets)
        separable = self._name_labels(separable_labels(targets, predictions.probabilities))
        if math.isnan(value) and len(uniform):
            reason = f"no clip, or every clip, is labelled {self._name_labels(uniform)}"
            return (f"{name} is undefined on {split_name}: {reason}",)
        if math.isnan(value):
            # One label scores infinity and another one minus infinity, so the mean is undefined.
            return (f"{name} is undefined on {split_name}: always or never right about {separable}",)
        if math.isinf(value):
            return (f"{name} is infinite on {split_name}: always or never right about {separable}",)
        if find_metric(name).scores_absent_labels_as_0 and len(absent):
            return (f"{name} on {split_name}: labels without clips count as 0: {self._name_labels(absent)}",)
        if name == "chroma_acc" and not _are_semitones(self.task.labels):
            return (
                f"{name} takes the labels of the vocabulary for consecutive semitones, as in 2021, but they "
                "are not consecutive numbers",
            )
        return ()

    def describe_missing(self, valid: Split, metric: str) -> str:
        targets = self.targets(valid)
        # Predictions that equal the targets have a score, unless the targets leave it undefined.
        if not math.isnan(find_metric(metric).function(targets, targets.astype(np.float32))):
            return ""
        return f"clips with and without the label {self._name_labels(labels_without_contrast(targets))}"

    def _name_labels(self, indices: NDArray[np.int64]) -> str:
        return ", ".join(repr(self.task.labels[index]) for index in indices)

    # ----------------------------------------------------------------------- stored predictions

    def to_stored(self, predictions: Sequence[LabelPredictions]) -> SplitPredictions:
        first = predictions[0]
        probabilities = np.stack([each.probabilities for each in predictions])
        return SplitPredictions(first.clips, first.targets, probabilities)

    def from_stored(self, order: SplitOrder, stored: SplitPredictions, seed: int) -> LabelPredictions:
        return LabelPredictions(stored.clips, stored.targets, stored.predictions[seed])

    def stored_targets(self, order: SplitOrder, stored: SplitPredictions) -> NDArray[np.uint8]:
        return self._label_matrix(order).astype(np.uint8)

    def stored_shape(self, order: SplitOrder) -> tuple[int | None, ...]:
        return (len(order.clips), len(self.task.labels))

    # ----------------------------------------------------------------------- diagnostics

    def score_labels(self, folds: Sequence[ScoredSplit]) -> tuple[LabelScores, ...]:
        """Return each label's precision, recall and F1 over all clips, and the mean over folds of its
        rankings.

        Clips of different folds aren't ranked in one list, because different models predicted them.
        """
        reference = np.concatenate([fold.reference for fold in folds]).astype(bool)
        predicted = np.concatenate([self.decide(fold.predicted) for fold in folds])
        hits = (reference & predicted).sum(axis=0)
        support, found = reference.sum(axis=0), predicted.sum(axis=0)
        columns = {
            "precision": divide_where_positive(hits, found),
            "recall": divide_where_positive(hits, support),
            "f1": divide_where_positive(2 * hits, support + found),
            "average_precision": _average_folds(folds, _defined_average_precisions),
            "roc_auc": _average_folds(folds, roc_aucs),
        }
        if self.task.metadata.is_multilabel:
            intervals = _resample_average_precisions(folds, columns["average_precision"])
        else:
            intervals = [_share_interval(*each) for each in zip(hits, support, strict=True)]
        return tuple(
            LabelScores(
                label,
                int(support[i]),
                int(found[i]),
                {name: float(column[i]) for name, column in columns.items()},
                intervals[i],
            )
            for i, label in enumerate(self.task.labels)
        )

    @property
    def averaging(self) -> Mapping[str, str]:
        pooled = "over the clips of all folds together"
        ranked = (
            "within each fold, then the mean over those folds that define it; all labels of a vocabulary "
            "count alike in a mean over labels (macro average)"
        )
        return {
            **dict.fromkeys(("precision", "recall", "f1"), pooled),
            "average_precision": f"{ranked}, where mAP counts a label without clips as 0",
            "roc_auc": f"{ranked}, which is aucroc",
            "interval_95": "of average_precision: bootstrap over the test clips"
            if self.task.metadata.is_multilabel
            else "of recall: Wilson's interval of a share of the label's clips",
        }

    def decide(self, probabilities: Probabilities) -> NDArray[np.bool_]:
        """Return the predicted labels of each clip, `(clips, labels)`.

        In a multilabel task these are the labels above the threshold, else the most likely label.
        """
        if self.task.metadata.is_multilabel:
            return np.asarray(probabilities > THRESHOLD)
        return np.asarray(np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None])

    @property
    def plotted_score(self) -> str:
        return "average_precision" if self.task.metadata.is_multilabel else "recall"

    @property
    def clip_measure(self) -> ClipMeasure:
        if self.task.metadata.is_multilabel:
            return ClipMeasure("cross entropy", True, _cross_entropies)
        return ClipMeasure("probability of its label", False, _probabilities_of_labels)

    def describe_clip(self, fold: ScoredSplit, row: int) -> ClipLabels:
        labels, probabilities = self.task.labels, fold.predicted[row]
        top = np.argsort(-probabilities, kind="stable")[:TOP_LABELS]
        return ClipLabels(
            tuple(labels[i] for i in np.flatnonzero(fold.reference[row])),
            tuple((labels[i], float(probabilities[i])) for i in top),
        )

    def count_confusions(self, folds: Sequence[ScoredSplit]) -> NDArray[np.int64] | None:
        if self.task.metadata.is_multilabel:
            return None
        counts = np.zeros((len(self.task.labels),) * 2, dtype=np.int64)
        for fold in folds:
            np.add.at(counts, (fold.reference.argmax(axis=1), fold.predicted.argmax(axis=1)), 1)
        return counts


def _are_semitones(labels: Sequence[str]) -> bool:
    """Return whether labels are consecutive numbers in ascending order.

    >>> _are_semitones(("60", "61", "62")), _are_semitones(("60", "62")), _are_semitones(("C", "D"))
    (True, False, False)
    """
    return (
        bool(labels)
        and labels[0].isdecimal()
        and all(label == str(int(labels[0]) + number) for number, label in enumerate(labels))
    )


def _defined_average_precisions(targets: Any, predictions: Any) -> NDArray[np.float64]:
    return np.where(targets.any(axis=0), average_precisions(targets, predictions), np.nan)


def _average_folds(
    folds: Sequence[ScoredSplit], score: Callable[[Any, Any], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the mean of each label's scores over the folds that define it, `(labels,)`."""
    scores = np.stack([score(fold.reference, fold.predicted) for fold in folds])
    return divide_where_positive(np.nansum(scores, axis=0), (~np.isnan(scores)).sum(axis=0))


def _share_interval(hits: int, clips: int) -> tuple[float, float] | None:
    """Return the 95 % interval of a share of clips; unlike the bootstrap it has a width for a share of 1.

    Wilson: Probable inference, Journal of the American Statistical Association 22(158), 1927.
    """
    if clips == 0:
        return None
    share, z_squared = hits / clips, NORMAL_QUANTILE**2
    middle = share + z_squared / (2 * clips)
    half = NORMAL_QUANTILE * math.sqrt(share * (1 - share) / clips + z_squared / (4 * clips**2))
    scale = 1 + z_squared / clips
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def _resample_average_precisions(
    folds: Sequence[ScoredSplit], values: NDArray[np.float64]
) -> list[tuple[float, float] | None]:
    """Return the bootstrap interval of each label's mean average precision over folds.

    Args:
        values: the mean of each label, `(labels,)`; NaN where no fold defines it.
    """
    total, defined = np.zeros((len(values), RESAMPLES)), np.zeros(len(values), dtype=int)
    for number, fold in enumerate(folds):
        rng = np.random.default_rng([LABEL_SEED, number])
        has_label = fold.reference.any(axis=0)
        if not has_label.any():
            continue
        rankings = rank_labels(fold.reference[:, has_label], fold.predicted[:, has_label])
        blocks = [
            [average_precision(label) for label in resample_labels(rankings, counts)]
            for counts in draw_counts(fold.clips, RESAMPLES, rng)
        ]
        total[has_label] += np.concatenate(blocks, axis=1)
        defined += has_label
    resampled = total / np.maximum(defined, 1)[:, None]
    return [
        # The shift could leave the range of the score.
        interval_of_label(recenter(value, "mAP", scores).clip(0.0, 1.0)) if folds_with_label else None
        for value, scores, folds_with_label in zip(values, resampled, defined, strict=True)
    ]


def _cross_entropies(fold: ScoredSplit) -> NDArray[np.float64]:
    """Return the binary cross entropy of each clip, the mean over labels, `(clips,)`."""
    predicted = np.clip(fold.predicted.astype(np.float64), MIN_PROBABILITY, 1.0 - MIN_PROBABILITY)
    return np.asarray(-np.log(np.where(fold.reference, predicted, 1.0 - predicted)).mean(axis=1))


def _probabilities_of_labels(fold: ScoredSplit) -> NDArray[np.float64]:
    """Return the probability that each clip's own label has, `(clips,)`."""
    return np.asarray((fold.reference * fold.predicted).sum(axis=1))
