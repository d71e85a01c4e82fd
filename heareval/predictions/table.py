"""Scores as a table for people."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from heareval import files


def score_table(scores_files: Iterable[Path]) -> str:
    """One row for each task and metric; a score over folds comes with its standard deviation.

    Args:
        scores_files: the test.predicted-scores.json of some tasks.
    """
    table = Table(box=None, pad_edge=False, header_style="")
    for name in ("submission", "task", "metric"):
        table.add_column(name)
    for name in ("score", "std", "clips tested"):
        table.add_column(name, justify="right")
    table.add_column("protocol")
    notes: list[str] = []
    others: list[str] = []
    for path in scores_files:
        results = files.read_json(path)
        for metric, score in results["scores"].items():
            tested = sum(results["clips"][split] for split in score["folds"])
            numbers = (_decimal(score["score"]), _decimal(score["std"], missing=""), str(tested))
            table.add_row(path.parent.parent.name, path.parent.name, metric, *numbers, results["protocol"])
        notes += [f"{path.parent.name}: {problem}" for problem in results["problems"]]
        if unusual := results.get("unusual_embedding"):
            ways = ", ".join(f"{name} = {value}" for name, value in unusual.items())
            notes.append(f"{path.parent.parent.name} on {path.parent.name}: embeddings of {ways}")
        others += [path.parent.name] * (results["is_the_published_corpus"] is False)
    if others:
        notes.append(f"NOT the published corpus: {', '.join(dict.fromkeys(others))}")
    # Names are never cut to the width of a terminal.
    console = Console(width=1000, no_color=True)
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join([*lines, *(f"note: {note}" for note in dict.fromkeys(notes))])


def _decimal(number: float | None, missing: str = "undefined") -> str:
    return missing if number is None else f"{number:.4f}"
