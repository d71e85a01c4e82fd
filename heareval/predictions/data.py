"""An embeddings folder as the predictors read it: its task, the order of its clips, and its embeddings."""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heareval.errors import HearevalError
from heareval.formats.digests import check_unchanged
from heareval.formats.embeddings_folder import (
    EmbeddingsManifest,
    find_embeddings_manifest,
    open_embeddings,
    read_embedded_task,
)
from heareval.formats.labels import LabeledClip
from heareval.formats.task_folder import CHANGED, TaskFolder, read_task_folder
from heareval.formats.task_manifest import find_task_manifest
from heareval.formats.task_metadata import TaskMetadata
from heareval.predictions.rows import Rows, StoredRows, fits_memory
from heareval.spec import Relation

# One generator shuffles all splits, so the order of a split depends on the splits before it.
ORDER_SEED = 0
# An array is copied to a disk that has room for so many of its size: other processes need some, too.
COPIES_FREE = 2
READ_BYTES = 64 << 20


@dataclass(frozen=True)
class SplitOrder:
    """The clips of a split in the protocol's order.

    Args:
        name: name of the split.
        clips: the clips with their labels.
        rows: row of the stored array that each clip comes from.
    """

    name: str
    clips: tuple[LabeledClip, ...]
    rows: NDArray[np.int64]

    @property
    def clip_names(self) -> tuple[str, ...]:
        """Return the file names of the clips."""
        return tuple(clip.name for clip in self.clips)


