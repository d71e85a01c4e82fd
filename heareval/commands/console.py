"""What commands print, one plain line for every error, and exit codes."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from heareval.errors import HearevalError, RunError, file_error

if TYPE_CHECKING:
    from heareval.workflow.run import Outcome

Command = TypeVar("Command", bound=Callable[..., Any])
# A submission with faults, as opposed to a command line with some.
FAILED_EXIT_CODE = 1
# A wrong command line or input, as click and most programs have it.
USAGE_EXIT_CODE = 2
# What shells report for a program that Ctrl-C ended, and for one whose reader has gone.
INTERRUPTED_EXIT_CODE = 130
BROKEN_PIPE_EXIT_CODE = 141


def say(text: str) -> None:
    """Print a line, also where standard output cannot encode all of it."""
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))


def warn(text: str) -> None:
    """Print a line to standard error."""
    click.echo(text, err=True)


def finish_run(outcome: Outcome, where: str) -> None:
    """Print the last line of a run: what it did, how long it took, and where the results are.

    Ends the program with the run's exit code, and a line for each failed step, if the run failed.

    Args:
        outcome: how the run ended.
        where: `scores are in embeddings`.
    """
    fail_if_incomplete(outcome)
    noun = "step" if outcome.steps == 1 else "steps"
    done = f"{outcome.steps} {noun} done" if outcome.steps else "nothing to do, everything is up to date"
    say(f"{done}; {outcome.seconds:.1f} s; {where}")


def fail_if_incomplete(outcome: Outcome) -> None:
    """End the program with a line for each failed step if a run did not complete."""
    if not outcome.exit_code:
        return
    for title, explanation in outcome.failures:
        warn(f"error: {title}: {explanation}")
    if not outcome.failures:
        warn("error: the run is incomplete, although no step of this runner failed")
    warn(f"log: {outcome.log}")
    sys.exit(outcome.exit_code)


def one_line_errors(command: Command) -> Command:
    """Print errors that users can correct as one line on standard error; `--debug` shows the traceback."""

    @functools.wraps(command)
    def guarded(*, debug: bool, **arguments: Any) -> None:
        try:
            command(**arguments)
        except BrokenPipeError:
            # The reader of our lines has gone; nothing more can be written, not even by Python as it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(BROKEN_PIPE_EXIT_CODE)
        except RunError as error:
            # The log has the traceback of each failed step.
            fail_if_incomplete(error.outcome)
        except (HearevalError, OSError) as error:
            if debug:
                raise
            warn(f"error: {file_error(error) if isinstance(error, OSError) else error}")
            sys.exit(USAGE_EXIT_CODE)
        except KeyboardInterrupt:
            warn("stopped; run the same command again to resume")
            sys.exit(INTERRUPTED_EXIT_CODE)

    debug_option = click.Option(["--debug"], is_flag=True, help="Show the traceback of an error.")
    # click lists the parameters that it meets first last.
    guarded.__click_params__ = [debug_option, *getattr(command, "__click_params__", [])]  # type: ignore[attr-defined]
    return guarded  # type: ignore[return-value]


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines whose columns are aligned on the left.

    >>> align_columns([("a", "b"), ("longer", "c")])
    ['a       b', 'longer  c']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [line.rstrip() for line in lines]
