"""`heareval validate`: a submission checked before a run."""

from __future__ import annotations

import sys

import click

from heareval.commands import options
from heareval.commands.console import (
    FAILED_EXIT_CODE,
    INTERRUPTED_EXIT_CODE,
    one_line_errors,
    say,
    say_sentence,
    warn,
)
from heareval.commands.gather import Seconds, gather
from heareval.commands.grouped import GroupedCommand
from heareval.embeddings.submission_config import SubmissionArgs
from heareval.embeddings.validate import (
    Finding,
    Limits,
    format_advice,
    format_header,
    format_json,
    format_row,
    has_passed,
)
from heareval.layout import Places, display_path


def _build_limits(long_seconds: float, check_timeout: float) -> Limits:
    return Limits(long_s=long_seconds, check_s=check_timeout)


@click.command(cls=GroupedCommand, example="heareval validate my_model --model weights.pt")
@one_line_errors
@options.submission
@gather(
    "limits",
    _build_limits,
    click.option(
        "--long-seconds",
        type=Seconds(min=10),
        default=Limits.long_s,
        show_default=True,
        help="Length of the longest audio to try, in seconds.",
    ),
    click.option(
        "--check-timeout",
        type=Seconds(min=1),
        default=Limits.check_s,
        show_default=True,
        help="Seconds after which a check has failed.",
    ),
)
@options.places("work")
@options.as_json
def validate(submissions: SubmissionArgs, limits: Limits, places: Places, as_json: bool) -> None:
    """Check a model with the HEAR API for faults that would make a run fail or lower its scores.

    The model is an importable MODULE, or a FILE: Python (my_model.py), or TOML that describes it; options
    override the TOML file. hf:NAME and hf:FOLDER are published models.
    Exits with 0 if no check failed (there may be warnings), and with 1 if one did.
    """

    from heareval import api

    has_header = False

    def on_finding(finding: Finding) -> None:
        nonlocal has_header
        # They follow in one row when all are known.
        if as_json or finding.is_skipped:
            return
        if not has_header:
            say(format_header())
            has_header = True
        say_sentence(format_row(finding))

    try:
        checked = api.validate(submissions, places, limits=limits, on_finding=on_finding)
    except KeyboardInterrupt:
        # Unlike other commands, it begins anew.
        warn("stopped")
        sys.exit(INTERRUPTED_EXIT_CODE)
    found = checked.findings
    if as_json:
        say(format_json(checked.module, found, dict(checked.ran_on)))
    else:
        for line in format_advice(found):
            say_sentence(line)
    if not has_passed(found):
        warn(f"log: {display_path(checked.log_folder)}")
        sys.exit(FAILED_EXIT_CODE)
