"""The kinds of tasks: the only place that asks which kind a task is.

A further kind is one more file with a subclass of `Kind` or `TrainedKind`, and a line in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from heareval.predictions.data import Split, Task, read_embeddings
from heareval.predictions.kinds.event import EventKind
from heareval.predictions.kinds.kind import Kind, TrainedKind
from heareval.predictions.kinds.pairwise import PairwiseKind
from heareval.predictions.kinds.scene import SceneKind

__all__ = [
    "KINDS",
    "AnyKind",
    "AnyTrainedKind",
    "Kind",
    "PairwiseKind",
    "TrainedKind",
    "find_kind",
    "read_splits",
]

# Only a kind's own methods look into its splits and predictions, so everybody else may mix them.
AnyTrainedKind = TrainedKind[Any, Any]
AnyKind = AnyTrainedKind | PairwiseKind
KINDS: Mapping[str, type[AnyTrainedKind] | type[PairwiseKind]] = {
    kind.name: kind for kind in (SceneKind, EventKind, PairwiseKind)
}


def find_kind(task: Task) -> AnyKind:
    """Return the kind of a task."""
    metadata = task.metadata
    return KINDS[PairwiseKind.name if metadata.is_pairwise else metadata.embedding_type](task)


def read_splits(
    kind: AnyTrainedKind,
    device: torch.device,
    *,
    in_memory: bool | None = None,
    scratch: Path | None = None,
) -> dict[str, Split]:
    """Return all splits of a task with embeddings and targets.

    Args:
        device: where the splits are used.
        in_memory: whether to hold embeddings in the device's memory instead of reading them from disk as
            needed; None means if there is room.
        scratch: a folder of this machine for copies of embeddings that are read as needed; None without one.

    Raises:
        HearevalError: an array is missing or wrong.
    """
    embeddings = read_embeddings(
        kind.task, device, has_frames=kind.has_frames, in_memory=in_memory, scratch=scratch
    )
    return {order.name: kind.make_split(order, embeddings[order.name]) for order in kind.task.orders}
