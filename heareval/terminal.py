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
# A command in backquotes, or a word; with what is attached to it, and the spaces before it.
_WORDS = re.compile(r"(\s*)([^\s`]*`[^`]*`\S*|\S+)")


def fold(text: str, columns: int | None) -> str:
    """Return text with line breaks between words, so that lines have at most so many columns.

    Words, such as paths, and commands in backquotes stay whole, even if they are longer. Lines that continue
    another are indented further.

    Args:
        columns: width of the terminal; None changes nothing.

    >>> print(fold("error: no such task. Run `heareval tasks list` first.", 30))
    error: no such task. Run
      `heareval tasks list` first.
    """
    return "\n".join(_fold_line(line, columns) for line in text.split("\n"))


def _fold_line(line: str, columns: int | None) -> str:
    if columns is None or len(line) <= columns:
        return line
    indent = line[: len(line) - len(line.lstrip())] + INDENT
    lines = [""]
    for spaces, word in _WORDS.findall(line):
        if not lines[-1] or len(lines[-1]) + len(spaces) + len(word) <= columns:
            lines[-1] += spaces + word
        else:
            lines.append(indent + word)
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
    return fold(escape_controls(text), find_columns(stream))
