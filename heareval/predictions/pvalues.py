"""How probable a difference of two scores on the same clips would be by chance.

Where a score is a ratio of sums over clips, A and B are swapped at random in every clip, which changes
nothing if they are alike; Good: Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005. Scores
that rank clips would then mix two models' probabilities in one ranking, so theirs is read from the
resampled differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from heareval.predictions.bootstrap import COUNTS_AT_ONCE
from heareval.predictions.metrics.drawn import ClipSums, ratio

PERMUTATIONS = 10_000
# What differs by less than rounding is as far off as what was found.
TIE = 1e-12


def swapped_differences(
    a: Sequence[Sequence[ClipSums]],
    b: Sequence[Sequence[ClipSums]],
    *,
    seed: int,
    permutations: int = PERMUTATIONS,
) -> NDArray[np.float64]:
    """The difference of scores with A and B swapped at random in every clip, `(permutations,)`.

    Args:
        a: what each clip adds to A's score, for each seed and fold; the score is the mean over both.
        b: the same of B.
    """
    # The swaps depend on the fold alone: those who are swapped take the predictions of all their seeds along.
    folds = [
        _swapped(mine, other, np.random.default_rng([seed, fold]), permutations)
        for run_a, run_b in zip(a, b, strict=True)
        for fold, (mine, other) in enumerate(zip(run_a, run_b, strict=True))
    ]
    return np.asarray(np.mean(folds, axis=0))


def _swapped(a: ClipSums, b: ClipSums, rng: np.random.Generator, permutations: int) -> NDArray[np.float64]:
    parts = [np.stack([each.numerator, each.denominator]) for each in (a, b)]
    change = parts[1] - parts[0]
    moved = np.concatenate([change @ swaps for swaps in _swaps(change.shape[1], permutations, rng)], axis=1)
    ours, theirs = parts[0].sum(axis=1)[:, None] + moved, parts[1].sum(axis=1)[:, None] - moved
    # Whom a clip is predicted by changes nothing of what there is to be found.
    support = np.full(permutations, a.support.sum())
    return ratio(ours[0], ours[1], support) - ratio(theirs[0], theirs[1], support)


def _swaps(clips: int, permutations: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Which clips are swapped, 1, and which not, 0, in blocks `(clips, permutations of the block)`."""
    at_once = max(1, COUNTS_AT_ONCE // clips)
    for start in range(0, permutations, at_once):
        shape = (clips, min(at_once, permutations - start))
        yield rng.integers(2, size=shape, dtype=np.int8).astype(np.float64)


def permutation_p(value: float, swapped: NDArray[np.float64]) -> float:
    """The share of differences as far from 0 as the one found, which counts as one of them."""
    return float((1 + np.count_nonzero(np.abs(swapped) >= abs(value) - TIE)) / (1 + len(swapped)))


def bootstrap_p(resampled: NDArray[np.float64]) -> float:
    """Twice the share of resampled differences on the rarer side of 0; NaN if none is defined.

    >>> bootstrap_p(np.zeros(99)), bootstrap_p(np.ones(99))
    (1.0, 0.02)
    """
    defined = resampled[~np.isnan(resampled)]
    if len(defined) == 0:
        return math.nan
    rarer = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return float(min(1.0, 2 * (1 + rarer) / (1 + len(defined))))
