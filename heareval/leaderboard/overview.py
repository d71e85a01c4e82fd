"""Submissions by tasks in one table, as text, CSV, Markdown, LaTeX, JSON or HTML.

The table is that of a board: its columns, ranks and means are those of `standings.py`. Scores are times 100.
"""

from __future__ import annotations

import csv
import html
import io
import json
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from heareval.errors import HearevalError, escape_controls, join_lines, unknown_name
from heareval.formats.card import FLOAT32, Card, CardResult, Cost, ModelFacts
from heareval.formats.domains import SHORT_NAMES
from heareval.formats.exchange import escape_formula
from heareval.formats.scores import Scores, number_to_json
from heareval.leaderboard.board import Board, Cell, Column, MetricValue, Origin, ProtocolTable, Row
from heareval.markdown import escape_markdown, format_markdown_table

# Least width of a terminal, and width of a line of a heading, in characters.
WIDTH, HEADING_WIDTH = 80, 12
MISSING = "-"
_LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class OverviewRequest:
    """What an overview shows.

    Args:
        metric: the metric of every column; "" means the first one of each task.
        protocol: the one protocol that is shown; "" means all, each in a table of its own.
        has_intervals: whether the 95 % intervals are shown.
    """

    metric: str = ""
    protocol: str = ""
    has_intervals: bool = False


@dataclass(frozen=True)
class Overview:
    """Scores of submissions, one table for each protocol, and what there is to say about them.

    Args:
        board: the tables; a row is a submission.
        notes: sentences for the reader.
        has_intervals: whether the 95 % intervals are shown.
    """

    board: Board
    notes: tuple[str, ...]
    has_intervals: bool = False


def make_overview(
    scores: Sequence[Scores],
    find_lower_is_better: Callable[[Scores], tuple[str, ...]],
    request: OverviewRequest,
) -> Overview:
    """Return an overview of some scores.

    Args:
        scores: results of any submissions, tasks and protocols. Of two results of the same submission, task
            and protocol, the later one is shown.
        find_lower_is_better: returns which metrics of a result are better when lower.

    Raises:
        HearevalError: no result has the metric or the protocol.

    Example: `format_overview(make_overview(scores, list_lower_is_better, OverviewRequest()), "md")`
    """
    shown = _choose_scores(scores, request)
    notes = []
    if request.metric and (
        others := len({_name_task(each) for each in scores} - {_name_task(each) for each in shown})
    ):
        notes.append(f"{others} {'task has' if others == 1 else 'tasks have'} no {request.metric}")
    results: dict[str, dict[tuple[str, str], CardResult]] = {}
    for each in shown:
        result = CardResult(
            _name_task(each), each.protocol, "", find_lower_is_better(each), FLOAT32, Cost(), each
        )
        results.setdefault(name_submission(each), {})[result.task_folder, result.protocol] = result
    cards = [
        Card(Path(name), ModelFacts(name, ""), tuple(several.values())) for name, several in results.items()
    ]
    from heareval.leaderboard.build import build_board

    board = build_board({Origin.RECOMPUTED: cards})
    notes += board.refused
    for table in board.tables:
        notes += table.notes
        notes += [
            f"{row.name} has no score of {task}: {reason}"
            for row in table.rows
            for task, reason in row.missing.items()
        ]
        lower = [column.title for column in table.columns if column.is_lower_better]
        notes += [f"lower is better: {', '.join(lower)}"] if lower else []
    unpublished = sorted({_name_task(each) for each in shown if each.is_the_published_corpus is False})
    notes += [f"NOT the published corpus: {', '.join(unpublished)}"] if unpublished else []
    return Overview(board, tuple(dict.fromkeys(notes)), request.has_intervals)


def name_submission(scores: Scores) -> str:
    """Return the name of the submission that a result is about."""
    recorded = str(scores.submission.get("name") or "")
    return recorded or scores.embedding_path.rpartition("/")[0] or "unknown submission"


def _name_task(scores: Scores) -> str:
    return f"{scores.task}-{scores.version}-{scores.mode}"


def _choose_scores(scores: Sequence[Scores], request: OverviewRequest) -> list[Scores]:
    """Return the results that are shown, with the metric that is shown as their first."""
    protocols = sorted({each.protocol for each in scores})
    if request.protocol and request.protocol not in protocols:
        raise unknown_name("protocol", request.protocol, protocols)
    chosen = [each for each in scores if request.protocol in ("", each.protocol)]
    if not request.metric:
        return chosen
    metrics = sorted({metric for each in chosen for metric in each.metrics})
    if request.metric not in metrics:
        raise unknown_name("metric", request.metric, metrics)
    first = request.metric
    return [
        replace(each, scores={first: each.scores[first], **each.scores})
        for each in chosen
        if first in each.scores
    ]


