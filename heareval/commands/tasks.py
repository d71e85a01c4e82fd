"""`heareval tasks`: the tasks there are, and new ones."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from heareval import files
from heareval.archives.sizes import readable
from heareval.commands import options
from heareval.commands.console import align_columns, format_tenths, one_line_errors, say, say_sentence
from heareval.commands.grouped import GroupedCommand
from heareval.formats.domains import SHORT_NAMES, find_domain
from heareval.spec import TaskSpec
from heareval.tasks.extent import BYTES_PER_HOUR, estimate_hours
from heareval.tasks.licences import find_licence
from heareval.tasks.registry import all_tasks, check_name_is_free

# Columns of the tables of tasks.
BRIEF_HEAD = ("task", "domain", "hours", "size", "licence")
LONG_HEAD = ("kind", "splits", "clip in s", "modes", "metrics")


@click.group()
def tasks() -> None:
    """List the tasks, or make a new one from your own sounds."""


@tasks.command("list", cls=GroupedCommand, short_help="List the tasks.", example="heareval tasks list --json")
@one_line_errors
@click.option("--long", "is_long", is_flag=True, help="Show kind, splits, modes and metrics as well.")
@options.as_json
def list_tasks(is_long: bool, as_json: bool) -> None:
    """List the tasks, each with its domain, the hours of its clips, their size and the licence of its corpus.

    Hours are about those of the default mode, and the size is that of the clips at 16 kHz. Licences are SPDX
    identifiers. With --json, a licence comes with its name, its note, the address of the corpus and the
    publication to cite.
    """
    if as_json:
        say(files.dump_json([_task_facts(task) for task in all_tasks().values()]))
        return
    describe = _describe_at_length if is_long else _describe_briefly
    head = BRIEF_HEAD + (LONG_HEAD if is_long else ())
    for line in align_columns([head, *map(describe, all_tasks().values())]):
        say(line)


def _list_modes(task: TaskSpec) -> list[str]:
    """Return the names of the modes of a task, the default mode first."""
    return sorted(task.modes, key=lambda mode: mode != task.default_mode)


def _task_facts(task: TaskSpec) -> dict[str, Any]:
    """Return a task, as it is in its default mode, as JSON values."""
    hours = estimate_hours(task, task.default_mode)
    return {
        "name": task.name,
        "domain": find_domain(task.name),
        "embedding_type": task.embedding_type,
        "prediction_type": task.prediction_type,
        "splits": task.splits_of(task.default_mode).names,
        "clip_duration_s": task.duration_s(task.default_mode),
        "modes": _list_modes(task),
        "hours": round(hours, 2),
        "bytes_at_16_khz": round(hours * BYTES_PER_HOUR),
        "metrics": task.metrics,
        "licence": asdict(find_licence(task, task.default_mode)),
    }


def _describe_briefly(task: TaskSpec) -> tuple[str, ...]:
    """Return the cells of BRIEF_HEAD for a task in its default mode."""
    hours = estimate_hours(task, task.default_mode)
    return (
        task.name,
        SHORT_NAMES[find_domain(task.name)],
        format_tenths(hours),
        readable(round(hours * BYTES_PER_HOUR)),
        find_licence(task, task.default_mode).spdx,
    )


def _describe_at_length(task: TaskSpec) -> tuple[str, ...]:
    """Return the cells of BRIEF_HEAD and LONG_HEAD for a task in its default mode."""
    from heareval.tasks.own.task import describe_splits

    seconds = task.duration_s(task.default_mode)
    return (
        *_describe_briefly(task),
        f"{task.embedding_type}, {task.prediction_type}",
        describe_splits(task.splits_of(task.default_mode)),
        "varies" if seconds is None else f"{seconds:g}",
        ", ".join(_list_modes(task)),
        ", ".join(task.metrics),
    )


@tasks.command(
    "new",
    cls=GroupedCommand,
    short_help="Make a task from your own sounds.",
    example="heareval tasks new birds --folder sounds/birds",
)
@one_line_errors
@click.argument("name")
@click.option("--folder", help="Folder of class sub-folders with sounds.")
@click.option("--table", help="CSV file: path,label and optionally split, group, start_ms and end_ms.")
@click.option("--pairs", help="CSV file: a,b,score (higher: more different) or a,b,same.")
@click.option("--triplets", help="CSV file: anchor,positive,negative.")
@click.option("--queries", help="CSV file: path,label,role (query, gallery or both).")
@click.option(
    "--clip-seconds", "clip_duration_s", type=float, help="Length of every clip.  [each keeps its own]"
)
@click.option("--folds", type=int, help="New folds in place of train, valid and test.")
@click.option("--version", help="Version of the task.  [v1]")
def new_task(name: str, **given: Any) -> None:
    """Make NAME.toml, a task from your own sounds: a folder of class sub-folders, or a table.

    Pairs, triplets and queries make a task that is scored by distances between embeddings, without training.
    The sounds stay where they are. Options that you omit are inferred from the
    sounds.
    """
    from heareval.tasks.own.new import new_task as write_task

    values = {key: value for key, value in {"name": name, **given}.items() if value is not None}
    file = Path(f"{name}.toml")
    check_name_is_free(name)
    for line in write_task(values, file):
        say_sentence(line)
    say_sentence(f"{file} is written; next:")
    say(f"  heareval prepare {file}")
    say(f"  heareval evaluate MODULE --tasks {file}")
