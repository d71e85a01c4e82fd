"""Read CSV files as people and their programs write them."""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heareval.errors import HearevalError, unknown_name
from heareval.folders import describe_unusual_file

# What spreadsheets and pandas write between cells.
SEPARATORS = (",", ";", "\t")
# The columns by which the forms of tables are told apart, by the key of the TOML file that names the table.
FORMS: Mapping[str, tuple[str, ...]] = {
    "queries": ("path", "label", "role"),
    "table": ("path", "label"),
    "pairs": ("a", "b"),
    "triplets": ("anchor", "positive", "negative"),
}
# pandas gives this name to a column without one when it reads a table, and writes it later.
UNNAMED = re.compile(r"|Unnamed: [0-9]+")
INDEX = re.compile("[0-9]+")


@dataclass(frozen=True)
class TableRow:
    """A row of a table.

    Args:
        where: names the table and the line in errors.
        cells: its cells by column, without spaces around them.
    """

    where: str
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A CSV file.

    Args:
        path: the file.
        columns: the names of its columns.
        rows: its rows that are not empty.
        doubts: what is probably a mistake, in words.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    doubts: tuple[str, ...]

    def check_columns(self, needed: Sequence[str]) -> None:
        """Raise HearevalError unless the table has these columns."""
        _check_columns(self.columns, needed, self.path)

    def find_path(self, written: str) -> str:
        """Return a path in a cell, relative to the table, with `/` between its parts, also from Windows."""
        path = posixpath.normpath(written)
        if "\\" in path and not (self.path.parent / path).exists():
            return posixpath.normpath(written.replace("\\", "/"))
        return path


@dataclass(frozen=True)
class _Row:
    """A row of a table: its place in the file, and its cells without spaces around them."""

    line: int
    cells: tuple[str, ...]


def read_csv(
    table: Path, required: Sequence[str], optional: Sequence[str], *, may_be_empty: Collection[str] = ()
) -> Table:
    """Return a CSV file in UTF-8, with commas, semicolons or tabs between the cells.

    Empty rows, and empty cells at the end of a row, are passed over, as is a column without a name that is
    empty or numbers the rows.

    Args:
        required: the columns that the table must have.
        optional: the columns that it may have.
        may_be_empty: the columns whose cells may be empty.

    Raises:
        HearevalError: there is no such table, or something in it is wrong.
    """
    if unusual := describe_unusual_file(table):
        raise HearevalError(f"table {table}", got=unusual, expected="a CSV file")
    try:
        # utf-8-sig: Excel writes a byte order mark.
        text = table.read_bytes().decode("utf-8-sig")
        lines = list(_split_cells(text))
    except (UnicodeDecodeError, csv.Error) as error:
        raise HearevalError(f"table {table}", got=str(error), expected="CSV in UTF-8") from None
    if not lines:
        expected = f"a first line that names the columns {', '.join(required)}"
        raise HearevalError(f"table {table}", got="an empty file", expected=expected)
    header, *rows = lines
    columns = [name for name in header.cells if not UNNAMED.fullmatch(name)]
    known = (*required, *optional)
    _check_form(columns, required, known, table)
    _check_header(columns, known, table)
    _check_columns(columns, required, table)
    rows = [_fit_cells(row, header.cells, table) for row in rows]
    doubts: list[str] = []
    for column, name in enumerate(header.cells):
        if UNNAMED.fullmatch(name):
            doubts += _check_unnamed([row.cells[column] for row in rows], column + 1, known, table)
    return Table(
        table,
        tuple(columns),
        tuple(_name_cells(row, header.cells, may_be_empty, table) for row in rows),
        tuple(doubts),
    )


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


def _check_form(columns: Sequence[str], required: Sequence[str], known: Sequence[str], table: Path) -> None:
    """Raise HearevalError if a table has another form, or no line that names its columns."""
    if set(columns) <= set(known):
        return
    form = next((key for key, needed in FORMS.items() if set(needed) <= set(columns)), "")
    if form and FORMS[form] != tuple(required):
        remedy = f"Such a table is given as `{form}` in the TOML file, or as --{form}."
    elif set(columns).isdisjoint(known):
        form, remedy = "", "The first line names the columns, with commas, semicolons or tabs between them."
    else:
        return
    got = f"the columns {', '.join(columns)}"
    raise HearevalError(f"table {table}", got=got, expected=", ".join(required), remedy=remedy)


def _check_header(columns: Sequence[str], known: Sequence[str], table: Path) -> None:
    for name in columns:
        if name not in known:
            raise unknown_name(f"column of {table}", name, known)
        if columns.count(name) > 1:
            raise HearevalError(
                f"table {table}", got=f"several columns named {name}", expected="one such column"
            )


def _check_columns(columns: Sequence[str], needed: Sequence[str], table: Path) -> None:
    for name in needed:
        if name not in columns:
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


def _check_unnamed(cells: Sequence[str], number: int, known: Sequence[str], table: Path) -> list[str]:
    """Return a note about a column without a name; raise HearevalError if it may mean something."""
    if not any(cells):
        return []
    other = next((cell for cell in cells if not INDEX.fullmatch(cell)), None)
    if other is not None or len(set(cells)) < len(cells):
        raise HearevalError(
            f"table {table}",
            got=f"no name of column {number}, with cells such as {other or cells[0]!r}",
            expected=f"one of {', '.join(known)}",
            remedy="Name the column, or remove it.",
        )
    return [f"column {number} of the table has no name and only numbers the rows; it is passed over"]


def _name_cells(row: _Row, header: Sequence[str], may_be_empty: Collection[str], table: Path) -> TableRow:
    where = f"{table} line {row.line}"
    cells = {name: cell for name, cell in zip(header, row.cells, strict=True) if not UNNAMED.fullmatch(name)}
    for name, cell in cells.items():
        if not cell and name not in may_be_empty:
            raise HearevalError(f"{where}: {name}", got="an empty cell")
    return TableRow(where, cells)


def parse_number(cell: str) -> float:
    """Return the number in a cell; raise ValueError for `1_000`, which only Python takes for a number.

    >>> parse_number(" 12.5")
    12.5
    """
    if "_" in cell:
        raise ValueError(f"{cell!r} is not a number")
    return float(cell)
