"""Two-sided p-values for equal performance of two submissions on the same clips.

Scores that are ratios of sums over clips use a permutation test: the predictions of A and B are swapped at
random in every clip, which changes nothing on average if both perform equally. Scores that rank clips
don't, because a swap would mix the probabilities of two models in one ranking; their p-value comes from the
bootstrap. Of several p-values some are small by chance alone, so they are corrected for their number.

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
# What each clip adds to a score, for each seed and fold.
ClipSumsOfRuns = Sequence[Sequence[ClipSums]]
# Differences closer than this count as equal, because sums are rounded.
TIE = 1e-12


def permute_differences(
    a: ClipSumsOfRuns, b: ClipSumsOfRuns, *, seed: int, permutations: int = PERMUTATIONS
) -> NDArray[np.float64]:
    """Return the difference of scores after random swaps of A and B in every clip, `(permutations,)`.

    Args:
        a: what each clip adds to A's score, for each seed and fold. The score is the mean over both.
        b: the same for B.
    """
    (differences,) = permute_pairs([(a, b)], seed=seed, permutations=permutations)
    return np.asarray(differences)


def permute_pairs(
    pairs: Sequence[tuple[ClipSumsOfRuns, ClipSumsOfRuns]], *, seed: int, permutations: int = PERMUTATIONS
) -> NDArray[np.float64]:
    """Return what `permute_differences` returns for each pair, `(pairs, permutations)`, in one go.

    Args:
        pairs: scores on the same clips, of any metrics. All have the same number of seeds.
    """
    runs, folds = len(pairs[0][0]), len(pairs[0][0][0])
    total = np.zeros((len(pairs) * runs, permutations))
    for fold in range(folds):
        # The swaps depend only on the fold: a clip is swapped for all seeds together.
        rng = np.random.default_rng([seed, fold])
        of_fold = [(run_a[fold], run_b[fold]) for a, b in pairs for run_a, run_b in zip(a, b, strict=True)]
        total += _permute_fold(of_fold, rng, permutations)
    return np.asarray(total.reshape(len(pairs), runs, permutations).sum(axis=1) / (runs * folds))


def _permute_fold(
    pairs: Sequence[tuple[ClipSums, ClipSums]], rng: np.random.Generator, permutations: int
) -> NDArray[np.float64]:
    """Return the differences of one fold, `(pairs, permutations)`."""
    # Most pairs share their scores with other pairs. What a swap changes is a difference of sums over the
    # swapped clips, which are computed once for each score.
    scores = {id(score): score for pair in pairs for score in pair}
    places = {key: place for place, key in enumerate(scores)}
    a, b = ([places[id(pair[side])] for pair in pairs] for side in (0, 1))
    # (scores, 2, clips)
    sums = np.array([[each.numerator, each.denominator] for each in scores.values()])
    totals = sums.sum(axis=2)[:, :, None]
    # The support comes from the references, which swaps don't change.
    support = np.array([[one.support.sum()] for one, _ in pairs])
    blocks = []
    for swaps in _draw_swaps(sums.shape[-1], permutations, rng):
        swapped = (sums.reshape(-1, len(swaps)) @ swaps).reshape(len(sums), 2, -1)
        moved = swapped[b] - swapped[a]
        permuted_a, permuted_b = totals[a] + moved, totals[b] - moved
        blocks.append(
            divide(permuted_a[:, 0], permuted_a[:, 1], support)
            - divide(permuted_b[:, 0], permuted_b[:, 1], support)
        )
    return np.concatenate(blocks, axis=1)


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


def correct_by_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's method, in their order.

    The chance that any difference of equally good submissions gets a corrected p below 0.05 is at most 0.05,
    however the tests depend on each other. Undefined values stay undefined and are not counted.

    Holm: A Simple Sequentially Rejective Multiple Test Procedure, 1979.

    >>> correct_by_holm([0.25, 0.01, 0.02])
    [0.25, 0.03, 0.04]
    """
    defined = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(defined):
        largest = max(largest, min(1.0, (len(defined) - rank) * p))
        corrected[place] = largest
    return corrected
