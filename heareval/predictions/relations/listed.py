"""Ratings of pairs, and triplets: relations that list their clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from heareval.formats.results_folder import StoredArray
from heareval.formats.scores import TEST_CLIP, ResampledUnits
from heareval.predictions.distances import measure_pairs
from heareval.predictions.metrics.ratings import PairDistances, RatedPairs
from heareval.predictions.metrics.triplets import ListedTriplets, TripletDistances
from heareval.predictions.relations.prepared import (
    EmbeddedClips,
    Indices,
    NumberedClips,
    PreparedRelation,
    count_units,
    nothing_to_score,
    number_units,
)
from heareval.spec import Ratings, Triplets


@dataclass(frozen=True)
class PreparedRatings(PreparedRelation):
    """Rated pairs.

    Args:
        used: the clips that the reference numbers, `(used clips,)`.
    """

    reference: RatedPairs
    used: Indices
    measured_type: ClassVar[type[Any]] = PairDistances

    def measure(self, embedded: EmbeddedClips) -> PairDistances:
        first, second = self.used[self.reference.first], self.used[self.reference.second]
        distances = measure_pairs(
            embedded.clips, first, second, embedded.distance, progress=embedded.progress
        )
        return PairDistances(distances)

    def describe_arrays(self) -> Mapping[str, StoredArray]:
        return {"distances": StoredArray("f", self.reference.rating.shape)}


def prepare_ratings(relation: Ratings, clips: NumberedClips) -> PreparedRelation:
    """Return rated pairs, prepared. Raise HearevalError if nothing can be scored."""
    if not relation.pairs:
        raise nothing_to_score("rated pairs", "at least one")
    numbers = np.array([[clips.place[pair.first], clips.place[pair.second]] for pair in relation.pairs])
    used, places = np.unique(numbers, return_inverse=True)
    first, second = places.reshape(numbers.shape).T
    group = np.unique([pair.group for pair in relation.pairs], return_inverse=True)[1].reshape(-1)
    unit = clips.number(relation.unit, used)
    units = ResampledUnits(relation.unit or TEST_CLIP, count_units(unit))
    rating = np.array([pair.rating for pair in relation.pairs], dtype=np.float64)
    return PreparedRatings(RatedPairs(first, second, rating, group, unit), units, (), used)


@dataclass(frozen=True)
class PreparedTriplets(PreparedRelation):
    """Listed triplets.

    Args:
        used: the clips that the reference numbers, `(used clips,)`.
    """

    reference: ListedTriplets
    used: Indices
    measured_type: ClassVar[type[Any]] = TripletDistances

    def measure(self, embedded: EmbeddedClips) -> TripletDistances:
        anchor, positive, negative = self.used[self.reference.clips].T
        distances = measure_pairs(
            embedded.clips,
            np.tile(anchor, 2),
            np.concatenate([positive, negative]),
            embedded.distance,
            progress=embedded.progress,
        )
        return TripletDistances(np.stack(np.split(distances, 2), axis=1))

    def describe_arrays(self) -> Mapping[str, StoredArray]:
        return {"distances": StoredArray("f", (len(self.reference.clips), 2))}


def prepare_triplets(relation: Triplets, clips: NumberedClips) -> PreparedRelation:
    """Return triplets, prepared. Raise HearevalError if nothing can be scored."""
    if not relation.triplets:
        raise nothing_to_score("triplets", "at least one")
    numbers = np.array(
        [
            [clips.place[clip] for clip in (each.anchor, each.positive, each.negative)]
            for each in relation.triplets
        ]
    )
    used, places = np.unique(numbers, return_inverse=True)
    places = places.reshape(numbers.shape)
    unit, name = number_units(clips, relation.unit, used, places)
    return PreparedTriplets(ListedTriplets(places, unit), ResampledUnits(name, count_units(unit)), (), used)
