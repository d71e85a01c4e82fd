"""`heareval plan`: what a run would take, before anything is fetched."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heareval import files
from heareval.archives.sizes import readable
from heareval.commands import options
from heareval.commands.console import USAGE_EXIT_CODE, one_line_errors, say, say_sentence, terminal_columns
from heareval.commands.run_files import RunFileCommand
from heareval.commands.task_words import check_are_no_tasks, split_names
from heareval.embeddings.embedding_format import EmbeddingFormat
from heareval.embeddings.published import is_published
from heareval.embeddings.submission_config import PYTHON_SUFFIX, SubmissionArgs, read_toml, split_module
from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.spec import DEFAULT_SAMPLE_RATES
from heareval.tasks.registry import GROUPS, OWN_TASK_SUFFIX, all_tasks
from heareval.terminal import fold

if TYPE_CHECKING:
    from heareval.api import CorpusRequest, RunSettings
    from heareval.workflow.plan import DiskPlan, FileSystem

LEGEND = "~ estimated, tarballs from above; ? unknown; embeddings are not counted"


class PlanCommand(RunFileCommand):
    """A command whose words are models or, if they name tasks, tasks."""

    def parse_args(self, context: click.Context, words: list[str]) -> list[str]:
        """Parse the words of a command line."""
        rest = super().parse_args(context, words)
        given = context.params["submissions"]
        # The file of a run names models only.
        if given and not context.default_map and all(map(_is_task, given)):
            context.params["tasks"] += given
            context.params["submissions"] = ()
        else:
            check_are_no_tasks(context, given)
        return rest


def _is_task(word: str) -> bool:
    """Return whether a word names tasks, or is meant to: no module has its name, and a task a similar one."""
    if word.endswith(OWN_TASK_SUFFIX):
        with contextlib.suppress(HearevalError):
            return Path(word).is_file() and "module" not in read_toml(Path(word))
        # Whoever reads it as a model says what is wrong with it.
        return False
    if word.endswith(PYTHON_SUFFIX) or is_published(word):
        return False
    from heareval.embeddings.modules import find_module_file

    known = [*all_tasks(), *GROUPS]
    names = split_names((word,))
    if all(name in known for name in names):
        return True
    try:
        find_module_file(split_module(word)[0], only_here=False)
    except HearevalError:
        return all(get_close_matches(name, known, n=1) for name in names)
    return False


@click.command(
    cls=PlanCommand,
    example="heareval plan my_model --model weights.pt --tasks esc50,speech_commands\n"
    "heareval plan all --sample-rate 16000",
)
@one_line_errors
@options.models_or_tasks
@options.corpus(options.tasks_option)
@options.sample_rates(default=())
@options.places("work", "tasks", "tars", "embeddings")
@options.embedding_format
@options.any_rate
@options.limit
@options.scoring
@options.run_settings(options.gpus, options.timeout)
@options.as_json
def plan(
    submissions: SubmissionArgs,
    corpus: CorpusRequest,
    sample_rates: tuple[int, ...],
    places: Places,
    embedding_format: EmbeddingFormat,
    any_rate: bool,
    limit: int | None,
    scoring: options.Scoring,
    settings: RunSettings,
    as_json: bool,
) -> None:
    """Show what a run would still take, and whether it fits on the disks.

    With MODULE_OR_FILE, takes what `evaluate` takes, also the file of a run. Each model embeds noise for a
    few seconds in its own process, which shows how long its embeddings take and how large they are. With
    names of tasks alone, takes what `prepare` takes. Nothing is fetched or written; servers are only asked
    for sizes. Exits with 2 if a disk has too little room.
    """
    from heareval import api
    from heareval.commands.planned_models import list_model_lines
    from heareval.workflow.evaluation_plan import evaluation_facts
    from heareval.workflow.plan import plan_facts

    if not submissions.submissions:
        if not corpus.tasks:
            raise click.UsageError(f"Missing model or task: name one or more, or {options.list_groups()}.")
        disk = api.plan(corpus, places, sample_rates=sample_rates or DEFAULT_SAMPLE_RATES)
        _finish(disk, plan_facts(disk), list_disk_lines(disk), as_json=as_json)
        return
    corpus = options.use_default_tasks(corpus, settings.notify)
    protocol = replace(scoring.protocol, limit=limit)
    request = api.EvaluationRequest(submissions, corpus, embedding_format, protocol, any_rate, sample_rates)
    planned = api.plan_evaluation(request, places, settings=settings)
    _finish(
        planned.disk,
        evaluation_facts(planned),
        list_model_lines(planned, terminal_columns()),
        as_json=as_json,
    )


def _finish(disk: DiskPlan, facts: dict[str, Any], lines: Iterator[str], *, as_json: bool) -> None:
    """Print a plan, and end the program with an error code if it does not fit."""
    if as_json:
        say(files.dump_json(facts))
    else:
        for line in lines:
            say(line)
        for system in disk.file_systems:
            say_sentence(_describe_space(system))
    if not disk.fits:
        sys.exit(USAGE_EXIT_CODE)


def _describe_space(system: FileSystem) -> str:
    """Return the line that says whether a file system has enough room."""
    from heareval.workflow.disk_space import name_folders

    verdict = "does not fit" if not system.fits else "fits"
    if system.fits and not system.needed.is_whole:
        verdict = "fits as far as known"
    return f"{name_folders(system)}: {system.needed} needed, {readable(system.free_bytes)} free: {verdict}"


def list_disk_lines(disk: DiskPlan) -> Iterator[str]:
    """Yield the lines that show what preparing tasks would take: a row for each task and one for the sum."""
    from heareval.predictions.table import new_table, render_lines

    table = new_table(("task", "state"), ("download", "disk", "tarballs"), ())
    rows = [(each.folder, each.state, each.sizes) for each in disk.tasks]
    for name, state, sizes in (*rows, ("total", "", disk.sizes)):
        on_disk = sizes["work"] + sizes["task folder"]
        table.add_row(name, state, *map(str, (sizes["download"], on_disk, sizes["tarballs"])))
    yield from render_lines(table, terminal_columns())
    yield fold(LEGEND, terminal_columns())
    if disk.not_packed:
        line = f"no tarballs of {', '.join(disk.not_packed)}: the corpus may not be redistributed"
        yield fold(line, terminal_columns())
