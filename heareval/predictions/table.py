"""Scores as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from heareval import files


def score_table(scores_files: Iterable[Path]) -> str:
    """One row for each task and metric; a score over folds comes with its standard deviation.

    Args:
        scores_files: the test.predicted-scores.json of some tasks.
    """
    paths = list(scores_files)
    read = [files.read_json(path) for path in paths]
    of_seeds = any("seed_std" in score for results in read for score in results["scores"].values())
    names = ("score", "95 % interval", "std", *(["std of seeds"] if of_seeds else []), "clips tested")
    table = new_table(("submission", "task", "metric"), names, ("protocol",))
    notes: list[str] = []
    others: list[str] = []
    for path, results in zip(paths, read, strict=True):
        for metric, score in results["scores"].items():
            tested = sum(results["clips"][split] for split in score["folds"])
            numbers = [decimal(score["score"]), between(score.get("interval_95"))]
            numbers.append(decimal(score["std"], missing=""))
            numbers += [decimal(score.get("seed_std"), missing="")] if of_seeds else []
            row = (path.parent.parent.name, path.parent.name, metric, *numbers, str(tested))
            table.add_row(*row, results["protocol"])
        notes += [f"{path.parent.name}: {problem}" for problem in results["problems"]]
        if unusual := results.get("unusual_embedding"):
            ways = ", ".join(f"{name} = {value}" for name, value in unusual.items())
            notes.append(f"{path.parent.parent.name} on {path.parent.name}: embeddings of {ways}")
        others += [path.parent.name] * (results["is_the_published_corpus"] is False)
    if others:
        notes.append(f"NOT the published corpus: {', '.join(dict.fromkeys(others))}")
    return "\n".join([*lines_of(table), *(f"note: {note}" for note in dict.fromkeys(notes))])


def new_table(left: Sequence[str], right: Sequence[str], rest: Sequence[str]) -> Table:
    """A table without frame: columns of text, of numbers, and of text again."""
    table = Table(box=None, pad_edge=False, header_style="")
    for names, justify in ((left, "left"), (right, "right"), (rest, "left")):
        for name in names:
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
    return table


def lines_of(table: Table) -> list[str]:
    """A table as lines; names are never cut to the width of a terminal."""
    console = Console(width=1000, no_color=True)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


def decimal(number: float | None, missing: str = "undefined") -> str:
    """A number with four decimals."""
    return missing if number is None else f"{number:.4f}"


def between(interval: Sequence[float | None] | None) -> str:
    """An interval; "" if there is none, as in results of earlier versions.

    >>> between([0.61, 0.7]), between([2.5, None]), between(None)
    ('0.6100 to 0.7000', '2.5000 to infinity', '')
    """
    if interval is None:
        return ""
    low, high = interval
    return f"{decimal(low, '-infinity')} to {decimal(high, 'infinity')}"
