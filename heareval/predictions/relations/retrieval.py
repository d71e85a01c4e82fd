"""Retrieval: which items of a gallery each query searches, and which of them are right."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from heareval.formats.results_folder import StoredArray
from heareval.formats.scores import QUERY, ResampledUnits
from heareval.predictions.metrics.retrieval import RETRIEVAL_METRICS, Queries, QueryValues
from heareval.predictions.ranking import chance_of_queries, rank_queries
from heareval.predictions.relations.prepared import (
    EmbeddedClips,
    Indices,
    NumberedClips,
    PreparedRelation,
    count_units,
    nothing_to_score,
)
from heareval.spec import Retrieval

# Pairs of a query and an item of the gallery that are looked at together.
MASKED_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Search:
    """Which items each query searches, and which of them are right.

    Args:
        queries: the clips that search, `(queries,)`.
        gallery: the clips that are searched, `(items,)`.
        relevant: value of the attribute that makes an item right, `(clips,)`.
        differ: values of the attributes in which a query and its items differ, `(clips,)` each.
        within: values of the attributes in which they are equal, `(clips,)` each.
    """

    queries: Indices
    gallery: Indices
    relevant: Indices
    differ: tuple[Indices, ...]
    within: tuple[Indices, ...]

    def is_candidate(self, rows: slice) -> NDArray[np.bool_]:
        """Return which items some queries search, `(queries, items)`."""
        queries = self.queries[rows]
        mask = queries[:, None] != self.gallery
        for values in self.differ:
            mask &= values[queries][:, None] != values[self.gallery]
        for values in self.within:
            mask &= values[queries][:, None] == values[self.gallery]
        return np.asarray(mask)

    def is_relevant(self, rows: slice) -> NDArray[np.bool_]:
        """Return which items have the value of some queries, `(queries, items)`."""
        return np.asarray(self.relevant[self.queries[rows]][:, None] == self.relevant[self.gallery])

    def count(self) -> tuple[Indices, Indices]:
        """Return the number of items that each query searches, and of right ones among them, `(queries,)`."""
        candidates, right = np.zeros((2, len(self.queries)), dtype=np.int64)
        at_once = max(1, MASKED_AT_ONCE // max(len(self.gallery), 1))
        for start in range(0, len(self.queries), at_once):
            rows = slice(start, start + at_once)
            mask = self.is_candidate(rows)
            candidates[rows] = mask.sum(axis=1)
            right[rows] = (mask & self.is_relevant(rows)).sum(axis=1)
        return candidates, right


@dataclass(frozen=True)
class PreparedRetrieval(PreparedRelation):
    """Queries that have something to find."""

    reference: Queries
    search: Search
    measured_type: ClassVar[type[Any]] = QueryValues

    def measure(self, embedded: EmbeddedClips) -> QueryValues:
        ranked = rank_queries(
            embedded.clips.select(self.search.queries),
            embedded.clips.select(self.search.gallery),
            embedded.distance,
            self.search.is_candidate,
            self.search.is_relevant,
            device=embedded.device,
            progress=embedded.progress,
        )
        return QueryValues(np.stack([ranked.values[name] for name in RETRIEVAL_METRICS]))

    def describe_arrays(self) -> Mapping[str, StoredArray]:
        return {"values": StoredArray("f", self.reference.chance.shape)}


def prepare_retrieval(relation: Retrieval, clips: NumberedClips) -> PreparedRelation:
    """Return queries and a gallery, prepared. Raise HearevalError if nothing can be scored."""
    every = np.arange(len(clips.clips))
    queries = gallery = every
    if relation.role:
        roles = np.array(clips.values(relation.role))
        queries, gallery = every[roles != "gallery"], every[roles != "query"]
    asked = Search(
        queries,
        gallery,
        clips.number(relation.relevant),
        tuple(map(clips.number, relation.differ)),
        tuple(map(clips.number, relation.within)),
    )
    candidates, right = asked.count()
    used = right > 0
    if not used.any():
        raise nothing_to_score("queries with something to find", "at least one query with a relevant clip")
    kept = queries[used]
    unit = clips.number(relation.unit, kept)
    group = clips.number(relation.average, kept) if relation.average else np.zeros(len(kept), dtype=np.int64)
    left_out = len(queries) - len(kept)
    random_order = chance_of_queries(candidates[used], right[used])
    chance = np.stack([random_order[name] for name in RETRIEVAL_METRICS])
    told = f"left out: {left_out} of {len(queries)} queries, which search nothing that is relevant to them"
    return PreparedRetrieval(
        Queries(unit, group, chance, left_out),
        ResampledUnits(relation.unit or QUERY, count_units(unit)),
        (told,) if left_out else (),
        dataclasses.replace(asked, queries=kept),
    )
