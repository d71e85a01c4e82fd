"""Scores on a terminal, shared by the commands that train predictors."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from heareval import api
from heareval.api import Scored
from heareval.commands.console import USAGE_EXIT_CODE, fail_if_incomplete, say, warn
from heareval.commands.options import Scoring
from heareval.errors import HearevalError
from heareval.formats.results_folder import read_scores
from heareval.formats.scores import Scores
from heareval.layout import Places, display_path, report


def say_scores(scored: Scored, places: Places, scoring: Scoring, *, is_quiet: bool = False) -> None:
    """Print the table of a run's scores, and write reports on them if a full report was asked for.

    Ends the program with a line for each damaged result, after the table of the others. Nothing is up to
    date then, and nothing was lost.

    Args:
        is_quiet: whether to print no table and to write only the reports that are missing. Scores are then
            compared with each other, but not with the predictions, which takes seconds for each task.
    """
    found: dict[Path, Scores] = {}
    damaged = []
    read = read_scores if is_quiet else _read_checked_scores
    for path in scored.scores:
        try:
            found[path] = read(path)
        except HearevalError as error:
            damaged.append(str(error))
    if found and not is_quiet:
        say(_make_table(found))
    if scoring.full_report:
        _write_reports(found, places, only_missing=is_quiet)
    if damaged:
        for message in damaged:
            warn(f"error: {message}")
        fail_if_incomplete(scored.outcome)
        sys.exit(USAGE_EXIT_CODE)


def _read_checked_scores(path: Path) -> Scores:
    # torch and scipy are imported for it.
    from heareval.predictions.stored import read_checked_scores

    return read_checked_scores(path)


def _make_table(found: Mapping[Path, Scores]) -> str:
    # rich is imported for it.
    from heareval.predictions.table import score_table

    return score_table(found)


def _write_reports(found: Mapping[Path, Scores], places: Places, *, only_missing: bool) -> None:
    for path, scores in found.items():
        # A report on earlier scores was removed with them.
        if only_missing and (path.parent / report(scores.protocol)).is_dir():
            continue
        try:
            for written in api.report(path.parent, places, protocols=(scores.protocol,), notify=warn):
                say(f"report: {display_path(written)}")
        except (HearevalError, OSError) as error:
            # The other reports, and the run's own summary, must not be lost.
            warn(f"no report on {display_path(path.parent)}: {error}")