# --------------------------------------------------------------------------- numbers


def find_best(table: ProtocolTable) -> dict[str, float]:
    """Return the best score of each column that several rows have, by the key of the column.

    Columns whose scores can't be compared have none.
    """
    best = {}
    for column in table.columns:
        if column.key in table.incomparable:
            continue
        scores = [row.cells[column.key].score for row in table.rows if column.key in row.cells]
        if len(scores) > 1:
            best[column.key] = min(scores) if column.is_lower_better else max(scores)
    return best


def average_groups(table: ProtocolTable, row: Row) -> dict[str, float | None]:
    """Return the mean of a row over the ranked tasks of each domain, times 100.

    None if a task of the domain is missing, or if lower scores are better on one. Domains without tasks are
    absent.
    """
    means: dict[str, float | None] = {}
    for domain, name in SHORT_NAMES.items():
        columns = [
            column
            for column in table.columns
            if column.domain == domain and column.key in table.ranked_together
        ]
        if columns:
            is_complete = all(each.key in row.cells and not each.is_lower_better for each in columns)
            scores = [row.cells[each.key].score for each in columns] if is_complete else []
            means[name] = 100 * sum(scores) / len(scores) if scores else None
    return means


def _format_value(value: MetricValue, *, has_intervals: bool) -> str:
    text = f"{100 * value.score:.1f}"
    if not has_intervals or value.interval_95 is None:
        return text
    low, high = value.interval_95
    return f"{text} [{100 * low:.1f}, {100 * high:.1f}]"


def _format_mean(mean: float | None) -> str:
    return MISSING if mean is None else f"{mean:.1f}"


@dataclass(frozen=True)
class _Grid:
    """A table as text: headings, and for each row its cells, each with whether it is the best."""

    headings: tuple[str, ...]
    rows: tuple[tuple[tuple[str, bool], ...], ...]


def _has_means(table: ProtocolTable) -> bool:
    """Return whether means are shown: with one task, they would only repeat its score."""
    return len(table.ranked_together) > 1


def _is_ranked(table: ProtocolTable) -> bool:
    return len(table.rows) > 1


def _make_grid(table: ProtocolTable, *, has_intervals: bool) -> _Grid:
    best = find_best(table)
    groups = list(average_groups(table, table.rows[0]))
    has_means, is_ranked = _has_means(table), _is_ranked(table)
    headings = ["submission", *(column.title for column in table.columns)]
    headings += [*(f"mean {name}" for name in groups), "mean"] if has_means else []
    headings += ["rank"] if is_ranked else []
    rows = []
    for row in table.rows:
        standing, means = table.standings[row.key], average_groups(table, row)
        cells = [(join_lines(row.name), False)]
        cells += [
            _make_cell(row.cells.get(column.key), column, best, has_intervals) for column in table.columns
        ]
        if has_means:
            cells += [(_format_mean(means[name]), False) for name in groups]
            cells.append((_format_mean(standing.mean), False))
        if is_ranked:
            cells.append((MISSING if standing.rank is None else str(standing.rank), standing.rank == 1))
        rows.append(tuple(cells))
    return _Grid(tuple(headings), tuple(rows))


def _make_cell(
    cell: Cell | None, column: Column, best: Mapping[str, float], has_intervals: bool
) -> tuple[str, bool]:
    if cell is None:
        return MISSING, False
    value = next(iter(cell.metrics.values()))
    return _format_value(value, has_intervals=has_intervals), value.score == best.get(column.key)


# --------------------------------------------------------------------------- formats


def format_overview(overview: Overview, form: str, *, width: int = WIDTH) -> str:
    """Return an overview in one of FORMS.

    Args:
        width: characters of a line of text; a wider table is cut into blocks of columns, one below the other.

    Raises:
        HearevalError: an unknown format.
    """
    if form not in FORMS:
        raise unknown_name("format", form, FORMS)
    if form == "text":
        return _format_text(overview, width)
    return FORMS[form](overview)


def _say_metrics(table: ProtocolTable) -> str:
    """Return the metrics of a table, each with the tasks that it is the score of."""
    tasks: dict[str, list[str]] = {}
    for column in table.columns:
        tasks.setdefault(column.metric, []).append(column.title)
    if len(tasks) == 1:
        return next(iter(tasks))
    return "; ".join(f"{metric}: {', '.join(titles)}" for metric, titles in tasks.items())


