"""Errors of the submission and of its input, and how to recognise a lack of memory."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

OUT_OF_MEMORY = {"OutOfMemoryError", "MemoryError", "ResourceExhaustedError"}
OUT_OF_MEMORY_MESSAGES = ("out of memory", "not enough memory", "allocate memory", "alloc_failed")


class SubmissionError(Exception):
    """The submission or its input is wrong.

    Args:
        what: the thing that is wrong.
        got: what was found.
        expected: what should have been there.
        remedy: what the user can do about it.
    """

    def __init__(self, what: str, got: str = "", expected: str = "", remedy: str = "") -> None:
        super().__init__(what, got, expected, remedy)
        self.facts = {"what": what, "got": got, "expected": expected, "remedy": remedy}


@contextlib.contextmanager
def blame_submission(what: str) -> Iterator[None]:
    """Turn an exception of the submission's code into a SubmissionError; its traceback goes to the log."""
    try:
        yield
    except SubmissionError:
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        got = f"{describe_exception(error)} (line {last.lineno} of {last.filename})"
        raise SubmissionError(what, got=got, expected="no exception") from error


def describe_exception(error: BaseException) -> str:
    """Return the type and the first line of the message of an exception.

    >>> describe_exception(ValueError("no audio\\nmore"))
    'ValueError: no audio'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an exception, or one that caused it, reports that memory ran out."""
    while error is not None:
        names = {kind.__name__ for kind in type(error).__mro__}
        message = str(error).lower()
        if names & OUT_OF_MEMORY:
            return True
        if isinstance(error, RuntimeError) and any(words in message for words in OUT_OF_MEMORY_MESSAGES):
            return True
        error = error.__cause__ or error.__context__
    return False
