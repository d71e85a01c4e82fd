"""Rated pairs: the scores of each set, and the pairs whose ranks by rating and distance differ the most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from heareval.predictions.breakdowns.breakdown import (
    HARDEST,
    Breakdown,
    Case,
    CaseList,
    PairwiseResult,
    PartPlot,
    PartScores,
    PartTable,
    RatedSet,
    RatingPlot,
    score_part,
)
from heareval.predictions.metrics.ratings import PairDistances, RatedPairs
from heareval.predictions.relations.listed import PreparedRatings
from heareval.spec import Ratings

# Least number of pairs that are listed of each set, however many sets there are.
LEAST_OF_SET = 5


@dataclass(frozen=True)
class _Set:
    """The pairs of a set, `(pairs,)` each: numbers of their clips, ratings and distances."""

    name: str
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    ratings: NDArray[np.float64]
    distances: NDArray[np.float64]


def break_down_ratings(result: PairwiseResult, relation: Ratings, prepared: PreparedRatings) -> Breakdown:
    """Return the scores of each set, its hardest pairs, and a map of its distances."""
    reference, distances = prepared.reference, result.measured.distances
    sets, parts, hardest = [], [], []
    names = sorted({pair.group for pair in relation.pairs})
    for group, name in enumerate(names):
        rows = np.flatnonzero(reference.group == group)
        chosen = RatedPairs(
            reference.first[rows],
            reference.second[rows],
            reference.rating[rows],
            np.zeros(len(rows), dtype=np.int64),
            reference.unit,
        )
        predicted = PairDistances(distances[rows])
        part = score_part(result.metrics, {"set": name}, {"pairs": len(rows)}, chosen, predicted)
        first, second = (prepared.used[each] for each in (chosen.first, chosen.second))
        pairs = _Set(name, first, second, chosen.rating, predicted.distances)
        parts.append(part)
        sets.append(_make_map(pairs, part, result.metrics[0]))
        hardest += _find_hardest(result, pairs, max(LEAST_OF_SET, HARDEST // len(names)))
    table = PartTable("sets", "the anchors of each set", tuple(parts))
    cases = CaseList(
        "pairs",
        "the pairs of each set whose ranks by rating and distance, from 0 (most alike) to 1, differ the most",
        tuple(hardest),
    )
    bars = (PartPlot("sets", table, result.metrics[0]),) if len(names) > 1 else ()
    return Breakdown((table,), (cases,), (RatingPlot("distances", result.metrics[0], tuple(sets)), *bars))


def _make_map(pairs: _Set, part: PartScores, metric: str) -> RatedSet:
    return RatedSet(
        pairs.name,
        part.scores[metric],
        _divide_by_largest(pairs.ratings),
        _divide_by_largest(pairs.distances),
    )


def _divide_by_largest(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # As the metrics do.
    return values / (float(values.max()) or 1.0)


def _find_hardest(result: PairwiseResult, pairs: _Set, most: int) -> list[Case]:
    """Return the pairs of a set whose ranks differ, the largest difference first."""
    rated, measured = _rank(pairs.ratings), _rank(pairs.distances)
    difference = np.abs(rated - measured)
    return [
        Case(
            {"first": result.name(pairs.first[row]), "second": result.name(pairs.second[row])},
            {
                "set": pairs.name,
                "rating": float(pairs.ratings[row]),
                "distance": float(pairs.distances[row]),
                "rank_by_rating": float(rated[row]),
                "rank_by_distance": float(measured[row]),
            },
        )
        for row in np.argsort(-difference, kind="stable")[:most]
        if difference[row] > 0
    ]


def _rank(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return average ranks as shares from 0, the smallest, to 1, the largest.

    >>> _rank(np.array([5.0, 1.0, 5.0])).tolist()
    [0.75, 0.0, 0.75]
    """
    return np.asarray((rankdata(values) - 1) / max(len(values) - 1, 1))