def _describe_covered(table: ProtocolTable) -> str:
    """Return which tasks means and ranks are about; "" if there are none, or one task only."""
    shown = [*(["means"] if _has_means(table) else []), *(["ranks"] if _is_ranked(table) else [])]
    if not shown or len(table.columns) == 1:
        return ""
    covered = [column.title for column in table.columns if column.key in table.ranked_together]
    if len(covered) == len(table.columns):
        tasks = "all tasks"
    else:
        tasks = f"only {', '.join(covered)}" if covered else "no task"
    return f"{' and '.join(shown)} cover {tasks}"


def _describe_table(table: ProtocolTable) -> str:
    covered = _describe_covered(table)
    return f"metrics: {_say_metrics(table)}{f'; {covered}' if covered else ''}"


def _format_text(overview: Overview, width: int = WIDTH) -> str:
    parts = []
    for table in overview.board.tables:
        grid = _make_grid(table, has_intervals=overview.has_intervals)
        has_best = any(is_best for row in grid.rows for _, is_best in row)
        parts.append(f"protocol {table.protocol}, scores x 100{', * is the best' if has_best else ''}")
        parts += [*_stack(grid, width), ""]
        for line in filter(None, (f"metrics: {_say_metrics(table)}", _describe_covered(table))):
            parts += textwrap.wrap(line, width, subsequent_indent="  ")
    for note in overview.notes:
        parts += textwrap.wrap(
            f"note: {join_lines(note)}", width, subsequent_indent="  ", break_on_hyphens=False
        )
    return escape_controls("\n".join(parts))


