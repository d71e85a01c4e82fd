"""Words of a command line that are names of tasks where something else belongs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from heareval.commands.console import warn
from heareval.errors import HearevalError


class OneLineUsageError(click.UsageError):
    """A wrong command line, told in one line."""

    def show(self, file: Any = None) -> None:
        """Print it to standard error."""
        warn(f"error: {self.format_message()}")


def split_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the task names of a command line, whether commas or repeated options separate them.

    >>> split_names(("esc50,fsd50k", "open"))
    ('esc50', 'fsd50k', 'open')
    """
    return tuple(filter(None, (word.strip() for name in names for word in name.split(","))))


def refuse_tasks(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Return the value of an argument unless one of its words is the name of a task or a group of tasks.

    Raises:
        OneLineUsageError: a word is the name of a task, and of no file, folder or module here.
    """
    check_are_no_tasks(context, (value,) if isinstance(value, str) else value or ())
    return value


def check_are_no_tasks(context: click.Context, words: Iterable[str]) -> None:
    """Raise OneLineUsageError if a word is the name of a task, and of no file, folder or module here."""
    if not context.resilient_parsing:
        for word in words:
            if not (Path(word).exists() or Path(f"{word}.py").is_file()):
                check_is_no_task(context, word)


def check_is_no_task(context: click.Context, word: str) -> None:
    """Raise OneLineUsageError, which says where tasks belong, if a word names one or a group of them."""
    from heareval.tasks.registry import GROUPS, all_tasks

    names = split_names((word,))
    if not any(name in all_tasks() or name in GROUPS for name in names):
        return
    what = "are tasks" if len(names) > 1 else "is a group of tasks" if word in GROUPS else "is a task"
    remedy = f"Write --tasks {word}."
    if not any("--tasks" in parameter.opts for parameter in context.command.params):
        arguments = [each for each in context.command.params if isinstance(each, click.Argument)]
        taken = " ".join(each.make_metavar(context) for each in arguments)
        remedy = f"`{context.command_path}` takes {f'{taken} and ' if taken else ''}no tasks."
    raise OneLineUsageError(str(HearevalError(f"{word} {what}", remedy=remedy)), context)


def check_are_no_models(names: tuple[str, ...], remedy: str) -> None:
    """Raise HearevalError if a word in place of a task is the name of a Python file here."""
    from heareval.tasks.registry import GROUPS, all_tasks

    for name in names:
        file = f"{name.removesuffix('.py')}.py"
        if Path(file).is_file() and name not in all_tasks() and name not in GROUPS:
            raise HearevalError(
                f"task {name}",
                got=f"the Python file {file}",
                expected="the name or TOML file of a task",
                remedy=remedy,
            )
