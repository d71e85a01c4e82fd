"""Relations between clips, prepared for the metrics: what is compared, what is measured, what is resampled.

Clips are numbered in the order of their names, so the order in the task's files never matters.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from heareval.errors import HearevalError
from heareval.formats.labels import LabeledClip
from heareval.formats.results_folder import StoredArray
from heareval.predictions.distances import ClipEmbeddings, iterate_distances, iterate_pairs, measure_pairs
from heareval.predictions.metrics.abx import AbxCells, AbxOutcomes, find_outcomes
from heareval.predictions.metrics.ratings import PairDistances, RatedPairs
from heareval.predictions.metrics.retrieval import (
    RETRIEVAL_METRICS,
    Queries,
    QueryValues,
)
from heareval.predictions.metrics.same_different import (
    BINS,
    PairHistogram,
    UnitPairs,
    bin_distances,
    find_edges,
    score_all,
)
from heareval.predictions.metrics.triplets import ListedTriplets, TripletDistances
from heareval.predictions.protocol import Distance
from heareval.predictions.ranking import chance_of_queries, rank_queries
from heareval.spec import (
    Abx,
    Progress,
    Ratings,
    Relation,
    Retrieval,
    SameDifferent,
    SamePairs,
    Triplets,
    ignore_progress,
)

Indices = NDArray[np.int64]
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
# Pairs of a query and an item of the gallery that are looked at together.
MASKED_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class PreparedRelation(ABC):
    """A relation between the clips of a split.

    Args:
        reference: what the metrics compare measurements with.
        units: number of units that bootstrap resamples hold or leave out.
        problems: sentences on what is left out.
    """

    reference: Any
    units: int
    problems: tuple[str, ...]

    # The dataclass of arrays that `measure` returns.
    measured_type: ClassVar[type[Any]]

    @abstractmethod
    def measure(
        self,
        clips: ClipEmbeddings,
        distance: Distance,
        *,
        device: torch.device,
        progress: Progress = ignore_progress,
    ) -> Any:
        """Return what the metrics compare with the reference.

        Args:
            clips: all clips of the split, in the order of their names.
            device: what computes the distances.
        """

    @abstractmethod
    def describe_arrays(self) -> Mapping[str, StoredArray]:
        """Return what the arrays of a measurement must be, by name."""


def prepare_relation(relation: Relation, clips: Sequence[LabeledClip]) -> PreparedRelation:
    """Return a relation between clips as the metrics take it.

    Args:
        clips: all clips of the split, in the order of their names.

    Raises:
        HearevalError: nothing can be scored.
    """
    numbered = _Clips(tuple(clips))
    match relation:
        case Ratings():
            return _prepare_ratings(relation, numbered)
        case Triplets():
            return _prepare_triplets(relation, numbered)
        case SamePairs():
            return _prepare_same_pairs(relation, numbered)
        case SameDifferent():
            return _prepare_same_different(relation, numbered)
        case Retrieval():
            return _prepare_retrieval(relation, numbered)
        case Abx():
            return _prepare_abx(relation, numbered)


def name_unit(relation: Relation) -> str:
    """Return what the confidence intervals of a relation resample, "" for clips.

    >>> name_unit(Triplets((), unit="speaker"))
    'speaker'
    """
    return "" if isinstance(relation, Abx) else relation.unit


@dataclass(frozen=True)
class _Clips:
    """Clips in the order of their names."""

    clips: tuple[LabeledClip, ...]

    @functools.cached_property
    def place(self) -> Mapping[str, int]:
        """The number of each clip by its id."""
        return {clip.name.removesuffix(".wav"): number for number, clip in enumerate(self.clips)}

    def number(self, attribute: str, numbers: Indices | None = None) -> Indices:
        """Return the values of an attribute as numbers from 0, `(clips,)`; "" numbers the clips themselves.

        Args:
            numbers: the clips; None means all.
        """
        chosen = np.arange(len(self.clips)) if numbers is None else numbers
        if not attribute:
            return np.unique(chosen, return_inverse=True)[1].reshape(-1)
        values = [self.clips[number].attributes[attribute] for number in chosen]
        return np.unique(np.array(values, dtype=np.str_), return_inverse=True)[1].reshape(-1).astype(np.int64)

    def values(self, attribute: str) -> tuple[str, ...]:
        return tuple(clip.attributes[attribute] for clip in self.clips)


def _nothing(what: str, expected: str) -> HearevalError:
    remedy = "Check the attributes of the clips and the relation, or prepare more of the task."
    return HearevalError(f"{what} of the task", got="none", expected=expected, remedy=remedy)


def _count_units(unit: Indices) -> int:
    return int(unit.max(initial=-1)) + 1


# --------------------------------------------------------------------------- ratings and triplets


@dataclass(frozen=True)
class _Ratings(PreparedRelation):
    """Rated pairs.

    Args:
        used: the clips that the reference numbers, `(used clips,)`.
    """

    reference: RatedPairs
    used: Indices
    measured_type: ClassVar[type[Any]] = PairDistances

    def measure(
        self,
        clips: ClipEmbeddings,
        distance: Distance,
        *,
        device: torch.device,
        progress: Progress = ignore_progress,
    ) -> PairDistances:
        first, second = self.used[self.reference.first], self.used[self.reference.second]
        return PairDistances(measure_pairs(clips, first, second, distance))

    def describe_arrays(self) -> Mapping[str, StoredArray]:
        return {"distances": StoredArray("f", self.reference.rating.shape)}


def _prepare_ratings(relation: Ratings, clips: _Clips) -> PreparedRelation:
    if not relation.pairs:
        raise _nothing("rated pairs", "at least one")
    numbers = np.array([[clips.place[pair.first], clips.place[pair.second]] for pair in relation.pairs])
    used, places = np.unique(numbers, return_inverse=True)
    first, second = places.reshape(numbers.shape).T
    group = np.unique([pair.group for pair in relation.pairs], return_inverse=True)[1].reshape(-1)
    unit = clips.number(relation.unit, used)
    rating = np.array([pair.rating for pair in relation.pairs], dtype=np.float64)
    return _Ratings(RatedPairs(first, second, rating, group, unit), _count_units(unit), (), used)


@dataclass(frozen=True)
class _Triplets(PreparedRelation):
    """Listed triplets.

    Args:
        used: the clips that the reference numbers, `(used clips,)`.
    """

    reference: ListedTriplets
    used: Indices
    measured_type: ClassVar[type[Any]] = TripletDistances

    def measure(
        self,
        clips: ClipEmbeddings,
        distance: Distance,
        *,
        device: torch.device,
        progress: Progress = ignore_progress,
    ) -> TripletDistances:
        anchor, *others = self.used[self.reference.clips].T
        return TripletDistances(
            np.stack([measure_pairs(clips, anchor, other, distance) for other in others], axis=1)
        )

    def describe_arrays(self) -> Mapping[str, StoredArray]:
        return {"distances": StoredArray("f", (len(self.reference.clips), 2))}


def _prepare_triplets(relation: Triplets, clips: _Clips) -> PreparedRelation:
    if not relation.triplets:
        raise _nothing("triplets", "at least one")
    numbers = np.array(
        [
            [clips.place[clip] for clip in (each.anchor, each.positive, each.negative)]
            for each in relation.triplets
        ]
    )
    used, places = np.unique(numbers, return_inverse=True)
    unit = clips.number(relation.unit, used)
    return _Triplets(ListedTriplets(places.reshape(numbers.shape), unit), _count_units(unit), (), used)


# --------------------------------------------------------------------------- same or different


@dataclass(frozen=True)
class _SamePairs(PreparedRelation):
    """Listed pairs that are the same or different.

    Args:
        first: one clip of each pair, `(pairs,)`.
        second: the other clip.
    """

    reference: UnitPairs
    first: Indices
    second: Indices
    measured_type: ClassVar[type[Any]] = PairHistogram

    def measure(
        self,
        clips: ClipEmbeddings,
        distance: Distance,
        *,
        device: torch.device,
        progress: Progress = ignore_progress,
    ) -> PairHistogram:
        pairs = len(self.first)
        distances = measure_pairs(clips, self.first, self.second, distance)
        return PairHistogram(np.arange(pairs), distances, np.ones(pairs, dtype=np.int64), np.zeros(0))

    def describe_arrays(self) -> Mapping[str, StoredArray]:
        return _describe_histogram(len(self.first), scores=0)


def _describe_histogram(rows: int | None, *, scores: int) -> Mapping[str, StoredArray]:
    return {
        "group": StoredArray("i", (rows,)),
        "distance": StoredArray("f", (rows,)),
        "count": StoredArray("i", (rows,)),
        "exact": StoredArray("f", (scores,)),
    }


def _prepare_same_pairs(relation: SamePairs, clips: _Clips) -> PreparedRelation:
    numbers = np.array([[clips.place[pair.first], clips.place[pair.second]] for pair in relation.pairs])
    is_same = np.array([pair.is_same for pair in relation.pairs], dtype=bool)
    _check_both(int(is_same.sum()), int((~is_same).sum()))
    used, places = np.unique(numbers, return_inverse=True)
    unit = clips.number(relation.unit, used)
    units = _count_units(unit)
    first, second = unit[places.reshape(numbers.shape)].T
    reference = UnitPairs(first, second, is_same, np.ones(len(is_same), dtype=np.int64), units)
    return _SamePairs(reference, units, (), *numbers.T)


def _check_both(same: int, different: int) -> None:
    if not same or not different:
        missing = "pairs that are the same" if not same else "pairs that are different"
        raise _nothing(missing, "at least one pair that is the same, and one that is different")


@dataclass(frozen=True)
class _AllPairs:
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
        return _count_units(self.unit)

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


@dataclass(frozen=True)
class _SameDifferent(PreparedRelation):
    """All pairs of clips.

    Args:
        keys: the key of each group of the reference, sorted, `(groups,)`.
    """

    reference: UnitPairs
    pairs: _AllPairs
    keys: Indices
    measured_type: ClassVar[type[Any]] = PairHistogram

    @property
    def count(self) -> int:
        """Return the number of pairs."""
        return int(self.reference.pairs.sum())

    def measure(
        self,
        clips: ClipEmbeddings,
        distance: Distance,
        *,
        device: torch.device,
        progress: Progress = ignore_progress,
    ) -> PairHistogram:
        group, distances = np.empty(self.count, dtype=np.int32), np.empty(self.count)
        done = 0
        for block in iterate_pairs(clips, distance, device=device, block_bytes=PAIR_BLOCK_BYTES):
            start, rows = block.first_query, len(block.distances)
            row, column = self.pairs.list(start, rows)
            filled = slice(done, done + len(row))
            keys = self.pairs.find_keys(start + row, start + column)
            group[filled] = np.searchsorted(self.keys, keys)
            distances[filled] = block.distances[row, column]
            done += len(row)
            progress(start + rows, len(clips))
        if self.count <= LISTED_PAIRS:
            return PairHistogram(
                group.astype(np.int64), distances, np.ones(self.count, dtype=np.int64), np.zeros(0)
            )
        is_same = self.reference.is_same[group]
        same, different = distances[is_same], distances[~is_same]
        sample = [each[:: 1 + len(each) // SAMPLED_DISTANCES] for each in (same, different)]
        edges = find_edges(sample[0], sample[1])
        parts = (slice(start, start + BINNED_AT_ONCE) for start in range(0, self.count, BINNED_AT_ONCE))
        blocks = ((group[part].astype(np.int64), distances[part]) for part in parts)
        histogram = bin_distances(blocks, edges, len(self.keys), np.zeros(0))
        # The last range has no end, which a file of finite numbers can't hold.
        ends = np.minimum(histogram.distance, distances.max())
        # Scoring them all takes as much memory again.
        del group, distances, is_same
        return dataclasses.replace(histogram, distance=ends, exact=np.array(score_all(same, different)))

    def describe_arrays(self) -> Mapping[str, StoredArray]:
        is_listed = self.count <= LISTED_PAIRS
        return _describe_histogram(self.count if is_listed else None, scores=0 if is_listed else 3)


def _prepare_same_different(relation: SameDifferent, clips: _Clips) -> PreparedRelation:
    pairs = _AllPairs(
        clips.number(relation.same),
        tuple(clips.number(attribute) for attribute in relation.differ),
        clips.number(relation.unit),
    )
    possible = 2 * pairs.units**2
    total = len(clips.clips) * (len(clips.clips) - 1) // 2
    if total > LISTED_PAIRS and possible // 2 * BINS > MOST_COUNTS:
        raise HearevalError(
            f"pairs of {pairs.units} {relation.unit or 'clip'}s",
            got="too many to resample",
            expected=f"at most {int((MOST_COUNTS / BINS) ** 0.5)} different units",
            remedy="Name an attribute with fewer values as `unit`, such as the speaker.",
        )
    counts = np.zeros(possible, dtype=np.int64)
    for keys in pairs.iterate_keys():
        counts += np.bincount(keys, minlength=possible)
    keys = np.flatnonzero(counts)
    is_same, units = keys % 2 == 1, keys // 2
    _check_both(int(counts[keys][is_same].sum()), int(counts[keys][~is_same].sum()))
    first, second = np.divmod(units, pairs.units)
    reference = UnitPairs(first, second, is_same, counts[keys], pairs.units)
    return _SameDifferent(reference, pairs.units, (), pairs, keys)


# --------------------------------------------------------------------------- retrieval


@dataclass(frozen=True)
class _Search:
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
class _Retrieval(PreparedRelation):
    """Queries that have something to find."""

    reference: Queries
    search: _Search
    measured_type: ClassVar[type[Any]] = QueryValues

    def measure(
        self,
        clips: ClipEmbeddings,
        distance: Distance,
        *,
        device: torch.device,
        progress: Progress = ignore_progress,
    ) -> QueryValues:
        ranked = rank_queries(
            clips.select(self.search.queries),
            clips.select(self.search.gallery),
            distance,
            self.search.is_candidate,
            self.search.is_relevant,
            device=device,
        )
        return QueryValues(np.stack([ranked.values[name] for name in RETRIEVAL_METRICS]))

    def describe_arrays(self) -> Mapping[str, StoredArray]:
        return {"values": StoredArray("f", self.reference.chance.shape)}


def _prepare_retrieval(relation: Retrieval, clips: _Clips) -> PreparedRelation:
    every = np.arange(len(clips.clips))
    queries = gallery = every
    if relation.role:
        roles = np.array(clips.values(relation.role))
        queries, gallery = every[roles != "gallery"], every[roles != "query"]
    asked = _Search(
        queries,
        gallery,
        clips.number(relation.relevant),
        tuple(map(clips.number, relation.differ)),
        tuple(map(clips.number, relation.within)),
    )
    candidates, right = asked.count()
    used = right > 0
    if not used.any():
        raise _nothing("queries with something to find", "at least one query with a relevant clip")
    kept = queries[used]
    unit = clips.number(relation.unit, kept)
    group = clips.number(relation.average, kept) if relation.average else np.zeros(len(kept), dtype=np.int64)
    left_out = len(queries) - len(kept)
    random_order = chance_of_queries(candidates[used], right[used])
    chance = np.stack([random_order[name] for name in RETRIEVAL_METRICS])
    told = f"{left_out} of {len(queries)} queries are left out: nothing that they search is relevant"
    return _Retrieval(
        Queries(unit, group, chance, left_out),
        _count_units(unit),
        (told,) if left_out else (),
        dataclasses.replace(asked, queries=kept),
    )


# --------------------------------------------------------------------------- ABX


@dataclass(frozen=True)
class _Abx(PreparedRelation):
    """The cells of an ABX test.

    Args:
        used: the clips that the reference numbers, `(used clips,)`.
    """

    reference: AbxCells
    used: Indices
    measured_type: ClassVar[type[Any]] = AbxOutcomes

    def measure(
        self,
        clips: ClipEmbeddings,
        distance: Distance,
        *,
        device: torch.device,
        progress: Progress = ignore_progress,
    ) -> AbxOutcomes:
        cells = self.reference
        outcomes = np.zeros((*cells.a.shape, cells.b.shape[1], cells.x.shape[1]), dtype=np.uint8)
        for number, (a, b, x) in enumerate(zip(cells.a, cells.b, cells.x, strict=True)):
            # Only few of all distances are needed.
            near, queries = clips.select(self.used[np.concatenate([a, b])]), clips.select(self.used[x])
            (block,) = iterate_distances(near, queries, distance, device=device)
            to_a, to_b = block.distances[: len(a)], block.distances[len(a) :]
            outcomes[number] = find_outcomes(to_a, to_b)
            progress(number + 1, len(cells.a))
        return AbxOutcomes(outcomes)

    def describe_arrays(self) -> Mapping[str, StoredArray]:
        cells = self.reference
        return {"outcomes": StoredArray("u", (*cells.a.shape, cells.b.shape[1], cells.x.shape[1]))}


def _prepare_abx(relation: Abx, clips: _Clips) -> PreparedRelation:
    members: dict[tuple[str, str], list[int]] = {}
    for number, (category, speaker) in enumerate(
        zip(clips.values(relation.category), clips.values(relation.speaker), strict=True)
    ):
        members.setdefault((category, speaker), []).append(number)
    categories, speakers = (sorted({key[place] for key in members}) for place in (0, 1))
    most = relation.most_a, relation.most_b, relation.most_x
    cells = []
    for c, category in enumerate(categories):
        for d, other in enumerate(categories):
            for s, speaker in enumerate(speakers):
                for t, speaker_x in enumerate(speakers):
                    keys = (category, speaker), (other, speaker), (category, speaker_x)
                    if c != d and s != t and all(key in members for key in keys):
                        rng = random.Random(f"abx {category} {other} {speaker} {speaker_x}")
                        drawn = [_draw(members[key], n, rng) for key, n in zip(keys, most, strict=True)]
                        cells.append((drawn, t, s, c * len(categories) + d))
    if not cells:
        expected = (
            f"clips of two values of {relation.category}, one of which two values of {relation.speaker} have"
        )
        raise _nothing("ABX triples", expected)
    used = np.unique([number for drawn, *_ in cells for clips_of in drawn for number in clips_of])
    a, b, x = (
        np.stack([_pad(np.searchsorted(used, cell[0][place]), most[place]) for cell in cells])
        for place in range(3)
    )
    speaker_x_of, speaker_of, pair = (np.array([cell[place] for cell in cells]) for place in (1, 2, 3))
    reference = AbxCells(a, b, x, speaker_x_of, speaker_of, pair, np.arange(len(used)))
    return _Abx(reference, len(used), (), used)


def _draw(numbers: list[int], most: int, rng: random.Random) -> list[int]:
    shuffled = sorted(numbers)
    rng.shuffle(shuffled)
    return shuffled[:most]


def _pad(numbers: Indices, length: int) -> Indices:
    return np.pad(numbers, (0, length - len(numbers)), constant_values=-1)
