"""`heareval clean`: what no run needs any more, listed or deleted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from heareval import files
from heareval.archives.sizes import readable
from heareval.commands import options
from heareval.commands.console import (
    BUSY_EXIT_CODE,
    FAILED_EXIT_CODE,
    one_line_errors,
    say,
    say_sentence,
    warn,
)
from heareval.commands.grouped import GroupedCommand
from heareval.errors import BusyError
from heareval.layout import Places, display_path
from heareval.workflow.cleaning import LOG_DAYS, Leftover

if TYPE_CHECKING:
    from heareval.api import Cleaned

# How many paths are listed for a reason.
SHOWN_PATHS = 10


@click.command(cls=GroupedCommand, example="heareval clean --delete --older-than 30")
@one_line_errors
@options.places("work", "tasks", "tars", "embeddings")
@click.option("--delete", is_flag=True, help="Delete what is listed. Refused while a run is at work.")
@click.option(
    "--older-than",
    type=click.IntRange(min=0),
    default=LOG_DAYS,
    show_default=True,
    metavar="DAYS",
    help="List logs that nothing was written to for this many days.",
)
@options.quiet
@options.as_json
def clean(places: Places, delete: bool, older_than: int, is_quiet: bool, as_json: bool) -> None:
    """List what no current task or submission needs any more, with sizes, and delete it with --delete.

    A task is current if its folder is published or a run asked for it in the last 30 days, a submission if it
    has embeddings or a run asked for it in that time. Give the same folders as your runs. Task folders,
    tarballs, embeddings, scores and cards are never touched, nor are files that heareval did not make. Exits
    with 75 if a run is at work.
    """
    from heareval import api

    try:
        cleaned = api.clean(places, delete=delete, log_days=older_than)
    except BusyError as error:
        if not is_quiet:
            warn(f"error: {error}")
        sys.exit(BUSY_EXIT_CODE)
    if as_json:
        say(files.dump_json(_list_facts(cleaned)))
    elif cleaned.leftovers or not is_quiet:
        _say_leftovers(cleaned)
    for failure in cleaned.failures:
        warn(f"error: not deleted: {failure}")
    if cleaned.failures:
        sys.exit(FAILED_EXIT_CODE)


def _say_leftovers(cleaned: Cleaned) -> None:
    by_reason: dict[str, list[Leftover]] = {}
    for each in cleaned.leftovers:
        by_reason.setdefault(each.reason, []).append(each)
    for reason, several in by_reason.items():
        several.sort(key=lambda each: -each.bytes)
        say_sentence(f"{reason}: {len(several)}, {readable(sum(each.bytes for each in several))}")
        for each in several[:SHOWN_PATHS]:
            say_sentence(f"  {readable(each.bytes):>8}  {display_path(each.path)}")
        if len(several) > SHOWN_PATHS:
            say_sentence(f"  and {len(several) - SHOWN_PATHS} more, which --json lists")
    say_sentence(_summarize(cleaned))


def _summarize(cleaned: Cleaned) -> str:
    if not cleaned.leftovers:
        return "nothing to delete"
    total = f"total: {len(cleaned.leftovers)}, {readable(cleaned.bytes)}"
    if cleaned.is_deleted:
        return f"{total}, deleted" + (" as far as possible" if cleaned.failures else "")
    if cleaned.is_in_use:
        return f"{total}; a run is at work, so nothing can be deleted now"
    return f"{total}; --delete deletes all of it"


def _list_facts(cleaned: Cleaned) -> dict[str, Any]:
    """Return what was found as JSON values."""
    leftovers = [
        {"path": str(each.path), "bytes": each.bytes, "reason": each.reason} for each in cleaned.leftovers
    ]
    return {
        "leftovers": leftovers,
        "bytes": cleaned.bytes,
        "deleted": cleaned.is_deleted,
        "in_use": cleaned.is_in_use,
        "failures": list(cleaned.failures),
    }
