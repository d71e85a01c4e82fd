"""The ABX error: how often a recording is nearer to another category than to its own.

A triple has recordings a and x of one category and b of another; a and b are of one speaker and x of another
one. A cell holds all triples of two categories, a speaker of a and b, and a speaker of x.

Schatz et al.: Evaluating speech features with the minimal-pair ABX task, Interspeech 2013.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from heareval.errors import HearevalError
from heareval.predictions.metrics.metric import Metric, make_report
from heareval.predictions.metrics.resampled import BootstrapScorer, Counts, divide

# Outcomes of a triple: x is nearer to b, equally near to both, nearer to a.
WRONG, TIE, RIGHT = 0, 1, 2


@dataclass(frozen=True)
class AbxCells:
    """The recordings of each cell.

    Args:
        a: clip indices, `(cells, A)`, -1 where a cell has fewer.
        b: clip indices, `(cells, B)`, -1 where a cell has fewer.
        x: clip indices, `(cells, X)`, -1 where a cell has fewer.
        speaker_x: index of the speaker of x, `(cells,)`.
        speaker_ab: index of the speaker of a and b, `(cells,)`.
        pair: index of the ordered pair of categories, `(cells,)`.
        unit: index of the unit of each clip that bootstrap resamples hold or leave out, `(clips,)`. The
            recordings of a triple are of three units.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    x: NDArray[np.int64]
    speaker_x: NDArray[np.int64]
    speaker_ab: NDArray[np.int64]
    pair: NDArray[np.int64]
    unit: NDArray[np.int64]

    def __post_init__(self) -> None:
        cells = {len(each) for each in (self.a, self.b, self.x, self.speaker_x, self.speaker_ab, self.pair)}
        if len(cells) != 1:
            raise HearevalError("columns of ABX cells", got=str(cells), expected="one number of cells")


@dataclass(frozen=True)
class AbxOutcomes:
    """The outcome of each triple, `(cells, A, B, X)`: 0 wrong, 1 tie, 2 right; padding has any value."""

    outcomes: NDArray[np.uint8]


def find_outcomes(distances_ax: NDArray[np.float64], distances_bx: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the outcome of each triple, `(..., A, B, X)`: 2 if a is nearer to x than b, 1 for a tie, else 0.

    Args:
        distances_ax: `(..., A, X)`.
        distances_bx: `(..., B, X)`.

    >>> find_outcomes(np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 2.0, 2.0]])).ravel().tolist()
    [2, 1, 0]
    """
    to_a, to_b = distances_ax[..., :, None, :], distances_bx[..., None, :, :]
    return np.asarray(np.where(to_a < to_b, RIGHT, np.where(to_a == to_b, TIE, WRONG)), dtype=np.uint8)


def abx_error(reference: AbxCells, predicted: AbxOutcomes) -> float:
    """Return 1 minus the share of right triples, a mean over cells.

    Shares of cells are averaged over speakers of x, then speakers of a and b, then pairs of categories. Ties
    count one half. Cells without a triple are left out; the score is NaN if there is no other.

    Raises:
        HearevalError: there is not one outcome per triple.

    >>> cells = AbxCells(*np.array([[[0]], [[1]], [[2]]]), *np.zeros((3, 1), int), np.arange(3))
    >>> abx_error(cells, AbxOutcomes(np.full((1, 1, 1, 1), 1, np.uint8)))
    0.5
    """
    units = int(reference.unit.max(initial=-1)) + 1
    scores = resample_abx(reference, predicted, units).scores
    return float(scores(np.ones((units, 1), dtype=np.int64))[0])


def resample_abx(reference: AbxCells, predicted: AbxOutcomes, units: int) -> BootstrapScorer:
    """Prepare the error of resampled units.

    A resample holds a triple once for each choice of a copy of a, b and x. Cells without a triple in a
    resample are left out of it, and so are speakers and pairs without a cell.

    Args:
        units: number of units.

    Raises:
        HearevalError: there is not one outcome per triple.

    >>> cells = AbxCells(*np.array([[[0]], [[1]], [[2]]]), *np.zeros((3, 1), int), np.arange(3))
    >>> tie = AbxOutcomes(np.full((1, 1, 1, 1), TIE, np.uint8))
    >>> resample_abx(cells, tie, 3).scores(np.array([[1, 2], [1, 1], [1, 0]])).tolist()
    [0.5, nan]
    """
    _check_shapes(reference, predicted)
    # Cells -> speakers of a and b of each pair -> pairs.
    keys, speaker = np.unique(np.stack([reference.pair, reference.speaker_ab]), axis=1, return_inverse=True)
    _, pair = np.unique(keys[0], return_inverse=True)

    def scores(counts: Counts) -> NDArray[np.float64]:
        errors = _score_cells(reference, predicted, counts)
        for group in (speaker.reshape(-1), pair, np.zeros(int(pair.max(initial=-1)) + 1, dtype=np.int64)):
            errors = _average_groups(errors, group)
        return errors[0] if len(errors) else np.full(counts.shape[1], np.nan)

    return BootstrapScorer(scores)


def _check_shapes(reference: AbxCells, predicted: AbxOutcomes) -> None:
    expected = (*reference.a.shape, reference.b.shape[1], reference.x.shape[1])
    if predicted.outcomes.shape != expected:
        raise HearevalError(
            "outcomes of ABX cells", got=str(predicted.outcomes.shape), expected=f"one per triple, {expected}"
        )


def _score_cells(reference: AbxCells, predicted: AbxOutcomes, counts: Counts) -> NDArray[np.float64]:
    """Return the error of each cell in each resample, `(cells, resamples)`, NaN without a triple."""
    # The last row has the weight of padding. Sums of products of counts are whole numbers far below 2 ** 24.
    padded = np.pad(counts.astype(np.float32), ((0, 1), (0, 0)))
    of_clips = padded[np.append(reference.unit, len(counts))]
    errors = np.full((len(reference.a), counts.shape[1]), np.nan)
    for cell, (a, b, x, outcomes) in enumerate(
        zip(reference.a, reference.b, reference.x, predicted.outcomes, strict=True)
    ):
        of_a, of_b, of_x = of_clips[a], of_clips[b], of_clips[x]
        right = outcomes.reshape(len(a), -1).T.astype(np.float32) @ of_a
        right = np.einsum("bxr,br,xr->r", right.reshape(len(b), len(x), -1), of_b, of_x)
        triples = of_a.sum(axis=0) * of_b.sum(axis=0) * of_x.sum(axis=0)
        errors[cell] = 1.0 - divide(right / RIGHT, triples, triples)
    return errors


def _average_groups(values: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean of each group of rows without NaN, `(groups, resamples)`, NaN where no row is left."""
    entries = (np.ones(len(group)), (group, np.arange(len(group))))
    members = csr_matrix(entries, shape=(int(group.max(initial=-1)) + 1, len(group)))
    defined = members @ (~np.isnan(values)).astype(np.float64)
    return divide(members @ np.nan_to_num(values, nan=0.0), defined, defined)


def _chance(reference: AbxCells, predicted: AbxOutcomes, units: int, common_label: int) -> float:
    return 0.5 if np.isfinite(abx_error(reference, predicted)) else float("nan")


METRICS: Mapping[str, Metric] = {
    "abx_error": Metric("pairwise", abx_error, make_report(abx_error), resample_abx, _chance, maximise=False)
}
