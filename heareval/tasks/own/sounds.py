"""Find the sounds of a user's task: read class folders or a table, and make recordings of them."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import posixpath
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from heareval import files
from heareval.errors import HearevalError, unknown_name
from heareval.spec import Archives, Event, Label, Recording

SPLITS = ("train", "valid", "test")
SOUND_SUFFIXES = (".wav", ".flac", ".aiff", ".aif", ".mp3", ".ogg", ".opus", ".webm", ".m4a")
COLUMNS = ("path", "label", "split", "group", "start_ms", "end_ms")
# File systems allow 255 bytes; this leaves room for the suffixes of clips and of scratch files.
MAX_NAME_BYTES = 240
SURROGATE = re.compile("[\ud800-\udfff]")
DECIMAL = re.compile("0|[1-9][0-9]*")


@dataclass(frozen=True)
class LabelledSound:
    """A sound with one of its labels: a row of a table, or a file in a class folder.

    Args:
        where: names the row or folder in errors.
        path: the audio file, relative to the folder or table.
        label: the label.
        split: the split, "" where none is given.
        group: sounds of one group stay in one split; "" means that the sound is a group by itself.
        start_ms: onset of an event in milliseconds; None for a label of the whole sound.
        end_ms: its offset.
    """

    where: str
    path: str
    label: str
    split: str = ""
    group: str = ""
    start_ms: float | None = None
    end_ms: float | None = None


@dataclass(frozen=True)
class Sounds:
    """The sounds of a user's task.

    Args:
        file: the task's TOML file, an absolute path.
        recordings: one for each sound, sorted by path; the paths are absolute, nothing is copied.
        has_splits: whether splits are given, at least some.
        is_event: whether the labels have onsets and offsets.
        ignored_files: how many files in the class folders are hidden, or not audio.
        digest: changes with the folder, the table, and the names, sizes and modification times of the sounds.
    """

    file: Path
    recordings: tuple[Recording, ...]
    has_splits: bool
    is_event: bool
    ignored_files: int
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
    base, (rows, ignored) = (
        (source, _read_folder(source)) if folder else (source.parent, (_read_table(source), 0))
    )
    if not rows:
        raise HearevalError(str(source), got="no sounds", expected="sounds with labels")
    digest = hashlib.sha256(str(base).encode())
    if table:
        digest.update(files.file_checksum(source, "sha256").encode())
    # As in the published tasks, labels are numbers only if all of them are.
    label_of = int if all(DECIMAL.fullmatch(row.label) for row in rows) else str
    recordings = []
    for path, path_rows in sorted(_group_by_path(rows).items()):
        sound = base / path
        facts = _stat_sound(sound, path_rows[0].where)
        digest.update(f"{path!r} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        recordings.append(_make_recording(sound, path_rows, label_of))
    _check_clip_names(recordings)
    is_event, has_splits = rows[0].start_ms is not None, bool(rows[0].split)
    return Sounds(file, tuple(recordings), has_splits, is_event, ignored, digest.hexdigest())


def _read_folder(folder: Path) -> tuple[list[LabelledSound], int]:
    """Return the sounds in the class folders, and the number of other files.

    The class folders may be in folders `train`, `valid` and `test`, or two of them, which give the splits.
    """
    if not folder.is_dir():
        raise HearevalError(
            f"folder {folder}", got="no such folder", expected="a folder with a sub-folder for each class"
        )
    tops = _list_folders(folder)
    has_splits = len(tops) > 1 and {top.name for top in tops} <= set(SPLITS)
    parents = tops if has_splits else [folder]
    beside = [path for parent in parents for path in sorted(parent.iterdir()) if path.is_file()]
    for path in beside:
        if _is_sound(path.name):
            raise HearevalError(
                f"sound {path}", got="no class", remedy="Move the file into the sub-folder of its class."
            )
    rows: list[LabelledSound] = []
    ignored = len(beside)
    for class_folder in (inner for parent in parents for inner in _list_folders(parent)):
        split = class_folder.parent.name if has_splits else ""
        for name, is_sound in _walk_files(class_folder):
            ignored += not is_sound
            if is_sound:
                relative = name[len(f"{folder}/") :]
                rows.append(LabelledSound(str(class_folder), relative, class_folder.name, split))
    return rows, ignored


def _list_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _walk_files(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield the files of a class at any depth, without hidden folders, and whether each is a sound."""
    for parent, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from ((f"{parent}/{name}", _is_sound(name)) for name in names)


def _is_sound(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SOUND_SUFFIXES)


