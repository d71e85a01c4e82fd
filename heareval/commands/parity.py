"""`heareval parity`: our scores beside published ones."""

from __future__ import annotations

import click

from heareval import files
from heareval.commands import options
from heareval.commands.console import one_line_errors, say, say_sentence, terminal_columns
from heareval.commands.grouped import GroupedCommand
from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.leaderboard.parity import Parity, Verdict, name_row, parity_to_json
from heareval.leaderboard.published import read_published


@click.command(cls=GroupedCommand, example="heareval parity my_crepe --row CREPE")
@one_line_errors
@click.argument("submission", required=False)
@click.option(
    "--row", default="", metavar="NAME", help="Published row, such as CREPE or 'HEAR-Naive (GRAM 2026)'."
)
@click.option("--rows", "lists_rows", is_flag=True, help="List the published rows, and do nothing else.")
@options.places("embeddings")
@options.as_json
def parity(submission: str | None, row: str, lists_rows: bool, places: Places, as_json: bool) -> None:
    """Compare the scores of SUBMISSION with a row that was published.

    SUBMISSION is a name in the embeddings folder, or a path. A difference is within noise if it is no larger
    than the tolerance, which combines half the width of our 95 % interval with twice the standard deviation
    over seeds. Nothing is trained.
    """
    if lists_rows:
        for each in read_published():
            say(f"{name_row(each)}: {len(each.cells)} tasks")
        return
    if not submission or not row:
        raise HearevalError(
            "heareval parity",
            got="no SUBMISSION" if not submission else "no --row",
            expected="`heareval parity SUBMISSION --row NAME`",
            remedy="`heareval parity --rows` lists the published rows.",
        )
    from heareval import api

    found = api.parity(submission, row, places)
    if as_json:
        say(files.dump_json(parity_to_json(found)))
    else:
        # The table is as wide as the terminal already.
        say_sentence(_format_parity(found))


def _format_parity(parity: Parity) -> str:
    """Return a comparison as text: a row for each task and protocol, then notes."""
    from heareval.predictions.table import format_interval, format_number, new_table, render_lines

    numbers = ("ours", "published", "difference", "95 % interval", "std of seeds", "tolerance")
    table = new_table(("task", "metric"), numbers, ("verdict", "protocol"))
    for each in parity.tasks:
        table.add_row(
            each.task,
            each.metric,
            format_number(each.ours),
            format_number(each.published),
            "" if each.difference is None else f"{each.difference:+.4f}",
            format_interval(each.interval_95),
            format_number(each.seed_std, missing="unknown"),
            format_number(each.tolerance, missing=""),
            each.verdict.value,
            each.protocol,
        )
    lines = [
        f"ours: {parity.submission}",
        f"published: {name_row(parity.row)}",
        *render_lines(table, terminal_columns()),
    ]
    reasons: dict[str, list[str]] = {}
    for each in parity.tasks:
        if each.reason:
            reasons.setdefault(each.reason, []).append(f"{each.task} ({each.protocol})")
    lines += [f"note: {', '.join(tasks)}: {reason}" for reason, tasks in reasons.items()]
    if parity.only_ours:
        lines.append(f"note: scored here, but not published: {', '.join(parity.only_ours)}")
    if parity.only_published:
        lines.append(f"note: published, but not scored here: {', '.join(parity.only_published)}")
    compared = {each.task for each in parity.tasks if each.verdict is not Verdict.NOT_COMPARABLE}
    for text, tasks in parity.known_differences.items():
        where = "" if set(tasks) == compared else f" ({', '.join(tasks)})"
        lines.append(f"known to differ{where}: {text}")
    return "\n".join(lines)
