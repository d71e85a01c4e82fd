"""What a board says about the cards of a branch, as plain text for a comment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from heareval.formats.card import Card, ModelFacts
from heareval.formats.fields import shorten as quote
from heareval.leaderboard.board import Board, Origin, ProtocolTable, Row
from heareval.leaderboard.pages import SHORT_TEXT, format_interval, format_number, format_score, shorten

# Of the tasks that are missing for one reason.
SHOWN_TASKS = 5


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
        yield from _describe_missing(card)
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
            yield f"  {shorten(column.title)}: {metric} {format_score(value.score, metric)}{ends}"


def _describe_missing(card: Card) -> Iterator[str]:
    for reason in dict.fromkeys(card.missing.values()):
        tasks = [task for task, given in card.missing.items() if given == reason]
        others = f" and {len(tasks) - SHOWN_TASKS} more" if len(tasks) > SHOWN_TASKS else ""
        yield f"  missing ({shorten(reason, SHORT_TEXT)}): {', '.join(tasks[:SHOWN_TASKS])}{others}"


def list_changed_facts(before: ModelFacts, after: ModelFacts) -> Iterator[str]:
    """Yield a line for each fact about a model that a card tells otherwise than before.

    >>> list(list_changed_facts(ModelFacts("a", "1"), ModelFacts("a", "1", parameters=5)))
    ['parameters: None -> 5']
    """
    for each in dataclasses.fields(ModelFacts):
        told = [getattr(facts, each.name) for facts in (before, after)]
        if told[0] != told[1]:
            yield f"{each.name}: {' -> '.join(quote(value) for value in told)}"
