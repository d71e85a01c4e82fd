"""Select the clips of each split from the recordings of a corpus, and write the files that describe them."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from heareval import files, layout
from heareval.errors import HearevalError
from heareval.formats.labels import (
    drop_clips,
    remove_clips,
    write_attributes,
    write_labels,
    write_vocabulary,
)
from heareval.formats.relations import check_relation, read_relation, remove_related, write_relation
from heareval.formats.task_description import describe_task, record_skipped_clips, write_task_metadata
from heareval.spec import Event, Label, Recording, Relation, TaskSpec
from heareval.tasks.splits import assign_splits, labels_of, numpy_seed, subsample

VERSION = 2
CLIPS = "clips.jsonl"


@dataclass(frozen=True)
class SelectedClips:
    """The clips of a task: recordings with their final split, labels and events.

    Args:
        clips: sorted by split and file name; labels and events of a clip in the published order.
        dropped: ids of clips whose source file is missing, sorted; only where the mode allows that.
        warnings: deviations that the rules tolerate but readers of the scores should know.
        relation: how the clips of a pairwise task relate to each other.
    """

    clips: tuple[Recording, ...]
    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    relation: Relation | None = None

    def of_split(self, split: str) -> list[Recording]:
        """Return the clips of one split."""
        return [clip for clip in self.clips if clip.split == split]


def select_clips(
    task: TaskSpec,
    mode_name: str,
    recordings: Iterable[Recording],
    is_available: Callable[[Path], bool] = Path.exists,
) -> SelectedClips:
    """Shuffle recordings, assign splits, trim events and subsample, exactly as the published benchmark.

    Args:
        task: the task, with its modes.
        mode_name: the mode, for example "5h".
        recordings: what the corpus module read; one per clip.
        is_available: returns whether the corpus has a source file, unpacked or not.

    Raises:
        HearevalError: a labelled file is missing, two recordings share a name, a split lacks a label, or the
            corpus has other labels than the task.
    """
    mode, splits = task.modes[mode_name], task.splits_of(mode_name)
    if task.is_pairwise:
        return _select_related(task, mode_name, _list_recordings(recordings, task), is_available)
    shuffled = shuffle_rows(_list_recordings(recordings, task), task)
    available = [r for r in shuffled if is_available(r.path)]
    dropped = {r.clip_id for r in shuffled} - {r.clip_id for r in available}
    if dropped and not mode.drop_missing_files:
        raise _describe_missing([r for r in shuffled if r.clip_id in dropped], len(shuffled))
    # The published rule for maestro: where several events sound at once, a missing label is only a warning.
    is_strict = not mode.drop_missing_files and (task.embedding_type, task.prediction_type) != (
        "event",
        "multilabel",
    )
    split_of = assign_splits(available, splits, mode.split_percentages, need_every_label=is_strict)
    placed = [
        r if r.split == split_of[r.clip_id] else replace(r, split=split_of[r.clip_id]) for r in available
    ]
    clips = [_trim_events(clip, task.duration_s(mode_name)) for clip in placed]
    warnings = _check_labels(clips, task, splits.names, is_strict)
    kept = _subsample_splits(clips, task, mode_name)
    warnings |= _check_labels(kept, task, splits.names, is_strict)
    kept.sort(key=lambda clip: (clip.split, f"{clip.clip_id}.wav"))
    return SelectedClips(tuple(kept), tuple(sorted(dropped)), tuple(sorted(warnings)))


def _select_related(
    task: TaskSpec, mode_name: str, recordings: Sequence[Recording], is_available: Callable[[Path], bool]
) -> SelectedClips:
    """Return the clips of a pairwise task: all, or those that the mode's limit keeps.

    A task that shares the split and the limit of another task keeps the same clips.
    """
    mode = task.modes[mode_name]
    _check_names(recordings, task)
    available = [r for r in recordings if is_available(r.path)]
    dropped = {r.clip_id for r in recordings} - {r.clip_id for r in available}
    if dropped and not mode.drop_missing_files:
        raise _describe_missing([r for r in recordings if r.clip_id in dropped], len(recordings))
    kept = _subsample_splits(available, task, mode_name)
    kept.sort(key=lambda clip: f"{clip.clip_id}.wav")
    return SelectedClips(tuple(kept), tuple(sorted(dropped)))


def _list_recordings(recordings: Iterable[Recording], task: TaskSpec) -> list[Recording]:
    try:
        return list(recordings)
    except (LookupError, ValueError) as error:
        raise HearevalError(
            f"{task.name}: labels",
            got=f"{type(error).__name__}: {error}",
            expected="the tables and file names of the published corpus",
            remedy="The archive is damaged, or not the published one.",
        ) from error


def shuffle_rows(recordings: list[Recording], task: TaskSpec) -> list[Recording]:
    """Return the recordings, with their labels and events, in the order of the published shuffled table.

    The table has one row per label or event. It is sorted, then permuted with the benchmark's seed.
    """
    _check_recordings(recordings, task)
    rows = sorted(_table_rows(recordings), key=lambda row: row[1])
    order = np.random.RandomState(numpy_seed("postprocess_all_metadata")).permutation(len(rows))
    shuffled: dict[str, list[Label | Event]] = defaultdict(list)
    recording_of: dict[str, Recording] = {}
    for i in order:
        recording, _, label_or_event = rows[i]
        shuffled[recording.clip_id].append(label_or_event)
        recording_of[recording.clip_id] = recording
    return [_reorder_labels(recording_of[clip_id], ordered) for clip_id, ordered in shuffled.items()]


def _reorder_labels(recording: Recording, ordered: Sequence[Label | Event]) -> Recording:
    if len(ordered) == 1:
        return recording
    events = tuple(each for each in ordered if isinstance(each, Event))
    labels = tuple(each for each in ordered if not isinstance(each, Event))
    return replace(recording, labels=labels, events=events)


def _table_rows(
    recordings: Iterable[Recording],
) -> Iterable[tuple[Recording, tuple[Any, ...], Label | Event]]:
    """Yield the recording, the sort key, and the label or event of every row."""
    for r in recordings:
        for label in r.labels:
            yield r, (r.clip_id, label), label
        for event in r.events:
            yield r, (r.clip_id, event.onset_ms, event.offset_ms, event.label), event


def _check_recordings(recordings: Sequence[Recording], task: TaskSpec) -> None:
    """Raise HearevalError for clip names that clash, and for labels that the task does not have."""
    _check_names(recordings, task)
    possible = {*task.labels}
    for r in recordings:
        if possible and (unknown := labels_of(r) - possible):
            expected = ", ".join(map(str, task.labels))
            raise HearevalError(f"{task.name}: {r.clip_id}", got=f"labels {unknown}", expected=expected)
        if task.prediction_type == "multiclass" and task.embedding_type == "scene" and len(r.labels) != 1:
            raise HearevalError(f"{task.name}: {r.clip_id}", got=f"labels {r.labels}", expected="exactly one")
        if not labels_of(r):
            raise HearevalError(f"{task.name}: {r.clip_id}", got="no label", expected="at least one")


def _check_names(recordings: Sequence[Recording], task: TaskSpec) -> None:
    """Raise HearevalError unless there are recordings, and each has a name of its own."""
    counts = Counter(r.clip_id for r in recordings)
    if not counts:
        raise HearevalError(
            f"{task.name}",
            got="no recordings",
            expected="at least one",
            remedy="Check that the archive is the right one.",
        )
    clip_id, count = counts.most_common(1)[0]
    if count > 1 or "/" in clip_id:
        raise HearevalError(
            f"{task.name}: clip name {clip_id!r}", got=f"{count} recordings", expected="one file without '/'"
        )


def _describe_missing(missing: Sequence[Recording], count: int) -> HearevalError:
    return HearevalError(
        f"listed file {min(str(r.path) for r in missing)}",
        got=f"{len(missing)} of {count} missing",
        expected="every labelled file in the archive",
        remedy="The archive is incomplete: fetch it again, or use --mode small if that is what you want.",
    )


def _trim_events(clip: Recording, duration_s: float | None) -> Recording:
    """Return the clip without the events that begin after its end, and with the others cut at its end."""
    if duration_s is None or not clip.events:
        return clip
    end_ms = duration_s * 1000
    events = tuple(replace(e, offset_ms=min(e.offset_ms, end_ms)) for e in clip.events if e.onset_ms < end_ms)
    if not events:
        raise HearevalError(
            f"{clip.clip_id}", got="no event in the clip", expected=f"one before {duration_s:g} s"
        )
    return replace(clip, events=events)


def _check_labels(
    clips: Sequence[Recording], task: TaskSpec, splits: Sequence[str], is_strict: bool
) -> set[str]:
    """Return a warning for every split that lacks labels; raise HearevalError instead if `is_strict`."""
    labels_in: dict[str, set[Label]] = {name: set() for name in splits}
    for clip in clips:
        labels_in[clip.split] |= labels_of(clip)
    warnings = _describe_lacking(labels_in)
    if warnings and is_strict:
        raise HearevalError(
            f"{task.name}: {min(warnings)}",
            expected="every label in every split",
            remedy="The archive is incomplete, or not the published one.",
        )
    return warnings


def _describe_lacking(labels_in: Mapping[str, set[Label]]) -> set[str]:
    """Return a line for each split that lacks labels of other splits."""
    all_labels = set().union(*labels_in.values())
    return {
        f"split {split} lacks {len(all_labels - labels)} of {len(all_labels)} labels: "
        + ", ".join(map(str, sorted(all_labels - labels)))  # type: ignore[type-var]
        for split, labels in labels_in.items()
        if all_labels - labels
    }


def _subsample_splits(clips: Sequence[Recording], task: TaskSpec, mode_name: str) -> list[Recording]:
    """Return the clips that the mode's limits keep."""
    mode, duration_s = task.modes[mode_name], task.duration_s(mode_name)
    kept: list[Recording] = []
    for split in task.splits_of(mode_name).names:
        in_split = [clip for clip in clips if clip.split == split]
        maximum_s = mode.limit_s(split)
        # The benchmark counts nominal lengths, whatever the lengths of the source files.
        limit = None if maximum_s is None or duration_s is None else int(maximum_s / duration_s)
        chosen = subsample([clip.clip_id for clip in in_split], split, limit)
        kept += [clip for clip in in_split if clip.clip_id in chosen]
    return kept


