"""Metrics of scene tasks, computed from targets and predictions of clips.

All functions take targets `(clips, labels)` of 0 and 1 and predictions `(clips, labels)`, which are higher
where a label is more likely, and raise HearevalError if the shapes differ or there are no clips.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from heareval.errors import HearevalError
from heareval.predictions.metrics import resampled
from heareval.predictions.metrics.metric import DetailedScore, Metric
from heareval.predictions.metrics.resampled import BootstrapScorer

Targets = NDArray[Any]
Predictions = NDArray[np.floating[Any]]
SEMITONES = 12


def top1_accuracy(targets: Targets, predictions: Predictions) -> float:
    """Return the share of clips whose most likely label is the target.

    In a multilabel task the target of a clip is the first of its labels in the vocabulary, or the first label
    of the vocabulary if the clip has none. The evaluation of 2021 did the same.

    >>> top1_accuracy(np.array([[1, 0], [0, 1]]), np.array([[0.9, 0.1], [0.7, 0.3]]))
    0.5
    """
    return float(np.mean(top1_hits(targets, predictions)))


def top1_hits(targets: Targets, predictions: Predictions) -> NDArray[np.bool_]:
    """Return whether the most likely label of each clip is its target, `(clips,)`."""
    _check_shapes(targets, predictions)
    return np.asarray(targets.argmax(axis=1) == predictions.argmax(axis=1))


def chroma_accuracy(targets: Targets, predictions: Predictions) -> float:
    """Return the share of clips whose most likely label is the target or lies whole octaves away from it.

    The labels of the vocabulary must be consecutive semitones in ascending order.

    >>> chroma_accuracy(np.eye(24)[[0, 3]], np.eye(24)[[12, 4]])
    0.5
    """
    return float(np.mean(chroma_hits(targets, predictions)))


def chroma_hits(targets: Targets, predictions: Predictions) -> NDArray[np.bool_]:
    """Return whether each clip's most likely label is its target or octaves away from it, `(clips,)`."""
    _check_shapes(targets, predictions)
    distance = targets.argmax(axis=1) - predictions.argmax(axis=1)
    return np.asarray(distance % SEMITONES == 0)


def mean_average_precision(targets: Targets, predictions: Predictions) -> float:
    """Return the mean of the labels' average precisions; a label that no clip has counts 0.

    The average precision isn't interpolated; scikit-learn's `average_precision_score` computes the same.

    Su, Yuan, Zhu: A relationship between the average precision and the area under the ROC curve, ICTIR 2015.

    >>> mean_average_precision(np.array([[1], [0], [1]]), np.array([[0.9], [0.8], [0.7]]))
    0.8333333333333333
    """
    _check_shapes(targets, predictions)
    return float(np.mean(average_precisions(targets, predictions)))


def mean_roc_auc(targets: Targets, predictions: Predictions) -> float:
    """Return the mean of the labels' areas under the ROC curve.

    The score is NaN if all clips or no clips have one of the labels.

    Fawcett: An introduction to ROC analysis, Pattern Recognition Letters 27(8), 2006.

    >>> mean_roc_auc(np.array([[1], [0], [0]]), np.array([[0.5], [0.7], [0.2]]))
    0.5
    """
    _check_shapes(targets, predictions)
    return float(np.mean(roc_aucs(targets, predictions)))


def mean_d_prime(targets: Targets, predictions: Predictions) -> float:
    """Return the mean of the labels' d': sqrt(2) times the normal quantile of the area under the ROC curve.

    The score is NaN where `mean_roc_auc` is. It is infinite if a label is ranked without error, and NaN if
    another one is ranked in reverse.

    Hershey et al.: CNN architectures for large-scale audio classification, ICASSP 2017.

    >>> mean_d_prime(np.array([[1], [0], [0]]), np.array([[0.5], [0.7], [0.2]]))
    0.0
    """
    _check_shapes(targets, predictions)
    # The mean of infinity and minus infinity is NaN, and the problems of the score say so.
    with np.errstate(invalid="ignore"):
        return float(np.mean(np.sqrt(2.0) * norm.ppf(roc_aucs(targets, predictions))))


def labels_without_positives(targets: Targets) -> NDArray[np.int64]:
    """Return the indices of labels that no clip has.

    >>> labels_without_positives(np.array([[1, 0], [1, 0]])).tolist()
    [1]
    """
    return np.flatnonzero(~np.any(targets, axis=0))


def labels_without_contrast(targets: Targets) -> NDArray[np.int64]:
    """Return the indices of labels that no clip or every clip has.

    >>> labels_without_contrast(np.array([[1, 0], [1, 0]])).tolist()
    [0, 1]
    """
    return np.flatnonzero(~np.any(targets, axis=0) | np.all(targets, axis=0))


def separable_labels(targets: Targets, predictions: Predictions) -> NDArray[np.int64]:
    """Return the indices of labels with an area under the ROC curve of 1 (perfect) or 0 (reversed).

    >>> separable_labels(np.array([[1], [0]]), np.array([[0.8], [0.2]])).tolist()
    [0]
    """
    return np.flatnonzero(np.isin(roc_aucs(targets, predictions), (0.0, 1.0)))


