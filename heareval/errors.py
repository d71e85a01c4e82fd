"""The one error users meet: what happened, what was got, what was expected, what to do."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import Any


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
        return _rebuild, (type(self), self.what, self.got, self.expected, self.remedy)

    def __str__(self) -> str:
        facts = ", ".join(
            f"{word} {text}" for word, text in (("got", self.got), ("expected", self.expected)) if text
        )
        line = f"{self.what}: {facts}" if facts else self.what
        return " ".join(f"{line}. {self.remedy}".split()) if self.remedy else " ".join(line.split())


class RunError(HearevalError):
    """A run ended before everything that was needed was there.

    Args:
        outcome: how the run ended, with its exit code, the steps that failed and the log's path.
    """

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        failures = "; ".join(f"{title}: {reason}" for title, reason in outcome.failures)
        super().__init__(failures or "the run is incomplete", remedy=f"Its log is {outcome.log}.")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.outcome,)


def _rebuild(kind: type[HearevalError], what: str, got: str, expected: str, remedy: str) -> HearevalError:
    return kind(what, got=got, expected=expected, remedy=remedy)


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


NO_ROOM = "room to write", "Free some, or name other folders."
IN_THE_WAY = "no other thing in its place", "Move away what is there, or name another folder."
DAMAGED = "what a run has written", "It is damaged: remove it, or its whole folder, and run again."
# What the operating system refuses, what was expected instead, and what helps.
REFUSALS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), NO_ROOM),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP), IN_THE_WAY),
    errno.EBADMSG: DAMAGED,
}


def about_files(error: OSError, folder: str = "") -> HearevalError:
    """The error for what the operating system refused, naming the file, or else the folder at work.

    >>> print(about_files(OSError(errno.ENOSPC, "No space left on device"), "_workdir"))
    _workdir: got No space left on device, expected room to write. Free some, or name other folders.
    """
    expected, remedy = "to read or write it", "Check its permissions, or name another."
    expected, remedy = REFUSALS.get(error.errno or 0, (expected, remedy))
    # Of two names the second is the one that was to be.
    name = str(error.filename2 or error.filename or folder or "a file")
    return HearevalError(name, got=error.strerror or str(error), expected=expected, remedy=remedy)
