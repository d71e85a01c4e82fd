"""`heareval tasks`: the tasks there are, and new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from heareval.commands.console import align_columns, one_line_errors, say
from heareval.spec import TaskSpec
from heareval.tasks.own import new as own_new
from heareval.tasks.own.task import describe_splits
from heareval.tasks.registry import all_tasks, check_name_is_free


@click.group()
def tasks() -> None:
    """List the tasks, or make a new one from your own sounds."""


@tasks.command("list")
def list_tasks() -> None:
    """List the tasks of the benchmark, each with its modes, the default mode first."""
    head = ("task", "labels", "splits", "clip in s", "modes", "metrics")
    for line in align_columns([head, *map(_describe_task, all_tasks().values())]):
        say(line)


def _describe_task(task: TaskSpec) -> tuple[str, ...]:
    """Return the cells of a task in the table, as it is in its default mode."""
    seconds = task.duration_s(task.default_mode)
    modes = sorted(task.modes, key=lambda mode: mode != task.default_mode)
    return (
        task.name,
        f"{task.embedding_type}, {task.prediction_type}",
        describe_splits(task.splits_of(task.default_mode)),
        "varies" if seconds is None else f"{seconds:g}",
        ", ".join(modes),
        ", ".join(task.metrics),
    )


@tasks.command("new")
@one_line_errors
@click.argument("name")
@click.option("--folder", help="Folder of class sub-folders with sounds.")
@click.option("--table", help="CSV file: path,label and optionally split, group, start_ms and end_ms.")
@click.option(
    "--clip-seconds", "clip_duration_s", type=float, help="Length of every clip.  [each keeps its own]"
)
@click.option("--folds", type=int, help="New folds in place of train, valid and test.")
@click.option("--version", help="Version of the task.  [v1]")
def new_task(name: str, **given: Any) -> None:
    """Make NAME.toml, a task from your own sounds: a folder of class sub-folders, or a table.

    The sounds stay where they are. What the options leave open follows from the sounds.
    """
    values = {key: value for key, value in {"name": name, **given}.items() if value is not None}
    file = Path(f"{name}.toml")
    check_name_is_free(name)
    for line in own_new.new_task(values, file):
        say(line)
    say(f"{file} is written; next:")
    say(f"  heareval prepare {file}")
    say(f"  heareval evaluate MODULE --tasks {file}")
