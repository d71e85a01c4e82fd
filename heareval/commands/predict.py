"""`heareval predict`: predictors on embeddings, and their scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from heareval.commands import options
from heareval.commands.changes import say_own_changes
from heareval.commands.console import finish_run, one_line_errors
from heareval.commands.scores import say_scores, write_missing_reports
from heareval.layout import Places

if TYPE_CHECKING:
    from heareval.api import Overwrite, RunSettings


@click.command(cls=options.CommandOf2021, example="heareval predict embeddings/my_model/* --probe linear")
@one_line_errors
@options.task_folders
@options.scoring
@options.overwrite("`scores` makes complete scores again.", "scores")
@options.places("work", "tasks")
@options.run_settings(options.gpus, options.in_memory, options.train_threads, options.quiet)
def predict(
    folders: tuple[str, ...],
    scoring: options.Scoring,
    overwrite: Overwrite,
    places: Places,
    settings: RunSettings,
) -> None:
    """Train predictors on folders of embeddings and score them.

    TASK_DIR is a folder of embeddings: embeddings/SUBMISSION/TASK.
    """
    from heareval import api

    paths = [Path(folder) for folder in folders]
    scored = api.predict(paths, scoring.protocol, places, overwrite=overwrite, settings=settings)
    if settings.is_quiet:
        say_own_changes(places)
        if scoring.full_report:
            write_missing_reports(scored, places)
    else:
        say_scores(scored, places, scoring)
    where = "scores and predictions are beside the embeddings"
    finish_run(scored.outcome, where, is_quiet=settings.is_quiet)
