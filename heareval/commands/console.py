"""What commands print, one plain line for every error, and exit codes."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from heareval.errors import HearevalError, escape_controls, file_error
from heareval.terminal import find_columns, fold, prepare_line

if TYPE_CHECKING:
    from heareval.workflow.run import Outcome
    from heareval.workflow.unfinished import Unfinished

Command = TypeVar("Command", bound=Callable[..., Any])
# A submission with faults, as opposed to a command line with some.
FAILED_EXIT_CODE = 1
# Nothing is wrong with a card, but the checker has no task folder to check it against.
LACKING_EXIT_CODE = 3
# Another run is at work, as `flock -n -E 75` says it; EX_TEMPFAIL of sysexits.h.
BUSY_EXIT_CODE = 75
# A wrong command line or input, as click and most programs have it.
USAGE_EXIT_CODE = 2
# File number of the last of the three standard streams.
STANDARD_ERROR = 2
STANDARD_OUTPUT = "standard output"
# What shells report for a program that Ctrl-C ended, and for one whose reader has gone.
INTERRUPTED_EXIT_CODE = 130
BROKEN_PIPE_EXIT_CODE = 141


def say(text: str) -> None:
    """Print a line, also where standard output cannot encode all of it; it cannot control the terminal."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        click.echo(escape_controls(text).encode(encoding, "backslashreplace").decode(encoding))
    except OSError as error:
        error.filename = error.filename or STANDARD_OUTPUT
        raise


def format_tenths(number: float) -> str:
    """Return a number with one decimal up to 100; what would round to 0 is `<0.1`.

    >>> format_tenths(2.34), format_tenths(0.02), format_tenths(0), format_tenths(123.4)
    ('2.3', '<0.1', '0', '123')
    """
    if number < 0.05:
        return "<0.1" if number else "0"
    return f"{number:.1f}" if number < 99.95 else f"{number:.0f}"


def terminal_columns() -> int | None:
    """Return the width of the terminal that standard output is; None if it is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def say_sentence(text: str) -> None:
    """Print a line of words, which is folded on a terminal."""
    say(fold(text, find_columns(sys.stdout)))


def warn(text: str) -> None:
    """Print a line to standard error, folded on a terminal, which it cannot control."""
    click.echo(prepare_line(text, sys.stderr), err=True)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Make sure that a program can print, and end it with one line if printing fails."""
    _open_closed_streams()
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        _discard_output()
        if isinstance(error, BrokenPipeError):
            sys.exit(BROKEN_PIPE_EXIT_CODE)
        with contextlib.suppress(OSError):
            warn(f"error: {file_error(error, STANDARD_OUTPUT)}")
        sys.exit(USAGE_EXIT_CODE)


def _discard_output() -> None:
    """Discard what is still to be printed, also by Python, which flushes once more as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed_streams() -> None:
    """Open the standard streams that are closed, as a daemon may have them, on nothing.

    The first files that the program opens would get their numbers otherwise, and what a library prints would
    go into these files.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        os.set_inheritable(number, True)
    os.close(number)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


@dataclass(frozen=True)
class Lacking:
    """What a run did not make.

    Args:
        unfinished: what is not there, and why.
        word: what it lacks: `no score`.
        summary: the sum of it: `6 of 21 tasks scored`.
    """

    unfinished: Sequence[Unfinished]
    word: str
    summary: str


def warn_of_problems(text: str) -> None:
    """Print a line to standard error if it is an error or a warning, and drop what is only told meanwhile."""
    if text.startswith(("error: ", "warning: ")):
        warn(text)


def finish_run(
    outcome: Outcome, where: str, lacking: Lacking | None = None, *, is_quiet: bool = False
) -> None:
    """Print the last line of a run: what it did, how long it took, and where the results are.

    Ends the program with the run's exit code, and a line for each failed step, if the run failed.

    Args:
        outcome: how the run ended.
        where: `scores are in embeddings`.
        lacking: what the run did not make.
        is_quiet: whether to print nothing if there was nothing to do.
    """
    fail_if_incomplete(outcome, lacking)
    if is_quiet and not outcome.steps:
        return
    noun = "step" if outcome.steps == 1 else "steps"
    done = f"{outcome.steps} {noun} done" if outcome.steps else "nothing to do, everything is up to date"
    say_sentence(f"{done}; {outcome.seconds:.1f} s; {where}")


def fail_if_incomplete(outcome: Outcome, lacking: Lacking | None = None) -> None:
    """End the program if a run failed, with a line for each failed step and for what it did not make."""
    if not outcome.exit_code:
        return
    for failure in outcome.told_failures:
        warn(f"error: {failure.line}")
        for archive in failure.archives:
            warn(f"  {archive}")
    if outcome.is_drained:
        warn(outcome.reason)
    elif outcome.reason:
        warn(f"error: {outcome.reason}")
    elif not outcome.failures:
        warn("error: the run is incomplete, although no step of this runner failed")
    if lacking:
        _warn_unfinished(
            lacking, {title for each in outcome.told_failures if each.archives for title in each.titles}
        )
    if outcome.log:
        warn(f"log: {outcome.log}")
    sys.exit(outcome.exit_code)


def _warn_unfinished(lacking: Lacking, unfetched: Collection[str]) -> None:
    """Print what a run did not make.

    Args:
        unfetched: titles of the failed steps whose archives were listed.
    """
    lacks_archives = [
        each.name for each in lacking.unfinished if each.failed and {*each.failed} <= {*unfetched}
    ]
    if lacks_archives:
        warn(f"{lacking.word}, because archives above are missing: {', '.join(lacks_archives)}")
    for each in lacking.unfinished:
        if each.name in lacks_archives:
            continue
        # The error of a step that makes just this has said it.
        if not any(title.startswith(each.name) for title in each.failed):
            reason = f"because `{'` and `'.join(each.failed)}` failed" if each.failed else "as the run ended"
            warn(f"{each.name}: {lacking.word}, {reason}")
    warn(lacking.summary)


# Word of `--overwrite` -> what the same command does after an interruption. Unfinished trainings lie in the
# folder of the embeddings, so they are lost only if these are made again.
_SAME_COMMAND = {
    "only-missing": "run the same command again to resume",
    "scores": "with --overwrite scores the same command makes finished scores again and resumes "
    "unfinished trainings",
    "all": "with --overwrite all the same command starts over",
}


def one_line_errors(command: Command) -> Command:
    """Print errors that users can correct as one line on standard error; `--debug` shows the traceback."""

    @functools.wraps(command)
    def guarded(*, debug: bool, **arguments: Any) -> None:
        try:
            command(**arguments)
        except BrokenPipeError:
            # The reader of our lines has gone. click would exit with 1.
            _discard_output()
            sys.exit(BROKEN_PIPE_EXIT_CODE)
        except (HearevalError, OSError) as error:
            if isinstance(error, OSError) and error.filename == STANDARD_OUTPUT:
                _discard_output()
            if debug:
                raise
            warn(f"error: {file_error(error) if isinstance(error, OSError) else error}")
            sys.exit(USAGE_EXIT_CODE)
        except KeyboardInterrupt:
            warn(f"stopped; {_SAME_COMMAND[arguments.get('overwrite', 'only-missing')]}")
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
