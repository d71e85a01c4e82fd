"""`heareval demo`: the whole pipeline in a minute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from heareval.commands import options
from heareval.commands.console import finish_run, one_line_errors
from heareval.commands.grouped import GroupedCommand
from heareval.commands.prepare import say_task
from heareval.commands.scores import say_scores
from heareval.layout import Places, display_path
from heareval.predictions.protocol import Protocol

if TYPE_CHECKING:
    from heareval.api import RunSettings


@click.command(cls=GroupedCommand, example="heareval demo --folder demo")
@one_line_errors
@click.option(
    "--folder", type=click.Path(file_okay=False), default="demo", show_default=True, help="Working folder."
)
@options.run_settings()
def demo(folder: str, settings: RunSettings) -> None:
    """Run everything, from archives to scores, on small synthetic corpora with the built-in baseline."""
    from heareval import api

    scored = api.run_demo(Path(folder), settings=settings)
    for task_folder in scored.task_folders:
        say_task(task_folder)
    say_scores(scored, Places(), options.Scoring(Protocol(), full_report=False))
    finish_run(scored.outcome, f"embeddings and scores are in {display_path(Path(folder) / 'embeddings')}")
