"""Pairwise tasks: distances between the embeddings of clips are scored, and nothing is trained."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from heareval import layout
from heareval.errors import HearevalError
from heareval.formats.embeddings_folder import open_embeddings
from heareval.formats.results_folder import SplitDistances, read_distances, write_distances
from heareval.formats.scores import ResampledUnits, Scores
from heareval.predictions.bootstrap import ScoredSplit
from heareval.predictions.data import SplitOrder, Task
from heareval.predictions.distances import ClipEmbeddings, check_embeddings, have_equal_embeddings
from heareval.predictions.kinds.kind import Kind, check_stored_clips
from heareval.predictions.metrics import find_metric
from heareval.predictions.pairwise_metrics import METRICS_OF_RELATION
from heareval.predictions.protocol import Distance
from heareval.predictions.relations import EmbeddedClips, PreparedRelation, prepare_relation
from heareval.predictions.results import Predictions, Score
from heareval.spec import Progress, ignore_progress

SPLIT = "test"


@dataclass(frozen=True)
class Measurements(Predictions):
    """What was measured between the clips of a pairwise task.

    Args:
        measured: what the metrics compare with the relation; its type depends on the relation.
        are_equal: whether all clips have the same embedding; False if the measurements were read from a file.
    """

    measured: Any
    are_equal: bool = False


class PairwiseKind(Kind[Measurements]):
    """Tasks that are scored by distances between clips."""

    name = "pairwise"

    @functools.cached_property
    def order(self) -> SplitOrder:
        """The clips, in the order of their names."""
        order = self.find_order(SPLIT)
        places = sorted(range(len(order.clips)), key=lambda place: order.clips[place].name)
        return SplitOrder(SPLIT, tuple(order.clips[place] for place in places), order.rows[places])

    @functools.cached_property
    def relation(self) -> PreparedRelation:
        """The relation between the clips.

        Raises:
            HearevalError: nothing can be scored.
        """
        return prepare_relation(_find_relation(self.task), self.order.clips)

    @property
    def resampled_units(self) -> ResampledUnits:
        """Return what confidence intervals resample."""
        return self.relation.units

    def check_metrics(self) -> None:
        relation = _find_relation(self.task)
        known = METRICS_OF_RELATION[type(relation)]
        for name in self.task.metrics:
            if name not in known:
                what = f"metric {name} of task {self.task.name}, which has {type(relation).__name__}"
                raise HearevalError(what, expected=f"one of {', '.join(known)}")

    def measure(
        self, distance: Distance, device: torch.device, progress: Progress = ignore_progress
    ) -> Measurements:
        """Measure what the relation needs between the embeddings of the task's folder.

        Raises:
            HearevalError: the array of embeddings is missing or wrong, an embedding has no distances, or
                nothing can be scored.
        """
        relation, embedded = self.relation, self.open_clips(distance, device, progress)
        are_equal = have_equal_embeddings(embedded.clips)
        return Measurements(self.order.clip_names, relation.measure(embedded), are_equal)

    def open_clips(
        self, distance: Distance, device: torch.device, progress: Progress = ignore_progress
    ) -> EmbeddedClips:
        """Open the embeddings of the task's folder, in the order of the clips' names.

        Raises:
            HearevalError: the array is missing or wrong, or an embedding has no distances.
        """
        order = self.order
        array = open_embeddings(self.task.folder, SPLIT, clips=len(order.clips), is_event=False)
        embeddings = ClipEmbeddings(array, order.rows, order.clip_names)
        check_embeddings(embeddings, distance)
        return EmbeddedClips(embeddings, distance, device, progress)

    # ----------------------------------------------------------------------- scores

    def prepare_scoring(self, predictions: Measurements) -> ScoredSplit:
        return ScoredSplit(self.relation.units.count, self.relation.reference, predictions.measured)

    def score(self, split_name: str, predictions: Measurements) -> tuple[Score, ...]:
        return tuple(self._score(name, split_name, predictions) for name in self.task.metrics)

    def _score(self, name: str, split_name: str, predictions: Measurements) -> Score:
        scored = find_metric(name).report(self.relation.reference, predictions.measured)
        problems = [*_describe_equality(split_name, predictions), *self.relation.problems]
        anchors, left_out = (int(scored.details.get(key, 0)) for key in ("anchors", "anchors_left_out"))
        if left_out:
            every = anchors + left_out
            problems.append(
                f"{name} leaves out {left_out} of {every} anchors: too few ratings, or equal ones"
            )
        if math.isnan(scored.value):
            problems.append(f"{name} is undefined on {split_name}: no ratings of an anchor differ enough")
        return Score(name, scored.value, scored.details, tuple(problems))

    # ----------------------------------------------------------------------- stored predictions

    def write_stored(
        self, folder: Path, protocol: str, fingerprint: str, splits: Mapping[str, Sequence[Measurements]]
    ) -> None:
        stored = {}
        for split, (measured,) in splits.items():
            names = [each.name for each in fields(measured.measured)]
            arrays = {name: getattr(measured.measured, name) for name in names}
            stored[split] = SplitDistances(measured.clips, arrays)
        write_distances(folder, protocol, fingerprint, stored)

    def read_stored(self, folder: Path, scores: Scores) -> Mapping[str, Sequence[Measurements]]:
        order, relation = self.order, self.relation
        arrays = relation.describe_arrays()
        found = {}
        for split, stored in read_distances(folder, scores, len(order.clips), arrays).items():
            where = f"of {split} in {folder / layout.predictions(scores.protocol)}"
            check_stored_clips(order, order.clip_names, stored.clips, where)
            found[split] = [Measurements(stored.clips, relation.measured_type(**stored.arrays))]
        return found


def _find_relation(task: Task) -> Any:
    if task.relation is None:
        raise ValueError(f"task {task.name} has no relation between clips, which read_task checks")
    return task.relation


def _describe_equality(split_name: str, predictions: Measurements) -> list[str]:
    if not predictions.are_equal:
        return []
    return [
        f"all clips of {split_name} have the same distances: the embeddings are the same for every clip; "
        "check the model with `heareval validate`"
    ]
