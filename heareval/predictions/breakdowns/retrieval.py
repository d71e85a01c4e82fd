"""Retrieval: the scores of each class of queries, and the queries that find worst what they should."""

from __future__ import annotations

import numpy as np

from heareval.errors import HearevalError
from heareval.predictions.breakdowns.breakdown import (
    HARDEST,
    Breakdown,
    Case,
    CaseList,
    PairwiseResult,
    PartPlot,
    PartTable,
    check_same_values,
    score_part,
)
from heareval.predictions.metrics.retrieval import RETRIEVAL_METRICS, Queries, QueryValues
from heareval.predictions.ranking import RankedQueries, rank_queries
from heareval.predictions.relations.retrieval import PreparedRetrieval
from heareval.spec import Retrieval


def break_down_retrieval(
    result: PairwiseResult, relation: Retrieval, prepared: PreparedRetrieval
) -> Breakdown:
    """Return the scores of each class of queries, and the hardest queries with the clips nearest to them."""
    classes = _score_classes(result, relation, prepared)
    plots = (PartPlot("classes", classes, result.metrics[0]),)
    try:
        hardest = _find_hardest(result, relation, prepared)
    except HearevalError as error:
        return Breakdown((classes,), (), plots, (f"the hardest queries are left out: {error}",))
    return Breakdown((classes,), (hardest,), plots)


def _score_classes(result: PairwiseResult, relation: Retrieval, prepared: PreparedRetrieval) -> PartTable:
    reference, values = prepared.reference, result.measured.values
    of_queries = np.array([result.value(query, relation.relevant) for query in prepared.search.queries])
    parts = []
    for name in np.unique(of_queries):
        rows = np.flatnonzero(of_queries == name)
        chosen = Queries(reference.unit[rows], np.zeros(len(rows), dtype=np.int64), reference.chance[:, rows])
        parts.append(
            score_part(
                result.metrics,
                {"class": str(name)},
                {"queries": len(rows)},
                chosen,
                QueryValues(values[:, rows]),
            )
        )
    about = f"the queries of each {relation.relevant}"
    return PartTable("classes", about, tuple(parts))


def _find_hardest(result: PairwiseResult, relation: Retrieval, prepared: PreparedRetrieval) -> CaseList:
    """Return the queries with the lowest value of the first metric, then the lowest reciprocal rank."""
    embedded, search = result.open_clips(), prepared.search
    ranked = rank_queries(
        embedded.clips.select(search.queries),
        embedded.clips.select(search.gallery),
        embedded.distance,
        search.is_candidate,
        search.is_relevant,
        device=embedded.device,
    )
    found = np.stack([ranked.values[name] for name in RETRIEVAL_METRICS])
    check_same_values("scores of the queries", result.measured.values, found)
    first = result.metrics[0]
    order = np.lexsort((ranked.values["mrr"], ranked.values[first]))[:HARDEST]
    then = "" if first == "mrr" else ", then those whose nearest right clip has the lowest reciprocal rank"
    return CaseList(
        "queries",
        f"those of the lowest {first} first{then}",
        tuple(_describe(result, prepared, ranked, query) for query in order),
    )


def _describe(result: PairwiseResult, prepared: PreparedRetrieval, ranked: RankedQueries, query: int) -> Case:
    search = prepared.search
    clips = {"query": result.name(search.queries[query])}
    values: dict[str, float | str] = {name: float(ranked.values[name][query]) for name in result.metrics}
    for role, nearest, distances in (
        ("nearest_right", ranked.nearest_right, ranked.distances_right),
        ("nearest_wrong", ranked.nearest_wrong, ranked.distances_wrong),
    ):
        # A query may search right clips only.
        if nearest[query] >= 0:
            clips[role] = result.name(search.gallery[nearest[query]])
            values[f"distance_of_{role}"] = float(distances[query])
    return Case(clips, values)
