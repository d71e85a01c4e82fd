"""The embeddings folder as tensors on the device, in the protocol's order."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heareval import files, layout
from heareval.errors import HearevalError, unknown_name
from heareval.predictions.metrics.event import EventTable
from heareval.predictions.rows import Rows, StoredRows, fits_memory

# An event's end still belongs to it: 2021 looked frames up in half-open intervals, made this much longer.
END_MARGIN_MS = 0.0001
# Segments are counted up to the last event's end: a time in other units would fill the memory.
LAST_END_MS = 24 * 3600 * 1000.0
# One generator for all splits, so a split's order depends on those before it.
ORDER_SEED = 0
READ_BYTES = 64 << 20
# How embeddings may be stored; the second takes half the room.
EMBEDDING_DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Task:
    """What task_metadata.json and labelvocabulary.csv say about a task.

    Args:
        metrics: names of the metrics, the first decides model selection.
        labels: the vocabulary, in order.
        loss_decides: validation loss takes the first metric's place in model selection.
        settings_grid: changes of the predictor's grid.
        postprocessing_grid: changes of the grid that turns frames into events.
        embeddings_fingerprint: of the embeddings' MANIFEST.json, "" without one.
        submission: what that manifest tells of the model.
        made_from: what that manifest tells of the task's corpus.
        unusual_embedding: how these embeddings were computed and stored, where that is not as usual.
        is_published: whether the task was made from the published archives; None if that is not known.
    """

    folder: Path
    name: str
    version: str
    mode: str
    is_event: bool
    is_multilabel: bool
    is_kfold: bool
    splits: tuple[str, ...]
    metrics: tuple[str, ...]
    labels: tuple[str, ...]
    loss_decides: bool
    settings_grid: Mapping[str, Sequence[Any]]
    postprocessing_grid: Mapping[str, Sequence[float]]
    embeddings_fingerprint: str
    submission: Mapping[str, Any]
    made_from: Mapping[str, Any]
    unusual_embedding: Mapping[str, Any]
    is_published: bool | None


@dataclass(frozen=True)
class Split:
    """One split, ready for training; rows are clips, or all frames of one clip after another.

    Args:
        clips: file names of the clips, in the protocol's order.
        x: embeddings, `(rows, dim)` float32, in memory or on disk.
        y: indices of labels `(rows,)` if multiclass, else `(rows, labels)` float32 of 0 and 1.
        timestamps_ms: `(clips, timestamps)` milliseconds, event tasks only.
        events: the reference events, event tasks only.
    """

    name: str
    clips: tuple[str, ...]
    x: Rows
    y: Tensor
    timestamps_ms: NDArray[np.float64] | None = None
    events: EventTable | None = None


@dataclass(frozen=True)
class SplitOrder:
    """The clips of a split: what they are labelled with, and the row of the stored array each comes from."""

    name: str
    clips: tuple[str, ...]
    rows: NDArray[np.int64]
    labels: tuple[Any, ...]


def read_task(folder: Path) -> Task:
    """What the folder's metadata and vocabulary say."""
    path = folder / layout.TASK_METADATA
    metadata = _read_json(path)
    for key in ("task_name", "embedding_type", "prediction_type", "split_mode", "splits", "evaluation"):
        if not metadata.get(key):
            raise HearevalError(f"{path}", got=f"no {key!r}", remedy="Prepare the task again.")
    evaluation = metadata.get("evaluation_params") or {}
    made_from = _manifest(folder).get("made_from", {})
    return Task(
        folder=folder,
        name=metadata["task_name"],
        version=str(metadata.get("version", "")),
        mode=str(metadata.get("mode", "")),
        is_event=_one_of(metadata, "embedding_type", ("scene", "event")) == "event",
        is_multilabel=_one_of(metadata, "prediction_type", ("multiclass", "multilabel")) == "multilabel",
        is_kfold=_one_of(metadata, "split_mode", ("trainvaltest", "new_split_kfold", "presplit_kfold"))
        != "trainvaltest",
        splits=tuple(metadata["splits"]),
        metrics=tuple(metadata["evaluation"]),
        labels=_read_vocabulary(folder / layout.VOCABULARY),
        loss_decides=not metadata.get("use_scoring_for_early_stopping", True),
        settings_grid=evaluation.get("task_specific_param_grid") or {},
        postprocessing_grid=evaluation.get("event_postprocessing_grid") or {},
        embeddings_fingerprint=embeddings_fingerprint(folder),
        submission=_manifest(folder).get("submission", {}),
        made_from=made_from,
        unusual_embedding=_manifest(folder).get("unusual_embedding", {}),
        is_published=False
        if "not_the_published_corpus" in metadata
        else made_from.get("is_the_published_corpus"),
    )


