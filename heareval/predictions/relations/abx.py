"""ABX: the cells of two categories and two speakers, and the recordings that are drawn for each."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from heareval.formats.results_folder import StoredArray
from heareval.formats.scores import TEST_CLIP, ResampledUnits
from heareval.predictions.distances import iterate_distances
from heareval.predictions.metrics.abx import AbxCells, AbxOutcomes, find_outcomes
from heareval.predictions.relations.prepared import (
    EmbeddedClips,
    Indices,
    NumberedClips,
    PreparedRelation,
    nothing_to_score,
)
from heareval.spec import Abx


@dataclass(frozen=True)
class PreparedAbx(PreparedRelation):
    """The cells of an ABX test.

    Args:
        used: the clips that the reference numbers, `(used clips,)`.
    """

    reference: AbxCells
    used: Indices
    measured_type: ClassVar[type[Any]] = AbxOutcomes

    def measure(self, embedded: EmbeddedClips) -> AbxOutcomes:
        cells, clips = self.reference, embedded.clips
        outcomes = np.zeros((*cells.a.shape, cells.b.shape[1], cells.x.shape[1]), dtype=np.uint8)
        for number, (a, b, x) in enumerate(zip(cells.a, cells.b, cells.x, strict=True)):
            # Only few of all distances are needed.
            near, queries = clips.select(self.used[np.concatenate([a, b])]), clips.select(self.used[x])
            (block,) = iterate_distances(near, queries, embedded.distance, device=embedded.device)
            to_a, to_b = block.distances[: len(a)], block.distances[len(a) :]
            outcomes[number] = find_outcomes(to_a, to_b)
            embedded.progress(number + 1, len(cells.a))
        return AbxOutcomes(outcomes)

    def describe_arrays(self) -> Mapping[str, StoredArray]:
        cells = self.reference
        return {"outcomes": StoredArray("u", (*cells.a.shape, cells.b.shape[1], cells.x.shape[1]))}


def prepare_abx(relation: Abx, clips: NumberedClips) -> PreparedRelation:
    """Return the cells of an ABX test, prepared. Raise HearevalError if nothing can be scored."""
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
            f"a {relation.speaker} with two values of {relation.category}, and another one with one of these"
        )
        raise nothing_to_score("ABX triples", expected)
    used = np.unique([number for drawn, *_ in cells for clips_of in drawn for number in clips_of])
    a, b, x = (_stack([np.searchsorted(used, drawn[place]) for drawn, *_ in cells]) for place in range(3))
    speaker_x_of, speaker_of, pair = (np.array([cell[place] for cell in cells]) for place in (1, 2, 3))
    reference = AbxCells(a, b, x, speaker_x_of, speaker_of, pair, np.arange(len(used)))
    return PreparedAbx(reference, ResampledUnits(TEST_CLIP, len(used)), (), used)


def _draw(numbers: list[int], most: int, rng: random.Random) -> list[int]:
    shuffled = sorted(numbers)
    rng.shuffle(shuffled)
    return shuffled[:most]


def _stack(cells: list[Indices]) -> Indices:
    """Return the clips of all cells, `(cells, most clips of a cell)`; -1 where a cell has fewer."""
    most = max(map(len, cells))
    return np.stack([np.pad(cell, (0, most - len(cell)), constant_values=-1) for cell in cells])
