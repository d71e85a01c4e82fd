"""The sounds of a task of one's own: from class folders, or from a table, to recordings."""

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
# A clip's name gets a suffix, and file systems end names at 255 bytes.
MAX_NAME_BYTES = 240
SURROGATE = re.compile("[\ud800-\udfff]")
DECIMAL = re.compile("0|[1-9][0-9]*")


@dataclass(frozen=True)
class Row:
    """A sound and one of its labels: a line of a table, or a file in a class folder."""

    where: str
    path: str
    label: str
    split: str = ""
    group: str = ""
    start_ms: float | None = None
    end_ms: float | None = None


@dataclass(frozen=True)
class Sounds:
    """What lies behind a task of one's own.

    Args:
        file: the task's TOML file, an absolute path.
        recordings: one for each sound, sorted by path; the paths are absolute, nothing is copied.
        has_splits: whether splits are given, at least in part.
        is_event: whether the labels come with times.
        passed_over: how many files in the class folders are hidden or no sounds.
        content: changes with the place, the table, and the sounds' names, sizes and times of change.
    """

    file: Path
    recordings: tuple[Recording, ...]
    has_splits: bool
    is_event: bool
    passed_over: int
    content: str

    def read_recordings(self, archives: Archives, mode: str) -> tuple[Recording, ...]:
        """The recordings as they were found when the task was loaded."""
        return self.recordings