def average_precisions(targets: Targets, predictions: Predictions) -> NDArray[np.float64]:
    """Return the average precision of each label, `(labels,)`, 0 if no clip has it."""
    hits, last_of_tie = _rank(targets, predictions)
    found = np.take_along_axis(hits.cumsum(axis=1), last_of_tie, axis=1)
    precision = found / (last_of_tie + 1)
    positives = hits.sum(axis=1)
    return np.asarray((precision * hits).sum(axis=1) / np.maximum(positives, 1))


def roc_aucs(targets: Targets, predictions: Predictions) -> NDArray[np.float64]:
    """Return the area under the ROC curve of each label, `(labels,)`, NaN where it is undefined.

    The area is the share of (positive, negative) pairs of clips in the right order; ties count one half.
    """
    hits, last_of_tie = _rank(targets, predictions)
    positives = hits.sum(axis=1)
    negatives = hits.shape[1] - positives
    # Count the negatives down to the end of each positive's tie, and those above the tie.
    misses = (~hits).cumsum(axis=1)
    to_end = np.take_along_axis(misses, last_of_tie, axis=1)
    first_of_tie = hits.shape[1] - 1 - _last_of_run(last_of_tie[:, ::-1])[:, ::-1]
    before = np.take_along_axis(misses - ~hits, first_of_tie, axis=1)
    wrong = ((to_end + before) / 2 * hits).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 1.0 - wrong / (positives * negatives)
    return np.where((positives > 0) & (negatives > 0), share, np.nan)


def random_average_precision(targets: Targets) -> float:
    """Return what `mean_average_precision` is on average if the clips are ranked at random.

    Of n clips in random order, m of them positive, the clip at rank k is positive in m of n cases, and then
    (k - 1)(m - 1) / (n - 1) of those above it are, too.

    >>> random_average_precision(np.array([[1], [0]]))
    0.75
    """
    clips = len(targets)
    positives = targets.sum(axis=0)
    harmonic = float(np.sum(1.0 / np.arange(1, clips + 1)))
    others = (positives - 1.0) / max(clips - 1, 1)
    expected = (harmonic + others * (clips - harmonic)) / clips
    return float(np.mean(np.where(positives > 0, expected, 0.0)))


def _random_ranking(targets: Targets, chance: float) -> float:
    """Return a chance level, NaN if all clips or no clips have one of the labels."""
    return math.nan if len(labels_without_contrast(targets)) else chance


def _rank(targets: Targets, predictions: Predictions) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return the targets from the most likely clip down, and the last rank of each clip's tie.

    Both arrays are `(labels, clips)`. All labels are sorted in one call.
    """
    scores = np.ascontiguousarray(predictions.T)
    order = np.argsort(-scores, axis=1)
    ranked = np.take_along_axis(scores, order, axis=1)
    return np.take_along_axis(targets.T.astype(bool), order, axis=1), _last_of_run(ranked)


def _last_of_run(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return for each element of `(rows, n)` the index of the last element in its run of equal values.

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


def _report(function: Callable[[Any, Any], float]) -> Callable[[Any, Any], DetailedScore]:
    return lambda targets, predictions: DetailedScore(function(targets, predictions), {})


def _accuracy(
    function: Callable[[Any, Any], float], find_hits: Callable[[Any, Any], NDArray[np.bool_]]
) -> Metric:
    """Return a metric that is the share of clips that `find_hits` marks."""

    def resample(targets: Any, predictions: Any, clips: int) -> BootstrapScorer:
        return resampled.resample_share(find_hits(targets, predictions))

    def chance(targets: Any, predictions: Any, clips: int, common_label: int) -> float:
        always_the_same = np.zeros(targets.shape)
        always_the_same[:, common_label] = 1.0
        return function(targets, always_the_same)

    return Metric("scene", function, _report(function), resample, chance)


def _ranking(
    function: Callable[[Any, Any], float],
    score_label: resampled.LabelScore,
    chance: Callable[[Targets], float],
    *,
    scores_absent_labels_as_0: bool = False,
) -> Metric:
    """Return a metric that is the mean over labels of a score of the label's ranked clips."""

    def resample(targets: Any, predictions: Any, clips: int) -> BootstrapScorer:
        scores = resampled.resample_rankings(targets, predictions, [score_label])
        return BootstrapScorer(lambda counts: scores(counts)[0])

    return Metric(
        "scene",
        function,
        _report(function),
        resample,
        lambda targets, predictions, clips, common_label: chance(targets),
        is_biased_by_copies=True,
        score_label=score_label,
        scores_absent_labels_as_0=scores_absent_labels_as_0,
    )


METRICS: Mapping[str, Metric] = {
    "top1_acc": _accuracy(top1_accuracy, top1_hits),
    "pitch_acc": _accuracy(top1_accuracy, top1_hits),
    "chroma_acc": _accuracy(chroma_accuracy, chroma_hits),
    "mAP": _ranking(
        mean_average_precision,
        resampled.average_precision,
        random_average_precision,
        scores_absent_labels_as_0=True,
    ),
    "d_prime": _ranking(mean_d_prime, resampled.d_prime, functools.partial(_random_ranking, chance=0.0)),
    "aucroc": _ranking(mean_roc_auc, resampled.roc_auc, functools.partial(_random_ranking, chance=0.5)),
}
