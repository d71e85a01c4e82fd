"""`heareval verify`: whether everything is still what heareval wrote."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from heareval.commands import options
from heareval.commands.console import FAILED_EXIT_CODE, one_line_errors, say_sentence
from heareval.commands.grouped import GroupedCommand
from heareval.layout import Places, display_path

if TYPE_CHECKING:
    from heareval.formats.verify import Verified

# How many changed files of a folder are listed.
SHOWN_CHANGES = 10


@click.command(cls=GroupedCommand, example="heareval verify --tasks-dir tasks")
@one_line_errors
@options.places("tasks", "tars", "embeddings")
def verify(places: Places) -> None:
    """Read task folders, tarballs and embeddings again, and compare them with the recorded digests.

    Exits with 1 if another program has changed or removed a file. Runs compare only sizes and times, and read
    a file again if these differ.
    """
    from heareval import api

    is_changed = False
    for each in api.verify(places):
        say_sentence(f"{display_path(each.path)}: {_describe(each)}")
        is_changed |= bool(each.changes)
        for change in each.changes[:SHOWN_CHANGES]:
            say_sentence(f"  {change}")
        if len(each.changes) > SHOWN_CHANGES:
            say_sentence(f"  and {len(each.changes) - SHOWN_CHANGES} more")
    if is_changed:
        sys.exit(FAILED_EXIT_CODE)


def _describe(verified: Verified) -> str:
    noun = "file" if verified.files == 1 else "files"
    if verified.changes:
        return f"{len(verified.changes)} of {verified.files} {noun} changed"
    if not verified.files:
        return "no digests were recorded: heareval 0.1 made it, or it was unpacked from a tarball"
    return f"{verified.files} {noun} ok"
