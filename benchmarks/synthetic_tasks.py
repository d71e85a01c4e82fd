"""Embeddings folders of synthetic tasks, whose predictors train in seconds and score between 0.3 and 0.95.

Embeddings of clips are points around the centres of their labels, each label with several centres, and those
of a multilabel clip are sums. Embeddings of frames are noise, to which the labels that sound are added.
Scores come from thousands of clips or hundreds of events, so that their spread over seeds is small.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import events, memory
from heareval import files, layout

# Chosen for speed: a training takes 120 to 300 steps. The protocol's patience never ends one of them before.
# All seeds search the same two points, so that their scores don't differ by the points drawn.
GRID = {"hidden_dim": [128], "hidden_layers": [1, 2], "lr": [3.2e-3], "initialization": ["xavier_uniform"]}
MAX_EPOCHS = {"scene": 60, "event": 30}
TRAIN_VALID_TEST = {"train": 2000, "valid": 1000, "test": 4000}
FOLDS = {f"fold{number:02}": 600 for number in range(5)}
FRAMES = 1200


@dataclass(frozen=True)
class SceneTask:
    """A task with a label, or several, for each clip.

    Args:
        distance: of the centres of labels from the origin; noise has a standard deviation of 1 in every
            dimension.
        offset: what is added to all embeddings, as their mean.
        splits: number of clips of each split.
    """

    labels: int
    dim: int
    distance: float
    is_multilabel: bool = False
    offset: float = 0.0
    splits: Mapping[str, int] = dataclasses.field(default_factory=lambda: TRAIN_VALID_TEST)
    embedding_type = "scene"

    @property
    def metric(self) -> str:
        """Return the metric that decides, and is reported."""
        return "mAP" if self.is_multilabel else "top1_acc"


@dataclass(frozen=True)
class EventTask:
    """A task with events in clips of a minute.

    Args:
        strength: what a label adds to its dimension while it sounds; noise has a standard deviation of 1.
        metric: which decides, and is reported.
        splits: number of clips of each split.
    """

    strength: float
    metric: str = "event_onset_200ms_fms"
    labels: int = 10
    dim: int = 64
    splits: Mapping[str, int] = dataclasses.field(
        default_factory=lambda: {"train": 8, "valid": 8, "test": 40}
    )
    embedding_type = "event"
    is_multilabel = True


TASKS: dict[str, SceneTask | EventTask] = {
    "multiclass20-easy": SceneTask(20, 64, 5.0),
    "multiclass20-hard": SceneTask(20, 64, 3.5),
    "multiclass100": SceneTask(100, 256, 8.0),
    "multiclass20-offset10": SceneTask(20, 64, 5.0, offset=10.0),
    "multilabel50-easy": SceneTask(50, 64, 6.0, is_multilabel=True),
    "multilabel50-hard": SceneTask(50, 64, 4.0, is_multilabel=True),
    "multiclass20-folds": SceneTask(20, 64, 5.0, splits=FOLDS),
    "events-easy": EventTask(4.0),
    "events-hard": EventTask(2.5),
    "events-50ms": EventTask(4.0, "event_onset_50ms_fms"),
}


def make_task(folder: Path, name: str) -> None:
    """Write the embeddings folder of a synthetic task.

    Example: `make_task(Path("embeddings/synthetic/events-easy"), "events-easy")`
    """
    task, rng = TASKS[name], np.random.default_rng(0)
    grid = {**GRID, "max_epochs": [MAX_EPOCHS[task.embedding_type]]}
    metadata = {
        "task_name": name,
        "version": "v1",
        "mode": "full",
        "embedding_type": task.embedding_type,
        "prediction_type": "multilabel" if task.is_multilabel else "multiclass",
        "split_mode": "presplit_kfold" if "fold00" in task.splits else "trainvaltest",
        "splits": list(task.splits),
        "evaluation": [task.metric],
        "evaluation_params": {"task_specific_param_grid": grid},
    }
    folder.mkdir(parents=True)
    files.write_json(folder / layout.TASK_METADATA, metadata)
    files.write_json(folder / files.MANIFEST, {"fingerprint": memory.FINGERPRINT, "arrays": []})
    rows = "".join(f"{label},{label}\n" for label in range(task.labels))
    (folder / layout.VOCABULARY).write_text("idx,label\n" + rows)
    write_split = _write_events(task) if isinstance(task, EventTask) else _write_clips(task, rng)
    for split, clips in task.splits.items():
        write_split(folder, split, clips, rng)


WriteSplit = Callable[[Path, str, int, np.random.Generator], None]
CENTRES_PER_LABEL = 3
# Mean number of labels of a clip in multilabel tasks.
MEAN_LABELS = 3


def _write_clips(task: SceneTask, rng: np.random.Generator) -> WriteSplit:
    centres = rng.standard_normal((task.labels, CENTRES_PER_LABEL, task.dim))
    centres *= task.distance / np.linalg.norm(centres, axis=2, keepdims=True)

    def write(folder: Path, split: str, clips: int, rng: np.random.Generator) -> None:
        has_label: NDArray[Any]
        if task.is_multilabel:
            has_label = rng.random((clips, task.labels)) < MEAN_LABELS / task.labels
        else:
            has_label = np.eye(task.labels, dtype=bool)[rng.integers(task.labels, size=clips)]
        x = task.offset + rng.standard_normal((clips, task.dim))
        clip, label = has_label.nonzero()
        np.add.at(x, clip, centres[label, rng.integers(CENTRES_PER_LABEL, size=len(clip))])
        labels = {f"{split}_{i}.wav": [str(j) for j in row.nonzero()[0]] for i, row in enumerate(has_label)}
        np.save(folder / layout.split_array(split), x.astype(np.float32))
        files.write_json(folder / layout.split_json(split), labels)

    return write


def _write_events(task: EventTask) -> WriteSplit:
    def write(folder: Path, split: str, clips: int, rng: np.random.Generator) -> None:
        case = dataclasses.replace(
            events.CASES["dcase"], clips=clips, frames=FRAMES, labels=task.labels, fewest=15, most=25
        )
        memory.make_fold(folder, split, case, task.dim, rng, task.strength)

    return write
