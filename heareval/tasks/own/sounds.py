"""Find the sounds of a user's task: read class folders or a table, and make recordings of them."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from heareval import files
from heareval.errors import HearevalError
from heareval.folders import describe_unusual_file
from heareval.spec import Archives, Event, Label, Recording
from heareval.tasks.own.class_folders import read_class_folders
from heareval.tasks.own.clip_names import check_clip_names, make_clip_id
from heareval.tasks.own.labelled_sound import LabelledSound
from heareval.tasks.own.table import read_table

DECIMAL = re.compile("0|[1-9][0-9]*")


@dataclass(frozen=True)
class Sounds:
    """The sounds of a user's task.

    Args:
        file: the task's TOML file, an absolute path.
        recordings: one for each sound, sorted by path; the paths are absolute, nothing is copied.
        has_splits: whether splits are given, at least some.
        is_event: whether the labels have onsets and offsets.
        left_out: what lies in the folder and does not belong to the task, in words.
        doubts: what is probably a mistake, in words.
        digest: changes with the folder, the table, and the names, sizes and modification times of the sounds.
    """

    file: Path
    recordings: tuple[Recording, ...]
    has_splits: bool
    is_event: bool
    left_out: tuple[str, ...]
    doubts: tuple[str, ...]
    digest: str

    def read_recordings(self, archives: Archives, mode: str) -> tuple[Recording, ...]:
        """Return the recordings that were found when the task was loaded; the arguments are not used."""
        return self.recordings


def find_sounds(file: Path, *, folder: str = "", table: str = "") -> Sounds:
    """Find the sounds of a task with their labels, splits, groups and events.

    Args:
        file: the task's TOML file, an absolute path.
        folder: a folder with a sub-folder for each class, relative to the TOML file; "" if there is a table.
        table: a CSV file, relative to the TOML file; the paths in it are relative to the table.

    Raises:
        HearevalError: there are no sounds, or the folder or table is wrong.
    """
    source = file.parent / (folder or table)
    base = source if folder else source.parent
    found = read_class_folders(source) if folder else read_table(source)
    rows = found.rows
    if not rows:
        left_out = f"Left out: {', '.join(found.left_out)}." if found.left_out else ""
        raise HearevalError(str(source), got="no sounds", expected="sounds with labels", remedy=left_out)
    digest = hashlib.sha256(str(base).encode())
    if table:
        digest.update(files.file_checksum(source, "sha256").encode())
    # As in the published tasks, labels are numbers only if all of them are.
    label_of = int if all(DECIMAL.fullmatch(row.label) for row in rows) else str
    recordings = []
    paths_of: dict[tuple[int, int], list[str]] = defaultdict(list)
    for path, path_rows in sorted(_group_by_path(rows).items()):
        sound = base / path
        facts = _stat_sound(sound, path_rows[0].where)
        paths_of[facts.st_dev, facts.st_ino].append(path)
        digest.update(f"{path!r} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        recordings.append(_make_recording(sound, path_rows, label_of))
    check_clip_names((each.clip_id, each.path) for each in recordings)
    doubts = (
        *found.doubts,
        *_doubt_spellings({row.label for row in rows}),
        *_doubt_copies(paths_of.values()),
    )
    return Sounds(
        file=file,
        recordings=tuple(recordings),
        has_splits=bool(rows[0].split),
        is_event=rows[0].start_ms is not None,
        left_out=found.left_out,
        doubts=doubts,
        digest=digest.hexdigest(),
    )


def _doubt_spellings(labels: set[str]) -> list[str]:
    """Return a note about each group of labels that are probably one.

    >>> _doubt_spellings({"Dog", "dog ", "cat"})
    ["'Dog' and 'dog ' are different labels; should they be one?"]
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        # NFKC: a letter and its accent may be one character or two.
        alike[" ".join(unicodedata.normalize("NFKC", label).casefold().split())].append(label)
    return [
        f"{' and '.join(map(repr, group))} are different labels; should they be one?"
        for group in alike.values()
        if len(group) > 1
    ]


def _doubt_copies(paths_of_files: Iterable[list[str]]) -> list[str]:
    """Return a note if a file is taken several times, under several paths."""
    several = [paths for paths in paths_of_files if len(paths) > 1]
    if not several:
        return []
    count = "1 file is" if len(several) == 1 else f"{len(several)} files are"
    return [
        f"{count} taken several times, by links or several spellings of a path, such as {several[0][0]} and "
        f"{several[0][1]}; such clips may be in train and test at once"
    ]


def _group_by_path(rows: Sequence[LabelledSound]) -> dict[str, list[LabelledSound]]:
    groups: dict[str, list[LabelledSound]] = defaultdict(list)
    for row in rows:
        groups[row.path].append(row)
    return groups


def _stat_sound(path: Path, where: str) -> os.stat_result:
    """Return the size and times of a sound; raise HearevalError if it is not a file with content."""
    if unusual := describe_unusual_file(path):
        raise HearevalError(f"{where}: sound {path}", got=unusual, expected="an audio file")
    facts = path.stat()
    if not facts.st_size:
        raise HearevalError(f"{where}: sound {path}", got="an empty file", expected="an audio file")
    return facts


def _make_recording(path: Path, rows: Sequence[LabelledSound], label_of: Callable[[str], Label]) -> Recording:
    """Return the recording of a sound from all its rows."""
    first, seen = rows[0], set()
    for row in rows:
        label_and_times = (row.label, row.start_ms, row.end_ms)
        if label_and_times in seen:
            raise HearevalError(
                f"{row.where}: {row.path}", got=f"{row.label} twice", expected="each label once per sound"
            )
        if (row.split, row.group) != (first.split, first.group):
            got = f"another split or group than in {first.where}"
            raise HearevalError(
                f"{row.where}: {row.path}", got=got, expected="the same in every row of a sound"
            )
        seen.add(label_and_times)
    events = tuple(
        Event(row.start_ms, row.end_ms, label_of(row.label))
        for row in rows
        if row.start_ms is not None and row.end_ms is not None
    )
    labels = () if events else tuple(label_of(row.label) for row in rows)
    return Recording(
        path=path,
        clip_id=make_clip_id(first.path),
        labels=labels,
        events=events,
        split=first.split or "train",
        group=first.group,
    )
