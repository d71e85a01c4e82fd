"""`heareval status`: what is complete, what is missing, what failed, and what runs where."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from heareval import files
from heareval.commands import options
from heareval.commands.changes import list_change_lines
from heareval.commands.console import one_line_errors, say, say_sentence, warn
from heareval.commands.run_files import RunFileCommand
from heareval.embeddings.embedding_format import EmbeddingFormat
from heareval.embeddings.submission_config import SubmissionArgs
from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.spec import DEFAULT_SAMPLE_RATES

if TYPE_CHECKING:
    from heareval.api import CorpusRequest, EvaluationRequest, Status
    from heareval.workflow.status import StatusRow
    from heareval.workflow.step_records import StepRecord

# Complete tasks of a submission are named up to this number, and counted above it.
NAMED_TASKS = 3


@click.command(
    cls=RunFileCommand,
    example="heareval status my_model --model weights.pt --tasks esc50\nheareval status --since last",
)
@one_line_errors
@options.some_submissions
@options.corpus(options.tasks_option)
@options.sample_rates(default=())
@options.places("work", "tasks", "tars", "embeddings")
@options.embedding_format
@options.any_rate
@options.limit
@options.scoring
@options.scheduler_url
@click.option(
    "--since",
    metavar="last|TIME",
    help="Show instead what changed since the last run that had something to do, or since a time such as "
    "2026-11-29T03:00.",
)
@options.as_json
def status(
    places: Places, scheduler_url: str | None, since: str | None, as_json: bool, **requested: Any
) -> None:
    """Show what is complete, what is missing, what failed and what runs where.

    With MODULE_OR_FILE, takes what `evaluate` takes, also the file of a run, and shows the scores of each
    model on each task; with --tasks alone, the task folders and tarballs that `prepare` makes; with neither,
    what lies in the folders.
    Nothing is done and no model is loaded. Exits with 0 only if everything is complete, with 30 if a step
    has failed or something is damaged, and with 25 if something is missing; with --since always with 0.
    """
    from heareval import api
    from heareval.workflow.status import status_facts

    request = _build_request(**requested)
    if since is not None:
        _show_changes(request, since, places, as_json)
        return
    rates = requested["sample_rates"] or DEFAULT_SAMPLE_RATES
    found = api.status(
        request, places, sample_rates=rates, scheduler_url=options.choose_scheduler(scheduler_url)
    )
    if as_json:
        say(files.dump_json(status_facts(found)))
    else:
        _say_status(found)
    sys.exit(found.exit_code)


def _build_request(
    submissions: SubmissionArgs,
    corpus: CorpusRequest,
    embedding_format: EmbeddingFormat,
    any_rate: bool,
    limit: int | None,
    scoring: options.Scoring,
    sample_rates: tuple[int, ...],
) -> EvaluationRequest | CorpusRequest | None:
    from heareval.api import EvaluationRequest

    if submissions.submissions:
        corpus = replace(corpus, tasks=corpus.tasks or options.DEFAULT_TASKS)
        protocol = replace(scoring.protocol, limit=limit)
        return EvaluationRequest(submissions, corpus, embedding_format, protocol, any_rate, sample_rates)
    if corpus.tasks or corpus.mode:
        return replace(corpus, tasks=corpus.tasks or options.DEFAULT_TASKS)
    return None


def _show_changes(request: object, since: str, places: Places, as_json: bool) -> None:
    from heareval import api
    from heareval.workflow.run_records import changes_facts

    if request is not None:
        raise HearevalError(
            "--since", got="tasks or models as well", expected="only folders", remedy="Leave them out."
        )
    found = api.changes_since(since, places)
    if as_json:
        say(files.dump_json(changes_facts(found)))
        return
    for note in found.notes:
        warn(f"note: {note}")
    noun = "run" if found.runs == 1 else "runs"
    idle = f"; the last run, at {found.idle_at}, had nothing to do" if found.idle_at else ""
    counts = f"{found.runs} {noun}, {len(found.changes)} changed, {len(found.failed)} failed"
    say_sentence(f"since {found.since}: {counts}{idle}")
    for line in list_change_lines(found):
        say_sentence(line)
    for record in found.failed:
        say_sentence(f"failed   {record.title}: {_describe_failure(record)}")


def _say_status(found: Status) -> None:
    for note in found.notes:
        warn(f"note: {note}")
    groups: dict[Hashable, list[StatusRow]] = {}
    for row in found.rows:
        # Tasks of one submission in the same state share a line, and so do the rates of a task.
        group = (row.submission, row.protocol) if row.submission else row.task_folder
        groups.setdefault((row.state, row.kind, group, _describe_state(row)), []).append(row)
    for rows in groups.values():
        first, state = rows[0], _describe_state(rows[0])
        say_sentence(f"{first.state:<11}  {_name(rows)}{f': {state}' if state else ''}")
    counts = ", ".join(f"{number} {state}" for state, number in found.counts.items())
    say_sentence(counts or "nothing has been made yet")


def _name(rows: list[StatusRow]) -> str:
    """Return the name of rows in the same state."""
    first = rows[0]
    if first.kind == "step":
        return f"step {first.task}"
    if not first.submission:
        rates = ", ".join(str(row.sample_rate) for row in rows if row.sample_rate)
        return f"{first.kind} {first.task_folder}{f' at {rates} Hz' if rates else ''}"
    names = [row.task_folder for row in rows]
    is_long = first.state == "complete" and len(names) > NAMED_TASKS
    tasks = f"{len(names)} tasks" if is_long else ", ".join(names)
    what = first.protocol or first.kind
    return f"{first.submission} ({what}) on {tasks}"


def _describe_state(row: StatusRow) -> str:
    """Return what there is to say about a state, in one line."""
    said = [row.error] if row.error else []
    said += [f"{_name_step(each.title, row, ': ')}{_describe_failure(each)}" for each in row.failed]
    said += [
        f"{_name_step(each.title, row, ' runs ')}on {_describe_process(each)}, since {each.since}"
        for each in row.running
    ]
    # Nobody knows whether the user stopped it or the system killed it.
    said += [
        f"{_name_step(each.title, row, ' was ')}interrupted on {_describe_process(each)}, begun {each.since}"
        for each in row.interrupted
    ]
    if row.next_step and not said:
        said.append(f"next: {_shorten_title(row.next_step, row)}")
    if row.finished:
        said.append(f"{row.finished} are finished")
    if row.steps_left > 1:
        said.append(f"{row.steps_left} steps left")
    return "; ".join(said)


def _name_step(title: str, row: StatusRow, verb: str) -> str:
    """Return the name of a step and a verb, or nothing in the row of the step itself, which names it."""
    return "" if row.kind == "step" else f"{_shorten_title(title, row)}{verb}"


def _shorten_title(title: str, row: StatusRow) -> str:
    """Return the name of a step without the names of the submission and the task, which its row begins with.

    >>> from heareval.workflow.status import StatusRow
    >>> row = StatusRow("scores", "missing", "esc50", "full", "esc50-v2.0.0-full", submission="mine")
    >>> _shorten_title("mine on esc50-v2.0.0-full: predictor", row), _shorten_title("fetch a.zip", row)
    ('predictor', 'fetch a.zip')
    """
    for name in (f"{row.submission} on {row.task_folder}", f"{row.task} {row.mode}", row.submission):
        if title.startswith(f"{name}: "):
            return title.removeprefix(f"{name}: ")
    return title


def _describe_failure(record: StepRecord) -> str:
    often = f", {record.failures} times, last at {record.last}" if record.failures > 1 else ""
    return f"{record.error} (failed on {record.host} since {record.since}{often})"


def _describe_process(record: StepRecord) -> str:
    return f"{record.host}, process {record.pid}"
