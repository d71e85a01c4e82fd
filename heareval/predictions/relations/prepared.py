"""What all relations share: the interface, and clips that are numbered in the order of their names."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from heareval.errors import HearevalError
from heareval.formats.labels import LabeledClip
from heareval.formats.results_folder import StoredArray
from heareval.formats.scores import CLIP_GROUP, MIN_UNITS_OF_INTERVAL, TEST_CLIP, ResampledUnits
from heareval.predictions.distances import ClipEmbeddings
from heareval.predictions.protocol import Distance
from heareval.spec import Progress, ignore_progress

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class EmbeddedClips:
    """What distances are measured of, and how.

    Args:
        clips: all clips of the split, in the order of their names.
        device: what computes the distances.
    """

    clips: ClipEmbeddings
    distance: Distance
    device: torch.device
    progress: Progress = ignore_progress


@dataclass(frozen=True)
class PreparedRelation(ABC):
    """A relation between the clips of a split.

    Args:
        reference: what the metrics compare measurements with.
        units: what bootstrap resamples hold or leave out.
        problems: sentences on what is left out.
    """

    reference: Any
    units: ResampledUnits
    problems: tuple[str, ...]

    # The dataclass of arrays that `measure` returns.
    measured_type: ClassVar[type[Any]]

    @abstractmethod
    def measure(self, embedded: EmbeddedClips) -> Any:
        """Return what the metrics compare with the reference."""

    @abstractmethod
    def describe_arrays(self) -> Mapping[str, StoredArray]:
        """Return what the arrays of a measurement must be, by name."""


@dataclass(frozen=True)
class NumberedClips:
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
        """Return the value of an attribute of every clip."""
        return tuple(clip.attributes[attribute] for clip in self.clips)


def number_units(clips: NumberedClips, attribute: str, used: Indices, rows: Indices) -> tuple[Indices, str]:
    """Return the unit of each clip that rows of clips list, `(used clips,)`, and what a unit is.

    The units are the values of the attribute. Without one they are the clips, or, if the rows fall into many
    groups that share no clip, these groups: a row is then in a resample as often as its group. If its clips
    were drawn one by one, it would rarely be in one, but then often, so that intervals would be too wide.

    Args:
        used: numbers of the clips that rows list, sorted.
        rows: places in `used`, `(rows, clips of a row)`.
    """
    if attribute:
        return clips.number(attribute, used), attribute
    links = np.repeat(rows[:, 0], rows.shape[1]), rows.ravel()
    graph = csr_matrix((np.ones(rows.size), links), shape=(len(used), len(used)))
    group = connected_components(graph, directed=False)[1].astype(np.int64)
    # A few large groups would be too few units.
    if np.bincount(group[rows[:, 0]]).max() * MIN_UNITS_OF_INTERVAL <= len(rows):
        return group, CLIP_GROUP
    return clips.number("", used), TEST_CLIP


def nothing_to_score(what: str, expected: str) -> HearevalError:
    """Return the error for a task of which nothing can be scored."""
    remedy = "Check the attributes of the clips and the relation, or prepare more of the task."
    return HearevalError(f"{what} in the task", got="none", expected=expected, remedy=remedy)


def count_units(unit: Indices) -> int:
    """Return how many units clips are numbered by, `(clips,)`."""
    return int(unit.max(initial=-1)) + 1
