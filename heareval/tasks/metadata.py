"""From recordings to the clips of each split and the files that describe them."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from heareval import files
from heareval.errors import HearevalError
from heareval.formats.labels import remove_clips, write_labels, write_vocabulary
from heareval.formats.task_description import describe_task, record_skipped_clips, write_task_metadata
from heareval.spec import Event, Label, Recording, TaskSpec
from heareval.tasks.splits import draw_splits, labels_of, numpy_seed, subsample

VERSION = 2
CLIPS = "clips.jsonl"


@dataclass(frozen=True)
class Drawn:
    """The clips of a task: recordings with their final split, labels and events.

    Args:
        clips: sorted by split and file name; labels and events of a clip in the published order.
        dropped: clip ids whose file is missing (only where the mode allows it).
        warnings: what the rules let pass but a reader should know.
    """

    clips: tuple[Recording, ...]
    dropped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def of_split(self, split: str) -> list[Recording]:
        """The clips of one split."""
        return [clip for clip in self.clips if clip.split == split]


def draw_clips(
    task: TaskSpec,
    mode_name: str,
    recordings: Iterable[Recording],
    is_there: Callable[[Path], bool] = Path.exists,
) -> Drawn:
    """Shuffle, split, trim events and subsample, exactly as published.

    Args:
        is_there: whether the corpus has a file, unpacked or not.

    Raises:
        HearevalError: a listed file is missing, two recordings share a name, a label is lost, ...
    """
    mode, splits = task.modes[mode_name], task.splits_of(mode_name)
    shuffled = shuffle_rows(_read(recordings, task), task)
    present = [r for r in shuffled if is_there(r.path)]
    dropped = {r.clip_id for r in shuffled} - {r.clip_id for r in present}
    if dropped and not mode.drop_missing_files:
        raise _missing_file([r for r in shuffled if r.clip_id in dropped], len(shuffled))
    # Maestro's rule: where several labels sound at once, a split without one of them is only a warning.
    strict = not mode.drop_missing_files and (task.embedding_type, task.prediction_type) != (
        "event",
        "multilabel",
    )
    split_of = draw_splits(present, splits, mode.split_percentages, need_every_label=strict)
    placed = [r if r.split == split_of[r.clip_id] else replace(r, split=split_of[r.clip_id]) for r in present]
    clips = [_trim_events(clip, task.duration_s(mode_name)) for clip in placed]
    warnings = _check_labels(clips, task, splits.names, strict)
    kept = _subsampled(clips, task, mode_name)
    warnings |= _check_labels(kept, task, splits.names, strict)
    kept.sort(key=lambda clip: (clip.split, f"{clip.clip_id}.wav"))
    return Drawn(tuple(kept), tuple(sorted(dropped)), tuple(sorted(warnings)))


def _read(recordings: Iterable[Recording], task: TaskSpec) -> list[Recording]:
    try:
        return list(recordings)
    except (LookupError, ValueError) as error:
        raise HearevalError(
            f"{task.name}: labels",
            got=f"{type(error).__name__}: {error}",
            expected="tables and names as the corpus has them",
            remedy="The archive is not the published one, or damaged.",
        ) from error


def shuffle_rows(recordings: list[Recording], task: TaskSpec) -> list[Recording]:
    """The recordings with labels and events in the order of the shuffled table.

    The table has one row per label or event. It is sorted, then permuted with the benchmark's seed.
    """
    _check_names(recordings, task)
    rows = sorted(_rows(recordings), key=lambda row: row[1])
    order = np.random.RandomState(numpy_seed("postprocess_all_metadata")).permutation(len(rows))
    found: dict[str, list[Label | Event]] = defaultdict(list)
    owner: dict[str, Recording] = {}
    for i in order:
        recording, _, what = rows[i]
        found[recording.clip_id].append(what)
        owner[recording.clip_id] = recording
    return [_in_order(owner[clip_id], what) for clip_id, what in found.items()]


def _in_order(recording: Recording, what: Sequence[Label | Event]) -> Recording:
    if len(what) == 1:
        return recording
    events = tuple(each for each in what if isinstance(each, Event))
    labels = tuple(each for each in what if not isinstance(each, Event))
    return replace(recording, labels=labels, events=events)


def _rows(recordings: Iterable[Recording]) -> Iterable[tuple[Recording, tuple[Any, ...], Label | Event]]:
    for r in recordings:
        for label in r.labels:
            yield r, (r.clip_id, label), label
        for event in r.events:
            yield r, (r.clip_id, event.onset_ms, event.offset_ms, event.label), event


def _check_names(recordings: Sequence[Recording], task: TaskSpec) -> None:
    counts = Counter(r.clip_id for r in recordings)
    if not counts:
        raise HearevalError(
            f"{task.name}", got="no recordings", expected="some", remedy="Is the archive the right one?"
        )
    clip_id, count = counts.most_common(1)[0]
    if count > 1 or "/" in clip_id:
        raise HearevalError(
            f"{task.name}: clip name {clip_id!r}", got=f"{count} recordings", expected="one file without '/'"
        )
    possible = {*task.labels}
    for r in recordings:
        if possible and (unknown := labels_of(r) - possible):
            expected = ", ".join(map(str, task.labels))
            raise HearevalError(f"{task.name}: {r.clip_id}", got=f"labels {unknown}", expected=expected)
        if task.prediction_type == "multiclass" and task.embedding_type == "scene" and len(r.labels) != 1:
            raise HearevalError(f"{task.name}: {r.clip_id}", got=f"labels {r.labels}", expected="exactly one")
        if not labels_of(r):
            raise HearevalError(f"{task.name}: {r.clip_id}", got="no label", expected="at least one")


def _missing_file(missing: Sequence[Recording], count: int) -> HearevalError:
    return HearevalError(
        f"listed file {min(str(r.path) for r in missing)}",
        got=f"{len(missing)} of {count} missing",
        expected="every labelled file in the archive",
        remedy="The archive is incomplete: fetch it again, or use --mode small if that is meant.",
    )


def _trim_events(clip: Recording, duration_s: float | None) -> Recording:
    """Events within the clip's length: later ones dropped, longer ones cut."""
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
    clips: Sequence[Recording], task: TaskSpec, splits: Sequence[str], strict: bool
) -> set[str]:
    """Complaints about labels that a split lacks; an error where the rules are strict."""
    seen: dict[str, set[Label]] = {name: set() for name in splits}
    for clip in clips:
        seen[clip.split] |= labels_of(clip)
    lacking = _lacking(seen)
    if lacking and strict:
        raise HearevalError(
            f"{task.name}: {min(lacking)}",
            expected="every label in every split",
            remedy="The archive is incomplete or not the published one.",
        )
    return lacking


