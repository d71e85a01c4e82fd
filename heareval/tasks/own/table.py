"""Read a table of sounds and labels, as people and their programs write it."""

from __future__ import annotations

import csv
import io
import math
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heareval.errors import HearevalError, unknown_name
from heareval.folders import describe_unusual_file
from heareval.tasks.own.labelled_sound import LabelledSound, LabelledSounds

COLUMNS = ("path", "label", "split", "group", "start_ms", "end_ms")
# What spreadsheets and pandas write between cells.
SEPARATORS = (",", ";", "\t")
# pandas gives this name to a column without one when it reads a table, and writes it later.
UNNAMED = re.compile(r"|Unnamed: [0-9]+")
INDEX = re.compile("[0-9]+")
# What people put between several labels in one cell.
BETWEEN_LABELS = re.compile("[,;|]")


@dataclass(frozen=True)
class _Row:
    """A row of a table: its place in the file, and its cells without spaces around them."""

    line: int
    cells: tuple[str, ...]


def read_table(table: Path) -> LabelledSounds:
    """Return the sounds in a table with their labels.

    Cells are separated by commas, semicolons or tabs. Empty rows, and empty cells at the end of a row, are
    passed over, as is a column without a name that is empty or numbers the rows.

    Raises:
        HearevalError: there is no such table, or something in it is wrong.
    """
    if unusual := describe_unusual_file(table):
        raise HearevalError(f"table {table}", got=unusual, expected="a CSV file")
    try:
        # utf-8-sig: Excel writes a byte order mark.
        text = table.read_bytes().decode("utf-8-sig")
        header, *rows = list(_split_cells(text)) or [_Row(1, ())]
    except (UnicodeDecodeError, csv.Error) as error:
        raise HearevalError(f"table {table}", got=str(error), expected="CSV in UTF-8") from None
    _check_header([name for name in header.cells if not UNNAMED.fullmatch(name)], table)
    rows = [_fit_cells(row, header.cells, table) for row in rows]
    doubts: list[str] = []
    for column, name in enumerate(header.cells):
        if UNNAMED.fullmatch(name):
            doubts += _check_unnamed([row.cells[column] for row in rows], column + 1, table)
    sounds = [_read_row(header.cells, row, table) for row in rows]
    return LabelledSounds(sounds, doubts=(*doubts, *_doubt_labels({sound.label for sound in sounds})))


def _split_cells(text: str) -> Iterator[_Row]:
    """Yield the rows that are not empty."""
    first = next((line for line in re.split(r"[\r\n]+", text) if line.strip()), "")
    # The first line contains no text but names of columns, so its separator is that of the table.
    separator = max(SEPARATORS, key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    for cells in lines:
        stripped = tuple(cell.strip() for cell in cells)
        if any(stripped):
            yield _Row(lines.line_num, stripped)


def _check_header(header: Sequence[str], table: Path) -> None:
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


def _fit_cells(row: _Row, header: Sequence[str], table: Path) -> _Row:
    """Return a row with a cell for each column; raise HearevalError if it has too many or too few.

    Empty cells beyond the columns, and the cells of columns without a name, may be there or not.
    """
    named = max(number for number, name in enumerate(header, start=1) if not UNNAMED.fullmatch(name))
    where = f"{table} line {row.line}"
    if any("\n" in cell or "\r" in cell for cell in row.cells):
        remedy = "A quotation mark in this line, or in one of the lines before it, is not closed."
        raise HearevalError(where, got="a line break in a cell", expected="cells of one line", remedy=remedy)
    superfluous = any(row.cells[len(header) :])
    if len(row.cells) < named or superfluous:
        remedy = "A cell that contains the separator needs quotation marks." if superfluous else ""
        expected = f"{len(header)} as in the first line"
        raise HearevalError(where, got=f"{len(row.cells)} cells", expected=expected, remedy=remedy)
    missing = ("",) * (len(header) - len(row.cells))
    return _Row(row.line, (*row.cells[: len(header)], *missing))


def _check_unnamed(cells: Sequence[str], number: int, table: Path) -> list[str]:
    """Return a note about a column without a name; raise HearevalError if it may mean something."""
    if not any(cells):
        return []
    other = next((cell for cell in cells if not INDEX.fullmatch(cell)), None)
    if other is not None or len(set(cells)) < len(cells):
        raise HearevalError(
            f"table {table}",
            got=f"no name of column {number}, with cells such as {other or cells[0]!r}",
            expected=f"one of {', '.join(COLUMNS)}",
            remedy="Name the column, or remove it.",
        )
    return [f"column {number} of the table has no name and only numbers the rows; it is passed over"]


def _read_row(header: Sequence[str], row: _Row, table: Path) -> LabelledSound:
    where = f"{table} line {row.line}"
    cells = dict(zip(header, row.cells, strict=True))
    for name in COLUMNS:
        if cells.get(name) == "" and name != "group":
            raise HearevalError(f"{where}: {name}", got="an empty cell")
    start_ms, end_ms = _parse_times(cells, where)
    return LabelledSound(
        where=where,
        path=_find_path(cells["path"], table.parent),
        label=cells["label"],
        split=cells.get("split", ""),
        group=cells.get("group", ""),
        start_ms=start_ms,
        end_ms=end_ms,
    )


def _find_path(written: str, folder: Path) -> str:
    """Return a path with `/` between its parts, also where Windows wrote it."""
    path = posixpath.normpath(written)
    if "\\" in path and not (folder / path).exists():
        return posixpath.normpath(written.replace("\\", "/"))
    return path


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


def _doubt_labels(labels: set[str]) -> list[str]:
    """Return a note if cells seem to contain several labels each."""
    joined = sorted(label for label in labels if BETWEEN_LABELS.search(label))
    if not joined:
        return []
    count = "1 label contains" if len(joined) == 1 else f"{len(joined)} labels contain"
    return [
        f"{count} a comma, semicolon or bar, such as {joined[0]!r}; a cell is always one label, and several "
        "labels of a sound are several rows"
    ]
