"""What a task is: plain data, no behaviour beyond names that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

Label = str | int
EmbeddingType = Literal["scene", "event"]
PredictionType = Literal["multiclass", "multilabel"]
SplitMode = Literal["trainvaltest", "new_split_kfold", "presplit_kfold"]

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)
DEFAULT_SAMPLE_RATES = (16000, 22050, 44100, 48000)


@dataclass(frozen=True)
class Download:
    """One published file.

    Args:
        url: where it was published; the last part of its path is the file's name.
        checksum: published MD5 (32 hex digits) or SHA-256 (64), whichever the publisher gave.
        split: the split its recordings start in ("train", "fold00" ...).
        name: tells several downloads of one split apart.
        accepted: another checksum that the user admits in place of the published one ("" = none).
    """

    url: str
    checksum: str
    split: str = ""
    name: str = ""
    accepted: str = ""

    @property
    def file_name(self) -> str:
        """`speech_commands_v0.02.tar.gz`"""
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def folder(self) -> str:
        """The key under which a corpus module finds what was in the archive: `train` or `train/dev`."""
        return "/".join(part for part in (self.split, self.name) if part)

    @property
    def wanted(self) -> str:
        """The checksum that the file must have."""
        return self.accepted or self.checksum

    @property
    def is_published(self) -> bool:
        """Whether the file is the one that the benchmark was published with."""
        return self.wanted == self.checksum


@dataclass(frozen=True)
class Event:
    """A sound in a recording; times in milliseconds from the recording's beginning."""

    onset_ms: float
    offset_ms: float
    label: Label


@dataclass(frozen=True)
class Recording:
    """A labelled stretch of a source file, before it becomes a clip.

    Args:
        path: the source file.
        clip_id: file stem of the clip; unique in the task.
        labels: what the recording is (scene tasks).
        events: what happens in it and when (event tasks).
        split: the split the corpus gives it.
        group: recordings of one group never straddle drawn splits; "" means the clip_id.
        start_frame: first frame of the stretch at the source's own rate.
        frames: length of the stretch; None means to the end of the file.
    """

    path: Path
    clip_id: str
    labels: tuple[Label, ...] = ()
    events: tuple[Event, ...] = ()
    split: str = "train"
    group: str = ""
    start_frame: int = 0
    frames: int | None = None

    @property
    def split_key(self) -> str:
        """What is shuffled when splits are drawn."""
        return self.group or self.clip_id


@dataclass(frozen=True)
class Splits:
    """How clips come to their splits (spec: trainvaltest, given folds, new folds)."""

    mode: SplitMode
    folds: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """`("train", "valid", "test")` or `("fold00", ...)`."""
        if self.mode == "trainvaltest":
            return ("train", "valid", "test")
        return tuple(f"fold{i:02d}" for i in range(self.folds or 0))


@dataclass(frozen=True)
class Mode:
    """One edition of a task: which archives, how much of them.

    Args:
        downloads: the archives.
        max_duration_s: nominal seconds kept, of each split by name or of every fold; None keeps all.
        clip_duration_s: overrides the task's clip length.
        split_percentages: shares of drawn splits; None means 80/10/10.
        drop_missing_files: the archives lack some labelled files, whose rows are dropped.
        published: whether the benchmark published this edition; the mode `all` means these.
        shards: how many steps prepare its clips.
    """

    downloads: tuple[Download, ...]
    max_duration_s: Mapping[str, float | None] | float | None = None
    clip_duration_s: float | None = None
    split_percentages: Mapping[str, float] | None = None
    drop_missing_files: bool = False
    published: bool = True
    shards: int = 1

    def limit_s(self, split: str) -> float | None:
        """Nominal seconds kept of a split, or None for all of it."""
        limit = self.max_duration_s
        return limit.get(split) if isinstance(limit, Mapping) else limit


# What a long-running function is given to tell (done, total) as it goes.
Progress = Callable[[int, int], None]

# From the key of a download (`train/dev`) to the folder that holds the extracted archive.
Archives = Mapping[str, Path]


@dataclass(frozen=True)
class TaskSpec:
    """A HEAR task as its corpus module declares it.

    Args:
        read_recordings: yields the recordings of the extracted archives; called with the task's mode name.
        clip_duration_s: length of every clip; None keeps each clip's own length.
        metrics: names of the metrics, the first decides model selection.
        settings: further keys of task_metadata.json.
        lists_downloads: whether the general settings of task_metadata.json name the downloads.
        is_open: whether the task belongs to the open tasks of the challenge.
    """

    name: str
    version: str
    embedding_type: EmbeddingType
    prediction_type: PredictionType
    splits: Splits
    clip_duration_s: float | None
    metrics: tuple[str, ...]
    modes: Mapping[str, Mode]
    default_mode: str
    read_recordings: Callable[[Archives, str], Iterable[Recording]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    lists_downloads: bool = True
    is_open: bool = False

    def duration_s(self, mode: str) -> float | None:
        """Length of the clips in this mode, in seconds."""
        return self.modes[mode].clip_duration_s or self.clip_duration_s

    def folder(self, mode: str) -> str:
        """Name of the published folder: `speech_commands-v0.0.2-5h`."""
        return f"{self.name}-{self.version}-{mode}"
