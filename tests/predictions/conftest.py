"""Embeddings folders as Room 2 writes them: small ones of noise around label centres, and golden cases."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heareval import layout

GOLDEN = Path(__file__).parent / "golden"
LABELS = ("drum", "flute", "7")
TINY_GRID = {"hidden_layers": [1], "hidden_dim": [16], "max_epochs": [30], "lr": [0.03, 0.01]}


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def scene_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a scene task below the test's own folder."""
    return functools.partial(write_scene_task, tmp_path)


def write_scene_task(
    parent: Path,
    name: str = "scene",
    *,
    splits: Sequence[str] = ("train", "valid", "test"),
    clips: int = 24,
    **metadata: Any,
) -> Path:
    """Write a scene task; clips are near the centre of their labels."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(len(LABELS), 8))
    folder = _folder(parent / name, splits, "scene", {"evaluation": ["top1_acc", "mAP"], **metadata})
    for split in splits:
        labels = [
            [i % 3] if metadata.get("prediction_type") != "multilabel" else _some(rng) for i in range(clips)
        ]
        x = np.array([centres[mine].sum(axis=0) for mine in labels]) + rng.normal(size=(clips, 8))
        np.save(folder / layout.split_array(split), x.astype(np.float32))
        _write_split(
            folder, split, {f"{split}_{i}.wav": [_label(j) for j in labels[i]] for i in range(clips)}
        )
    return folder


@pytest.fixture
def event_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes an event task below the test's own folder."""
    return functools.partial(write_event_task, tmp_path)


def write_event_task(
    parent: Path,
    name: str = "event",
    *,
    splits: Sequence[str] = ("train", "valid", "test"),
    clips: int = 5,
    **metadata: Any,
) -> Path:
    """Write an event task: clips of four seconds, frames of 50 ms, near the centre of what sounds."""
    rng = np.random.default_rng(6)
    centres = 3 * rng.normal(size=(len(LABELS), 8))
    evaluation = {
        "evaluation": ["event_onset_200ms_fms", "segment_1s_er"],
        "prediction_type": "multilabel",
    }
    folder = _folder(parent / name, splits, "event", {**evaluation, **metadata})
    times_ms = np.arange(25, 4000, 50.0)
    for split in splits:
        x, reference = 0.3 * rng.normal(size=(clips, len(times_ms), 8)), {}
        for clip in range(clips):
            events = [_event(rng) for _ in range(4)]
            for event in events:
                sounding = (times_ms >= event["start"]) & (times_ms <= event["end"])
                x[clip, sounding] += centres[[str(one) for one in LABELS].index(str(event["label"]))]
            reference[f"{split}_{clip}.wav"] = events
        np.save(folder / layout.split_array(split), x.astype(np.float32))
        np.save(folder / layout.split_timestamps(split), np.tile(times_ms.astype(np.float32), (clips, 1)))
        _write_split(folder, split, reference)
    return folder


@pytest.fixture
def golden_folder(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a golden case below the test's own folder."""
    return functools.partial(write_golden_case, tmp_path)


def write_golden_case(parent: Path, case: str) -> Path:
    """Write a golden case as Room 2 would: rows in the order of the JSON, not in that of 2021's training."""
    folder = parent / case
    shutil.copytree(GOLDEN / case, folder)
    for archive in folder.glob("*.npz"):
        split = archive.stem
        with np.load(archive) as arrays:
            stored = dict(arrays)
        clips = list(json.loads((folder / layout.split_json(split)).read_text()))
        # Stored clip by clip; a stable sort by name brings the rows of a clip together.
        rows = np.argsort(stored["clips"], kind="stable").reshape(len(clips), -1)
        rows = rows[np.argsort(np.argsort(clips))]
        x = stored["embeddings"][rows]
        np.save(folder / layout.split_array(split), x if "times_ms" in stored else x[:, 0])
        if "times_ms" in stored:
            times = stored["times_ms"][rows].astype(np.float32)
            np.save(folder / layout.split_timestamps(split), times)
    return folder


def _folder(folder: Path, splits: Sequence[str], embedding_type: str, metadata: dict[str, Any]) -> Path:
    folder.mkdir()
    written = {
        "task_name": folder.name,
        "version": "v1",
        "mode": "small",
        "embedding_type": embedding_type,
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "splits": list(splits),
        "evaluation_params": {"task_specific_param_grid": TINY_GRID},
        **metadata,
    }
    (folder / layout.TASK_METADATA).write_text(json.dumps(written))
    rows = "".join(f"{index},{label}\n" for index, label in enumerate(LABELS))
    (folder / layout.VOCABULARY).write_text("idx,label\n" + rows)
    (folder / "MANIFEST.json").write_text(json.dumps({"fingerprint": "0123456789abcdef", "arrays": []}))
    return folder


def _write_split(folder: Path, split: str, labels: dict[str, Any]) -> None:
    (folder / layout.split_json(split)).write_text(json.dumps(labels))


def _label(index: int) -> str | int:
    # Labels may be numbers in the JSON, whose text the vocabulary holds.
    return int(LABELS[index]) if LABELS[index].isdigit() else LABELS[index]


def _some(rng: np.random.Generator) -> list[int]:
    return [index for index in range(len(LABELS)) if rng.random() < 0.5]


def _event(rng: np.random.Generator) -> dict[str, Any]:
    start = float(rng.uniform(0, 3000))
    return {
        "label": _label(int(rng.integers(3))),
        "start": start,
        "end": start + float(rng.uniform(300, 900)),
    }
