"""`heareval leaderboard`: the site of a board of cards, and the repository that holds these."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import click

import heareval
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
from heareval.errors import escape_controls
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
    """Write the site of a leaderboard, or a repository of results.

    `heareval leaderboard CARDS...` is short for `heareval leaderboard build CARDS...`.
    """


@leaderboard.command("build", cls=GroupedCommand, example="heareval leaderboard cards --out site")
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
    "--allow-none",
    "allows_none",
    is_flag=True,
    help="Write the site also of a folder that has no card yet.",
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
    allows_none: bool,
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
    from heareval import api

    written = api.leaderboard(
        [Path(card) for card in cards],
        Path(out),
        places,
        checks=checks,
        ledger=Path(checked) if checked else None,
        allows_none=allows_none,
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
        f"{written.recomputed} {'card' if written.recomputed == 1 else 'cards'} recomputed",
        f"{written.submitted} as submitted",
        f"{written.refused} refused",
        f"{len(published)} published rows",
    ]
    say_sentence(f"{display_path(Path(out) / 'index.html')}: {', '.join(parts)}")
    if written.refused:
        sys.exit(FAILED_EXIT_CODE)


@leaderboard.command("init", cls=GroupedCommand, example="heareval leaderboard init results")
@one_line_errors
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--requirement",
    default=f"heareval=={heareval.__version__}",
    show_default=True,
    help="What pip installs in the workflows, such as `heareval @ git+https://...@COMMIT`.",
)
def init(folder: str, requirement: str) -> None:
    """Start a results repository in a new FOLDER.

    FOLDER may exist if it is empty. The repository holds cards, the references that they are compared with,
    and workflows that check the cards of a pull request, comment with the new row and publish the site. Its
    README says what remains to be done.
    """
    from heareval import api

    api.init_repository(Path(folder), requirement=requirement)
    say_sentence(f"{display_path(Path(folder) / 'README.md')}: says how to set it up")


@leaderboard.command("references", cls=GroupedCommand, example="heareval leaderboard references results")
@one_line_errors
@click.argument("folder", type=click.Path(file_okay=False))
@options.places("tasks")
def references(folder: str, places: Places) -> None:
    """Copy your tasks' labels to a results repository.

    FOLDER gets the description of each of your task folders, without sounds. Cards are compared with them.
    Copies of the same tasks are replaced; those of other tasks stay.
    """
    from heareval import api

    copies = api.copy_references(Path(folder), places)
    for copy in copies:
        say(display_path(copy))


@leaderboard.command(
    "check-changes", cls=GroupedCommand, example="heareval leaderboard check-changes --base origin/main"
)
@one_line_errors
@click.option("--base", required=True, metavar="REF", help="The branch to merge into, such as origin/main.")
@click.option(
    "--comment",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write what is printed to this file as well, in ASCII.",
)
@options.places("tasks")
def check_changes(base: str, comment: str | None, places: Places) -> None:
    """Check the cards that a branch changes.

    The branch is HEAD of a results repository. Cards that differ from those of its merge base with REF are
    checked: every number is computed again from the references in --tasks-dir, and a card must keep the
    scores that it had. The exit code is 1 if the branch is refused, and 3 if nothing is wrong, but references
    are lacking.
    """
    from heareval import api

    checked = api.check_changes(base, places)
    if comment:
        text = "".join(f"{escape_controls(line)}\n" for line in checked.lines)
        files.write_text(Path(comment), text.encode("ascii", "backslashreplace").decode())
    for line in checked.lines:
        say_sentence(line)
    if checked.problems:
        sys.exit(FAILED_EXIT_CODE)
    if checked.lacking:
        sys.exit(LACKING_EXIT_CODE)
