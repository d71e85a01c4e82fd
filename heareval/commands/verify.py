"""`heareval verify`: whether everything is still what heareval wrote."""

from __future__ import annotations

import sys

import click

from heareval import api
from heareval.commands import options
from heareval.commands.console import FAILED_EXIT_CODE, one_line_errors, say
from heareval.layout import Places, display_path

# How many changed files of a folder are listed.
SHOWN_CHANGES = 10


@click.command()
@one_line_errors
@options.places("tasks", "tars", "embeddings")
def verify(places: Places) -> None:
    """Read task folders, tarballs and embeddings again, and compare them with the recorded digests.

    Exits with 1 if another program has changed or removed a file. Runs compare only sizes and times, and read
    a file again if these differ.
    """
    is_changed = False
    for each in api.verify(places):
        path = display_path(each.path)
        is_changed |= bool(each.changes)
        noun = "file" if each.files == 1 else "files"
        state = (
            f"{len(each.changes)} of {each.files} {noun} changed"
            if each.changes
            else f"{each.files} {noun} ok"
        )
        say(f"{path}: {state if each.files else 'no digests were recorded'}")
        for change in each.changes[:SHOWN_CHANGES]:
            say(f"  {change}")
        if len(each.changes) > SHOWN_CHANGES:
            say(f"  and {len(each.changes) - SHOWN_CHANGES} more")
    if is_changed:
        sys.exit(FAILED_EXIT_CODE)
