"""`heareval compare`: whether one submission is better than another."""

from __future__ import annotations

import click

from heareval import files
from heareval.commands import options
from heareval.commands.console import one_line_errors, say, terminal_columns
from heareval.commands.grouped import GroupedCommand
from heareval.layout import Places


@click.command(cls=GroupedCommand, example="heareval compare my_model heareval.embeddings.baseline")
@one_line_errors
@click.argument("a")
@click.argument("b")
@click.argument("others", nargs=-1, metavar="[C...]")
@options.places("embeddings")
@options.as_json
def compare(a: str, b: str, others: tuple[str, ...], places: Places, as_json: bool) -> None:
    """Compare submissions A and B on the tasks that both were evaluated on.

    Of three or more, each is compared with each: a matrix for each task shows the differences of its first
    metric and p, corrected for the number of comparisons by Holm's method.

    A, B and C are names in the embeddings folder, or paths. Nothing is trained: the evaluation keeps what was
    predicted for each clip.
    """
    if others:
        _compare_each((a, b, *others), places, as_json=as_json)
        return
    # scikit-learn and scipy take seconds to import.
    from heareval import api
    from heareval.predictions.compare import comparison_table, comparison_to_json

    found = api.compare(a, b, places)
    say(
        files.dump_json(comparison_to_json(found)) if as_json else comparison_table(found, terminal_columns())
    )


def _compare_each(names: tuple[str, ...], places: Places, *, as_json: bool) -> None:
    from heareval import api
    from heareval.predictions.multiple_comparisons import format_multiple, multiple_to_json

    found = api.compare_each(names, places)
    say(files.dump_json(multiple_to_json(found)) if as_json else format_multiple(found, terminal_columns()))
