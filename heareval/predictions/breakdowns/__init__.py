"""What lies behind the scores of a pairwise task: scores of its parts, and its hardest cases.

Most of it follows from what is stored beside the scores. The clips that are nearest or farthest are found in
the embeddings again; if these are gone or have changed, the breakdown says so and holds what can be known
without them. A further relation is one more file, and a case in `break_down`.
"""

from __future__ import annotations

import functools
from typing import Any

from heareval.predictions.breakdowns.abx import break_down_abx
from heareval.predictions.breakdowns.breakdown import (
    Breakdown,
    Case,
    CaseList,
    ErrorPlot,
    PairwiseResult,
    PartPlot,
    PartScores,
    PartTable,
    Plot,
    RatedSet,
    RatingPlot,
)
from heareval.predictions.breakdowns.ratings import break_down_ratings
from heareval.predictions.breakdowns.retrieval import break_down_retrieval
from heareval.predictions.breakdowns.same_different import break_down_same_different, break_down_same_pairs
from heareval.predictions.breakdowns.triplets import break_down_triplets
from heareval.predictions.distances import CPU
from heareval.predictions.kinds import PairwiseKind
from heareval.predictions.stored import StoredResult
from heareval.spec import Abx, Ratings, Retrieval, SameDifferent, SamePairs, Triplets

__all__ = [
    "Breakdown",
    "Case",
    "CaseList",
    "ErrorPlot",
    "PartPlot",
    "PartScores",
    "PartTable",
    "Plot",
    "RatedSet",
    "RatingPlot",
    "break_down",
]


def break_down(result: StoredResult, kind: PairwiseKind) -> Breakdown:
    """Return what lies behind the scores of a pairwise task.

    Args:
        kind: the kind of the result's task.
    """
    ((fold,),) = result.runs
    settings = result.scores.runs[0].settings
    predictions: Any = fold.predictions
    scored = PairwiseResult(
        kind.order.clips,
        result.scores.metrics,
        predictions.measured,
        functools.partial(kind.open_clips, settings["distance"], CPU),
    )
    prepared: Any = kind.relation
    match result.task.relation:
        case Retrieval() as relation:
            return break_down_retrieval(scored, relation, prepared)
        case Abx() as relation:
            return break_down_abx(scored, relation, prepared)
        case Ratings() as relation:
            return break_down_ratings(scored, relation, prepared)
        case SameDifferent() as relation:
            return break_down_same_different(scored, relation, prepared)
        case SamePairs():
            return break_down_same_pairs(scored, prepared)
        case Triplets():
            return break_down_triplets(scored, prepared)
        case None:
            raise ValueError(f"task {result.task.name} has no relation between clips")