# --------------------------------------------------------------------------- description


def write_description(folder: Path, task: TaskSpec, mode_name: str, selected: SelectedClips) -> None:
    """Write the published files that describe a task.

    They are the JSON of each split, task_metadata.json, and the vocabulary or, for a pairwise task, the
    relation.

    Raises:
        HearevalError: the relation does not fit the clips.
    """
    write_task_metadata(folder, describe_task(task, mode_name))
    if task.is_pairwise:
        _write_relation(folder, task, selected)
        return
    for split in task.splits_of(mode_name).names:
        clips = selected.of_split(split)
        labels = {f"{clip.clip_id}.wav": clip.events or clip.labels for clip in clips}
        write_labels(folder, split, labels)
    write_vocabulary(folder, set().union(*(labels_of(clip) for clip in selected.clips)))


def _write_relation(folder: Path, task: TaskSpec, selected: SelectedClips) -> None:
    relation = relate_clips(task, selected)
    (split,) = task.splits.names
    write_attributes(folder, split, {f"{clip.clip_id}.wav": clip.attributes for clip in selected.clips})
    write_relation(folder, relation)


def relate_clips(task: TaskSpec, selected: SelectedClips) -> Relation:
    """Return the relation between the selected clips of a pairwise task.

    Raises:
        HearevalError: there is none, or it does not fit the clips.
    """
    if selected.relation is None:
        raise HearevalError(f"{task.name}: relation", got="none", expected="one, as in a pairwise task")
    # A clip whose file the archives lack takes its pairs with it.
    relation = remove_related(selected.relation, set(selected.dropped))
    check_relation(relation, {clip.clip_id: clip.attributes for clip in selected.clips}, task.name)
    return relation


