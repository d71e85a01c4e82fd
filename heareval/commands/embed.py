"""`heareval embed`: embeddings of published task folders."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from heareval.commands import options
from heareval.commands.changes import say_own_changes
from heareval.commands.completion import complete_tasks
from heareval.commands.console import USAGE_EXIT_CODE, finish_run, one_line_errors, say, warn
from heareval.commands.grouped import GroupedCommand
from heareval.commands.task_words import split_names
from heareval.embeddings.embedding_format import EmbeddingFormat
from heareval.embeddings.submission_config import SubmissionArgs
from heareval.layout import Places, display_path

if TYPE_CHECKING:
    from heareval.api import Overwrite, RunSettings


@click.command(
    cls=GroupedCommand,
    example="heareval embed my_model --model weights.pt --tasks esc50,speech_commands",
    # Scripts written in 2021 may pass an empty --model.
    may_be_empty=("weights",),
)
@one_line_errors
@options.submission
@click.option(
    "--tasks",
    "--task",
    "tasks",
    multiple=True,
    default=("all",),
    shell_complete=complete_tasks,
    metavar="NAMES",
    help="Names of tasks or of folders in --tasks-dir, separated by commas. Repeatable.  [all folders]",
)
@options.places("tasks", "embeddings", "work")
@options.embedding_format
@options.any_rate
@options.limit
@options.overwrite("`all` makes complete embeddings again; scores of the old ones go with them.", "all")
@options.run_settings(options.gpus, options.timeout, options.quiet)
def embed(
    submissions: SubmissionArgs,
    tasks: tuple[str, ...],
    places: Places,
    embedding_format: EmbeddingFormat,
    any_rate: bool,
    limit: int | None,
    overwrite: Overwrite,
    settings: RunSettings,
) -> None:
    """Compute the embeddings of published task folders with a model that has the HEAR API.

    The model is an importable MODULE, or a FILE: Python (my_model.py), or TOML that describes it; options
    override the TOML file. hf:NAME and hf:FOLDER are published models.
    """
    from heareval import api

    embedded = api.embed(
        submissions,
        places,
        tasks=split_names(tasks),
        embedding_format=embedding_format,
        any_rate=any_rate,
        limit=limit,
        overwrite=overwrite,
        settings=settings,
    )
    if settings.is_quiet:
        say_own_changes(places)
    else:
        for folder in embedded.folders:
            say(display_path(folder))
    where = display_path(Path(places.embeddings) / embedded.submission)
    finish_run(embedded.outcome, f"embeddings are in {where}", is_quiet=settings.is_quiet)
    if embedded.left_out:
        warn(f"not embedded: {', '.join(embedded.left_out)}")
        sys.exit(USAGE_EXIT_CODE)
