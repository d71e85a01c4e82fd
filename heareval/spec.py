"""What a task is: plain data, no behaviour beyond names that follow from it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
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
        checksum: published MD5 (32 hex digits) or SHA-256 (64), whichever the publisher gave; "" = none ever.
        split: the split its recordings start in ("train", "fold00" ...).
        name: tells several downloads of one split apart.
        key: the key of its content where split and name don't make one.
        other_urls: where else it can be had, in the order of trying.
        volumes: the earlier volumes (`.z01` ...) of a zip whose last one this is.
        accepted: another checksum that the user admits in place of the published one ("" = none).
    """

    url: str
    checksum: str
    split: str = ""
    name: str = ""
    key: str = ""
    other_urls: tuple[str, ...] = ()
    volumes: tuple[Download, ...] = ()
    accepted: str = ""

    @property
    def file_name(self) -> str:
        """`speech_commands_v0.02.tar.gz`"""
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def folder(self) -> str:
        """The key under which a corpus module finds what was in the archive: `train` or `train/dev`."""
        return self.key or "/".join(part for part in (self.split, self.name) if part)

    @property
    def files(self) -> tuple[Download, ...]:
        """The files to fetch: the volumes and the download itself."""
        return (*self.volumes, self)

    @property
    def wanted(self) -> str:
        """The checksum that the file must have; "" admits any."""
        return self.accepted or self.checksum

    @property
    def identity(self) -> str:
        """What tells this file from all others: its checksum or, where there is none, its address."""
        return self.wanted or "unpublished-" + hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def is_published(self) -> bool:
        """Whether nothing is known against its being what the benchmark was published with."""
        return not self.checksum or self.wanted == self.checksum

    def accepting(self, checksums: Mapping[str, str]) -> Download:
        """The same with the checksums, by file name, that the user admits."""
        volumes = tuple(volume.accepting(checksums) for volume in self.volumes)
        return replace(self, volumes=volumes, accepted=checksums.get(self.file_name, ""))


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
        floor: the mean of the channels is cut to 16 bit, not converted by the rules that hold elsewhere.
    """

    path: Path
    clip_id: str
    labels: tuple[Label, ...] = ()
    events: tuple[Event, ...] = ()
    split: str = "train"
    group: str = ""
    start_frame: int = 0
    frames: int | None = None
    floor: bool = False

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


# A step prepares about so many clips, or so much sound: seconds of work, for what a kill may cost and for a
# bar that moves. Few clips may be long ones, so they too are shared among cores.
CLIPS_PER_SHARD, SECONDS_PER_SHARD, LEAST_SHARDS = 1000, 900.0, 4

# What a long-running function is given to tell (done, total) as it goes.
Progress = Callable[[int, int], None]


def ignore_progress(done: int, total: int) -> None:
    """Ignore progress: the default where nobody waits."""


# From the key of a download (`train/dev`) to the folder that holds the extracted archive.
Archives = Mapping[str, Path]
# The key of the folder of `Mode.listed_files`.
LISTED = "listed"


@dataclass(frozen=True)
class Mode:
    """One edition of a task: which archives, how much of them.

    Args:
        downloads: the archives.
        max_duration_s: nominal seconds kept, of each split by name or of every fold; None keeps all.
        clip_duration_s: overrides the task's clip length.
        split_percentages: shares of drawn splits; None means 80/10/10.
        folds: overrides the task's number of folds.
        drop_missing_files: the archives lack some labelled files, whose rows are dropped.
        published: whether the benchmark published this edition; the mode `all` means these.
        clips: about how many clips there are, as far as known: for planning only, nothing depends on it.
        listed_files: further single files, named in the archives and fetched after them.
        sounds: about how many sounds the archives hold; given, only those of drawn clips are unpacked.
        headers: the reader looks into the headers of sounds, so their first bytes are unpacked for it.
    """

    downloads: tuple[Download, ...]
    max_duration_s: Mapping[str, float | None] | float | None = None
    clip_duration_s: float | None = None
    split_percentages: Mapping[str, float] | None = None
    folds: int | None = None
    drop_missing_files: bool = False
    published: bool = True
    clips: int = 0
    listed_files: Callable[[Archives], Iterable[Download]] | None = None
    sounds: int = 0
    headers: bool = False

    def limit_s(self, split: str) -> float | None:
        """Nominal seconds kept of a split, or None for all of it."""
        limit = self.max_duration_s
        return limit.get(split) if isinstance(limit, Mapping) else limit


@dataclass(frozen=True)
class TaskSpec:
    """A HEAR task as its corpus module declares it.

    Args:
        read_recordings: yields the recordings of the extracted archives; called with the task's mode name.
        clip_duration_s: length of every clip; None keeps each clip's own length.
        metrics: names of the metrics, the first decides model selection.
        settings: further keys of task_metadata.json.
        moved_settings: key of task_metadata.json -> the one it follows, where that is not the usual one.
        lists_downloads: whether the general settings of task_metadata.json name the downloads.
        is_open: whether the task belongs to the open tasks of the challenge.
        labels: what the labels can be, where that is known beforehand; () = whatever the corpus holds.
        content: changes with the files of a task that has no archives; "" for the published tasks.
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
    moved_settings: Mapping[str, str] = field(default_factory=dict)
    lists_downloads: bool = True
    is_open: bool = False
    labels: tuple[Label, ...] = ()
    content: str = ""

    def duration_s(self, mode: str) -> float | None:
        """Length of the clips in this mode, in seconds."""
        return self.modes[mode].clip_duration_s or self.clip_duration_s

    def splits_of(self, mode: str) -> Splits:
        """How clips come to their splits in this mode."""
        return replace(self.splits, folds=self.modes[mode].folds or self.splits.folds)

    def shards(self, mode: str) -> int:
        """How many steps prepare the clips of this mode; what comes out does not depend on it."""
        clips = self.modes[mode].clips
        seconds = clips * (self.duration_s(mode) or 0)
        by_clips, by_length = math.ceil(clips / CLIPS_PER_SHARD), math.ceil(seconds / SECONDS_PER_SHARD)
        return max(1, min(clips, max(by_clips, by_length, LEAST_SHARDS)))

    def folder(self, mode: str) -> str:
        """Name of the published folder: `speech_commands-v0.0.2-5h`."""
        return f"{self.name}-{self.version}-{mode}"
