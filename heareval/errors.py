"""The error that users see, in one line: what is wrong, what was found, what was expected, what to do."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# What moves the cursor, colors or renames a terminal, or reverses the direction of text.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def escape_controls(text: str) -> str:
    r"""Return text that cannot control a terminal: control characters other than newline and tab are escaped.

    >>> print(escape_controls("a label\x1b]0;title\x07 of a stranger"))
    a label\x1b]0;title\x07 of a stranger
    """
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def join_lines(text: str) -> str:
    """Return text in one line, which cannot control a terminal.

    >>> join_lines("several\\n lines")
    'several lines'
    """
    return " ".join(escape_controls(text).split())


class HearevalError(Exception):
    """An error that the user can correct, such as a wrong file or option.

    Args:
        what: the thing that is wrong, with its name or path.
        got: what was found.
        expected: what was expected instead.
        remedy: what the user can do about it, as a sentence.

    >>> print(HearevalError("clip a.wav", got="3 channels", expected="1", remedy="Mix it down."))
    clip a.wav: got 3 channels, expected 1. Mix it down.
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
        return escape_controls(" ".join((f"{line}. {self.remedy}" if self.remedy else line).split()))


class BusyError(HearevalError):
    """A run is using what was to be used alone. The same command succeeds once that run has ended."""


class RunError(HearevalError):
    """A run ended before everything that was needed was there.

    Args:
        outcome: how the run ended, with its exit code, the steps that failed and the log's path.
    """

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        failures = "; ".join(map(str, outcome.told_failures))
        reason = failures or outcome.reason or "the run is incomplete"
        super().__init__(reason, remedy=f"Its log is {outcome.log}." if outcome.log else "Run again.")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.outcome,)


def _rebuild(kind: type[HearevalError], what: str, got: str, expected: str, remedy: str) -> HearevalError:
    return kind(what, got=got, expected=expected, remedy=remedy)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> HearevalError:
    """Return the error for an unknown name, with the most similar known names.

    Args:
        kind: what is named, such as "task".
        name: the unknown name.
        known: all names there are.

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


def replaced_error(what: str, found: str, planned: str) -> HearevalError:
    """Return the error for a published folder that has been replaced since the run was planned.

    Args:
        what: the folder.
        found: its fingerprint, or "".
        planned: the fingerprint that the run was planned with.
    """
    return HearevalError(
        what,
        got=f"fingerprint {found or 'unknown'}",
        expected=planned,
        remedy="Another run has replaced it in the meantime: run again.",
    )


# What was expected, and the remedy.
NO_ACCESS = "read and write access", "Check its permissions, or choose another."
NO_ROOM = "room to write", "Free some space, or choose other folders."
EXISTS = "no existing file or folder of that name", "Move it away, or choose another folder."
DAMAGED = "a file written by heareval", "It is damaged: remove it, or its whole folder, and run again."
NO_LOCKS = (
    "a file system with locks (flock)",
    "Mount NFS with version 4 and Lustre with -o flock, or choose other folders.",
)
FILE_ERRORS = {
    **dict.fromkeys((errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS), NO_LOCKS),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), NO_ROOM),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP), EXISTS),
    errno.EBADMSG: DAMAGED,
}


def file_error(error: OSError, folder: str = "") -> HearevalError:
    """Return the error for a problem with a file or folder.

    Args:
        error: the error of the operating system.
        folder: named if `error` does not name a file.

    >>> print(file_error(OSError(errno.ENOSPC, "No space left on device"), "_workdir"))
    _workdir: got No space left on device, expected room to write. Free some space, or choose other folders.
    """
    expected, remedy = FILE_ERRORS.get(error.errno or 0, NO_ACCESS)
    # Of two names, as of a rename, the second is the target.
    name = str(error.filename2 or error.filename or folder or "a file")
    if error.errno in (errno.EACCES, errno.EPERM):
        remedy = _advise_on_owner(Path(name)) or remedy
    return HearevalError(name, got=error.strerror or str(error), expected=expected, remedy=remedy)


def _advise_on_owner(path: Path) -> str:
    """Return the remedy for a file or folder that belongs to another user; "" if it is one's own."""
    try:
        there = next(each for each in (path, *path.absolute().parents) if each.exists())
        if (number := there.stat().st_uid) == os.geteuid():
            return ""
        owner = f"user {number}"
        # In a container, users may have numbers only.
        with contextlib.suppress(KeyError):
            owner = there.owner()
        return (
            f"It belongs to {owner}: ask them to open it to your group (chmod -R g+rwX on all shared "
            "folders) and to work with umask 002."
        )
    except (OSError, StopIteration):
        return ""
