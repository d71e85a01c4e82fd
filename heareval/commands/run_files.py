"""Commands that take the file of a run in place of models and options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heareval.commands.console import USAGE_EXIT_CODE, warn
from heareval.commands.options import CommandOf2021
from heareval.embeddings.submission_config import SUFFIX
from heareval.errors import HearevalError

if TYPE_CHECKING:
    from heareval.workflow.run_file import RunFile


class RunFileCommand(CommandOf2021):
    """A command whose words may be the file of a run, such as `run.toml`; options override the file."""

    def parse_args(self, context: click.Context, words: list[str]) -> list[str]:
        """Parse the words of a command line; a wrong file ends the program with one line."""
        try:
            run_file = _find_run_file(self, context, words)
        except (HearevalError, OSError) as error:
            warn(f"error: {error}")
            context.exit(USAGE_EXIT_CODE)
        if run_file:
            context.default_map = _map_options(self, run_file)
        rest = super().parse_args(context, words)
        if run_file:
            context.params["submissions"] = run_file.models
        return rest


def _find_run_file(command: click.Command, context: click.Context, words: list[str]) -> RunFile | None:
    """Return the file of a run that a command line names; None if it names none.

    Raises:
        HearevalError: the file is wrong, or models are named beside it.
    """
    try:
        parsed, _, _ = command.make_parser(context).parse_args(list(words))
    except click.UsageError:
        # The command itself says what is wrong.
        return None
    given = parsed.get("submissions")
    named = [word for word in given if isinstance(word, str)] if isinstance(given, (tuple, list)) else []
    if not any(word.endswith(SUFFIX) for word in named):
        return None
    from heareval.workflow.run_file import is_run_file, read_run_file

    found = [word for word in named if is_run_file(word)]
    if not found:
        return None
    if len(named) > 1:
        others = ", ".join(word for word in named if word != found[0]) or found[0]
        raise HearevalError(
            f"run {found[0]}", got=f"{others} as well", expected="the file alone, which names its models"
        )
    return read_run_file(Path(found[0]))


def _map_options(command: click.Command, run_file: RunFile) -> dict[str, Any]:
    """Return the options of a run by the names of the command's parameters; the command may lack some."""
    mapped: dict[str, Any] = {}
    for parameter in command.params:
        for option in parameter.opts:
            if isinstance(parameter, click.Option) and option.startswith("--") and parameter.name:
                key = option.removeprefix("--")
                if key in run_file.options:
                    value = run_file.options[key]
                    # A choice of numbers is one of their texts.
                    is_rates = key == "sample-rate"
                    mapped[parameter.name] = tuple(map(str, value)) if is_rates else value
    return mapped
