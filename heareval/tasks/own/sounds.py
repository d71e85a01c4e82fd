"""Find the sounds of a user's task in class folders or a table, and make recordings of them."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heareval import files
from heareval.errors import HearevalError
from heareval.folders import describe_unusual_file
from heareval.spec import Archives, Event, Label, Recording, Relation
from heareval.tasks.own.class_folders import read_class_folders
from heareval.tasks.own.clip_names import check_clip_names, make_clip_id
from heareval.tasks.own.labelled_sound import LabelledSound
from heareval.tasks.own.related_sounds import READERS, SPLIT, RelatedSounds
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
        relation: how the clips relate to each other; None unless the task is pairwise.
    """

    file: Path
    recordings: tuple[Recording, ...]
    has_splits: bool
    is_event: bool
    left_out: tuple[str, ...]
    doubts: tuple[str, ...]
    digest: str
    relation: Relation | None = None

    def read_recordings(self, archives: Archives, mode: str) -> tuple[Recording, ...]:
        """Return the recordings that were found when the task was loaded; the arguments are not used."""
        return self.recordings

    def read_relation(self, archives: Archives, mode: str) -> Relation:
        """Return the relation between the clips of a pairwise task; the arguments are not used."""
        if self.relation is None:
            raise HearevalError(f"{self.file}: relation", got="none", expected="pairs, triplets or queries")
        return self.relation


def find_sounds(
    file: Path,
    *,
    folder: str = "",
    table: str = "",
    pairs: str = "",
    triplets: str = "",
    queries: str = "",
) -> Sounds:
    """Find the sounds of a task with their labels, splits, groups and events, or with their relation.

    One of the arguments after the first is given: a folder or a CSV file, relative to the TOML file.

    Args:
        file: the task's TOML file, an absolute path.
        folder: a folder with a sub-folder for each class.
        table: a table of sounds and labels; the paths in every table are relative to it.
        pairs: a table of pairs, rated or the same.
        triplets: a table of triplets.
        queries: a table of queries and a gallery.

    Raises:
        HearevalError: there are no sounds, or the folder or table is wrong.
    """
    for key, path in (("pairs", pairs), ("triplets", triplets), ("queries", queries)):
        if path:
            return _make_related(file, file.parent / path, READERS[key](file.parent / path))
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
    rows_of = _group_by_path(rows)
    files_found = _stat_sounds(base, {path: each[0].where for path, each in rows_of.items()})
    digest.update(files_found.text.encode())
    recordings = [_make_recording(base / path, rows_of[path], label_of) for path in sorted(rows_of)]
    check_clip_names((each.clip_id, each.path) for each in recordings)
    doubts = (
        *found.doubts,
        *_doubt_spellings({row.label for row in rows}),
        *_doubt_links(files_found.links, "such clips may be in train and test at once"),
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


def _doubt_links(links: Sequence[list[str]], effect: str) -> list[str]:
    """Return a note if a file is taken several times, under several paths."""
    if not links:
        return []
    count = "1 file is" if len(links) == 1 else f"{len(links)} files are"
    return [
        f"{count} taken several times, by links or several spellings of a path, such as {links[0][0]} and "
        f"{links[0][1]}; {effect}"
    ]


def _make_related(file: Path, table: Path, found: RelatedSounds) -> Sounds:
    """Return the sounds of a pairwise task, all of them in the test split."""
    facts = _stat_sounds(table.parent, found.places)
    digest = hashlib.sha256(str(table.parent).encode())
    digest.update(files.file_checksum(table, "sha256").encode())
    digest.update(facts.text.encode())
    recordings = tuple(
        Recording(
            path=table.parent / path,
            clip_id=make_clip_id(path),
            split=SPLIT,
            attributes=found.attributes.get(path, {}),
        )
        for path in sorted(found.places)
    )
    check_clip_names((each.clip_id, each.path) for each in recordings)
    return Sounds(
        file=file,
        recordings=recordings,
        has_splits=True,
        is_event=False,
        left_out=(),
        doubts=(*found.doubts, *_doubt_links(facts.links, "the distance between such clips is 0")),
        digest=digest.hexdigest(),
        relation=found.relation,
    )


def _group_by_path(rows: Sequence[LabelledSound]) -> dict[str, list[LabelledSound]]:
    groups: dict[str, list[LabelledSound]] = defaultdict(list)
    for row in rows:
        groups[row.path].append(row)
    return groups


@dataclass(frozen=True)
class _SoundFiles:
    """What the file system says about sounds.

    Args:
        text: their paths, sizes and modification times, a line each.
        links: the paths of each file that has several.
    """

    text: str
    links: list[list[str]]


def _stat_sounds(base: Path, places: Mapping[str, str]) -> _SoundFiles:
    """Return what the file system says about sounds.

    Args:
        base: the folder that their paths are relative to.
        places: the path of each sound, and the row or folder that names it.
    """
    lines = []
    paths_of: dict[tuple[int, int], list[str]] = defaultdict(list)
    for path, where in sorted(places.items()):
        facts = _stat_sound(base / path, where)
        paths_of[facts.st_dev, facts.st_ino].append(path)
        lines.append(f"{path!r} {facts.st_size} {facts.st_mtime_ns}\n")
    return _SoundFiles("".join(lines), [paths for paths in paths_of.values() if len(paths) > 1])


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
