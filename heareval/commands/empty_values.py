"""Empty values on a command line, such as `--tasks "$UNSET"` gives: refused, because nobody means them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import click
from click.core import ParameterSource

from heareval.commands.task_words import OneLineUsageError
from heareval.errors import HearevalError

# Parameters for which an empty value stands for none, in every command: it overrides the one in luigi.cfg.
NONE_IF_EMPTY = ("scheduler_url", "scratch_dir")
# Parameters whose values are lists, separated by commas.
LISTS = ("tasks", "task_words")


def check_no_empty_values(context: click.Context, allowed: Collection[str]) -> None:
    """Raise OneLineUsageError if a value of a command line is empty.

    Values of defaults and of the file of a run are not looked at.

    Args:
        context: that of a command whose words were parsed.
        allowed: names of parameters of the command that may be empty, besides NONE_IF_EMPTY.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        is_given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if not is_given or name in NONE_IF_EMPTY or name in allowed:
            continue
        value = context.params.get(name)
        has_several = parameter.nargs != 1 or getattr(parameter, "multiple", False)
        values: Sequence[Any] = (value or ()) if has_several else (value,)
        for each in values:
            if _is_empty(each, "," if name in LISTS else ""):
                raise OneLineUsageError(str(_empty_value(parameter, each, context)), context)


def _is_empty(value: Any, separator: str) -> bool:
    """Return whether a value is a text without content.

    >>> _is_empty("", ""), _is_empty(" , ", ","), _is_empty("esc50", ","), _is_empty(None, "")
    (True, True, False, False)
    """
    return isinstance(value, str) and not value.strip(f" \t\n{separator}")


def _empty_value(parameter: click.Parameter, value: str, context: click.Context) -> HearevalError:
    if isinstance(parameter, click.Option):
        name = parameter.opts[0]
        remedy = "Leave it out, or check the variable if a script gives it."
    else:
        name, remedy = (
            parameter.make_metavar(context).strip("[]"),
            "Check the variable, if a script gives it.",
        )
    is_folder = isinstance(parameter.type, click.Path) and parameter.type.dir_okay
    expected = "a folder, such as . for the current one" if is_folder else "a value that is not empty"
    return HearevalError(name, got=repr(value), expected=expected, remedy=remedy)
