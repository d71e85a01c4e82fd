"""Metrics of clips: targets and predictions in, a score out.

All take targets `(clips, labels)` of 0 and 1 and predictions `(clips, labels)`, larger where a label is
more likely.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from heareval.errors import HearevalError

Targets = NDArray[Any]
Predictions = NDArray[np.floating[Any]]
SEMITONES = 12


def top1_accuracy(targets: Targets, predictions: Predictions) -> float:
    """Share of clips whose most likely label is the target.

    In a multilabel task a clip's target is its first label of the vocabulary (a clip without labels
    has the vocabulary's first), as it was in 2021.
    """
    return float(np.mean(top1_hits(targets, predictions)))


def top1_hits(targets: Targets, predictions: Predictions) -> NDArray[np.bool_]:
    """Whether the most likely label of each clip is its target, `(clips,)`."""
    _check_shapes(targets, predictions)
    return np.asarray(targets.argmax(axis=1) == predictions.argmax(axis=1))


def chroma_accuracy(targets: Targets, predictions: Predictions) -> float:
    """Share of clips whose most likely label is the target or octaves away; labels are semitones in order."""
    return float(np.mean(chroma_hits(targets, predictions)))


def chroma_hits(targets: Targets, predictions: Predictions) -> NDArray[np.bool_]:
    """Whether the most likely label of each clip is its target or octaves away from it, `(clips,)`."""
    _check_shapes(targets, predictions)
    distance = targets.argmax(axis=1) - predictions.argmax(axis=1)
    return np.asarray(distance % SEMITONES == 0)


def mean_average_precision(targets: Targets, predictions: Predictions) -> float:
    """Mean over labels of the average precision; a label without clips counts 0.

    Not interpolated, as in Su, Yuan, Zhu (A relationship between the average precision and the area
    under the ROC curve, ICTIR 2015) and scikit-learn's `average_precision_score`.
    """
    _check_shapes(targets, predictions)
    return float(np.mean(average_precisions(targets, predictions)))


def mean_roc_auc(targets: Targets, predictions: Predictions) -> float:
    """Mean over labels of the area under the ROC curve; NaN if a label has no positive or no negative clip.

    Fawcett: An introduction to ROC analysis, Pattern Recognition Letters 27(8), 2006.
    """
    _check_shapes(targets, predictions)
    return float(np.mean(roc_aucs(targets, predictions)))


def mean_d_prime(targets: Targets, predictions: Predictions) -> float:
    """Mean over labels of sqrt(2) times the normal quantile of the area under the ROC curve.

    NaN where `mean_roc_auc` is; infinite if a label is told apart without error, NaN if another is always
    mistaken. Hershey et al.: CNN architectures for large-scale audio classification, ICASSP 2017.
    """
    _check_shapes(targets, predictions)
    # Infinity and minus infinity have no mean, which is told.
    with np.errstate(invalid="ignore"):
        return float(np.mean(np.sqrt(2.0) * norm.ppf(roc_aucs(targets, predictions))))


def labels_without_positives(targets: Targets) -> NDArray[np.int64]:
    """Indices of labels that no clip has."""
    return np.flatnonzero(~np.any(targets, axis=0))


def labels_without_contrast(targets: Targets) -> NDArray[np.int64]:
    """Indices of labels that no clip has, or every clip."""
    return np.flatnonzero(~np.any(targets, axis=0) | np.all(targets, axis=0))


def labels_told_apart(targets: Targets, predictions: Predictions) -> NDArray[np.int64]:
    """Indices of labels whose ROC curve has the area 1 (always right) or 0 (always wrong)."""
    return np.flatnonzero(np.isin(roc_aucs(targets, predictions), (0.0, 1.0)))


def average_precisions(targets: Targets, predictions: Predictions) -> NDArray[np.float64]:
    """Average precision of each label, `(labels,)`, 0 if no clip has it; all columns are sorted at once."""
    hits, last_of_tie = _ranked(targets, predictions)
    found = np.take_along_axis(hits.cumsum(axis=1), last_of_tie, axis=1)
    precision = found / (last_of_tie + 1)
    positives = hits.sum(axis=1)
    return np.asarray((precision * hits).sum(axis=1) / np.maximum(positives, 1))


def roc_aucs(targets: Targets, predictions: Predictions) -> NDArray[np.float64]:
    """Area under the ROC curve of each label, `(labels,)`; NaN where it is undefined.

    It is the share of (positive, negative) pairs in the right order, ties counting half.
    """
    hits, last_of_tie = _ranked(targets, predictions)
    positives = hits.sum(axis=1)
    negatives = hits.shape[1] - positives
    # Negatives ranked at or above the end of a positive's tie, and those above its beginning.
    misses = (~hits).cumsum(axis=1)
    to_end = np.take_along_axis(misses, last_of_tie, axis=1)
    first_of_tie = hits.shape[1] - 1 - _last_of_run(last_of_tie[:, ::-1])[:, ::-1]
    before = np.take_along_axis(misses - ~hits, first_of_tie, axis=1)
    wrong = ((to_end + before) / 2 * hits).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 1.0 - wrong / (positives * negatives)
    return np.where((positives > 0) & (negatives > 0), share, np.nan)


def _ranked(targets: Targets, predictions: Predictions) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Targets from the likeliest clip down, and where each clip's tie ends; both `(labels, clips)`."""
    scores = np.ascontiguousarray(predictions.T)
    order = np.argsort(-scores, axis=1)
    ranked = np.take_along_axis(scores, order, axis=1)
    return np.take_along_axis(targets.T.astype(bool), order, axis=1), _last_of_run(ranked)


def _last_of_run(values: NDArray[Any]) -> NDArray[np.int64]:
    """For each element of `(rows, n)` the index of the last element of its run of equal values.

    >>> _last_of_run(np.array([[5, 5, 3, 2, 2]])).tolist()
    [[1, 1, 2, 4, 4]]
    """
    n = values.shape[1]
    ends = np.full(values.shape, n - 1, dtype=np.int64)
    ends[:, :-1] = np.where(values[:, 1:] != values[:, :-1], np.arange(n - 1), n - 1)
    return np.asarray(np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1])


def _check_shapes(targets: Targets, predictions: Predictions) -> None:
    if targets.ndim != 2 or targets.shape != predictions.shape or targets.shape[0] == 0:
        raise HearevalError(
            "shapes of targets and predictions",
            got=f"{targets.shape} and {predictions.shape}",
            expected="the same (clips, labels) with at least one clip",
        )
