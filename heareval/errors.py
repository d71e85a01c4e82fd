"""The one error users meet: what happened, what was got, what was expected, what to do."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class HearevalError(Exception):
    """Something outside the program is wrong, told in one line.

    Args:
        what: the thing that is wrong, with its name or path.
        got: what was found.
        expected: what should have been there.
        remedy: what the user can do about it.
    """

    def __init__(self, what: str, *, got: str = "", expected: str = "", remedy: str = "") -> None:
        self.what, self.got, self.expected, self.remedy = what, got, expected, remedy
        super().__init__(what, got, expected, remedy)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.what, self.got, self.expected, self.remedy)

    def __str__(self) -> str:
        facts = ", ".join(
            f"{word} {text}" for word, text in (("got", self.got), ("expected", self.expected)) if text
        )
        line = f"{self.what}: {facts}" if facts else self.what
        return " ".join(f"{line}. {self.remedy}".split()) if self.remedy else " ".join(line.split())


def _rebuild(what: str, got: str, expected: str, remedy: str) -> HearevalError:
    return HearevalError(what, got=got, expected=expected, remedy=remedy)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> HearevalError:
    """The error for a name that is not in a table, with the nearest ones.

    >>> print(unknown_name("task", "speech_comands", ["speech_commands", "esc50"]))
    unknown task: got 'speech_comands', expected one of esc50, speech_commands. Did you mean speech_commands?
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=2)
    return HearevalError(
        f"unknown {kind}",
        got=repr(name),
        expected=f"one of {', '.join(names)}",
        remedy=f"Did you mean {' or '.join(near)}?" if near else "",
    )


def replaced(what: str, found: str, planned: str) -> HearevalError:
    """The error for a published folder that is no longer the one that the run was planned with."""
    return HearevalError(
        what,
        got=f"fingerprint {found or 'unknown'}",
        expected=planned,
        remedy="Another run has replaced it meanwhile: run again.",
    )


def about_files(error: OSError, folder: str = "") -> HearevalError:
    """The error for what the operating system refused, naming the file, or else the folder at work.

    >>> print(about_files(OSError(errno.ENOSPC, "No space left on device"), "_workdir"))
    _workdir: got No space left on device, expected room to write. Free some, or name other folders.
    """
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return HearevalError(
        str(error.filename or folder or "a file"),
        got=error.strerror or str(error),
        expected="room to write" if is_full else "to read or write it",
        remedy="Free some, or name other folders." if is_full else "Check its permissions, or name another.",
    )
