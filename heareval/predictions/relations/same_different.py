"""Pairs of clips that are the same or different: listed ones, and all pairs of a split."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from heareval.errors import HearevalError
from heareval.formats.results_folder import StoredArray
from heareval.formats.scores import TEST_CLIP, ResampledUnits
from heareval.predictions.distances import iterate_pairs, measure_pairs
from heareval.predictions.metrics.same_different import (
    BINS,
    PairHistogram,
    UnitPairs,
    bin_distances,
    find_edges,
    score_all,
)
from heareval.predictions.relations.prepared import (
    EmbeddedClips,
    Indices,
    NumberedClips,
    PreparedRelation,
    count_units,
    nothing_to_score,
    number_units,
)
from heareval.spec import SameDifferent, SamePairs

# Of at most this many pairs, every distance is kept; of more, how many are in each range of distances.
LISTED_PAIRS = 20_000
# Counts of pairs by unit pair and range of distances that are held at a time.
MOST_COUNTS = 1 << 24
# Distances of same and of different pairs that make the ranges.
SAMPLED_DISTANCES = 100_000
# Distances that are counted at a time.
BINNED_AT_ONCE = 1 << 20
# Bytes of distances of a block of pairs; what is computed of them takes several times as much.
PAIR_BLOCK_BYTES = 16 << 20


def _describe_histogram(rows: int | None, *, scores: int) -> Mapping[str, StoredArray]:
    return {
        "group": StoredArray("i", (rows,)),
        "distance": StoredArray("f", (rows,)),
        "count": StoredArray("i", (rows,)),
        "exact": StoredArray("f", (scores,)),
    }


def _check_both(same: int, different: int) -> None:
    if not same or not different:
        missing = "pairs that are the same" if not same else "pairs that are different"
        raise nothing_to_score(missing, "at least one pair that is the same, and one that is different")


# --------------------------------------------------------------------------- listed pairs


@dataclass(frozen=True)
class PreparedSamePairs(PreparedRelation):
    """Listed pairs that are the same or different.

    Args:
        first: one clip of each pair, `(pairs,)`.
        second: the other clip.
    """

    reference: UnitPairs
    first: Indices
    second: Indices
    measured_type: ClassVar[type[Any]] = PairHistogram

    def measure(self, embedded: EmbeddedClips) -> PairHistogram:
        pairs = len(self.first)
        distances = measure_pairs(
            embedded.clips, self.first, self.second, embedded.distance, progress=embedded.progress
        )
        return PairHistogram(np.arange(pairs), distances, np.ones(pairs, dtype=np.int64), np.zeros(0))

    def describe_arrays(self) -> Mapping[str, StoredArray]:
        return _describe_histogram(len(self.first), scores=0)


def prepare_same_pairs(relation: SamePairs, clips: NumberedClips) -> PreparedRelation:
    """Return listed pairs, prepared. Raise HearevalError if nothing can be scored."""
    numbers = np.array([[clips.place[pair.first], clips.place[pair.second]] for pair in relation.pairs])
    is_same = np.array([pair.is_same for pair in relation.pairs], dtype=bool)
    _check_both(int(is_same.sum()), int((~is_same).sum()))
    used, places = np.unique(numbers, return_inverse=True)
    places = places.reshape(numbers.shape)
    unit, name = number_units(clips, relation.unit, used, places)
    units = ResampledUnits(name, count_units(unit))
    first, second = unit[places].T
    reference = UnitPairs(first, second, is_same, np.ones(len(is_same), dtype=np.int64), units.count)
    return PreparedSamePairs(reference, units, (), *numbers.T)


# --------------------------------------------------------------------------- all pairs


@dataclass(frozen=True)
class AllPairs:
    """All pairs of clips that differ in some attributes.

    Args:
        same: value of the attribute that may be the same, `(clips,)`.
        differ: value of each attribute in which the clips of a pair differ, `(clips,)` each.
        unit: unit of each clip, `(clips,)`.
    """

    same: Indices
    differ: tuple[Indices, ...]
    unit: Indices

    @property
    def units(self) -> int:
        return count_units(self.unit)

    def list(self, start: int, rows: int) -> tuple[Indices, Indices]:
        """Return the pairs of some clips with later ones: row and column in the block, `(pairs,)` each."""
        row, column = np.triu_indices(rows, 1, len(self.same) - start)
        for values in self.differ:
            is_pair = values[start + row] != values[start + column]
            row, column = row[is_pair], column[is_pair]
        return row, column

    def find_keys(self, first: Indices, second: Indices) -> Indices:
        """Return a number for the two units of each pair, and whether the pair is the same, `(pairs,)`."""
        units = np.minimum(self.unit[first], self.unit[second]) * self.units
        units += np.maximum(self.unit[first], self.unit[second])
        return np.asarray(2 * units + (self.same[first] == self.same[second]))

    def iterate_keys(self) -> Iterator[Indices]:
        clips = len(self.same)
        rows = max(1, PAIR_BLOCK_BYTES // (8 * clips))
        for start in range(0, clips, rows):
            row, column = self.list(start, min(rows, clips - start))
            yield self.find_keys(start + row, start + column)


@dataclass
class _MeasuredPairs:
    """The pairs that are the same, or those that are different, added block after block.

    Args:
        group: index of the group of the reference, `(pairs,)`.
        distances: `(pairs,)`.
        added: number of pairs so far.
    """

    group: NDArray[np.int32]
    distances: NDArray[np.float64]
    added: int = 0

    @classmethod
    def empty(cls, pairs: int) -> _MeasuredPairs:
        """Return room for this many pairs."""
        return cls(np.empty(pairs, dtype=np.int32), np.empty(pairs))

    def add(self, group: Indices, distances: NDArray[np.float64]) -> None:
        """Add some pairs."""
        added = slice(self.added, self.added + len(group))
        self.group[added], self.distances[added] = group, distances
        self.added = added.stop

    def sample(self, most: int) -> NDArray[np.float64]:
        """Return about this many distances, evenly spread over the pairs, or all if there are fewer."""
        return self.distances[:: 1 + self.added // most]

    def iterate_parts(self) -> Iterator[tuple[Indices, NDArray[np.float64]]]:
        """Yield group and distance of some pairs at a time."""
        for start in range(0, self.added, BINNED_AT_ONCE):
            part = slice(start, start + BINNED_AT_ONCE)
            yield self.group[part].astype(np.int64), self.distances[part]


@dataclass(frozen=True)
class PreparedSameDifferent(PreparedRelation):
    """All pairs of clips.

    Args:
        keys: the key of each group of the reference, sorted, `(groups,)`.
    """

    reference: UnitPairs
    pairs: AllPairs
    keys: Indices
    measured_type: ClassVar[type[Any]] = PairHistogram

    @property
    def count(self) -> int:
        """Return the number of pairs."""
        return int(self.reference.pairs.sum())

    def measure(self, embedded: EmbeddedClips) -> PairHistogram:
        # Only one array of all distances at a time: with thousands of clips, a second one is hundreds of MB.
        same, different = (_MeasuredPairs.empty(pairs) for pairs in self._count_both())
        for block in iterate_pairs(
            embedded.clips,
            embedded.distance,
            device=embedded.device,
            block_bytes=PAIR_BLOCK_BYTES,
            progress=embedded.progress,
        ):
            start, rows = block.first_query, len(block.distances)
            row, column = self.pairs.list(start, rows)
            group = np.searchsorted(self.keys, self.pairs.find_keys(start + row, start + column))
            distances, is_same = block.distances[row, column], self.reference.is_same[group]
            same.add(group[is_same], distances[is_same])
            different.add(group[~is_same], distances[~is_same])
        if self.count <= LISTED_PAIRS:
            group = np.concatenate([same.group, different.group]).astype(np.int64)
            distances = np.concatenate([same.distances, different.distances])
            return PairHistogram(group, distances, np.ones(self.count, dtype=np.int64), np.zeros(0))
        edges = find_edges(same.sample(SAMPLED_DISTANCES), different.sample(SAMPLED_DISTANCES))
        parts = itertools.chain(same.iterate_parts(), different.iterate_parts())
        histogram = bin_distances(parts, edges, len(self.keys), np.zeros(0))
        # The last range has no end, which a file of finite numbers can't hold.
        farthest = max(same.distances.max(), different.distances.max())
        exact = np.array(score_all(same.distances, different.distances))
        return dataclasses.replace(histogram, distance=np.minimum(histogram.distance, farthest), exact=exact)

    def _count_both(self) -> tuple[int, int]:
        """Return the number of same and of different pairs."""
        same = int(self.reference.pairs[self.reference.is_same].sum())
        return same, self.count - same

    def describe_arrays(self) -> Mapping[str, StoredArray]:
        is_listed = self.count <= LISTED_PAIRS
        return _describe_histogram(self.count if is_listed else None, scores=0 if is_listed else 3)


def prepare_same_different(relation: SameDifferent, clips: NumberedClips) -> PreparedRelation:
    """Return all pairs of clips, prepared. Raise HearevalError if nothing can be scored."""
    pairs = AllPairs(
        clips.number(relation.same),
        tuple(clips.number(attribute) for attribute in relation.differ),
        clips.number(relation.unit),
    )
    units = ResampledUnits(relation.unit or TEST_CLIP, pairs.units)
    possible = 2 * pairs.units**2
    total = len(clips.clips) * (len(clips.clips) - 1) // 2
    if total > LISTED_PAIRS and possible // 2 * BINS > MOST_COUNTS:
        raise HearevalError(
            "units of the relation between clips",
            got=str(units),
            expected=f"at most {int((MOST_COUNTS / BINS) ** 0.5)}, so that all pairs can be resampled",
            remedy="Name an attribute with fewer values as `unit`, such as the speaker.",
        )
    counts = np.zeros(possible, dtype=np.int64)
    for keys in pairs.iterate_keys():
        counts += np.bincount(keys, minlength=possible)
    keys = np.flatnonzero(counts)
    is_same, joined = keys % 2 == 1, keys // 2
    _check_both(int(counts[keys][is_same].sum()), int(counts[keys][~is_same].sum()))
    first, second = np.divmod(joined, pairs.units)
    reference = UnitPairs(first, second, is_same, counts[keys], pairs.units)
    return PreparedSameDifferent(reference, units, (), pairs, keys)
