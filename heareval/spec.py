"""The description of a task: plain data, and names and numbers that follow from it."""

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
        url: where it was published; the last part of its path is the file name.
        checksum: the published MD5 (32 hex digits) or SHA-256 (64), or "" if the publisher gave none.
        split: the split that its recordings start in ("train", "fold00" ...).
        name: distinguishes several downloads of one split.
        key: the key of its content, if that is not made from split and name.
        other_urls: further addresses, in the order of trying.
        volumes: the other volumes (`.z01` ...) of a zip in volumes; this is the last one.
        accepted: a checksum that the user accepts in place of the published one, or "".
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
        """Name of the file, such as `speech_commands_v0.02.tar.gz`."""
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def folder(self) -> str:
        """Key of the extracted archive in `Archives`, such as `train` or `train/dev`."""
        return self.key or "/".join(part for part in (self.split, self.name) if part)

    @property
    def files(self) -> tuple[Download, ...]:
        """All files to fetch: the other volumes and the download itself."""
        return (*self.volumes, self)

    @property
    def wanted(self) -> str:
        """The checksum that the file must have, or "" if any file will do."""
        return self.accepted or self.checksum

    @property
    def identity(self) -> str:
        """A unique name of the file: its checksum or, if there is none, a digest of its URL."""
        return self.wanted or "unpublished-" + hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def is_published(self) -> bool:
        """Whether the required checksum is the published one, or none was published."""
        return not self.checksum or self.wanted == self.checksum

    def with_accepted(self, checksums: Mapping[str, str]) -> Download:
        """Return the download with the checksums, by file name, that the user accepts."""
        volumes = tuple(volume.with_accepted(checksums) for volume in self.volumes)
        return replace(self, volumes=volumes, accepted=checksums.get(self.file_name, ""))


@dataclass(frozen=True)
class Event:
    """A labelled sound in a recording.

    Args:
        onset_ms: when it starts, in milliseconds from the start of the recording.
        offset_ms: when it ends.
        label: what it is.
    """

    onset_ms: float
    offset_ms: float
    label: Label


@dataclass(frozen=True)
class Recording:
    """A labelled section of a source file, which becomes a clip.

    Args:
        path: the source file.
        clip_id: file stem of the clip; unique in the task.
        labels: the labels of the recording (scene tasks).
        events: its events (event tasks).
        split: the split that the corpus assigns to it.
        group: recordings of one group end up in the same split; "" means that it has no group.
        start_frame: first frame of the section, at the sample rate of the source.
        frames: length of the section, or None for the rest of the file.
        floor: floor, instead of round, the mean of the channels to 16 bit.
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
        """The key that random splits are made of: the group or, without one, the clip itself."""
        return self.group or self.clip_id


@dataclass(frozen=True)
class Splits:
    """How clips are assigned to splits.

    Args:
        mode: `trainvaltest` for training, validation and test set; `presplit_kfold` for folds that the corpus
            defines; `new_split_kfold` for random folds.
        folds: number of folds, if there are any.
    """

    mode: SplitMode
    folds: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the splits: `("train", "valid", "test")` or `("fold00", ...)`."""
        if self.mode == "trainvaltest":
            return ("train", "valid", "test")
        return tuple(f"fold{i:02d}" for i in range(self.folds or 0))


# Limits on what one step prepares: seconds of work, so that a kill costs little and the progress bar moves.
# Tasks with few clips may have long ones, so they are divided among cores as well.
CLIPS_PER_SHARD, SECONDS_PER_SHARD, LEAST_SHARDS = 1000, 900.0, 4

# A function that long-running functions call with (done, total).
Progress = Callable[[int, int], None]


def ignore_progress(done: int, total: int) -> None:
    """Do nothing; the default for parameters of type `Progress`."""


# Key of a download (`train/dev`) -> folder of the extracted archive.
Archives = Mapping[str, Path]
# The key for the folder with `Mode.listed_files`.
LISTED = "listed"


@dataclass(frozen=True)
class Mode:
    """A variant of a task: which archives it is made from, and how much of them it keeps.

    Args:
        downloads: the archives.
        max_duration_s: nominal seconds to keep of each split (by name) or of every fold; None keeps all.
        clip_duration_s: length of the clips, if it differs from the task's.
        split_percentages: sizes of random splits; None means 80/10/10.
        folds: number of folds, if it differs from the task's.
        drop_missing_files: drop labelled files that the archives lack, instead of raising an error.
        published: whether the benchmark published this variant; mode `all` means the published ones.
        clips: approximate number of clips, or 0 if unknown; only used to plan.
        listed_files: returns the single files that the archives list, to be fetched after these.
        sounds: approximate number of sounds in the archives; unless 0, only those of selected clips are
            extracted.
        headers: whether the reader needs the headers of the sounds, so that their first bytes are extracted.
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
        """Return the nominal seconds to keep of a split, or None for all of it."""
        limit = self.max_duration_s
        return limit.get(split) if isinstance(limit, Mapping) else limit


@dataclass(frozen=True)
class TaskSpec:
    """A HEAR task as its corpus module declares it.

    Args:
        name: name of the task, such as `speech_commands`.
        version: version of the corpus.
        embedding_type: `scene` for labels of whole clips, `event` for labels with onset and offset.
        prediction_type: `multiclass` for one label at a time, `multilabel` for any number.
        splits: how clips are assigned to splits.
        clip_duration_s: length of every clip in seconds; None keeps the length of each recording.
        metrics: names of the metrics; the first one decides model selection.
        modes: the variants of the task by name.
        default_mode: the mode that is used unless the user names one.
        read_recordings: yields the recordings; called with the extracted archives and the name of the mode.
        settings: further keys of task_metadata.json.
        moved_settings: key of task_metadata.json -> the key that it follows, if that is not the usual one.
        lists_downloads: whether the general settings of task_metadata.json include the downloads.
        is_open: whether it is one of the open tasks of the challenge.
        labels: all possible labels, if they are known beforehand; () accepts those of the corpus.
        content: digest of the files of a task without archives; "" for the published tasks.
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
        """Return the length of the clips in a mode, in seconds, or None if they differ."""
        return self.modes[mode].clip_duration_s or self.clip_duration_s

    def splits_of(self, mode: str) -> Splits:
        """Return how clips are assigned to splits in a mode."""
        return replace(self.splits, folds=self.modes[mode].folds or self.splits.folds)

    def shards(self, mode: str) -> int:
        """Return the number of steps that prepare the clips of a mode. The result does not depend on it."""
        clips = self.modes[mode].clips
        seconds = clips * (self.duration_s(mode) or 0)
        by_clips, by_length = math.ceil(clips / CLIPS_PER_SHARD), math.ceil(seconds / SECONDS_PER_SHARD)
        return max(1, min(clips, max(by_clips, by_length, LEAST_SHARDS)))

    def folder(self, mode: str) -> str:
        """Return the name of the published folder, such as `speech_commands-v0.0.2-5h`."""
        return f"{self.name}-{self.version}-{mode}"
