"""`heareval leaderboard`: the site of a board of cards."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import click

from heareval import api
from heareval.commands import options
from heareval.commands.console import FAILED_EXIT_CODE, one_line_errors, say, warn
from heareval.layout import Places, display_path
from heareval.leaderboard.board import Origin


class BoardGroup(click.Group):
    """A group of commands; words that begin with none of them are the words of `build`."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Put `build` before words that do not begin with a command."""
        is_about_group = bool(args) and (args[0] in self.commands or args[0] in context.help_option_names)
        return super().parse_args(context, args if is_about_group else ["build", *args])


@click.group(cls=BoardGroup)
def leaderboard() -> None:
    """Write the site of a leaderboard.

    `heareval leaderboard CARDS...` is short for `heareval leaderboard build CARDS...`.
    """


@leaderboard.command("build")
@one_line_errors
@click.argument("cards", nargs=-1, metavar="CARDS...")
@click.option(
    "--out",
    default="site",
    show_default=True,
    type=click.Path(file_okay=False),
    help="The site. An existing folder is replaced only if it is a site.",
)
@click.option(
    "--check/--no-check",
    "checks",
    default=True,
    show_default=True,
    help="Compute every score of a card again, from its predictions and your task folders.",
)
@click.option(
    "--checked",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Keep in this file which cards passed, and check only the others.",
)
@click.option(
    "--figures/--no-figures",
    "has_figures",
    default=False,
    show_default=True,
    help="Show the figures of `heareval report` on the pages of recomputed models. It takes seconds for each "
    "task of each card, and hours for a thousand cards; with --checked FILE, they are kept in FILE.figures.",
)
@click.option(
    "--published/--no-published",
    "has_published",
    default=True,
    show_default=True,
    help="Show the rows of the leaderboard of 2021, and later ones, as well.",
)
@click.option("--title", default="HEAR leaderboard", show_default=True, help="Name of the board.")
@click.option(
    "--date",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Date of the exports .eval_results and Every Eval Ever; without it, they are left out.",
)
@options.places("tasks")
def build(
    cards: tuple[str, ...],
    out: str,
    checks: bool,
    checked: str | None,
    has_figures: bool,
    has_published: bool,
    title: str,
    date: datetime.datetime | None,
    places: Places,
) -> None:
    """Write a static site of CARDS: cards, or folders of cards, as `heareval card` makes them.

    Every score is computed again. A card with a wrong one is left out: the site is written, and the exit code
    is 1. Cards whose task folders you lack are shown as submitted, not as recomputed.
    """
    written = api.leaderboard(
        [Path(card) for card in cards],
        Path(out),
        places,
        checks=checks,
        ledger=Path(checked) if checked else None,
        has_figures=has_figures,
        has_published=has_published,
        title=title,
        exported_at=date.replace(tzinfo=datetime.timezone.utc) if date else None,
        notify=warn,
    )
    published = {
        row.key for table in written.board.tables for row in table.rows if row.origin is Origin.PUBLISHED
    }
    parts = [
        f"{written.recomputed} cards recomputed",
        f"{written.submitted} as submitted",
        f"{written.refused} refused",
        f"{len(published)} published rows",
    ]
    say(f"{display_path(Path(out) / 'index.html')}: {', '.join(parts)}")
    if written.refused:
        sys.exit(FAILED_EXIT_CODE)
