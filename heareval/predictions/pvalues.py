"""Two-sided p-values for equal performance of two submissions on the same clips.

Scores that are ratios of sums over clips use a permutation test: the predictions of A and B are swapped at
random in every clip, which changes nothing on average if both perform equally. Scores that rank clips
don't, because a swap would mix the probabilities of two models in one ranking; their p-value comes from the
bootstrap.

Good: Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from heareval.predictions.bootstrap import COUNTS_AT_ONCE
from heareval.predictions.metrics.resampled import ClipSums, divide

PERMUTATIONS = 10_000
# Differences closer than this count as equal, because sums are rounded.
TIE = 1e-12


def permute_differences(
    a: Sequence[Sequence[ClipSums]],
    b: Sequence[Sequence[ClipSums]],
    *,
    seed: int,
    permutations: int = PERMUTATIONS,
) -> NDArray[np.float64]:
    """Return the difference of scores after random swaps of A and B in every clip, `(permutations,)`.

    Args:
        a: what each clip adds to A's score, for each seed and fold. The score is the mean over both.
        b: the same for B.
    """
    # The swaps depend only on the fold: a clip is swapped for all seeds together.
    folds = [
        _permute_fold(fold_a, fold_b, np.random.default_rng([seed, fold]), permutations)
        for run_a, run_b in zip(a, b, strict=True)
        for fold, (fold_a, fold_b) in enumerate(zip(run_a, run_b, strict=True))
    ]
    return np.asarray(np.mean(folds, axis=0))


def _permute_fold(
    a: ClipSums, b: ClipSums, rng: np.random.Generator, permutations: int
) -> NDArray[np.float64]:
    sums_a, sums_b = (np.stack([each.numerator, each.denominator]) for each in (a, b))
    change = sums_b - sums_a
    moved = np.concatenate(
        [change @ swaps for swaps in _draw_swaps(change.shape[1], permutations, rng)], axis=1
    )
    permuted_a = sums_a.sum(axis=1)[:, None] + moved
    permuted_b = sums_b.sum(axis=1)[:, None] - moved
    # The support comes from the references, which swaps don't change.
    support = np.full(permutations, a.support.sum())
    scores_a = divide(permuted_a[0], permuted_a[1], support)
    return scores_a - divide(permuted_b[0], permuted_b[1], support)


def _draw_swaps(clips: int, permutations: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Draw which clips are swapped (1) and which not (0), in blocks `(clips, permutations of the block)`."""
    at_once = max(1, COUNTS_AT_ONCE // clips)
    for start in range(0, permutations, at_once):
        shape = (clips, min(at_once, permutations - start))
        yield rng.integers(2, size=shape, dtype=np.int8).astype(np.float64)


def permutation_p_value(difference: float, permuted: NDArray[np.float64]) -> float:
    """Return the share of permutations with a difference at least as large as the observed one.

    The observed difference counts as one of the permutations.

    >>> permutation_p_value(0.5, np.array([0.1, -0.6, 0.2]))
    0.5
    """
    return float((1 + np.count_nonzero(np.abs(permuted) >= abs(difference) - TIE)) / (1 + len(permuted)))


def bootstrap_p_value(resampled: NDArray[np.float64]) -> float:
    """Return twice the smaller share of resampled differences on one side of 0; NaN if none is defined.

    >>> bootstrap_p_value(np.zeros(99)), bootstrap_p_value(np.ones(99))
    (1.0, 0.02)
    """
    defined = resampled[~np.isnan(resampled)]
    if len(defined) == 0:
        return math.nan
    smaller = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return float(min(1.0, 2 * (1 + smaller) / (1 + len(defined))))