def _lacking(seen: Mapping[str, set[Label]]) -> set[str]:
    """A line for each split that has not all labels."""
    everything = set().union(*seen.values())
    return {
        f"split {split} lacks {len(everything - labels)} of {len(everything)} labels: "
        + ", ".join(map(str, sorted(everything - labels)))  # type: ignore[type-var]
        for split, labels in seen.items()
        if everything - labels
    }


def _subsampled(clips: Sequence[Recording], task: TaskSpec, mode_name: str) -> list[Recording]:
    mode, duration_s = task.modes[mode_name], task.duration_s(mode_name)
    kept: list[Recording] = []
    for split in task.splits_of(mode_name).names:
        of_split = [clip for clip in clips if clip.split == split]
        maximum_s = mode.limit_s(split)
        # Nominal lengths count, whatever the files' own are.
        limit = None if maximum_s is None or duration_s is None else int(maximum_s / duration_s)
        chosen = subsample([clip.clip_id for clip in of_split], split, limit)
        kept += [clip for clip in of_split if clip.clip_id in chosen]
    return kept


# --------------------------------------------------------------------------- the files


def write_description(folder: Path, task: TaskSpec, mode_name: str, drawn: Drawn) -> None:
    """Write the published JSON and CSV files of a task."""
    for split in task.splits_of(mode_name).names:
        clips = drawn.of_split(split)
        labels = {f"{clip.clip_id}.wav": clip.events or clip.labels for clip in clips}
        write_labels(folder, split, labels)
    write_vocabulary(folder, set().union(*(labels_of(clip) for clip in drawn.clips)))
    write_task_metadata(folder, describe_task(task, mode_name))


def leave_out(folder: Path, clips: Mapping[str, Collection[str]], *, has_corpus: bool) -> list[str]:
    """Take clips out of a task's JSON files and vocabulary; returns what a reader should know of the rest.

    The metadata, which tarballs hold too, names them.

    Args:
        clips: clip ids by split, for all splits of the task.
        has_corpus: there is a published corpus, which the task then is not made from as it is.
    """
    seen = {split: remove_clips(folder, split, clip_ids) for split, clip_ids in clips.items()}
    write_vocabulary(folder, set().union(*seen.values()))
    skipped = (f"{split}/{each}" for split, clip_ids in clips.items() for each in clip_ids)
    record_skipped_clips(folder, skipped, has_corpus=has_corpus)
    return sorted(_lacking(seen))


# --------------------------------------------------------------------------- the table between two steps


def write_clips(path: Path, drawn: Drawn, root: Path) -> None:
    """Write where each clip's samples come from; paths relative to `root` where they are below it."""
    lines = (json.dumps(_clip_row(clip, root)) for clip in drawn.clips)
    files.write_text(path, "\n".join(lines) + "\n")


def _clip_row(clip: Recording, root: Path) -> list[Any]:
    # Every path is one of a file, so none is the root itself; Path.relative_to takes far longer.
    source = clip.path.as_posix().removeprefix(f"{root.as_posix()}/")
    return [source, clip.clip_id, clip.split, clip.start_frame, clip.frames, clip.floor]


def read_clips(path: Path, root: Path, start: int = 0, end: int | None = None) -> list[Recording]:
    """The clips of `write_clips` from one number up to another, without their labels."""
    with open(path, encoding="utf-8") as stream:
        rows = [json.loads(line) for line in itertools.islice(stream, start, end)]
    return [
        Recording(root / source, clip_id, (), (), split, "", start, frames, floor)
        for source, clip_id, split, start, frames, floor in rows
    ]