def read_splits(task: Task, device: torch.device, *, in_memory: bool | None = None) -> dict[str, Split]:
    """All splits of the task, on the device.

    Args:
        in_memory: whether embeddings are held there, or read from disk when they are needed; None = if there
            is room for them.
    """
    vocabulary = {label: index for index, label in enumerate(task.labels)}
    orders = split_orders(task)
    arrays = {order.name: _open_embeddings(task, order) for order in orders}
    if in_memory is None:
        in_memory = fits_memory(list(arrays.values()), device)
    splits = {}
    for order in orders:
        array = arrays[order.name]
        x = _load(array, order, device) if in_memory else _checked(array, order, device)
        read = _event_split if task.is_event else _scene_split
        splits[order.name] = read(task, order, vocabulary, x, array.shape)
    return splits


def _open_embeddings(task: Task, order: SplitOrder) -> NDArray[Any]:
    axes = ("clips", "timestamps", "dim") if task.is_event else ("clips", "dim")
    return _open_array(task.folder / layout.split_array(order.name), axes, len(order.clips))


def split_orders(task: Task) -> tuple[SplitOrder, ...]:
    """The clips of every split in the order of 2021: shuffled once, by one generator for all splits."""
    rng = random.Random(ORDER_SEED)
    orders = []
    for split in task.splits:
        labels = _read_json(task.folder / layout.split_json(split))
        if not labels:
            raise HearevalError(f"{task.folder / layout.split_json(split)}", got="no clips")
        stored = {clip: row for row, clip in enumerate(labels)}
        clips = list(labels)
        rng.shuffle(clips)
        rows = np.array([stored[clip] for clip in clips])
        orders.append(SplitOrder(split, tuple(clips), rows, tuple(labels[clip] for clip in clips)))
    return tuple(orders)


def _scene_split(
    task: Task, order: SplitOrder, vocabulary: Mapping[str, int], x: Rows, shape: tuple[int, ...]
) -> Split:
    y = torch.zeros(len(order.clips), len(vocabulary))
    for row, (clip, labels) in enumerate(zip(order.clips, order.labels, strict=True)):
        if not task.is_multilabel and len(labels) != 1:
            raise HearevalError(
                f"{order.name}/{clip} in the multiclass task {task.name}",
                got=f"{len(labels)} labels",
                expected="exactly one",
            )
        for label in labels:
            y[row, _label_index(label, vocabulary, f"{order.name}/{clip}")] = 1.0
    return Split(
        name=order.name,
        clips=order.clips,
        x=x,
        y=(y if task.is_multilabel else y.argmax(dim=1)).to(x.device),
    )


def _event_split(
    task: Task, order: SplitOrder, vocabulary: Mapping[str, int], x: Rows, shape: tuple[int, ...]
) -> Split:
    if not task.is_multilabel:
        raise HearevalError(
            f"prediction_type of the event task {task.name}", got="multiclass", expected="multilabel"
        )
    timestamps_ms = _read_timestamps(task.folder, order, shape[:2])
    events = event_table(order, vocabulary)
    y = frame_labels(events, timestamps_ms, len(vocabulary))
    return Split(
        name=order.name,
        clips=order.clips,
        x=x,
        y=torch.from_numpy(y).flatten(0, 1).to(x.device),
        timestamps_ms=timestamps_ms,
        events=events,
    )


def frame_labels(events: EventTable, timestamps_ms: NDArray[np.float64], labels: int) -> NDArray[np.float32]:
    """Which label each frame carries, `(clips, timestamps, labels)`: 1 where an event covers its timestamp.

    Args:
        events: the reference events.
        timestamps_ms: `(clips, timestamps)` milliseconds, increasing along each clip.
        labels: size of the vocabulary.
    """
    y = np.zeros((*timestamps_ms.shape, labels), dtype=np.float32)
    for clip, times_ms in enumerate(timestamps_ms):
        mine = events.rows(events.clip == clip)
        first = np.searchsorted(times_ms, mine.onset_ms, side="left")
        last = np.searchsorted(times_ms, mine.offset_ms + END_MARGIN_MS, side="left")
        for label, start, stop in zip(mine.label, first, last, strict=True):
            y[clip, start:stop, label] = 1.0
    return y


def event_table(order: SplitOrder, vocabulary: Mapping[str, int]) -> EventTable:
    """The reference events of a split's clips, in the order of the clips.

    Raises:
        HearevalError: a label is unknown, or times are none of a sound.
    """
    rows = [
        (clip, _label_index(event["label"], vocabulary, f"{order.name}/{name}"), event["start"], event["end"])
        for clip, (name, events) in enumerate(zip(order.clips, order.labels, strict=True))
        for event in events
    ]
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    events = EventTable(columns[0].astype(int), columns[1].astype(int), columns[2], columns[3])
    is_sound = (events.onset_ms >= 0) & (events.onset_ms <= events.offset_ms)
    bad = events.rows(~(is_sound & (events.offset_ms <= LAST_END_MS)))
    if len(bad):
        raise HearevalError(
            f"an event of {order.name}/{order.clips[bad.clip[0]]}",
            got=f"from {bad.onset_ms[0]:g} to {bad.offset_ms[0]:g} ms",
            expected="0 <= start <= end, within a day",
            remedy="Mend the events of the task, and prepare it again.",
        )
    return events


