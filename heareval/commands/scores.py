"""Scores on a terminal, shared by the commands that train predictors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from heareval import layout
from heareval.commands.console import (
    USAGE_EXIT_CODE,
    fail_if_incomplete,
    say,
    say_sentence,
    terminal_columns,
    warn,
)
from heareval.commands.options import Scoring
from heareval.errors import HearevalError
from heareval.formats.scores import Scores
from heareval.layout import Places, display_path

if TYPE_CHECKING:
    from heareval.api import Scored


def say_scores(scored: Scored, places: Places, scoring: Scoring) -> None:
    """Print the table of a run's scores, and write reports on them if a full report was asked for.

    Ends the program with a line for each damaged result, after the table of the others. Nothing is up to
    date then, and nothing was lost.
    """
    # torch, scipy and rich are imported for them.
    from heareval.predictions.stored import read_checked_scores
    from heareval.predictions.table import score_table

    found: dict[Path, Scores] = {}
    damaged = []
    for path in scored.scores:
        try:
            found[path] = read_checked_scores(path)
        except HearevalError as error:
            damaged.append(str(error))
    if found:
        say(score_table(found, terminal_columns()))
    if scoring.full_report:
        for path, scores in found.items():
            _write_report(path.parent, scores.protocol, places)
    if damaged:
        for message in damaged:
            warn(f"error: {message}")
        fail_if_incomplete(scored.outcome)
        sys.exit(USAGE_EXIT_CODE)


def write_missing_reports(scored: Scored, places: Places) -> None:
    """Write the reports that a run's scores lack, and print a line on each."""
    for path in scored.scores:
        for protocol in layout.scored_protocols(path.parent):
            # A report on earlier scores was removed with them.
            if layout.scores(protocol) == path.name and not (path.parent / layout.report(protocol)).is_dir():
                _write_report(path.parent, protocol, places)


def _write_report(folder: Path, protocol: str, places: Places) -> None:
    from heareval import api

    try:
        for written in api.report(folder, places, protocols=(protocol,), notify=warn):
            say_sentence(f"report: {display_path(written)}")
    except (HearevalError, OSError) as error:
        # The other reports, and the run's own summary, must not be lost.
        warn(f"no report on {display_path(folder)}: {error}")
