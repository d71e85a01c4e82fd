"""Empty values on a command line, such as `--tasks "$UNSET"` gives: refused, because nobody means them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click

from heareval.commands.task_words import OneLineUsageError
from heareval.errors import HearevalError

# Parameters for which an empty value stands for none, in every command: it overrides the one in luigi.cfg.
NONE_IF_EMPTY = ("scheduler_url", "scratch_dir")
# Parameters whose values are lists, separated by commas.
LISTS = ("tasks", "task_words")


def check_no_empty_values(context: click.Context, words: Sequence[str], allowed: Collection[str]) -> None:
    """Raise OneLineUsageError if a value of a command line is empty.

    Values of defaults and of the file of a run are not looked at.

    Args:
        context: that of the command, before click has converted any values: its own errors for numbers and
            choices name no remedy.
        words: the command line.
        allowed: names of parameters of the command that may be empty, besides NONE_IF_EMPTY.
    """
    try:
        given, _, _ = context.command.make_parser(context).parse_args(list(words))
    except click.UsageError:
        # click says what is wrong.
        return
    help_option = context.command.get_help_option(context)
    if help_option and given.get(str(help_option.name)):
        return
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in NONE_IF_EMPTY or name in allowed:
            continue
        value = given.get(name)
        for each in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(each, str) and _is_empty(each, "," if name in LISTS else ""):
                raise OneLineUsageError(str(_empty_value(parameter, each, context)), context)


def _is_empty(value: str, separator: str) -> bool:
    """Return whether a value is a text without content.

    >>> _is_empty("", ""), _is_empty(" , ", ","), _is_empty("esc50", ",")
    (True, True, False)
    """
    return not value.strip(f" \t\n{separator}")


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
