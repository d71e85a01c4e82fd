"""Join the board and the rooms: have cards checked, tasks described and figures drawn for the pages."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heareval.errors import HearevalError
from heareval.formats.card import Card, find_cards, read_card
from heareval.formats.exchange import EVAL_RESULTS, EVERY_EVAL_EVER, HEAR2021_CSV, has_row_2021
from heareval.formats.exchange import export_cards as format_cards
from heareval.layout import check_folder_is_named
from heareval.leaderboard.board import Board, Origin
from heareval.leaderboard.build import build_board
from heareval.leaderboard.changes import (
    CARDS,
    CardChanges,
)
from heareval.leaderboard.columns import TaskFacts, make_column
from heareval.leaderboard.exports import board_to_csv, dump_board
from heareval.leaderboard.new_rows import describe_rows
from heareval.leaderboard.site import Attachment, Attachments, Report, ReportFigure
from heareval.tasks.licences import find_licence
from heareval.tasks.registry import GROUPS, all_tasks

if TYPE_CHECKING:
    from heareval.predictions.card_figures import DrawnResult


def list_pairwise_tasks() -> tuple[str, ...]:
    """Return the names of the tasks that are scored by distances."""
    return tuple(name for name, task in all_tasks().items() if GROUPS["pairwise"](task))


def sort_cards(
    folders: Sequence[Path], tasks: Path | None, ledger: Path | None, notify: Callable[[str], None]
) -> tuple[dict[Origin, list[Card]], list[str]]:
    """Return the cards by who computed their scores, and a sentence about each card that is refused.

    Args:
        tasks: the checker's task folders; None checks nothing.
    """
    # torch and scipy take seconds to import.
    from heareval.predictions.card_checks import check_card
    from heareval.predictions.card_ledger import digest_references, read_ledger, write_ledger

    passed = read_ledger(ledger) if ledger else {}
    by_origin: dict[Origin, list[Card]] = {Origin.RECOMPUTED: [], Origin.SUBMITTED: []}
    refused, known = [], dict[str, str]()
    for folder in folders:
        try:
            card = read_card(folder)
        except HearevalError as error:
            refused.append(name_card_shortly(str(error), folder))
            notify(f"refused: {refused[-1]}")
            continue
        references = digest_references(card, tasks, known) if tasks else ""
        if tasks is None or (references and passed.get(card.sha256) == references):
            by_origin[Origin.SUBMITTED if tasks is None else Origin.RECOMPUTED].append(card)
            continue
        checked = check_card(folder, tasks, list_pairwise_tasks())
        if checked.problems:
            refused.append(name_card_shortly(checked.problems[0], folder))
            notify(f"refused: {refused[-1]}")
            continue
        # The card that was checked, in case its files have changed since they were read above.
        card = checked.card or card
        if checked.lacking:
            notify(f"not checked: {folder.parent.name}/{folder.name}: {checked.lacking[0]}")
            by_origin[Origin.SUBMITTED].append(card)
        else:
            passed[card.sha256] = references
            by_origin[Origin.RECOMPUTED].append(card)
    if ledger and tasks:
        write_ledger(ledger, passed)
    return by_origin, refused


def draw_cards(
    by_origin: dict[Origin, list[Card]],
    refused: list[str],
    tasks: Path,
    kept: Path,
    notify: Callable[[str], None],
) -> dict[tuple[str, str], tuple[DrawnResult, ...]]:
    """Return the figures of the recomputed cards, by name and revision of the model.

    A card that is not what it was when it was checked is refused after all.
    """
    # matplotlib, torch and scipy take seconds to import.
    from heareval.predictions.card_figures import draw_card

    drawn, known = {}, dict[str, str]()
    for card in list(by_origin[Origin.RECOMPUTED]):
        try:
            drawn[card.model.name, card.model.revision] = draw_card(card, tasks, kept, known)
        except HearevalError as error:
            by_origin[Origin.RECOMPUTED].remove(card)
            refused.append(name_card_shortly(str(error), card.folder))
            notify(f"refused: {refused[-1]}")
    return drawn


def name_card_shortly(sentence: str, folder: Path) -> str:
    """Return a sentence about a card without the folders of this machine, as everybody may read it."""
    return sentence.replace(f"{folder.parent.parent}/", "")


def describe_known_task(name: str, mode: str) -> TaskFacts:
    """Return what heareval knows about a task: the docstring of its corpus, the licence and the citation."""
    task = all_tasks().get(name)
    if task is None:
        return TaskFacts()
    licence = find_licence(task, mode)
    paragraph = (inspect.getdoc(inspect.getmodule(task.read_recordings)) or "").split("\n\n")[0]
    return TaskFacts(" ".join(paragraph.split()), licence.spdx, licence.citation)


def attach_files(
    board: Board,
    cards: Sequence[Card],
    drawn: Mapping[tuple[str, str], Sequence[DrawnResult]],
    now: datetime.datetime | None,
) -> Attachments:
    """Return the files beside the pages: exports of the board and of each card, and figures.

    Args:
        cards: the cards that are shown.
        drawn: the figures of results, by name and revision of the model.
        now: the time that some exports need; None leaves these out.
    """
    texts = {"board.csv": board_to_csv(board), "board.json": dump_board(board)}
    downloads = [
        Attachment(name, name, text.encode(errors="backslashreplace")) for name, text in texts.items()
    ]
    keys = {
        (row.name, row.revision): row.key
        for table in board.tables
        for row in table.rows
        if row.origin is not Origin.PUBLISHED
    }
    # matplotlib takes a while to import.
    from heareval.leaderboard.figures import draw_figures

    figures = [
        Attachment(f"figures/{each.name}.svg", each.title, each.svg, each.description)
        for each in draw_figures(board)
    ]
    by_model = {
        key: list(export_card(key, card, now))
        for card in cards
        if (key := keys.get((card.model.name, card.model.revision)))
    }
    reports = {key: list(_list_reports(drawn[name])) for name, key in keys.items() if name in drawn}
    return Attachments(downloads, figures, by_model, reports)


def _list_reports(drawn: Sequence[DrawnResult]) -> Iterator[Report]:
    for number, each in enumerate(drawn, 1):
        figures = tuple(
            ReportFigure(
                f"models/figures/{each.folder.name}/{figure.path.name}",
                figure.path,
                figure.description,
                figure.width_px,
                figure.height_px,
            )
            for figure in each.figures
        )
        column = make_column(each.result).key
        yield Report(f"figures-{number}", each.result.protocol, column, each.result.task_folder, figures)


def export_card(key: str, card: Card, now: datetime.datetime | None) -> Iterator[Attachment]:
    """Yield the exports of a card: without a time only those that need none, and a row of 2021 if it has one.

    Args:
        key: name of the model's page.
    """
    endings = {EVAL_RESULTS: "yaml", EVERY_EVAL_EVER: "json"} if now else {}
    if has_row_2021(card):
        endings[HEAR2021_CSV] = "csv"
    for form, ending in endings.items():
        # The CSV row has no time in it.
        text = format_cards([card], form, now=now or datetime.datetime.min)
        yield Attachment(f"models/{key}.{form}.{ending}", form, text.encode(errors="backslashreplace"))


def find_all_cards(folders: Sequence[Path], *, allows_none: bool = False) -> list[Path]:
    """Return the folders of all cards in some folders, each once.

    Raises:
        HearevalError: a folder has none, unless `allows_none`.
    """
    for folder in folders:
        check_folder_is_named(folder, "folder of cards")
    several = [find_cards(Path(folder).absolute(), allows_none=allows_none) for folder in folders]
    found = [card for cards in several for card in cards]
    return list(dict.fromkeys(found))


def describe_new_rows(repository: Path, changes: CardChanges) -> Iterator[str]:
    """Yield what the board would say about the cards that a branch adds or changes."""
    if not changes.touched:
        return
    cards = []
    for folder in find_cards(repository / CARDS):
        try:
            cards.append(read_card(folder))
        except HearevalError as error:
            # It was there before. Whoever builds the site is told so as well.
            yield f"not on the board: {name_card_shortly(str(error), folder)}"
    # All others were checked when they came.
    board = build_board({Origin.RECOMPUTED: cards})
    touched = [card for card in cards if card.folder.relative_to(repository).as_posix() in changes.touched]
    yield from describe_rows(board, touched)
