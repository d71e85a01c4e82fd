"""What runs have changed, as lines: for `status --since`, and for commands with --quiet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from heareval.commands.console import say_sentence, warn
from heareval.layout import Places

if TYPE_CHECKING:
    from heareval.api import Changes
    from heareval.workflow.run_records import Output


def list_change_lines(changes: Changes) -> Iterator[str]:
    """Yield a line on each output that has changed, and say what is different about it."""
    for each in changes.changes:
        details = "; ".join(each.details)
        yield f"{each.change:<7}  {_name_output(each.output)}{f': {details}' if details else ''}"


def _name_output(output: Output) -> str:
    if output.kind == "scores":
        return f"{output.submission} ({output.protocol}) on {output.task_folder}"
    if output.kind == "embeddings":
        return f"embeddings {output.submission} on {output.task_folder}"
    rate = f" at {output.sample_rate} Hz" if output.sample_rate else ""
    return f"{output.kind} {output.task_folder}{rate}"


def say_own_changes(places: Places) -> Changes:
    """Print a line on each output that this process has changed, and return them; nothing without any."""
    from heareval import api

    changes = api.own_changes(places)
    for line in list_change_lines(changes):
        say_sentence(line)
    for note in changes.notes:
        warn(f"note: {note}")
    return changes