def _read_timestamps(folder: Path, order: SplitOrder, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Timestamps `(clips, timestamps)` in milliseconds, in the order of the clips."""
    path = folder / layout.split_timestamps(order.name)
    array = _open_array(path, ("clips", "timestamps"), len(order.clips), ("float32",))
    if array.shape != shape:
        raise HearevalError(f"{path}", got=f"shape {array.shape}", expected=f"{shape} as of the embeddings")
    timestamps_ms = np.asarray(array, dtype=np.float64)[order.rows]
    bad = ~(np.isfinite(timestamps_ms).all(axis=1) & (np.diff(timestamps_ms, axis=1) > 0).all(axis=1))
    if bad.any():
        raise HearevalError(
            f"timestamps of {order.name}/{order.clips[int(bad.argmax())]} in {path}",
            expected="numbers that increase along the clip",
        )
    return timestamps_ms


def _open_array(
    path: Path, axes: tuple[str, ...], clips: int, dtypes: Sequence[str] = EMBEDDING_DTYPES
) -> NDArray[Any]:
    """The stored array, memory-mapped, if it is of the right type and shape."""
    types = " or ".join(dtypes)
    expected = f"{types} ({', '.join(axes)}) with {clips} clips"
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise _missing(path) from None
    except (ValueError, OSError, EOFError) as error:
        raise HearevalError(f"{path} can't be read", got=str(error), expected=expected) from None
    if str(array.dtype) not in dtypes or array.ndim != len(axes) or len(array) != clips or 0 in array.shape:
        raise HearevalError(
            f"{path}",
            got=f"{array.dtype} {array.shape}",
            expected=expected,
            remedy="Embed the task again.",
        )
    return array


def _load(array: NDArray[Any], order: SplitOrder, device: torch.device) -> Tensor:
    """Rows of the array in the order of the clips, on the device, as float32; the copy is made in pieces."""
    x = torch.empty(array.shape, dtype=torch.float32, device=device)
    for start, piece in _finite_pieces(array, order):
        x[start : start + len(piece)] = torch.from_numpy(piece)
    return x.reshape(-1, array.shape[-1])


def _checked(array: NDArray[Any], order: SplitOrder, device: torch.device) -> StoredRows:
    """The same rows, left where they are."""
    for _ in _finite_pieces(array, order):
        pass
    return StoredRows(array, order.rows, device)


def _finite_pieces(array: NDArray[Any], order: SplitOrder) -> Iterator[tuple[int, NDArray[Any]]]:
    """The clips in their order, some at a time, with the number of the first; all must be finite."""
    clips_at_once = max(1, READ_BYTES // (array[0].nbytes or 1))
    for start in range(0, len(array), clips_at_once):
        piece = array[order.rows[start : start + clips_at_once]]
        bad = ~np.isfinite(piece).reshape(len(piece), -1).all(axis=1)
        if bad.any():
            raise HearevalError(
                f"embeddings of {order.name}/{order.clips[start + int(bad.argmax())]}",
                got="NaN or infinity",
                expected="finite numbers",
                remedy="Check the submission with `heareval validate`.",
            )
        yield start, piece


def _label_index(label: Any, vocabulary: Mapping[str, int], where: str) -> int:
    if str(label) not in vocabulary:
        raise unknown_name(f"label of {where}", str(label), vocabulary)
    return vocabulary[str(label)]


def _read_vocabulary(path: Path) -> tuple[str, ...]:
    """Labels in the order of their index."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = sorted((int(row["idx"]), row["label"]) for row in csv.DictReader(stream))
    except FileNotFoundError:
        raise _missing(path) from None
    except (KeyError, ValueError, TypeError):
        raise HearevalError(f"{path}", got="other columns", expected="idx,label") from None
    if not rows or [index for index, _ in rows] != list(range(len(rows))):
        raise HearevalError(f"{path}", got=f"{len(rows)} rows", expected="indices 0, 1, 2 ... without a gap")
    return tuple(label for _, label in rows)


def embeddings_fingerprint(folder: Path) -> str:
    """The fingerprint in the embeddings' manifest, "" without one."""
    return str(_manifest(folder).get("fingerprint", ""))


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / files.MANIFEST
    return dict(_read_json(path)) if path.is_file() else {}


def _read_json(path: Path) -> Any:
    try:
        return files.read_json(path)
    except FileNotFoundError:
        raise _missing(path) from None
    except ValueError as error:
        raise HearevalError(f"{path} is no JSON", got=str(error)) from None


def _one_of(metadata: Mapping[str, Any], key: str, known: Sequence[str]) -> str:
    value = str(metadata[key])
    if value not in known:
        raise unknown_name(key, value, known)
    return value


def _missing(path: Path) -> HearevalError:
    return HearevalError(f"{path} is missing", remedy="Embed the task again.")
