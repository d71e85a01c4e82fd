"""Errors of the submission and of its input, and how to recognise a lack of memory."""

from __future__ import annotations

import contextlib
import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from heareval.embeddings.inside.builds import find_mismatch

# Messages of PyTorch about a GPU that is not there, or about tensors in different places.
NO_CUDA = re.compile("(?i)not compiled with cuda|nvidia driver|no cuda gpus|on a cuda device|the same device")
# Characters of a message or a value that an error repeats; all of it is in the log.
SHOWN_LENGTH = 300
ADAPTER_ERRORS = "heareval.embeddings.adapters.errors"
OUT_OF_MEMORY = {"OutOfMemoryError", "MemoryError", "ResourceExhaustedError"}
OUT_OF_MEMORY_MESSAGES = ("out of memory", "not enough memory", "allocate memory", "alloc_failed")


class SubmissionError(Exception):
    """The submission or its input is wrong.

    Args:
        what: the thing that is wrong.
        got: what was found.
        expected: what should have been there.
        remedy: what the user can do about it.
        cause: the cause that `heareval validate` has advice for, or "".
    """

    def __init__(
        self, what: str, got: str = "", expected: str = "", remedy: str = "", *, cause: str = ""
    ) -> None:
        super().__init__(what, got, expected, remedy)
        self.cause = cause
        self.facts = {"what": what, "got": got, "expected": expected, "remedy": remedy}


@contextlib.contextmanager
def blame_submission(what: str) -> Iterator[None]:
    """Turn an exception of the submission's code into a SubmissionError; its traceback goes to the log.

    The error of an adapter says all there is to say, so it has no traceback.
    """
    try:
        yield
    except SubmissionError:
        raise
    except (Exception, SystemExit) as error:
        # Our adapters know what is wrong; they can't import this module.
        if type(error).__module__ == ADAPTER_ERRORS and hasattr(error, "facts"):
            raise SubmissionError(**error.facts) from error
        traceback.print_exc()
        frame = find_own_frame(error)
        got = f"{describe_exception(error)} (line {frame.lineno} of {frame.filename})"
        mismatch = find_mismatch(error)
        remedy = mismatch.remedy if mismatch else ""
        raise SubmissionError(what, got=got, expected="no exception", remedy=remedy) from error


def describe_exception(error: BaseException) -> str:
    """Return the type and the first line of the message of an exception; two if the first ends in a colon.

    A line may list every weight of a large model: of a long one only the beginning is returned.

    >>> describe_exception(ValueError("no audio\\nmore"))
    'ValueError: no audio'
    >>> describe_exception(ValueError("wrong shapes:\\n  3 for 4"))
    'ValueError: wrong shapes: 3 for 4'
    """
    lines = [line.strip() for line in str(error).strip().splitlines()]
    shown = lines[: 2 if lines and lines[0].endswith(":") else 1]
    return shorten(": ".join([type(error).__name__, *([" ".join(shown)] if shown else [])]))


def shorten(text: str) -> str:
    """Return the first SHOWN_LENGTH characters of a text, with dots in place of the rest.

    >>> shorten("short"), len(shorten("long" * 1000))
    ('short', 303)
    """
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."


def find_own_frame(error: BaseException) -> traceback.FrameSummary:
    """Return the innermost frame of an exception that belongs to the submission, not to a library.

    If all packages are installed in one place, as the submission may be, it is the innermost frame of all.
    """
    if isinstance(error, SyntaxError):
        return traceback.FrameSummary(error.filename or "?", error.lineno or 0, "")
    others = (*list_library_folders(), str(Path(__file__).parent), "<")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(others)]
    return (own or frames)[-1]


def list_library_folders() -> tuple[str, ...]:
    """Return the folders of the standard library and of installed packages."""
    return tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib"))


def find_cause(error: BaseException, module: str) -> str:
    """Return the cause of an exception that `heareval validate` has advice for.

    Args:
        error: the exception.
        module: name of the submission's module.

    >>> find_cause(ModuleNotFoundError("No module named 'timm'", name="timm"), "my_model")
    'missing import'
    """
    if isinstance(error, SystemExit):
        return "exit"
    if mismatch := find_mismatch(error):
        return mismatch.cause
    if isinstance(error, ModuleNotFoundError):
        return "module" if f"{module}.".startswith(f"{error.name}.") else "missing import"
    if is_out_of_memory(error):
        return "memory"
    return "cuda" if NO_CUDA.search(str(error)) else "exception"


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
