"""Options of click gathered into one value, so that a command takes a few values instead of twenty words."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import click

from heareval.commands.console import Command

Decorator = Callable[[Any], Any]


def gather(
    name: str, build: Callable[..., Any], *options: Decorator, parameters: Iterable[str] | None = None
) -> Decorator:
    """Return a decorator that gives a command several options, which reach it as one value.

    Args:
        name: the command's parameter that receives the value.
        build: makes the value; its parameters are named as those of the options.
        options: click options and arguments, in the order in which the help lists them.
        parameters: names of the options' parameters; None reads them off `build`.
    """
    names = list(inspect.signature(build).parameters if parameters is None else parameters)

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def gathered(**values: Any) -> None:
            own = {key: values.pop(key) for key in names if key in values}
            command(**{name: build(**own)}, **values)

        decorated: Any = gathered
        for option in reversed(options):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


class Seconds(click.FloatRange):
    """A finite number of seconds on a command line."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; FloatRange accepts NaN, which is rejected here."""
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return seconds
