"""Lines for people: as wide as the terminal, and unable to control it."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TextIO

from heareval.errors import escape_controls

# The width of a terminal that does not tell it.
USUAL_COLUMNS = 80
INDENT = "  "
# A command in backquotes, or a word; with what is attached to it.
_WORDS = re.compile(r"[^\s`]*`[^`]*`\S*|\S+")


def fold(text: str, columns: int) -> str:
    """Return text with line breaks between words, so that lines have at most so many columns.

    Words, such as paths, and commands in backquotes stay whole, even if they are longer. Lines that continue
    another are indented.

    >>> print(fold("error: no such task. Run `heareval tasks list` first.", 30))
    error: no such task. Run
      `heareval tasks list` first.
    """
    return "\n".join(_fold_line(line, columns) for line in text.split("\n"))


def _fold_line(line: str, columns: int) -> str:
    if len(line) <= columns:
        return line
    lines = [line[: len(line) - len(line.lstrip())]]
    for word in _WORDS.findall(line):
        if not lines[-1].strip():
            lines[-1] += word
        elif len(lines[-1]) + 1 + len(word) <= columns:
            lines[-1] += f" {word}"
        else:
            lines.append(INDENT + word)
    return "\n".join(lines)


def find_columns(stream: TextIO) -> int | None:
    """Return the width of the terminal that a stream is; None if it is a file or a pipe."""
    if not stream.isatty():
        return None
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    return USUAL_COLUMNS


def prepare_line(text: str, stream: TextIO) -> str:
    """Return text as it is written to a stream: folded on a terminal, which it cannot control."""
    columns = find_columns(stream)
    text = escape_controls(text)
    return text if columns is None else fold(text, columns)
