"""The description of a task: plain data, and names and numbers that follow from it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

Label = str | int
EmbeddingType = Literal["scene", "event"]
PredictionType = Literal["multiclass", "multilabel", "pairwise"]
SplitMode = Literal["trainvaltest", "new_split_kfold", "presplit_kfold", "test_only"]

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)
DEFAULT_SAMPLE_RATES = (16000, 22050, 44100, 48000)
# What resamples clips.
ENGINES = ("soxr", "ffmpeg")
# How embeddings may be stored; the second takes half the space.
EMBEDDING_DTYPES = ("float32", "float16")


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
        return PurePosixPath(unquote(urlsplit(self.url).path)).name

    @property
    def folder(self) -> str:
        """Key of the extracted archive in `Archives`, such as `train` or `train/dev`."""
        return self.key or "/".join(part for part in (self.split, self.name) if part)

    @property
    def files(self) -> tuple[Download, ...]:
        """All files to fetch: the other volumes and the download itself."""
        return (*self.volumes, self)

    @property
    def expected_checksum(self) -> str:
        """The checksum that the file must have, or "" if any file will do."""
        return self.accepted or self.checksum

    @property
    def identity(self) -> str:
        """A unique name of the file: its checksum or, if there is none, a digest of its URL."""
        return self.expected_checksum or "unpublished-" + hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def is_published(self) -> bool:
        """Whether the required checksum is the published one, or none was published."""
        return not self.checksum or self.expected_checksum == self.checksum

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
        attributes: what relations between clips are made of, such as the speaker (pairwise tasks).
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
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def split_key(self) -> str:
        """The key that random splits are made of: the group or, without one, the clip itself."""
        return self.group or self.clip_id


@dataclass(frozen=True)
class Splits:
    """How clips are assigned to splits.

    Args:
        mode: `trainvaltest` for training, validation and test set; `presplit_kfold` for folds that the corpus
            defines; `new_split_kfold` for random folds; `test_only` for a test set without training.
        folds: number of folds, if there are any.
    """

    mode: SplitMode
    folds: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the splits: `("train", "valid", "test")`, `("fold00", ...)` or `("test",)`."""
        if self.mode == "trainvaltest":
            return ("train", "valid", "test")
        if self.mode == "test_only":
            return ("test",)
        return tuple(f"fold{i:02d}" for i in range(self.folds or 0))


# --------------------------------------------------------------------------- relations between clips


@dataclass(frozen=True)
class RatedPair:
    """Two clips that people have rated.

    Args:
        first: id of one clip.
        second: id of the other clip.
        rating: how different they are, 0 or higher, on any scale: ratings are divided by the largest one of
            their experiment.
        group: the experiment; ratings of different experiments are never compared.
    """

    first: str
    second: str
    rating: float
    group: str = ""


@dataclass(frozen=True)
class SamePair:
    """Two clips that are the same in some respect, or are not.

    Args:
        first: id of one clip.
        second: id of the other clip.
        is_same: whether they are the same.
    """

    first: str
    second: str
    is_same: bool


@dataclass(frozen=True)
class Triplet:
    """Three clips, of which the positive one should be nearer to the anchor than the negative one.

    Args:
        anchor: id of the clip that the others are compared with.
        positive: id of the clip that should be nearer to it.
        negative: id of the clip that should be farther from it.
    """

    anchor: str
    positive: str
    negative: str


@dataclass(frozen=True)
class Ratings:
    """Ratings of pairs: small distances should go with small ratings.

    Args:
        pairs: the rated pairs; the clips of a pair are of one experiment.
        unit: the attribute whose values the confidence intervals resample; "" means single clips.
    """

    pairs: tuple[RatedPair, ...]
    unit: str = ""


@dataclass(frozen=True)
class SamePairs:
    """Listed pairs of clips: same ones should be nearer to each other than different ones.

    Args:
        pairs: the pairs, each once.
        unit: the attribute whose values the confidence intervals resample; "" means single clips.
    """

    pairs: tuple[SamePair, ...]
    unit: str = ""


@dataclass(frozen=True)
class SameDifferent:
    """All pairs of clips: those with the same value of an attribute should be nearer to each other.

    Args:
        same: the attribute.
        differ: attributes in which the clips of every pair differ; other pairs are left out.
        unit: the attribute whose values the confidence intervals resample; "" means single clips.
    """

    same: str
    differ: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class Triplets:
    """Listed triplets of clips.

    Args:
        triplets: the triplets; each counts as often as it is listed.
        unit: the attribute whose values the confidence intervals resample; "" means single clips.
    """

    triplets: tuple[Triplet, ...]
    unit: str = ""


@dataclass(frozen=True)
class Retrieval:
    """Queries and a gallery: the relevant clips should be the nearest to each query.

    The gallery of a query never contains the query itself.

    Args:
        relevant: the attribute in which query and relevant clips are equal.
        differ: attributes in which a query and its gallery differ.
        within: attributes in which a query and its gallery are equal.
        role: the attribute that says `query` or `gallery`, or `both`; "" means that every clip is both.
        average: the attribute of queries over whose values the mean of means is taken; "" means the mean
            over all queries.
        unit: the attribute of queries whose values the confidence intervals resample; "" means each query.
    """

    relevant: str
    differ: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    role: str = ""
    average: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Abx:
    """ABX discrimination across speakers: X should be nearer to A, of its category, than to B of another.

    A and B are of one speaker, X is of another. A cell is an ordered pair of categories with two speakers.

    Args:
        category: the attribute that A and X share, and B does not.
        speaker: the attribute that A and B share, and X does not.
        most_a: most clips A of a cell.
        most_b: most clips B of a cell.
        most_x: most clips X of a cell.
    """

    category: str
    speaker: str
    most_a: int = 10
    most_b: int = 10
    most_x: int = 5


Relation = Ratings | SamePairs | SameDifferent | Triplets | Retrieval | Abx

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
        mean_clip_s: mean length of clips that keep their own length, or 0 if unknown; only used to plan.
        listed_files: returns the single files that the archives list, to be fetched after these.
        listed_bytes: approximate size of these files, or 0 if they are as long as the clips; only used to
            plan.
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
    mean_clip_s: float = 0
    listed_files: Callable[[Archives], Iterable[Download]] | None = None
    listed_bytes: int = 0
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
        prediction_type: `multiclass` for one label at a time, `multilabel` for any number, `pairwise` for
            distances between scene embeddings in place of labels.
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
        read_relation: returns the relation between the clips of a pairwise task; called like
            `read_recordings`. None for other tasks.
        clips_of: name of the task whose corpus module, listed files and clips this task shares; "" if there
            is none.
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
    read_relation: Callable[[Archives, str], Relation] | None = None
    clips_of: str = ""

    @property
    def is_pairwise(self) -> bool:
        """Whether distances between clips are scored, and nothing is trained."""
        return self.prediction_type == "pairwise"

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