def _read_table(table: Path) -> list[LabelledSound]:
    try:
        # utf-8-sig: Excel writes a byte order mark.
        with open(table, encoding="utf-8-sig", newline="") as stream:
            return list(_parse_rows(stream, table))
    except FileNotFoundError:
        raise HearevalError(f"table {table}", got="no such file", expected="a CSV file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise HearevalError(f"table {table}", got=str(error), expected="CSV in UTF-8") from None


def _parse_rows(stream: TextIO, table: Path) -> Iterator[LabelledSound]:
    lines = csv.reader(stream)
    header = [cell.strip() for cell in next(lines, [])]
    _check_header(header, table)
    for cells in lines:
        where = f"{table} line {lines.line_num}"
        # Spreadsheets may leave rows of empty cells at the end.
        if not any(cells):
            continue
        if len(cells) != len(header):
            expected = f"{len(header)} as in the first line"
            raise HearevalError(where, got=f"{len(cells)} cells", expected=expected)
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        for name in header:
            if not row[name] and name != "group":
                raise HearevalError(f"{where}: {name}", got="an empty cell")
        start_ms, end_ms = _parse_times(row, where)
        yield LabelledSound(
            where=where,
            path=posixpath.normpath(row["path"]),
            label=row["label"],
            split=row.get("split", ""),
            group=row.get("group", ""),
            start_ms=start_ms,
            end_ms=end_ms,
        )


def _check_header(header: Sequence[str], table: Path) -> None:
    separator = next((mark for mark in ";\t" if mark in "".join(header)), "")
    if separator and len(header) == 1:
        raise HearevalError(f"table {table}", got=f"{separator!r} between the columns", expected="','")
    for name in header:
        if name not in COLUMNS:
            raise unknown_name(f"column of {table}", name, COLUMNS)
        if header.count(name) > 1:
            raise HearevalError(
                f"table {table}", got=f"several columns named {name}", expected="one such column"
            )
    needed = COLUMNS[:2] + (COLUMNS[-2:] if {"start_ms", "end_ms"} & set(header) else ())
    for name in needed:
        if name not in header:
            raise HearevalError(f"table {table}", got=f"no column {name}", expected=", ".join(needed))


def _parse_times(row: Mapping[str, str], where: str) -> tuple[float, float] | tuple[None, None]:
    """Return the start and end of an event in milliseconds, or None for both if the table has no times."""
    if "start_ms" not in row:
        return None, None
    try:
        start, end = float(row["start_ms"]), float(row["end_ms"])
    except ValueError as error:
        raise HearevalError(where, got=str(error), expected="milliseconds such as 1250.5") from None
    # This also rejects NaN, with which every comparison is false.
    if not 0 <= start <= end < math.inf:
        got = f"start_ms {start:g} and end_ms {end:g}"
        raise HearevalError(where, got=got, expected="0 or later, and an end that is not before the start")
    return start, end


def _group_by_path(rows: Sequence[LabelledSound]) -> dict[str, list[LabelledSound]]:
    groups: dict[str, list[LabelledSound]] = defaultdict(list)
    for row in rows:
        groups[row.path].append(row)
    return groups


def _stat_sound(path: Path, where: str) -> os.stat_result:
    """Return the size and times of a sound; raise HearevalError if it is not a file with content."""
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        remedy = "Separate the parts of a path by /." if "\\" in path.name else ""
        raise HearevalError(f"{where}: sound {path}", got="no such file", remedy=remedy) from None
    if not stat.S_ISREG(facts.st_mode) or not facts.st_size:
        got = "an empty file" if stat.S_ISREG(facts.st_mode) else "not a regular file"
        raise HearevalError(f"{where}: sound {path}", got=got, expected="an audio file")
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


def make_clip_id(path: str) -> str:
    """Return the name of the clip of a sound: the parts of its path, joined, without the suffix.

    >>> make_clip_id("owls/tawny/night 1.flac")
    'owls_tawny_night 1'
    """
    stem, _ = posixpath.splitext(path)
    return "_".join(part for part in stem.split("/") if part not in ("", ".."))


def _check_clip_names(recordings: Sequence[Recording]) -> None:
    path_of: dict[str, Path] = {}
    for each in recordings:
        if each.clip_id in path_of:
            got = f"{path_of[each.clip_id]} and {each.path}"
            raise HearevalError(
                f"clip name {each.clip_id!r}", got=got, expected="one sound", remedy="Rename one of them."
            )
        path_of[each.clip_id] = each.path
        # Python decodes bytes that are not UTF-8 to surrogates, which a UTF-8 table cannot hold.
        if len(os.fsencode(each.clip_id)) > MAX_NAME_BYTES or SURROGATE.search(each.clip_id):
            expected = f"UTF-8 with at most {MAX_NAME_BYTES} bytes"
            got = "a longer name, or bytes that are not UTF-8"
            raise HearevalError(f"clip name {each.clip_id!r}", got=got, expected=expected)
