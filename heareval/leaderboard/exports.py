"""A board for other programs: board.csv and board.json."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import heareval
from heareval.formats.exchange import escape_formula
from heareval.formats.scores import number_to_json
from heareval.leaderboard.board import Board, ProtocolTable, Row
from heareval.leaderboard.standings import DEFINITIONS

# Raised when a reader of the previous version would misunderstand board.json.
SCHEMA_VERSION = 1
CSV_FACTS = (
    *("url", "parameters", "release_date", "has_open_weights", "trained_on_evaluation_data"),
    *("pretraining_data", "code_licence", "weights_licence"),
)


def board_to_csv(board: Board) -> str:
    """Return a board as CSV: a line for each model and protocol, a column for each task, scores as shares.

    `rank` and `rank_low` to `rank_high` are among rows of the same origin, `rank_together` among all rows of
    the protocol. Missing scores are empty.
    """
    tasks = list(dict.fromkeys(column.key for table in board.tables for column in table.columns))
    head = (
        *(
            "protocol",
            "origin",
            "source",
            "model",
            "revision",
            "rank",
            "rank_low",
            "rank_high",
            "rank_together",
        ),
        *("mean", "borda", "official", "relative"),
    )
    stream = io.StringIO()
    # As RFC 4180 has it. With "\n" alone, a "\r" in a cell would not be quoted, and would end its line.
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(map(escape_formula, (*head, *tasks, *CSV_FACTS)))
    for table in board.tables:
        for row in table.rows:
            writer.writerow(map(_to_cell, _list_values(table, row, tasks)))
    return stream.getvalue()


def _list_values(table: ProtocolTable, row: Row, tasks: list[str]) -> Iterator[Any]:
    standing = table.standings[row.key]
    yield from (table.protocol, row.origin.value, row.source, row.name, row.revision)
    yield from (standing.rank, *(standing.rank_interval or (None, None)))
    yield table.standings_together[row.key].rank
    yield from (standing.mean, standing.borda, standing.official, standing.relative)
    for task in tasks:
        yield row.cells[task].score if task in row.cells else None
    for fact in CSV_FACTS:
        yield row.facts.get(fact)


def _to_cell(value: Any) -> Any:
    return escape_formula(value) if isinstance(value, str) else value


def dump_board(board: Board) -> str:
    """Return board.json: `board_to_json`, compact, because a thousand models take millions of characters."""
    return json.dumps(board_to_json(board), separators=(",", ":"), allow_nan=False)


def board_to_json(board: Board) -> dict[str, Any]:
    """Return everything that the pages of a board show, as JSON values; infinite numbers are "inf".

    `by_origin` holds the standing of a row among rows of the same origin, `together` among all rows.
    """
    values = {
        "schema_version": SCHEMA_VERSION,
        "heareval": heareval.__version__,
        "title": board.title,
        "definitions": dict(DEFINITIONS),
        "tables": [_table_to_json(table) for table in board.tables],
        "refused": list(board.refused),
    }
    return dict(number_to_json(values))


def _table_to_json(table: ProtocolTable) -> dict[str, Any]:
    return {
        "protocol": table.protocol,
        "notes": list(table.notes),
        "ranked": {**table.ranked, "together": table.ranked_together},
        "columns": [dict(vars(column)) for column in table.columns],
        "rows": [
            {
                **_row_to_json(row),
                "by_origin": dict(vars(table.standings[row.key])),
                "together": dict(vars(table.standings_together[row.key])),
            }
            for row in table.rows
        ],
    }


def _row_to_json(row: Row) -> dict[str, Any]:
    cells = {
        key: {**vars(cell), "metrics": {name: dict(vars(value)) for name, value in cell.metrics.items()}}
        for key, cell in row.cells.items()
    }
    return {**vars(row), "origin": row.origin.value, "cells": cells}
