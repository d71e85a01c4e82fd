"""Tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from heareval.errors import join_lines


def escape_markdown(text: str) -> str:
    r"""Return text in one line that Markdown shows as it is.

    >>> print(escape_markdown("my_model|2"))
    my\_model\|2
    """
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", join_lines(text))


def format_markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, with its first column to the left and the others to the right.

    Args:
        headings: the cells of the first line, in Markdown.
        rows: the cells of the other lines, in Markdown.
    """
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
