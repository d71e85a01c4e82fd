"""Scores on a terminal, shared by the commands that train predictors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heareval import api
from heareval.commands.console import say, warn
from heareval.commands.options import Scoring
from heareval.errors import HearevalError
from heareval.layout import Places, display_path


def say_scores(scores: Sequence[Path], places: Places, scoring: Scoring) -> None:
    """Print the table of some scores files, and write reports on them if a full report was asked for."""
    # rich is imported for it.
    from heareval.predictions.table import score_table

    if scores:
        say(score_table(scores))
    for path in scores if scoring.full_report else ():
        try:
            for written in api.report(path.parent, places, protocols=(scoring.protocol.recorded_name,)):
                say(f"report: {display_path(written)}")
        except (HearevalError, OSError) as error:
            # The other reports, and the run's own summary, must not be lost.
            warn(f"no report on {display_path(path.parent)}: {error}")
