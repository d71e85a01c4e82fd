"""Same or different: the scores of each class, and the pairs that are farthest from where they should be.

All pairs of a task may be too many to be held, so they are looked at block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
from heareval.predictions.distances import iterate_distances, iterate_pairs
from heareval.predictions.metrics.same_different import (
    PairHistogram,
    UnitPairs,
    bin_distances,
    find_edges,
    pair_auc,
)
from heareval.predictions.relations import EmbeddedClips
from heareval.predictions.relations.same_different import (
    LISTED_PAIRS,
    PAIR_BLOCK_BYTES,
    PreparedSameDifferent,
    PreparedSamePairs,
)
from heareval.spec import SameDifferent

# Distances are counted in at most this many ranges. Scores of classes are then right to about 0.001.
MOST_RANGES = 2000
# Counts of distances by class and range that are held.
MOST_COUNTS = 1 << 23
# Clips whose pairs decide where the ranges lie.
SAMPLED_CLIPS = 600


@dataclass(frozen=True)
class _Pairs:
    """Some pairs of clips, `(pairs,)` each: numbers of their clips, whether they are the same, distances."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    is_same: NDArray[np.bool_]
    distances: NDArray[np.float64]

    def select(self, rows: NDArray[np.int64]) -> _Pairs:
        return _Pairs(self.first[rows], self.second[rows], self.is_same[rows], self.distances[rows])

    def join(self, other: _Pairs) -> _Pairs:
        return _Pairs(
            np.concatenate([self.first, other.first]),
            np.concatenate([self.second, other.second]),
            np.concatenate([self.is_same, other.is_same]),
            np.concatenate([self.distances, other.distances]),
        )

    def find_hardest(self) -> _Pairs:
        """Return the farthest pairs that are the same, then the nearest that are different."""
        chosen = []
        for is_same, sign in ((True, -1), (False, 1)):
            rows = np.flatnonzero(self.is_same == is_same)
            keys = sign * self.distances[rows]
            if len(rows) > HARDEST:
                # Of equal distances, the order of the clips decides, whatever the size of the blocks.
                is_hard = keys <= np.partition(keys, HARDEST - 1)[HARDEST - 1]
                rows, keys = rows[is_hard], keys[is_hard]
            order = np.lexsort((self.second[rows], self.first[rows], keys))
            chosen.append(rows[order[:HARDEST]])
        return self.select(np.concatenate(chosen))


@dataclass
class _Hardest:
    """The hardest of the pairs that were added so far."""

    pairs: _Pairs | None = None

    def add(self, pairs: _Pairs) -> None:
        hardest = pairs.find_hardest()
        self.pairs = hardest if self.pairs is None else self.pairs.join(hardest).find_hardest()


def break_down_same_pairs(result: PairwiseResult, prepared: PreparedSamePairs) -> Breakdown:
    """Return the hardest of listed pairs, whose distances are stored."""
    distances = np.empty(len(prepared.first))
    distances[result.measured.group] = result.measured.distance
    pairs = _Pairs(prepared.first, prepared.second, prepared.reference.is_same, distances)
    return Breakdown(cases=_list_hardest(result, pairs.find_hardest()))


def break_down_same_different(
    result: PairwiseResult, relation: SameDifferent, prepared: PreparedSameDifferent
) -> Breakdown:
    """Return the scores of each class, and the hardest of all pairs."""
    hardest = _Hardest()
    try:
        histogram = _count_by_class(prepared, result.open_clips(), hardest)
        _check_unchanged(result, prepared, histogram)
    except HearevalError as error:
        return Breakdown(left_out=(f"the classes and the hardest pairs are left out: {error}",))
    classes = _score_classes(result, relation, prepared, histogram)
    cases = _list_hardest(result, hardest.pairs) if hardest.pairs else ()
    return Breakdown((classes,), cases, (PartPlot("classes", classes, result.metrics[0]),))


