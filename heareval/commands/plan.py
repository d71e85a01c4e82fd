"""`heareval plan`: disk space, before anything is fetched."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from heareval import files
from heareval.archives.sizes import readable
from heareval.commands import options
from heareval.commands.console import USAGE_EXIT_CODE, one_line_errors, say
from heareval.commands.grouped import GroupedCommand
from heareval.commands.prepare import say_not_packed
from heareval.layout import Places

if TYPE_CHECKING:
    from heareval.api import CorpusRequest
    from heareval.workflow.plan import FileSystem


@click.command(cls=GroupedCommand, example="heareval plan all --sample-rate 16000")
@one_line_errors
@options.corpus(options.tasks_argument)
@options.sample_rates()
@options.places("work", "tasks", "tars")
@options.as_json
def plan(corpus: CorpusRequest, sample_rates: tuple[int, ...], places: Places, as_json: bool) -> None:
    """Show how much disk space preparing tasks would still take, and whether it fits.

    Takes the same tasks and options as `prepare`, which would refuse to start where this exits with 2.
    Nothing is fetched; servers are only asked for sizes.
    """
    from heareval import api
    from heareval.workflow.plan import plan_facts, plan_table

    planned = api.plan(corpus, places, sample_rates=sample_rates)
    say(files.dump_json(plan_facts(planned)) if as_json else plan_table(planned))
    if not as_json:
        say_not_packed(planned.not_packed)
    for system in () if as_json else planned.file_systems:
        say(_describe_space(system))
    if not planned.fits:
        sys.exit(USAGE_EXIT_CODE)


def _describe_space(system: FileSystem) -> str:
    """Return the line that says whether a file system has enough room."""
    from heareval.workflow.disk_space import name_folders

    verdict = "does not fit" if not system.fits else "fits"
    if system.fits and not system.needed.is_whole:
        verdict = "fits as far as known"
    return f"{name_folders(system)}: {system.needed} needed, {readable(system.free_bytes)} free: {verdict}"