def _stack(grid: _Grid, width: int) -> Iterator[str]:
    """Yield the lines of a table, in as many blocks of columns as the width needs."""
    headings = [textwrap.wrap(each, HEADING_WIDTH) for each in grid.headings]
    texts = [[f"{text}{'*' if is_best else ' '}" for text, is_best in row] for row in grid.rows]
    widths = [
        max(*(len(line) + 1 for line in heading), *(len(row[place]) for row in texts))
        for place, heading in enumerate(headings)
    ]
    # A long name must leave room for a column of scores.
    named = min(widths[0], max(width // 2, HEADING_WIDTH))
    blocks: list[list[int]] = [[]]
    for place in range(1, len(headings)):
        if blocks[-1] and named + sum(widths[each] + 1 for each in (*blocks[-1], place)) > width:
            blocks.append([])
        blocks[-1].append(place)
    for number, block in enumerate(blocks):
        if number:
            yield ""
        for lines in zip_longest(*(headings[place] for place in (0, *block)), fillvalue=""):
            yield _join_cells(lines, named, [widths[place] for place in block], is_heading=True)
        for row in texts:
            cells = (_shorten_name(row[0].rstrip(), named), *(row[place] for place in block))
            yield _join_cells(cells, named, [widths[place] for place in block])


def _join_cells(cells: Sequence[str], named: int, widths: Sequence[int], *, is_heading: bool = False) -> str:
    gap = " " if is_heading else ""
    numbers = [f"{cell}{gap}".rjust(width) for cell, width in zip(cells[1:], widths, strict=True)]
    return " ".join([cells[0].ljust(named), *numbers]).rstrip()


def _shorten_name(name: str, columns: int) -> str:
    return (
        name if len(name) <= columns else f"{name[: columns // 2 - 2]}...{name[columns // 2 + 1 - columns :]}"
    )


def _format_markdown(overview: Overview) -> str:
    parts = []
    for table in overview.board.tables:
        grid = _make_grid(table, has_intervals=overview.has_intervals)
        body = format_markdown_table(
            [escape_markdown(each) for each in grid.headings],
            [
                [f"**{text}**" if is_best else escape_markdown(text) for text, is_best in row]
                for row in grid.rows
            ],
        )
        caption = f"Protocol {table.protocol}, scores x 100; {_describe_table(table)}."
        parts.append(f"{body}\n\n{escape_markdown(caption)}")
    parts += [escape_markdown(f"Note: {note}.") for note in overview.notes]
    return "\n\n".join(parts)


def _format_latex(overview: Overview) -> str:
    parts = ["% \\usepackage{booktabs}"]
    for table in overview.board.tables:
        grid = _make_grid(table, has_intervals=overview.has_intervals)
        lines = [" & ".join(map(_escape_latex, grid.headings))]
        lines += [
            " & ".join(f"\\textbf{{{text}}}" if is_best else _escape_latex(text) for text, is_best in row)
            for row in grid.rows
        ]
        head, *rows = (f"{line} \\\\" for line in lines)
        caption = f"% protocol {table.protocol}, scores x 100; {_describe_table(table)}"
        columns = "l" + "r" * (len(grid.headings) - 1)
        body = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule", head, "\\midrule", *rows, "\\bottomrule"]
        parts += [join_lines(caption), *body, "\\end{tabular}"]
    parts += [f"% note: {join_lines(note)}" for note in overview.notes]
    return "\n".join(parts)


def _escape_latex(text: str) -> str:
    if text == MISSING:
        return "--"
    return "".join(_LATEX_ESCAPES.get(character, character) for character in join_lines(text))


def _format_html(overview: Overview) -> str:
    parts = []
    for table in overview.board.tables:
        grid = _make_grid(table, has_intervals=overview.has_intervals)
        head = "".join(f"<th>{html.escape(each)}</th>" for each in grid.headings)
        rows = "".join(
            "<tr>"
            + "".join(
                f"<td><b>{html.escape(text)}</b></td>" if is_best else f"<td>{html.escape(text)}</td>"
                for text, is_best in row
            )
            + "</tr>\n"
            for row in grid.rows
        )
        caption = f"protocol {table.protocol}, scores x 100; {_describe_table(table)}"
        parts.append(
            f"<table>\n<caption>{html.escape(caption)}</caption>\n"
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>"
        )
    parts += [f"<p>{html.escape(note)}</p>" for note in overview.notes]
    return escape_controls("\n".join(parts))


def _format_csv(overview: Overview) -> str:
    """Return a line for each submission and protocol; missing numbers are empty."""
    tables = overview.board.tables
    columns = {column.key: column for table in tables for column in table.columns}
    groups = [
        name
        for name in SHORT_NAMES.values()
        if any(name in average_groups(table, table.rows[0]) for table in tables)
    ]
    head = ["protocol", "submission", "rank", "mean", *(f"mean {name}" for name in groups)]
    for key in columns:
        head += [key, *([f"{key} low", f"{key} high"] if overview.has_intervals else [])]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(escape_formula(join_lines(each)) for each in head)
    for table in tables:
        for row in table.rows:
            standing, means = table.standings[row.key], average_groups(table, row)
            numbers = [standing.mean, *(means.get(name) for name in groups)]
            for key in columns:
                value = next(iter(row.cells[key].metrics.values())) if key in row.cells else None
                numbers.append(100 * value.score if value else None)
                if overview.has_intervals:
                    ends = value.interval_95 if value and value.interval_95 else (None, None)
                    numbers += [None if end is None else 100 * end for end in ends]
            named = [escape_formula(join_lines(each)) for each in (table.protocol, row.name)]
            cells = ["" if number is None else f"{number:.4f}" for number in numbers]
            writer.writerow([*named, "" if standing.rank is None else standing.rank, *cells])
    return stream.getvalue()


def _format_json(overview: Overview) -> str:
    """Return every number as it is stored: scores are not times 100, means are."""
    tables = []
    for table in overview.board.tables:
        rows = []
        for row in table.rows:
            standing = table.standings[row.key]
            tasks = {}
            for column in table.columns:
                if column.key in row.cells:
                    value = next(iter(row.cells[column.key].metrics.values()))
                    tasks[column.key] = {"metric": column.metric, **vars(value)}
            rows.append(
                {
                    "submission": row.name,
                    "rank": standing.rank,
                    "mean": standing.mean,
                    "group_means": average_groups(table, row),
                    "tasks": tasks,
                }
            )
        tables.append({"protocol": table.protocol, "ranked_tasks": list(table.ranked_together), "rows": rows})
    return json.dumps(number_to_json({"tables": tables, "notes": list(overview.notes)}), indent=1)


def draw_heat_map(overview: Overview) -> bytes:
    """Return a heat map of an overview with one table, as SVG: scores times 100, coloured within each task.

    Raises:
        HearevalError: it has tables of several protocols, or fewer than two submissions.
    """
    # matplotlib takes a while to import.
    from heareval.leaderboard.figures import draw_figures

    protocols = [table.protocol for table in overview.board.tables]
    if len(protocols) > 1:
        raise HearevalError(
            "heat map",
            got=f"scores of {', '.join(protocols)}",
            expected="one protocol",
            remedy="Choose one with --protocol.",
        )
    figure = next((each for each in draw_figures(overview.board) if each.name.endswith("-heat-map")), None)
    if figure is None:
        raise HearevalError("heat map", got="one submission", expected="two or more to compare")
    return figure.svg


# Name of a format -> the function that returns an overview in it.
FORMS: Mapping[str, Callable[[Overview], str]] = {
    "text": _format_text,
    "csv": _format_csv,
    "md": _format_markdown,
    "latex": _format_latex,
    "json": _format_json,
    "html": _format_html,
}
