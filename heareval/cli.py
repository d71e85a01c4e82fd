"""The console script `heareval`: the three doors, and all of them in one graph."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import click

import heareval
from heareval import doors, files, submitted
from heareval.embeddings.embed import EmbeddingFormat
from heareval.embeddings.opening import open_submission
from heareval.embeddings.runner import embed
from heareval.embeddings.submission import Model
from heareval.embeddings.submission_config import SubmissionArgs
from heareval.embeddings.validate import (
    Limits,
    format_advice,
    format_header,
    format_json,
    format_row,
    has_passed,
    ignore_finding,
    run_checks,
)
from heareval.predictions.protocol import Protocol
from heareval.predictions.runner import compare, predict, protocol_options, report, say_scores
from heareval.spec import DEFAULT_SAMPLE_RATES, TaskSpec
from heareval.tasks.own import new as own_new
from heareval.tasks.own import task as own
from heareval.tasks.registry import all_tasks, check_is_free
from heareval.tasks.runner import demo_corpora, prepare, skipped_notes, summarise
from heareval.workflow import pins
from heareval.workflow.evaluate import Predict, score_task
from heareval.workflow.machine import Machine
from heareval.workflow.plan import plan_facts, plan_run, plan_table
from heareval.workflow.prepare import PublishTask, publish_and_pack
from heareval.workflow.step import read_manifest

# A submission with faults, as against a command line with some.
FAILED_EXIT_CODE = 1
BASELINE = "heareval.embeddings.baseline"
# The published protocol tries 8 grid points and trains for up to 500 epochs; the demo shows the way in
# minutes, and the protocol's name in its table says so.
DEMO = {
    "speech_commands": Protocol(grid_points=2),
    "nsynth_pitch": Protocol(grid_points=2),
    "dcase2016_task2": Protocol(grid="fast", grid_points=2),
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(heareval.__version__)
def main() -> None:
    """HEAR: how good is an audio embedding, without fine-tuning, on speech, environmental sound and music?"""


@main.command()
@submitted.submissions
@click.option(
    "--tasks", default="all", show_default=True, help="Names with commas between them, `open` or `all`."
)
@doors.options(doors.mode, doors.sample_rate)
@doors.options(doors.tmp_dir, doors.tasks_dir, doors.embeddings_dir)
@doors.corpus_options
@doors.from_published
@doors.form_options
@doors.machine_options
@protocol_options
@doors.force
@doors.run_options
@doors.told_in_one_line
def evaluate(
    words: SubmissionArgs,
    tasks: str,
    mode: str | None,
    sample_rates: tuple[str, ...],
    tmp_dir: str,
    tasks_dir: str,
    embeddings_dir: str,
    mirror: tuple[str, ...],
    accept_checksums: str | None,
    engine: str,
    on_bad_audio: str,
    from_published: str,
    form: EmbeddingFormat,
    protocol: Protocol,
    machine: Machine,
    full_report: bool,
    force: bool,
    num_workers: int,
    scheduler_url: str,
) -> None:
    """Score models with the HEAR API: prepare the tasks, embed them, train predictors.

    Each is an importable MODULE, or a TOML file that describes it; options go before what the file says.
    Only the sample rate that a model asks for is prepared, unless --sample-rate names more.
    """
    places = doors.places_of(work=tmp_dir, tasks=tasks_dir, embeddings=embeddings_dir)
    score = functools.partial(score_task, protocol=protocol, form=form, machine=machine)
    mirrors = doors.mirrors_of(mirror)
    if mode == "demo" and not mirrors and not from_published:
        mirrors, accept_checksums = demo_corpora(places, (tasks,))
    jobs = doors.task_jobs(
        (tasks,),
        mode,
        engine_name=engine,
        accepted_file=accept_checksums,
        published=from_published,
        on_bad=on_bad_audio,
    )
    submissions, unopened = submitted.opened_all(words, places, machine)
    rates = tuple(sorted({*(each.sample_rate for each in submissions), *map(int, sample_rates)}))

    def scored(step: PublishTask) -> list[Predict]:
        return [score(step, submission) for submission in submissions]

    publish = functools.partial(PublishTask, places, sample_rates=rates, mirrors=mirrors)
    if not force:
        # What is fetched to be pinned takes room, too.
        planned = [publish(job=job) for job in pins.pinned(jobs, places, mirrors)]
        doors.check_room({step.job: scored(step) for step in planned}, places)
    pinned = doors.pinned_jobs(jobs, places, mirrors, workers=num_workers, scheduler=scheduler_url)
    published = [publish(job=job) for job in pinned]
    if on_bad_audio == "skip":
        # Which clips there are to embed is known when they are made.
        doors.run_steps(published, places, workers=num_workers, scheduler=scheduler_url)
    roots = [root for step in published for root in scored(step)]

    def tell() -> None:
        say_skipped(published)
        say_scores(roots, places, full_report=full_report)

    outcome = doors.run_steps(
        roots, places, workers=num_workers, scheduler=scheduler_url, machine=machine, tell=tell
    )
    where = Path(places.embeddings) / (submissions[0].name if len(submissions) == 1 else "")
    doors.say_end(outcome, f"scores and predictions are in {doors.shown(where)}")
    if unopened:
        click.echo(f"not evaluated: {', '.join(unopened)}", err=True)
        sys.exit(doors.USAGE_EXIT_CODE)


@main.command()
@submitted.submission
@click.option(
    "--long-seconds",
    type=doors.Seconds(min=10),
    default=Limits.long_s,
    show_default=True,
    help="The longest audio that is tried.",
)
@click.option(
    "--timeout",
    type=doors.Seconds(min=1),
    default=Limits.check_s,
    show_default=True,
    help="Seconds for one check, after which it has failed.",
)
@doors.tmp_dir
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@doors.debug
@doors.told_in_one_line
def validate(
    words: SubmissionArgs,
    long_seconds: float,
    timeout: float,
    tmp_dir: str,
    as_json: bool,
) -> None:
    """Check a model with the HEAR API for every fault that would cost a run or points.

    It is an importable MODULE, or a TOML file that describes it; options go before what the file says.
    Exits with 0 if nothing failed (there may be warnings), with 1 if a check failed.
    """
    places = doors.places_of(work=tmp_dir)
    model, folder = submitted.ready_one(words, places).model, Path(places.work) / "validate"
    limits = Limits(long_s=long_seconds, check_s=timeout)
    tell = ignore_finding if as_json else (lambda finding: doors.say(format_row(finding)))
    if not as_json:
        doors.say(format_header())
    findings, ran_on = run_checks(model, folder, limits=limits, on_finding=tell)
    for line in [format_json(model.module, findings, ran_on)] if as_json else format_advice(findings):
        doors.say(line)
    if not has_passed(findings):
        click.echo(f"log: {doors.shown(folder)}", err=True)
        sys.exit(FAILED_EXIT_CODE)


@main.command()
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@doors.options(doors.mode, doors.sample_rate, doors.tmp_dir, doors.tasks_dir, doors.tar_dir)
@doors.corpus_options
@doors.from_published
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@doors.debug
@doors.told_in_one_line
def plan(
    tasks: tuple[str, ...],
    mode: str | None,
    sample_rates: tuple[str, ...],
    tmp_dir: str,
    tasks_dir: str,
    tar_dir: str,
    mirror: tuple[str, ...],
    accept_checksums: str | None,
    engine: str,
    on_bad_audio: str,
    from_published: str,
    as_json: bool,
) -> None:
    """Tell what preparing tasks would still take of the disk, and whether it fits.

    Words and options are those of `prepare`, which would refuse to start where this exits with 2. Nothing is
    fetched; servers are only asked for sizes.
    """
    places = doors.places_of(work=tmp_dir, tasks=tasks_dir, tars=tar_dir)
    mirrors = doors.mirrors_of(mirror)
    if mode == "demo" and not mirrors and not from_published:
        mirrors, accept_checksums = demo_corpora(places, tasks)
    jobs = doors.task_jobs(
        tasks,
        mode,
        engine_name=engine,
        accepted_file=accept_checksums,
        published=from_published,
        on_bad=on_bad_audio,
    )
    jobs = pins.pinned(jobs, places, mirrors)
    rates = doors.rates_of(sample_rates)
    planned = plan_run({job: publish_and_pack(places, [job], rates, mirrors) for job in jobs}, places)
    doors.say(files.dump_json(plan_facts(planned)) if as_json else plan_table(planned))
    for system in () if as_json else planned.file_systems:
        doors.say(doors.room_of(system))
    if not planned.fits:
        sys.exit(doors.USAGE_EXIT_CODE)


@main.command()
@click.option(
    "--folder", type=click.Path(file_okay=False), default="demo", show_default=True, help="Where it works."
)
@doors.run_options
@doors.told_in_one_line
def demo(folder: str, num_workers: int, scheduler_url: str) -> None:
    """Run everything, from archives to scores, on small synthetic corpora with the built-in baseline."""
    names = ("work", "_workdir"), ("tasks", "tasks"), ("tars", "tars"), ("embeddings", "embeddings")
    places = doors.places_of(**{place: f"{folder}/{name}" for place, name in names})
    mirrors, accepted = demo_corpora(places, tuple(DEMO))
    jobs = doors.task_jobs(tuple(DEMO), "demo", engine_name="soxr", accepted_file=accepted)
    submission = open_submission(Model(BASELINE), Path(places.work) / "submissions")
    packed = publish_and_pack(places, jobs, DEFAULT_SAMPLE_RATES, mirrors)
    published = [step for step in packed if isinstance(step, PublishTask)]
    scored = [score_task(step, submission, DEMO[step.job.task]) for step in published]

    def tell() -> None:
        summarise(places, jobs)
        say_scores(scored, places, full_report=False)

    steps = [*packed, *scored]
    outcome = doors.run_steps(steps, places, workers=num_workers, scheduler=scheduler_url, tell=tell)
    doors.say_end(outcome, f"embeddings and scores are in {doors.shown(places.embeddings)}")


def say_skipped(published: Sequence[PublishTask]) -> None:
    """A line for each clip that could not be made."""
    for step in published:
        for note in skipped_notes(read_manifest(step.folder)):
            doors.say(f"{doors.shown(step.folder)}: {note}")


@main.group("tasks")
def task_group() -> None:
    """The tasks there are, and new ones of your own."""


@task_group.command("list")
def list_tasks() -> None:
    """List the tasks of the benchmark, their modes with the default one first."""
    head = ("task", "labels", "splits", "clip in s", "modes", "metrics")
    for line in columns([head, *map(task_row, all_tasks().values())]):
        doors.say(line)


def task_row(task: TaskSpec) -> tuple[str, ...]:
    """A task in the columns of `heareval tasks list`, as it is in its default mode."""
    seconds = task.duration_s(task.default_mode)
    modes = sorted(task.modes, key=lambda mode: mode != task.default_mode)
    return (
        task.name,
        f"{task.embedding_type}, {task.prediction_type}",
        own.splits_in_words(task.splits_of(task.default_mode)),
        "as it is" if seconds is None else f"{seconds:g}",
        ", ".join(modes),
        ", ".join(task.metrics),
    )


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines whose columns stand below each other.

    >>> columns([("a", "b"), ("longer", "c")])
    ['a       b', 'longer  c']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [line.rstrip() for line in lines]


@task_group.command("new")
@click.argument("name")
@click.option("--folder", help="Folder of class sub-folders with sounds.")
@click.option(
    "--table", help="CSV file: path,label and, if there are any, split, group, start_ms and end_ms."
)
@click.option("--clip-seconds", type=float, help="Length of every clip.  [each keeps its own]")
@click.option("--folds", type=int, help="New folds in place of train, valid and test.")
@click.option("--version", help="Version of the task.  [v1]")
@doors.debug
@doors.told_in_one_line
def new_task(
    name: str,
    folder: str | None,
    table: str | None,
    clip_seconds: float | None,
    folds: int | None,
    version: str | None,
) -> None:
    """Make NAME.toml, a task of your own, from a folder of class sub-folders or a table.

    The sounds stay where they are. What the options leave open follows from the sounds.
    """
    options = {"folder": folder, "table": table, "clip_duration_s": clip_seconds, "folds": folds}
    options |= {"name": name, "version": version}
    values = {key: value for key, value in options.items() if value is not None}
    file = Path(f"{name}.toml")
    check_is_free(name)
    for line in own_new.new_task(values, file):
        doors.say(line)
    doors.say(f"{file} is written; next:")
    doors.say(f"  heareval prepare {file}")
    doors.say(f"  heareval evaluate MODULE --tasks {file}")


main.add_command(prepare)
main.add_command(embed)
main.add_command(predict)
main.add_command(compare)
main.add_command(report)

if __name__ == "__main__":
    main()