@dataclass(frozen=True)
class Task:
    """A task as its embeddings folder describes it.

    Args:
        folder: the embeddings folder.
        labels: the vocabulary, in the order of the indices.
        orders: the clips of each split, in the protocol's order.
        relation: the relation between the clips of a pairwise task; None for other tasks.
        manifest: what the embeddings were made from; None without MANIFEST.json.
    """

    folder: Path
    metadata: TaskMetadata
    labels: tuple[str, ...]
    orders: tuple[SplitOrder, ...]
    relation: Relation | None
    manifest: EmbeddingsManifest | None

    @property
    def name(self) -> str:
        """Return the name of the task."""
        return self.metadata.name

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of the metrics; the first one decides model selection."""
        return self.metadata.metrics

    @property
    def embeddings_fingerprint(self) -> str:
        """Return the fingerprint of the embeddings, "" without MANIFEST.json."""
        return self.manifest.fingerprint if self.manifest else ""

    @property
    def is_published(self) -> bool | None:
        """Return whether the task was made from the published archives; None if nobody knows."""
        if self.metadata.is_published is not None or self.manifest is None:
            return self.metadata.is_published
        return self.manifest.is_published_corpus


@dataclass(frozen=True)
class Split:
    """A split ready for training. Its rows are clips, or all frames of one clip after the other.

    Args:
        clips: file names of the clips, in the protocol's order.
        x: embeddings `(rows, dim)` float32, in memory or on disk; bfloat16 where networks are trained in it.
        y: indices of labels `(rows,)` in multiclass tasks, else `(rows, labels)` float32 of 0 and 1.
    """

    name: str
    clips: tuple[str, ...]
    x: Rows
    y: Tensor


@dataclass(frozen=True)
class SplitRoles:
    """The roles that splits have in one round: which is tested, which validates, which are trained on.

    Pairwise tasks have only a tested split: `valid` is "" and `train` is ().
    """

    test: str
    valid: str
    train: tuple[str, ...]


def read_task(folder: Path) -> Task:
    """Return the task that an embeddings folder describes, with every label checked.

    Raises:
        HearevalError: a file is missing or wrong.
    """
    return _order_clips(read_embedded_task(folder), find_embeddings_manifest(folder))


def read_references(folder: Path) -> Task:
    """Return the task that a task folder describes, to score predictions against.

    Raises:
        HearevalError: a file is missing or wrong, or another program has changed it.
    """
    manifest = find_task_manifest(folder)
    if manifest:
        check_unchanged(folder, manifest.digests, CHANGED)
    return _order_clips(read_task_folder(folder), None)


def _order_clips(described: TaskFolder, manifest: EmbeddingsManifest | None) -> Task:
    rng = random.Random(ORDER_SEED)
    orders = []
    for split, clips in described.clips.items():
        rows = {clip.name: row for row, clip in enumerate(clips)}
        shuffled = list(clips)
        # The evaluation of 2021 shuffled the clips like this, and training depends on their order.
        rng.shuffle(shuffled)
        orders.append(SplitOrder(split, tuple(shuffled), np.array([rows[clip.name] for clip in shuffled])))
    return Task(
        described.path, described.metadata, described.vocabulary, tuple(orders), described.relation, manifest
    )


def read_embeddings(
    task: Task,
    device: torch.device,
    *,
    has_frames: bool,
    in_memory: bool | None = None,
    scratch: Path | None = None,
) -> dict[str, Rows]:
    """Return the embeddings of all splits, `(rows, dim)` each, in the protocol's order.

    Args:
        device: where the embeddings are used.
        has_frames: whether the arrays hold embeddings of frames, `(clips, frames, dim)`, or of clips.
        in_memory: whether to hold embeddings in the device's memory instead of reading them from disk as
            needed; None means if there is room.
        scratch: a folder of this machine for copies of embeddings that are read as needed; None without one.

    Raises:
        HearevalError: an array is missing, has another shape or type, or holds NaN or infinity.
    """
    arrays = {
        order.name: open_embeddings(task.folder, order.name, clips=len(order.clips), is_event=has_frames)
        for order in task.orders
    }
    if in_memory is None:
        in_memory = fits_memory(list(arrays.values()), device)
    keep = _load if in_memory else functools.partial(_store, scratch=scratch)
    return {order.name: keep(arrays[order.name], order, device) for order in task.orders}


def _load(array: NDArray[Any], order: SplitOrder, device: torch.device) -> Rows:
    """Copy the array to the device as float32, in the order of the clips and in pieces."""
    x = torch.empty(array.shape, dtype=torch.float32, device=device)
    for start, piece in _read_pieces(array, order):
        x[start : start + len(piece)] = torch.from_numpy(piece)
    return x.reshape(-1, array.shape[-1])


def _store(array: NDArray[Any], order: SplitOrder, device: torch.device, scratch: Path | None) -> Rows:
    """Check the array, and leave it on disk, or copy it to a folder of this machine that has room for it."""
    if scratch and array.size and shutil.disk_usage(scratch).free > COPIES_FREE * array.nbytes:
        # Another process may fill that disk meanwhile.
        with contextlib.suppress(OSError):
            return StoredRows(_copy(array, order, scratch), np.arange(len(array)), device)
    for _ in _read_pieces(array, order):
        pass
    return StoredRows(array, order.rows, device)


def _copy(array: NDArray[Any], order: SplitOrder, folder: Path) -> NDArray[Any]:
    """Return a memory-mapped copy of an array, in the order of the clips; it ends with this process."""
    with tempfile.TemporaryFile(dir=folder) as file:
        for _, piece in _read_pieces(array, order):
            file.write(piece.data)
        file.flush()
        return np.memmap(file, dtype=array.dtype, mode="r", shape=array.shape)


def _read_pieces(array: NDArray[Any], order: SplitOrder) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the clips in their order, a few at a time, with the number of the first; all must be finite."""
    clips_at_once = max(1, READ_BYTES // (array[0].nbytes or 1))
    for start in range(0, len(array), clips_at_once):
        piece = array[order.rows[start : start + clips_at_once]]
        bad = ~np.isfinite(piece).reshape(len(piece), -1).all(axis=1)
        if bad.any():
            raise HearevalError(
                f"embeddings of {order.name}/{order.clips[start + int(bad.argmax())].name}",
                got="NaN or infinity",
                expected="finite numbers",
                remedy="Check the submission with `heareval validate`.",
            )
        yield start, piece