def leave_out(folder: Path, clips: Mapping[str, Collection[str]], *, has_corpus: bool) -> list[str]:
    """Remove clips from a task's description; return a warning for every split that then lacks labels.

    task_metadata.json, which the tarballs hold too, lists the removed clips.

    Args:
        folder: holds the description.
        clips: ids of the clips to remove, by split, for all splits of the task.
        has_corpus: whether the task has a published corpus, which then is not used in full.

    Raises:
        HearevalError: a split would have no clip left, or a relation nothing that it relates.
    """
    skipped = [f"{split}/{each}" for split, clip_ids in clips.items() for each in clip_ids]
    record_skipped_clips(folder, skipped, has_corpus=has_corpus)
    if (folder / layout.RELATIONS).exists():
        ((split, clip_ids),) = clips.items()
        kept = drop_clips(folder, split, clip_ids)
        relation = remove_related(read_relation(folder), clip_ids)
        attributes = {name.removesuffix(".wav"): each for name, each in kept.items()}
        check_relation(relation, attributes, "clips with usable audio")
        write_relation(folder, relation)
        return []
    seen = {split: remove_clips(folder, split, clip_ids) for split, clip_ids in clips.items()}
    write_vocabulary(folder, set().union(*seen.values()))
    return sorted(_describe_lacking(seen))


