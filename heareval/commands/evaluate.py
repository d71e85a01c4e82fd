"""`heareval evaluate`: from corpora to the scores of submissions."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heareval import files
from heareval.commands import options
from heareval.commands.changes import say_own_changes
from heareval.commands.console import (
    USAGE_EXIT_CODE,
    Lacking,
    finish_run,
    one_line_errors,
    say_sentence,
    warn,
)
from heareval.commands.prepare import list_skipped
from heareval.commands.run_files import RunFileCommand
from heareval.commands.scores import say_scores, write_missing_reports
from heareval.embeddings.embedding_format import EmbeddingFormat
from heareval.embeddings.submission_config import SubmissionArgs
from heareval.formats.task_manifest import find_task_manifest
from heareval.layout import Places, display_path

if TYPE_CHECKING:
    from heareval.api import CorpusRequest, EvaluationRequest, Overwrite, RunSettings, Scored


def _build_request(
    submissions: SubmissionArgs,
    corpus: CorpusRequest,
    embedding_format: EmbeddingFormat,
    any_rate: bool,
    limit: int | None,
    scoring: options.Scoring,
    sample_rates: tuple[int, ...],
) -> EvaluationRequest:
    from heareval.api import EvaluationRequest

    protocol = replace(scoring.protocol, limit=limit)
    return EvaluationRequest(submissions, corpus, embedding_format, protocol, any_rate, sample_rates)


@click.command(
    cls=RunFileCommand,
    example="heareval evaluate my_model --model weights.pt --tasks esc50,speech_commands",
)
@one_line_errors
@options.submissions
@options.corpus(options.tasks_option)
@options.sample_rates(default=())
@options.places("work", "tasks", "embeddings")
@options.embedding_format
@options.any_rate
@options.limit
@options.scoring
@options.force
@options.overwrite(
    "`scores` makes complete scores again; `all` makes complete embeddings and scores again.", "scores", "all"
)
@options.run_settings(options.gpus, options.timeout, options.in_memory, options.train_threads, options.quiet)
def evaluate(
    places: Places,
    corpus: CorpusRequest,
    scoring: options.Scoring,
    force: bool,
    overwrite: Overwrite,
    settings: RunSettings,
    **requested: Any,
) -> None:
    """Score models with the HEAR API: prepare the tasks, compute embeddings, train predictors.

    Each model is an importable MODULE, or a FILE: Python (my_model.py), or TOML that describes it; options
    override the TOML file. hf:NAME and hf:FOLDER are published models. A TOML file with `models` is a whole
    run: its models, tasks and options. Only the sample rate that a model asks for is prepared, unless
    --sample-rate names more.
    """
    from heareval import api

    corpus = options.use_default_tasks(corpus, settings.notify)
    request = _build_request(scoring=scoring, corpus=corpus, **requested)
    scored = api.evaluate(request, places, force=force, overwrite=overwrite, settings=settings)
    if settings.is_quiet:
        _say_changes(scored, places, scoring)
    else:
        for folder in scored.task_folders:
            _say_skipped(folder)
        say_scores(scored, places, scoring)
    where = f"scores and predictions are in {display_path(_folder_of(scored, places))}"
    finish_run(scored.outcome, where, _count_scores(scored), is_quiet=settings.is_quiet)
    if scored.not_opened:
        warn(f"not evaluated: {', '.join(scored.not_opened)}")
        sys.exit(USAGE_EXIT_CODE)


def _say_changes(scored: Scored, places: Places, scoring: options.Scoring) -> None:
    """Print what the run has changed, and write the reports that are missing if they were asked for."""
    changed = say_own_changes(places).task_folders
    for folder in scored.task_folders:
        if folder.name in changed:
            _say_skipped(folder)
    if scoring.full_report:
        write_missing_reports(scored, places)


def _say_skipped(task_folder: Path) -> None:
    """Print a line on the clips of a task that were skipped: the first one, and where all of them are."""
    manifest = find_task_manifest(task_folder)
    if manifest and manifest.skipped:
        first, *others = list_skipped(manifest)
        more = f"; {len(others)} more in {display_path(task_folder / files.MANIFEST)}" if others else ""
        say_sentence(f"{display_path(task_folder)}: {first}{more}")


def _count_scores(scored: Scored) -> Lacking | None:
    """Return what has no score, and how many tasks have one; None for a single task, whose error says it."""
    done, missing = len(scored.scores), len(scored.unfinished)
    if done + missing < 2:
        return None
    noun = "tasks" if len(scored.submissions) == 1 else "pairs of model and task"
    return Lacking(scored.unfinished, "no score", f"{done} of {done + missing} {noun} scored")


def _folder_of(scored: Scored, places: Places) -> Path:
    """Return the folder that holds all scores."""
    return Path(places.embeddings) / (scored.submissions[0] if len(scored.submissions) == 1 else "")
