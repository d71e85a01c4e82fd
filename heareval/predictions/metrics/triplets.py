"""The metric of listed triplets: is the positive clip nearer to the anchor than the negative clip?

This is the forced choice between two alternatives (2AFC) of psychophysics, with distances as the listener.

Green, Swets: Signal Detection Theory and Psychophysics, 1966.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heareval.errors import HearevalError
from heareval.predictions.metrics.metric import Metric, make_report
from heareval.predictions.metrics.resampled import BootstrapScorer, Counts, divide

# Weights of triplets in resamples computed at a time.
WEIGHTS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class ListedTriplets:
    """Triplets of an anchor, a clip that is more like it and a clip that is less like it.

    Args:
        clips: indices of anchor, positive and negative, `(triplets, 3)`.
        unit: index of the unit of each clip that bootstrap resamples hold or leave out, `(clips,)`.
    """

    clips: NDArray[np.int64]
    unit: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.clips.ndim != 2 or self.clips.shape[1] != 3:
            raise HearevalError("clips of triplets", got=str(self.clips.shape), expected="(triplets, 3)")


@dataclass(frozen=True)
class TripletDistances:
    """The distances from the anchor to the positive and to the negative clip, `(triplets, 2)`."""

    distances: NDArray[np.float64]


def triplet_accuracy(reference: ListedTriplets, predicted: TripletDistances) -> float:
    """Return the share of triplets whose positive is nearer to the anchor than the negative.

    Equal distances count one half. The score is NaN without triplets.

    Raises:
        HearevalError: there are not two distances per triplet.

    >>> triplets = ListedTriplets(np.array([[0, 1, 2], [0, 2, 1]]), np.arange(3))
    >>> triplet_accuracy(triplets, TripletDistances(np.array([[1.0, 2.0], [2.0, 2.0]])))
    0.75
    """
    right = score_triplets(reference, predicted)
    return float(right.mean()) if len(right) else float("nan")


def score_triplets(reference: ListedTriplets, predicted: TripletDistances) -> NDArray[np.float64]:
    """Return 1 for each triplet whose positive is nearer, 1/2 for equal distances, else 0, `(triplets,)`.

    Raises:
        HearevalError: there are not two distances per triplet.

    >>> triplets = ListedTriplets(np.array([[0, 1, 2], [0, 2, 1]]), np.arange(3))
    >>> score_triplets(triplets, TripletDistances(np.array([[1.0, 2.0], [2.0, 2.0]]))).tolist()
    [1.0, 0.5]
    """
    expected = (len(reference.clips), 2)
    if predicted.distances.shape != expected:
        raise HearevalError(
            "distances of triplets",
            got=str(predicted.distances.shape),
            expected=f"two per triplet, {expected}",
        )
    positive, negative = predicted.distances.T
    return np.asarray((positive < negative) + 0.5 * (positive == negative))


def resample_triplets(reference: ListedTriplets, predicted: TripletDistances, units: int) -> BootstrapScorer:
    """Prepare the accuracy of resampled units.

    A resample holds a triplet once for each choice of a copy of each of its units, so that the weight of a
    triplet is the product of the counts of its distinct units. Clips of one unit are in the same copy.

    Args:
        units: number of units.

    Raises:
        HearevalError: there are not two distances per triplet.

    >>> triplets = ListedTriplets(np.array([[0, 1, 2], [0, 3, 1]]), np.arange(4))
    >>> right_and_wrong = TripletDistances(np.array([[1.0, 2.0], [2.0, 1.0]]))
    >>> resample_triplets(triplets, right_and_wrong, 4).scores(np.array([[1], [1], [2], [0]])).tolist()
    [1.0]
    """
    right = score_triplets(reference, predicted)
    first, second, third = reference.unit[reference.clips].T
    # A unit that a triplet names again has the weight 1, which is the last row of the counts.
    second = np.where(second == first, units, second)
    third = np.where((third == first) | (third == second), units, third)

    def scores(counts: Counts) -> NDArray[np.float64]:
        padded = np.pad(counts.astype(np.float64), ((0, 1), (0, 0)), constant_values=1.0)
        correct, total = np.zeros((2, counts.shape[1]))
        at_once = max(1, WEIGHTS_AT_ONCE // counts.shape[1])
        for start in range(0, len(right), at_once):
            rows = slice(start, start + at_once)
            weights = padded[first[rows]] * padded[second[rows]] * padded[third[rows]]
            correct += right[rows] @ weights
            total += weights.sum(axis=0)
        return divide(correct, total, total)

    return BootstrapScorer(scores)


def _chance(reference: ListedTriplets, predicted: TripletDistances, units: int, common_label: int) -> float:
    return 0.5 if len(reference.clips) else float("nan")


METRICS: Mapping[str, Metric] = {
    "triplet_acc": Metric(
        "pairwise", triplet_accuracy, make_report(triplet_accuracy), resample_triplets, _chance
    )
}
