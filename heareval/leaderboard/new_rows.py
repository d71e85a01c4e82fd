"""What a board says about the cards of a branch, as plain text for a comment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from heareval.formats.card import Card, ModelFacts
from heareval.formats.fields import shorten
from heareval.leaderboard.board import Board, Origin, ProtocolTable, Row
from heareval.leaderboard.pages import format_interval, format_number, format_score


def describe_rows(board: Board, cards: Sequence[Card]) -> Iterator[str]:
    """Yield the rows of some cards as lines: where each stands among recomputed cards, then its scores.

    Args:
        board: a board that has the cards as recomputed ones.
    """
    for card in cards:
        name = (card.model.name, card.model.revision)
        for table in board.tables:
            recomputed = [row for row in table.rows if row.origin is Origin.RECOMPUTED]
            for row in recomputed:
                if (row.name, row.revision) == name:
                    yield from _describe_row(table, row, len(recomputed))
        yield f"  trained on evaluation data: {card.model.trained_on_evaluation_data}"


def _describe_row(table: ProtocolTable, row: Row, rows: int) -> Iterator[str]:
    standing = table.standings[row.key]
    rank = f"rank {standing.rank} of {rows}" if standing.rank else f"not ranked among {rows}"
    mean = f", mean {format_number(standing.mean, 1)}" if standing.mean is not None else ""
    yield f"{shorten(row.name)} {shorten(row.revision)} with {table.protocol}: {rank}{mean}"
    for column in table.columns:
        if column.key in row.cells:
            metric, value = next(iter(row.cells[column.key].metrics.items()))
            interval = format_interval(value.interval_95, metric)
            ends = f" [{interval}]" if interval else ""
            yield f"  {shorten(column.title)[1:-1]}: {metric} {format_score(value.score, metric)}{ends}"
    if row.missing:
        yield f"  missing: {', '.join(sorted(row.missing))}"


def list_changed_facts(before: ModelFacts, after: ModelFacts) -> Iterator[str]:
    """Yield a line for each fact about a model that a card tells otherwise than before.

    >>> list(list_changed_facts(ModelFacts("a", "1"), ModelFacts("a", "1", parameters=5)))
    ['parameters: None -> 5']
    """
    for each in dataclasses.fields(ModelFacts):
        told = [getattr(facts, each.name) for facts in (before, after)]
        if told[0] != told[1]:
            yield f"{each.name}: {' -> '.join(shorten(value) for value in told)}"
