"""`heareval table`: submissions by tasks in one table."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from heareval import files
from heareval.commands import options
from heareval.commands.console import one_line_errors, say, warn
from heareval.commands.grouped import GroupedCommand
from heareval.layout import Places, display_path
from heareval.leaderboard.overview import FORMS, OverviewRequest, draw_heat_map, format_overview


@click.command(cls=GroupedCommand, example="heareval table --format latex --figure scores.svg")
@one_line_errors
@click.argument("folders", nargs=-1, metavar="[FOLDER...]")
@click.option("--metric", default="", help="Show this metric.  [the first metric of each task]")
@click.option("--protocol", default="", help="Show this protocol only.  [all, a table for each]")
@click.option("--intervals", "has_intervals", is_flag=True, help="Show 95 % confidence intervals.")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMS)),
    default="text",
    show_default=True,
    help="Format of the table.",
)
@click.option("--figure", type=click.Path(dir_okay=False), help="Also draw a heat map into this SVG file.")
@options.places("embeddings")
def table(
    folders: tuple[str, ...],
    metric: str,
    protocol: str,
    has_intervals: bool,
    form: str,
    figure: str | None,
    places: Places,
) -> None:
    """Show the scores of submissions on all tasks, times 100, in a table for each protocol.

    FOLDER is the name of a submission in the embeddings folder, or the path of a folder with the embeddings
    of one task, of one submission or of several. Without FOLDER, all submissions are shown.

    The best score of each task is marked. Means and ranks cover the tasks of the published benchmark that any
    of the submissions has; if there are none, the tasks that more than half of the submissions have. A line
    below the table names them. A submission that lacks one of them has no mean and no rank.
    """
    from heareval import scripting

    request = OverviewRequest(metric, protocol, has_intervals)
    overview = scripting.results(*folders, places=places).to_overview(request)
    # The figure may be refused, so it comes first.
    if figure:
        image = draw_heat_map(overview)
        with files.building_file(Path(figure)) as scratch:
            scratch.write_bytes(image)
        warn(f"heat map: {display_path(figure)}")
    say(format_overview(overview, form, width=shutil.get_terminal_size().columns).rstrip("\n"))