def find_sounds(file: Path, *, folder: str = "", table: str = "") -> Sounds:
    """The sounds of a task, with their labels and whatever else is given.

    Args:
        file: the task's TOML file, an absolute path.
        folder: class folders, from the file's place.
        table: a table, from the file's place; its own paths start from where it lies.
    """
    source = file.parent / (folder or table)
    base, (rows, passed_over) = (
        (source, _read_folder(source)) if folder else (source.parent, (_read_table(source), 0))
    )
    if not rows:
        raise HearevalError(str(source), got="no sounds", expected="some, with their labels")
    digest = hashlib.sha256(str(base).encode())
    if table:
        digest.update(files.file_checksum(source, "sha256").encode())
    # The labels of a task are all numbers or all text, as in the published tasks.
    label_of = int if all(DECIMAL.fullmatch(row.label) for row in rows) else str
    recordings = []
    for path, of_path in sorted(_by_path(rows).items()):
        sound = base / path
        facts = _stat(sound, of_path[0].where)
        digest.update(f"{path!r} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        recordings.append(_recording(sound, of_path, label_of))
    _check_names(recordings)
    is_event, has_splits = rows[0].start_ms is not None, bool(rows[0].split)
    return Sounds(file, tuple(recordings), has_splits, is_event, passed_over, digest.hexdigest())


def _read_folder(folder: Path) -> tuple[list[Row], int]:
    """The sounds below class folders, and how many other files there are.

    The class folders may lie in folders `train`, `valid` and `test`, or two of these, which then are the
    splits.
    """
    if not folder.is_dir():
        raise HearevalError(f"folder {folder}", got="no such folder", expected="one with class sub-folders")
    tops = _folders_in(folder)
    has_splits = len(tops) > 1 and {top.name for top in tops} <= set(SPLITS)
    parents = tops if has_splits else [folder]
    beside = [path for parent in parents for path in sorted(parent.iterdir()) if path.is_file()]
    for path in beside:
        if _is_sound(path.name):
            raise HearevalError(
                f"sound {path}", got="no class", remedy="Move it into the sub-folder of its class."
            )
    rows: list[Row] = []
    passed_over = len(beside)
    for of_class in (inner for parent in parents for inner in _folders_in(parent)):
        split = of_class.parent.name if has_splits else ""
        for name, is_sound in _files_below(of_class):
            passed_over += not is_sound
            if is_sound:
                rows.append(Row(str(of_class), name[len(f"{folder}/") :], of_class.name, split))
    return rows, passed_over


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files_below(folder: Path) -> Iterator[tuple[str, bool]]:
    """The files of a class, at any depth, and whether each is a sound; hidden folders are not entered."""
    for parent, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from ((f"{parent}/{name}", _is_sound(name)) for name in names)


def _is_sound(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SOUND_SUFFIXES)


def _read_table(table: Path) -> list[Row]:
    try:
        # Excel begins its UTF-8 with a mark.
        with open(table, encoding="utf-8-sig", newline="") as stream:
            return list(_rows(stream, table))
    except FileNotFoundError:
        raise HearevalError(f"table {table}", got="no such file", expected="a CSV file") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise HearevalError(f"table {table}", got=str(error), expected="CSV in UTF-8") from None


def _rows(stream: TextIO, table: Path) -> Iterator[Row]:
    lines = csv.reader(stream)
    header = [cell.strip() for cell in next(lines, [])]
    _check_header(header, table)
    for cells in lines:
        where = f"{table} line {lines.line_num}"
        # A spreadsheet may leave rows of empty cells behind.
        if not any(cells):
            continue
        if len(cells) != len(header):
            expected = f"{len(header)} as in the first line"
            raise HearevalError(where, got=f"{len(cells)} cells", expected=expected)
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        for name in header:
            if not row[name] and name != "group":
                raise HearevalError(f"{where}: {name}", got="an empty cell")
        yield Row(
            where,
            posixpath.normpath(row["path"]),
            row["label"],
            row.get("split", ""),
            row.get("group", ""),
            *_times_ms(row, where),
        )


def _check_header(header: Sequence[str], table: Path) -> None:
    wrong = next((mark for mark in ";\t" if mark in "".join(header)), "")
    if wrong and len(header) == 1:
        raise HearevalError(f"table {table}", got=f"{wrong!r} between the columns", expected="','")
    for name in header:
        if name not in COLUMNS:
            raise unknown_name(f"column of {table}", name, COLUMNS)
        if header.count(name) > 1:
            raise HearevalError(f"table {table}", got=f"several columns {name}", expected="one")
    needed = COLUMNS[:2] + (COLUMNS[-2:] if {"start_ms", "end_ms"} & set(header) else ())
    for name in needed:
        if name not in header:
            raise HearevalError(f"table {table}", got=f"no column {name}", expected=", ".join(needed))


def _times_ms(row: Mapping[str, str], where: str) -> tuple[float, float] | tuple[None, None]:
    """Start and end of an event in milliseconds, where the table has them."""
    if "start_ms" not in row:
        return None, None
    try:
        start, end = float(row["start_ms"]), float(row["end_ms"])
    except ValueError as error:
        raise HearevalError(where, got=str(error), expected="milliseconds such as 1250.5") from None
    # Comparisons with NaN are false.
    if not 0 <= start <= end < math.inf:
        got = f"start_ms {start:g} and end_ms {end:g}"
        raise HearevalError(where, got=got, expected="0 or later, and an end that is not before the start")
    return start, end


def _by_path(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.path].append(row)
    return found


def _stat(path: Path, where: str) -> os.stat_result:
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        remedy = "The parts of a path have / between them." if "\\" in path.name else ""
        raise HearevalError(f"{where}: sound {path}", got="no such file", remedy=remedy) from None
    if not stat.S_ISREG(facts.st_mode) or not facts.st_size:
        got = "an empty file" if stat.S_ISREG(facts.st_mode) else "no file"
        raise HearevalError(f"{where}: sound {path}", got=got, expected="a file with sound")
    return facts


def _recording(path: Path, rows: Sequence[Row], label_of: Callable[[str], Label]) -> Recording:
    """The recording of a sound from its rows."""
    first, seen = rows[0], set()
    for row in rows:
        what = (row.label, row.start_ms, row.end_ms)
        if what in seen:
            raise HearevalError(f"{row.where}: {row.path}", got=f"{row.label} twice", expected="once")
        if (row.split, row.group) != (first.split, first.group):
            got = f"another split or group than {first.where}"
            raise HearevalError(
                f"{row.where}: {row.path}", got=got, expected="the same in every row of a sound"
            )
        seen.add(what)
    events = tuple(
        Event(row.start_ms, row.end_ms, label_of(row.label))
        for row in rows
        if row.start_ms is not None and row.end_ms is not None
    )
    labels = () if events else tuple(label_of(row.label) for row in rows)
    return Recording(path, clip_name(first.path), labels, events, first.split or "train", first.group)


def clip_name(path: str) -> str:
    """The clip's name: the parts of the path in one, without the suffix.

    >>> clip_name("owls/tawny/night 1.flac")
    'owls_tawny_night 1'
    """
    stem, _ = posixpath.splitext(path)
    return "_".join(part for part in stem.split("/") if part not in ("", ".."))


def _check_names(recordings: Sequence[Recording]) -> None:
    path_of: dict[str, Path] = {}
    for each in recordings:
        if each.clip_id in path_of:
            got = f"{path_of[each.clip_id]} and {each.path}"
            raise HearevalError(
                f"clip name {each.clip_id!r}", got=got, expected="one sound", remedy="Rename one."
            )
        path_of[each.clip_id] = each.path
        # Python reads bytes that are no UTF-8 as surrogates, which no table can hold.
        if len(os.fsencode(each.clip_id)) > MAX_NAME_BYTES or SURROGATE.search(each.clip_id):
            expected = f"UTF-8 of {MAX_NAME_BYTES} bytes at most"
            raise HearevalError(f"clip name {each.clip_id!r}", got="another", expected=expected)
