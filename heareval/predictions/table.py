"""Scores as a table in plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from heareval.formats.scores import ScoreEntry, Scores
from heareval.layout import display_path
from heareval.terminal import fold

# A task may have hundreds of labels with the same problem.
MAX_PROBLEM_CHARS = 240


def score_table(results: Mapping[Path, Scores], columns: int | None = None) -> str:
    """Return a table with one row for each task and metric, followed by at most one note for each result.

    Chance is the score of predictions that know nothing about the clips; see `chance.py`.

    Args:
        results: the content of some scores files.
        columns: width of the terminal; None if it is none.
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
    folded = [fold(f"note: {note}", columns) for note in dict.fromkeys(notes)]
    return "\n".join([*render_lines(table, columns), *folded])


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
    problems = _order_problems(scores)
    first = "".join(problems[:1])
    is_cut = len(first) > MAX_PROBLEM_CHARS
    told += [f"{first[:MAX_PROBLEM_CHARS]}..." if is_cut else first] if first else []
    if not told:
        return ""
    line = f"{path.parent.parent.name} on {path.parent.name}: {'; '.join(told)}"
    more = len(problems) - 1
    others = "the rest" if is_cut else f"{more} more"
    return f"{line}; {others} under `problems` in {display_path(path)}" if is_cut or more > 0 else line


def _order_problems(scores: Scores) -> list[str]:
    """Return the problems of a result, the most important first.

    Why a score is undefined comes first. That one is infinite comes last, because the table shows that too.
    """
    problems = [_explain_undefined(scores, problem) for problem in scores.problems]
    # `sorted` keeps the order of equally important ones.
    return sorted(problems, key=lambda each: (" is undefined" not in each, " is infinite on " in each))


def _explain_undefined(scores: Scores, problem: str) -> str:
    """Return a problem; a score that is infinite on a split may have no mean over splits for that reason."""
    metric, is_infinite, _ = problem.partition(" is infinite on ")
    score = scores.scores.get(metric)
    # Without a split that is undefined itself, infinity and minus infinity have no mean.
    if not is_infinite or score is None or score.score is not None or None in score.folds.values():
        return problem
    return f"{metric} is undefined, the mean of infinity and minus infinity: {problem}"


def new_table(left: Sequence[str], numbers: Sequence[str], right: Sequence[str]) -> Table:
    """Return a table without frame: columns of text, of numbers, and of text again."""
    table = Table(box=None, pad_edge=False, header_style="")
    for names, justify in ((left, "left"), (numbers, "right"), (right, "left")):
        for name in names:
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
    return table


def render_lines(table: Table, columns: int | None = None) -> list[str]:
    """Return a table as lines of text, none of which is cut.

    Args:
        columns: width of the terminal, for which a table that is wider is stacked; None never stacks it.
    """
    lines = _render(table)
    if columns is None or not table.rows or max(map(len, lines)) <= columns:
        return lines
    return _stack(table, columns)


def _stack(table: Table, columns: int) -> list[str]:
    """Return a table that is too wide for a terminal with some of its columns of text above their rows.

    What is the same in all rows is said once. As many columns of text as fit stay beside the numbers.
    """
    names = [str(column.header) for column in table.columns]
    rows = list(zip(*(map(str, column.cells) for column in table.columns), strict=True))
    numbers = [i for i, column in enumerate(table.columns) if column.justify == "right"]
    left, right = range(numbers[0]), range(numbers[-1] + 1, len(names))
    same = [i for i in (*left, *right) if len({row[i] for row in rows}) == 1]
    # The last column on the left, the metric, says what the numbers are, so it stays longest.
    texts = [i for i in (*left[:-1], *right, left[-1]) if i not in same]
    lines: list[str] = []
    for above in range(len(texts) + 1):
        heads = texts[:above]
        beside = [i for i in range(len(names)) if i in numbers or i in texts[above:]]
        is_number = [i in numbers for i in beside]
        head, body = _align([names[i] for i in beside], [[row[i] for i in beside] for row in rows], is_number)
        indent = "  " if heads else ""
        lines = [f"{names[i]}: {rows[0][i]}" for i in same if rows[0][i]]
        lines += [f"{indent}{line}" for line in head]
        group: list[str] = []
        said: list[str] = []
        for row, line in zip(rows, body, strict=True):
            before, group = group, [row[i] for i in heads if i in left]
            if group != before:
                lines.append("  ".join(filter(None, group)))
                said = []
            # Names of tasks and metrics explain themselves, but other text needs the name of its column.
            labelled = [f"{names[i]}: {row[i]}" for i in heads if i in right and row[i]]
            lines += [f"{indent}{each}" for each in labelled if each not in said]
            said = labelled
            lines.append(f"{indent}{line}")
        if max(map(len, lines)) <= columns:
            break
    return lines


def _align(
    names: Sequence[str], rows: Sequence[Sequence[str]], is_number: Sequence[bool]
) -> tuple[list[str], list[str]]:
    """Return the lines of a header and those of rows; names wider than their cells take several lines."""
    wrapped = []
    for name, cells in zip(names, zip(*rows, strict=True), strict=True):
        width = max(map(len, (*cells, *name.split())))
        wrapped.append((width, textwrap.wrap(name, width)))
    height = max(len(lines) for _, lines in wrapped)
    header = zip(*([""] * (height - len(lines)) + lines for _, lines in wrapped), strict=True)

    def join(cells: Iterable[str]) -> str:
        sized = zip(cells, wrapped, is_number, strict=True)
        return "  ".join(
            cell.rjust(width) if right else cell.ljust(width) for cell, (width, _), right in sized
        ).rstrip()

    return [join(line) for line in header], [join(row) for row in rows]


def _render(table: Table) -> list[str]:
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