def _count_by_class(
    prepared: PreparedSameDifferent, embedded: EmbeddedClips, hardest: _Hardest
) -> PairHistogram:
    """Count the distances of all pairs by class, and keep the hardest pairs.

    The same pairs of class c are group 2 c. Its different pairs, those with one clip of the class, are group
    2 c + 1, so every different pair is in two groups.
    """
    values = prepared.pairs.same
    groups = 2 * (int(values.max()) + 1)

    def iterate_groups() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        for pairs in _iterate_pairs(prepared, embedded):
            hardest.add(pairs)
            is_different = ~pairs.is_same
            of_second = 2 * values[pairs.second[is_different]] + 1
            group = np.concatenate([2 * values[pairs.first] + is_different, of_second])
            yield group, np.concatenate([pairs.distances, pairs.distances[is_different]])

    if prepared.count <= LISTED_PAIRS:
        group, distances = (np.concatenate(each) for each in zip(*iterate_groups(), strict=True))
        return PairHistogram(group, distances, np.ones(len(group), dtype=np.int64), np.zeros(0))
    ranges = min(MOST_RANGES, max(2, MOST_COUNTS // groups))
    edges = find_edges(*_sample_distances(prepared, embedded), ranges)
    return bin_distances(iterate_groups(), edges, groups, np.zeros(0))


def _iterate_pairs(prepared: PreparedSameDifferent, embedded: EmbeddedClips) -> Iterator[_Pairs]:
    values = prepared.pairs.same
    for block in iterate_pairs(
        embedded.clips, embedded.distance, device=embedded.device, block_bytes=PAIR_BLOCK_BYTES
    ):
        row, column = prepared.pairs.list(block.first_query, len(block.distances))
        first, second = block.first_query + row, block.first_query + column
        yield _Pairs(first, second, values[first] == values[second], block.distances[row, column])


def _sample_distances(
    prepared: PreparedSameDifferent, embedded: EmbeddedClips
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distances of same and of different pairs of some clips, spread evenly over all."""
    every = len(embedded.clips)
    chosen = np.unique(np.linspace(0, every - 1, min(every, SAMPLED_CLIPS)).astype(np.int64))
    clips = embedded.clips.select(chosen)
    (block,) = iterate_distances(clips, clips, embedded.distance, device=embedded.device)
    row, column = np.triu_indices(len(chosen), 1)
    is_pair = np.ones(len(row), dtype=bool)
    for values in prepared.pairs.differ:
        is_pair &= values[chosen[row]] != values[chosen[column]]
    row, column = row[is_pair], column[is_pair]
    is_same = prepared.pairs.same[chosen[row]] == prepared.pairs.same[chosen[column]]
    return block.distances[row, column][is_same], block.distances[row, column][~is_same]


def _check_unchanged(
    result: PairwiseResult, prepared: PreparedSameDifferent, histogram: PairHistogram
) -> None:
    """Raise HearevalError if all pairs have another AUC than those that were scored."""
    is_same = np.arange(int(histogram.group.max()) + 1) % 2 == 0
    groups = np.zeros(len(is_same), dtype=np.int64)
    # Every different pair counts twice, which leaves the AUC as it is.
    everything = UnitPairs(groups, groups, is_same, groups, 1)
    stored = pair_auc(prepared.reference, result.measured)
    check_same_values("AUC of all pairs", np.array(stored), np.array(pair_auc(everything, histogram)))


def _score_classes(
    result: PairwiseResult,
    relation: SameDifferent,
    prepared: PreparedSameDifferent,
    histogram: PairHistogram,
) -> PartTable:
    parts = []
    values, firsts = np.unique(prepared.pairs.same, return_index=True)
    order = np.argsort(histogram.group, kind="stable")
    starts = np.searchsorted(histogram.group[order], 2 * np.append(values, len(values)))
    for value, first in zip(values, firsts, strict=True):
        rows = order[starts[value] : starts[value + 1]]
        group, count = histogram.group[rows] - 2 * value, histogram.count[rows]
        pairs = np.bincount(group, weights=count, minlength=2).astype(np.int64)
        zeros = np.zeros(2, dtype=np.int64)
        parts.append(
            score_part(
                result.metrics,
                {"class": result.value(first, relation.same)},
                {"same_pairs": int(pairs[0]), "different_pairs": int(pairs[1])},
                UnitPairs(zeros, zeros, np.array([True, False]), pairs, 1),
                PairHistogram(group, histogram.distance[rows], count, np.zeros(0)),
            )
        )
    return PartTable("classes", f"the pairs of each {relation.same}", tuple(parts))


def _list_hardest(result: PairwiseResult, pairs: _Pairs) -> tuple[CaseList, ...]:
    found = []
    for is_same, name, order in (
        (True, "same_pairs", "pairs that are the same, the farthest first"),
        (False, "different_pairs", "pairs that are different, the nearest first"),
    ):
        cases = [
            Case(
                {"first": result.name(pairs.first[row]), "second": result.name(pairs.second[row])},
                {"distance": float(pairs.distances[row])},
            )
            for row in np.flatnonzero(pairs.is_same == is_same)
        ]
        found.append(CaseList(name, order, tuple(cases)))
    return tuple(found)
