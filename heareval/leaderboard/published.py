"""Scores that were published, as rows of a board. data/README.md names the sources."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from heareval.errors import HearevalError, file_error
from heareval.formats.fields import shorten
from heareval.leaderboard.board import Cell, MetricValue, Origin, Row
from heareval.leaderboard.columns import PUBLISHED_COLUMNS, PublishedColumn
from heareval.leaderboard.slugs import make_slug

DATA = Path(__file__).parent / "data"
OFFICIAL_SOURCE = "HEAR leaderboard 2023"
# The row that s(m) counts from, and which of the two that were printed: the later one.
NAIVE_NAME, NAIVE_SOURCE = "HEAR-Naive", "GRAM 2026"


def read_published() -> tuple[Row, ...]:
    """Return the 34 rows of the official leaderboard, and the rows that papers have printed since.

    >>> rows = read_published()
    >>> len(rows), next(row.name for row in rows if len(row.cells) == 19)
    (50, 'CREPE')
    """
    return (*read_official(DATA / "leaderboard.csv"), *read_later(DATA / "published_later.csv"))


def read_official(path: Path) -> tuple[Row, ...]:
    """Return the rows of the official leaderboard.

    Args:
        path: a file like leaderboard.csv: scores are shares, and missing ones are empty.

    Raises:
        HearevalError: the file can't be read, lacks a column, or has a score that is no share.
    """
    names = {each.csv_name: each for each in PUBLISHED_COLUMNS}
    submissions = {line["model"]: line for _, line in _read_lines(DATA / "submissions2021.csv", ("model",))}
    rows = []
    for where, line in _read_lines(path, ("Model", "URL", "Submission Date", *names)):
        facts = {"url": line["URL"], "submitted": line["Submission Date"]}
        facts |= {key: value for key, value in submissions.get(line["Model"], {}).items() if key != "model"}
        rows.append(
            _make_row(line["Model"], OFFICIAL_SOURCE, _read_cells(where, line, names, whole=1.0), facts)
        )
    return _check_distinct(path, rows)


def read_later(path: Path) -> tuple[Row, ...]:
    """Return rows that papers have printed.

    Args:
        path: a file like published_later.csv: scores are in percent, and missing ones are empty. Models of
            one name stay apart if their sources differ.

    Raises:
        HearevalError: the file can't be read, lacks a column, or has a score that is no percentage.
    """
    names = {each.later_name: each for each in PUBLISHED_COLUMNS if each.later_name}
    rows = [
        _make_row(line["model"], line["source"], _read_cells(where, line, names, whole=100.0), {})
        for where, line in _read_lines(path, ("model", "source", *names))
    ]
    return _check_distinct(path, rows)


def read_naive() -> Mapping[str, float]:
    """Return the scores of HEAR-Naive, which s(m) counts from, by the key of the column.

    >>> read_naive()["esc50-v2.0.0-full"]
    0.286
    """
    (naive,) = (
        row
        for row in read_later(DATA / "published_later.csv")
        if (row.name, row.source) == (NAIVE_NAME, NAIVE_SOURCE)
    )
    return {key: cell.score for key, cell in naive.cells.items()}


def _make_row(name: str, source: str, cells: Mapping[str, Cell], facts: Mapping[str, str]) -> Row:
    known = {key: value for key, value in facts.items() if value}
    return Row(make_slug(name, source), name, "", Origin.PUBLISHED, source, cells, facts=known)


def _read_lines(path: Path, required: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the lines of a CSV file by column, each with its name for errors."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, strict=True)
            missing = [name for name in required if name not in (reader.fieldnames or ())]
            if missing:
                raise HearevalError(f"{path}", got=f"no column {missing[0]}", expected=", ".join(required))
            for line in reader:
                where = f"{path}, line {reader.line_num}"
                # A line with more or fewer cells has a None among its keys or values.
                if None in line or None in line.values():
                    expected = f"{len(reader.fieldnames or ())} cells"
                    raise HearevalError(where, got="another number of cells", expected=expected)
                yield where, line
    except (UnicodeDecodeError, csv.Error) as error:
        raise HearevalError(f"{path}", got=str(error), expected="a CSV file in UTF-8") from None
    except OSError as error:
        raise file_error(error) from None


def _read_cells(
    where: str, line: Mapping[str, str], names: Mapping[str, PublishedColumn], whole: float
) -> dict[str, Cell]:
    return {
        published.column.key: Cell(
            {published.column.metric: MetricValue(_read_share(f"{where}, {name}", line[name], whole))}
        )
        for name, published in names.items()
        if line[name]
    }


def _read_share(where: str, text: str, whole: float) -> float:
    """Return a number divided by the number that stands for all, 1 or 100."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= whole:
        raise HearevalError(where, got=shorten(text), expected=f"a number from 0 to {whole:g}")
    # 28.6 / 100 is 0.28600000000000003.
    return round(value / whole, 12)


def _check_distinct(path: Path, rows: list[Row]) -> tuple[Row, ...]:
    seen: set[str] = set()
    for row in rows:
        if row.key in seen:
            raise HearevalError(f"{path}", got=f"{shorten(row.name)} twice", expected="each model once")
        seen.add(row.key)
    return tuple(rows)
