"""`heareval card`: a card of a submission made, checked or exported."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heareval import files
from heareval.commands import options
from heareval.commands.console import (
    FAILED_EXIT_CODE,
    LACKING_EXIT_CODE,
    one_line_errors,
    say,
    say_sentence,
    warn,
)
from heareval.commands.grouped import GroupedCommand
from heareval.errors import HearevalError
from heareval.formats.exchange import EXPORTS
from heareval.layout import Places, display_path

if TYPE_CHECKING:
    from heareval.predictions.card_checks import CheckedCard


@click.command(
    cls=GroupedCommand, example="heareval card my_model --about my_model.toml\nheareval card --check cards"
)
@one_line_errors
@click.argument("names", nargs=-1, required=True, metavar="SUBMISSION_OR_CARD...")
@click.option(
    "--about", type=click.Path(), metavar="FILE.toml", help="Facts about the model, such as its licence."
)
@click.option(
    "--out",
    default="cards",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Where the card goes, as NAME/REVISION.",
)
@click.option(
    "--missing",
    multiple=True,
    metavar="TASK=REASON",
    help="Why a task of the benchmark has no result. Repeatable.",
)
@click.option("--missing-others", default="", metavar="REASON", help="The reason for all further ones.")
@click.option(
    "--protocol", "protocols", multiple=True, help="Only results with this protocol. Repeatable.  [all]"
)
@click.option(
    "--check", is_flag=True, help="Check cards: compute every number again from the predictions in them."
)
@click.option(
    "--export", type=click.Choice(EXPORTS), help="Print cards in the format of another leaderboard."
)
@options.places("tasks", "embeddings")
@options.as_json
def card(
    names: tuple[str, ...],
    about: str | None,
    out: str,
    missing: tuple[str, ...],
    missing_others: str,
    protocols: tuple[str, ...],
    check: bool,
    export: str | None,
    places: Places,
    as_json: bool,
) -> None:
    """Make a card of a submission: its scores, and what it predicted for every test clip.

    SUBMISSION is a name in the embeddings folder, or a path. With --check and --export, names are folders of
    cards. --check needs the task folders, whose labels the predictions are compared with; it ends with 1 if a
    card is refused, and with 3 if nothing is wrong, but a task folder is lacking.
    """
    from heareval import api

    folders = [Path(name) for name in names]
    if check and export:
        raise HearevalError("--check and --export", got="both", expected="one of them")
    if check:
        _check(folders, places, as_json=as_json)
    elif export:
        if len(protocols) > 1:
            raise HearevalError("--protocol", got=", ".join(protocols), expected="one at most with --export")
        say(api.export_cards(folders, export, protocol="".join(protocols)).rstrip("\n"))
    else:
        if len(names) > 1:
            raise HearevalError("SUBMISSION", got=" ".join(names), expected="one for each card")
        made = api.make_card(
            names[0],
            places,
            about=Path(about) if about else None,
            out=Path(out),
            protocols=protocols,
            missing=_parse_reasons(missing),
            missing_others=missing_others,
        )
        say(display_path(made))


def _parse_reasons(words: Sequence[str]) -> dict[str, str]:
    reasons = {}
    for word in words:
        task, _, reason = word.partition("=")
        if not task.strip() or not reason.strip():
            raise HearevalError("--missing", got=repr(word), expected="TASK=REASON")
        reasons[task.strip()] = reason.strip()
    return reasons


def _check(folders: Sequence[Path], places: Places, *, as_json: bool) -> None:
    """Print what came of checking cards, and end the program if not everything is right."""
    from heareval import api

    checked = []
    for each in api.check_cards(folders, places):
        checked.append(each)
        if not as_json:
            _say_checked(each)
    if as_json:
        say(files.dump_json([_checked_to_json(each) for each in checked]))
    if any(each.problems for each in checked):
        sys.exit(FAILED_EXIT_CODE)
    if any(each.lacking for each in checked):
        sys.exit(LACKING_EXIT_CODE)


def _say_checked(checked: CheckedCard) -> None:
    for problem in checked.problems:
        warn(f"refused: {problem}")
    for lacking in checked.lacking:
        warn(f"not checked: {lacking}")
    numbers = sum(len(result.numbers) for result in checked.results)
    done = sum(bool(result.numbers) for result in checked.results)
    word = "refused" if checked.problems else "ok" if checked.is_recomputed else "not checked"
    counts = f"; {numbers} numbers of {done} of {len(checked.results)} results computed again"
    say_sentence(f"{display_path(checked.folder)}: {word}{counts if checked.results else ''}")


def _checked_to_json(checked: CheckedCard) -> dict[str, Any]:
    return {
        "card": display_path(checked.folder),
        "fingerprint": checked.card.fingerprint if checked.card else "",
        "is_recomputed": checked.is_recomputed,
        "problems": list(checked.problems),
        "lacking": list(checked.lacking),
        "results": [
            {
                "task_folder": result.task_folder,
                "protocol": result.protocol,
                "numbers": [
                    {key: _show(value) for key, value in dataclasses.asdict(number).items()}
                    | {"is_equal": number.is_equal}
                    for number in result.numbers
                ],
            }
            for result in checked.results
        ],
    }


def _show(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
