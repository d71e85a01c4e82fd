"""Scores as a table in plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from heareval.formats.scores import ScoreEntry, Scores
from heareval.layout import display_path

# A task may have hundreds of labels with the same problem.
MAX_PROBLEM_CHARS = 240


def score_table(results: Mapping[Path, Scores]) -> str:
    """Return a table with one row for each task and metric, followed by at most one note for each result.

    Chance is the score of predictions that know nothing about the clips; see `chance.py`.

    Args:
        results: the content of some scores files.
    """
    has_seeds = any(score.seeds is not None for each in results.values() for score in each.scores.values())
    spread = ["std", "std of seeds"] if has_seeds else ["std"]
    numbers = ("score", "chance", "95 % interval", *spread, "clips tested")
    table = new_table(("submission", "task", "metric"), numbers, ("protocol",))
    for path, scores in results.items():
        for metric, score in scores.scores.items():
            cells = (*_format_score(score, has_seeds=has_seeds), str(scores.tested_clips), scores.protocol)
            table.add_row(path.parent.parent.name, path.parent.name, metric, *cells)
    notes = [note for path, scores in results.items() if (note := _describe(path, scores))]
    others = [path.parent.name for path, scores in results.items() if scores.is_the_published_corpus is False]
    if others:
        notes.append(f"NOT the published corpus: {', '.join(dict.fromkeys(others))}")
    return "\n".join([*render_lines(table), *(f"note: {note}" for note in dict.fromkeys(notes))])


def _format_score(score: ScoreEntry, *, has_seeds: bool) -> list[str]:
    cells = [
        format_number(score.score),
        format_number(score.chance, missing=""),
        format_interval(score.interval_95),
        format_number(score.std, missing=""),
    ]
    return [*cells, format_number(score.seed_std, missing="")] if has_seeds else cells


def _describe(path: Path, scores: Scores) -> str:
    """Return what a reader of a result should know, in one line; the scores file has all of it."""
    told = []
    if scores.unusual_embedding:
        settings = ", ".join(f"{name} = {value}" for name, value in scores.unusual_embedding.items())
        told.append(f"embeddings with {settings}")
    first = "".join(scores.problems[:1])
    is_cut = len(first) > MAX_PROBLEM_CHARS
    told += [f"{first[:MAX_PROBLEM_CHARS]}..." if is_cut else first] if first else []
    if not told:
        return ""
    line = f"{path.parent.parent.name} on {path.parent.name}: {'; '.join(told)}"
    more = len(scores.problems) - 1
    others = "the rest" if is_cut else f"{more} more"
    return f"{line}; {others} under `problems` in {display_path(path)}" if is_cut or more > 0 else line


def new_table(left: Sequence[str], numbers: Sequence[str], right: Sequence[str]) -> Table:
    """Return a table without frame: columns of text, of numbers, and of text again."""
    table = Table(box=None, pad_edge=False, header_style="")
    for names, justify in ((left, "left"), (numbers, "right"), (right, "left")):
        for name in names:
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
    return table


def render_lines(table: Table) -> list[str]:
    """Return a table as lines of text, which are never cut to the width of the terminal."""
    # Names of submissions may have brackets and colons, which are markup and emoji otherwise.
    console = Console(width=1000, no_color=True, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


def format_number(number: float | None, missing: str = "undefined") -> str:
    """Return a number with four decimals.

    >>> format_number(0.5), format_number(None), format_number(float("inf"))
    ('0.5000', 'undefined', 'inf')
    """
    return missing if number is None else f"{number:.4f}"


def format_interval(interval: tuple[float | None, float | None] | None) -> str:
    """Return a confidence interval as text, "" if there is none, as in results of earlier versions.

    >>> format_interval((0.61, 0.7)), format_interval((2.5, None)), format_interval(None)
    ('0.6100 to 0.7000', '2.5000 to infinity', '')
    """
    if interval is None:
        return ""
    low, high = interval
    return f"{format_number(low, '-infinity')} to {format_number(high, 'infinity')}"