# --------------------------------------------------------------------------- the table of clips


@dataclass(frozen=True)
class ClipSource:
    """A line of clips.jsonl: where the samples of a clip come from.

    Args:
        source: the source file, relative to the folder of extracted archives if it is there; else absolute.
        clip_id: the clip's name without its suffix.
        split: the split that the clip belongs to.
        start_frame: first frame of the stretch, at the source's rate.
        frames: length of the stretch; None means to the end of the file.
        floor: average the channels and floor to 16 bit.
    """

    source: str
    clip_id: str
    split: str
    start_frame: int
    frames: int | None
    floor: bool

    @classmethod
    def from_recording(cls, clip: Recording, root: Path) -> ClipSource:
        """Return the line for a clip; `root` is the folder of extracted archives."""
        # The path always names a file, never the root itself; Path.relative_to takes far longer.
        source = clip.path.as_posix().removeprefix(f"{root.as_posix()}/")
        return cls(
            source=source,
            clip_id=clip.clip_id,
            split=clip.split,
            start_frame=clip.start_frame,
            frames=clip.frames,
            floor=clip.floor,
        )

    def to_recording(self, root: Path) -> Recording:
        """Return the clip without its labels; `root` is the folder of extracted archives."""
        return Recording(
            path=root / self.source,
            clip_id=self.clip_id,
            split=self.split,
            start_frame=self.start_frame,
            frames=self.frames,
            floor=self.floor,
        )

    @property
    def archive_folder(self) -> str:
        """The name of the folder of the extracted archive, for a source in one.

        >>> ClipSource("6b74f390-ab12/files/yes/1.wav", "yes_1", "train", 0, None, False).archive_folder
        '6b74f390-ab12'
        """
        return self.source.split("/", maxsplit=2)[0]

    @property
    def member(self) -> str:
        """The path of the source inside its archive, for a source in one.

        >>> ClipSource("6b74f390-ab12/files/yes/1.wav", "yes_1", "train", 0, None, False).member
        'yes/1.wav'
        """
        return self.source.split("/", maxsplit=2)[2]

    def to_json(self) -> str:
        """Return the line: a list, as finished work folders have it."""
        return json.dumps([self.source, self.clip_id, self.split, self.start_frame, self.frames, self.floor])

    @classmethod
    def from_json(cls, line: str) -> ClipSource:
        """Parse a line that `to_json` made."""
        source, clip_id, split, start_frame, frames, floor = json.loads(line)
        return cls(source, clip_id, split, start_frame, frames, floor)


def write_clips(path: Path, selected: SelectedClips, root: Path) -> None:
    """Write clips.jsonl, a line per clip; `root` is the folder of extracted archives."""
    lines = (ClipSource.from_recording(clip, root).to_json() for clip in selected.clips)
    files.write_text(path, "\n".join(lines) + "\n")


def read_clips(path: Path, start: int = 0, end: int | None = None) -> list[ClipSource]:
    """Return the lines of clips.jsonl from number `start` up to but without `end`."""
    with open(path, encoding="utf-8") as stream:
        return [ClipSource.from_json(line) for line in itertools.islice(stream, start, end)]
