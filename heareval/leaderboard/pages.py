"""What the pages of the site show: numbers as text, rows in groups, links that may be followed."""

from __future__ import annotations

import datetime
import math
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from heareval.errors import HearevalError
from heareval.leaderboard import standings
from heareval.leaderboard.board import Board, Cell, Column, Origin, ProtocolTable, Row, Standing
from heareval.leaderboard.columns import find_title
from heareval.leaderboard.plots import (
    Histogram,
    Spread,
    Strip,
    draw_histogram,
    draw_strip,
    find_spread,
    is_usable,
)

SHORT_NAME, SHORT_TEXT = 48, 400
# Metrics that are no share of anything, so that times 100 would mislead.
PLAIN_METRICS = ("d_prime",)
# How the groups of rows are called, in the order of the page.
GROUPS = {
    Origin.RECOMPUTED: "Recomputed from the stored predictions",
    Origin.SUBMITTED: "As submitted, not recomputed",
    Origin.PUBLISHED: "Published, not recomputed",
}
# The same in the row of a model.
TAGS = {Origin.RECOMPUTED: "", Origin.SUBMITTED: "as submitted", Origin.PUBLISHED: "published"}
KINDS = {**TAGS, Origin.RECOMPUTED: "recomputed"}
FACT_TITLES = {
    "scene_embedding_size": "Dimensions of scene embeddings",
    "timestamp_embedding_size": "Dimensions of timestamp embeddings",
    "sample_rate": "Sample rate in Hz",
    "code_licence": "Licence of the code",
    "code_url": "URL of the code",
    "weights_licence": "Licence of the weights",
    "has_open_weights": "Open weights",
    "pretraining_data": "Pre-training data",
    "url": "URL",
}
UNSAFE_KEY = re.compile(r"[^A-Za-z0-9._-]|^[.-]")


@dataclass(frozen=True)
class Aggregate:
    """A column that sums up all tasks.

    Args:
        key: name of the attribute of Standing.
        title: the head of the column.
        digits: decimals that are shown.
    """

    key: str
    title: str
    digits: int


AGGREGATES = (
    Aggregate("rank", "Rank", 0),
    Aggregate("mean", "Mean", 1),
    Aggregate("official", "Official", 3),
    Aggregate("borda", "Borda", 1),
    Aggregate("relative", "s(m)", 1),
)
# Title and definition of every number that is computed from the scores, in the order of the page.
DEFINITIONS = {
    **{each.title: standings.DEFINITIONS[each.key] for each in AGGREGATES},
    "Interval of the rank": standings.DEFINITIONS["rank_interval"],
    "Rank on a task": standings.DEFINITIONS["task_ranks"],
}


# --------------------------------------------------------------------------- text


def format_score(score: float | None, metric: str = "") -> str:
    """Return a score as the site shows it: times 100 with one decimal; "" where it is undefined.

    >>> format_score(0.97241), format_score(1.2, "d_prime"), format_score(float("nan"))
    ('97.2', '1.200', '')
    """
    if score is None or math.isnan(score):
        return ""
    if not is_usable(score):
        return f"{score:.2g}"
    return f"{score:.3f}" if metric in PLAIN_METRICS else format_number(100 * score, 1)


def format_number(number: float | None, digits: int) -> str:
    """Return a number with fixed decimals, without a minus sign before 0; "" if there is none.

    >>> format_number(-0.001, 1), format_number(None, 1)
    ('0.0', '')
    """
    if number is None or math.isnan(number):
        return ""
    text = f"{number:.{digits}f}" if is_usable(number / 100) else f"{number:.2g}"
    return text.removeprefix("-") if text.strip("-0.") == "" else text


def format_interval(interval: tuple[float, float] | None, metric: str = "") -> str:
    """Return an interval as the site shows it.

    >>> format_interval((0.5, 0.75))
    '50.0 to 75.0'
    """
    return "" if interval is None else " to ".join(format_score(end, metric) for end in interval)


def shorten(text: str, length: int = SHORT_NAME) -> str:
    """Return a text that is not longer than some characters; what was cut off is shown by an ellipsis.

    >>> shorten("a very long name", 7)
    'a very…'
    """
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[: length - 1].rstrip()}…"


def is_link(text: str) -> bool:
    """Return whether a text of a card is a URL that a reader may follow.

    >>> is_link("https://example.org/a"), is_link("javascript:alert(1)")
    (True, False)
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    # Whitespace and backslashes are read differently by browsers.
    return (
        parts.scheme in ("http", "https") and bool(parts.netloc) and not re.search(r"[\s\\\x00-\x20]", text)
    )


def check_key(key: str) -> str:
    """Return a key that may be the name of a page.

    Raises:
        HearevalError: it would be another path, or an unusual file name.
    """
    if not key or len(key) > 200 or UNSAFE_KEY.search(key):
        raise HearevalError(
            "page of the site",
            got=ascii(key[:60]),
            expected="a name of letters, digits, dots, hyphens and underscores",
            remedy="Rename the model or the task.",
        )
    return key


def format_fact(fact: str | int | float | bool) -> str:
    """Return a fact about a model as text.

    >>> format_fact(True), format_fact(94_371_712)
    ('yes', '94,371,712')
    """
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return fact if isinstance(fact, str) else f"{fact:,}"


# --------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class ShownCell:
    """A cell of the table of all models.

    Args:
        text: what it shows.
        mark: `a` for the best of all rows, `b` for the best of rows of the same origin, "" for others.
    """

    text: str
    mark: str = ""


@dataclass(frozen=True)
class ShownRow:
    """A row of the table of all models.

    Args:
        row: the model.
        name: its name, shortened.
        note: revision or source, shortened.
        tag: short word about its origin; "" if its scores were recomputed.
        is_warned: whether it was trained on evaluation data.
        is_open: whether its weights are open.
        cells: the aggregates, the facts and the tasks.
        values: what is sorted by, and intervals: a cell is `value` or `value,low,high`, with a semicolon
            between cells.
        together: the same of the aggregates among rows of every origin, each cell after its text; "" if all
            rows are of one origin.
    """

    row: Row
    name: str
    note: str
    tag: str
    is_warned: bool
    is_open: bool
    cells: tuple[ShownCell, ...]
    values: str
    together: str


@dataclass(frozen=True)
class Group:
    """Rows of one origin.

    Args:
        title: what is said about them.
        remark: how many tasks their ranks are about; "" if they have no ranks.
        rows: best first.
    """

    title: str
    remark: str
    rows: tuple[ShownRow, ...]


@dataclass(frozen=True)
class ShownTable:
    """The table of one protocol.

    Args:
        number: 1, 2 ..., for ids.
        table: where its content comes from.
        groups: its rows by origin.
        has_several: whether there are several origins, which a reader may want to see together.
    """

    number: int
    table: ProtocolTable
    groups: tuple[Group, ...]

    @property
    def has_several(self) -> bool:
        """Return whether there are rows of several origins."""
        return len(self.groups) > 1

    @property
    def domains(self) -> tuple[str, ...]:
        """Return the domains of the tasks, sorted."""
        return tuple(sorted({column.domain for column in self.table.columns if column.domain}))


def show_table(number: int, table: ProtocolTable) -> ShownTable:
    """Return a table as the page shows it."""
    by_origin = {
        origin: [row for row in table.rows if row.origin is origin]
        for origin in GROUPS
        if any(row.origin is origin for row in table.rows)
    }
    best_of_all = _find_best(table.rows, table.standings_together)
    groups = []
    for origin, rows in by_origin.items():
        best = _find_best(rows, table.standings)
        shown = tuple(_show_row(row, table, best, best_of_all, len(by_origin) > 1) for row in rows)
        groups.append(Group(GROUPS[origin], _describe_ranked(table, origin), shown))
    return ShownTable(number, table, tuple(groups))


def _describe_ranked(table: ProtocolTable, origin: Origin) -> str:
    ranked, tasks = len(table.ranked.get(origin.value, ())), len(table.columns)
    if not ranked:
        return ""
    count = f"{ranked} of {tasks}" if ranked < tasks else f"{ranked}"
    return f"ranked over {count} {'task' if tasks == 1 else 'tasks'}"


def _find_best(rows: Sequence[Row], by_row: Mapping[str, Standing]) -> dict[str, float]:
    """Return the best rank of each task among some rows."""
    best: dict[str, float] = {}
    for row in rows:
        for task, rank in by_row[row.key].task_ranks.items():
            best[task] = min(rank, best.get(task, rank))
    return best


def _show_row(
    row: Row,
    table: ProtocolTable,
    best: Mapping[str, float],
    best_of_all: Mapping[str, float],
    has_several: bool,
) -> ShownRow:
    own, together = table.standings[row.key], table.standings_together[row.key]

    def mark(task: str) -> str:
        if task not in own.task_ranks or own.task_ranks[task] != best[task]:
            return ""
        return "a" if together.task_ranks.get(task) == best_of_all[task] else "b"

    cells = [ShownCell(format_number(_read(own, each), each.digits)) for each in AGGREGATES]
    values = _list_aggregates(own)
    parameters, date = read_parameters(row), read_release_date(row)
    cells += [ShownCell("" if parameters is None else format_number(parameters / 1e6, 1)), ShownCell(date)]
    values += ["" if parameters is None else str(parameters), date]
    for column in table.columns:
        cell = row.cells.get(column.key)
        cells.append(
            ShownCell(format_score(cell.score, column.metric), mark(column.key)) if cell else ShownCell("")
        )
        values.append(_list_value(cell, column) if cell else "")
    return ShownRow(
        row,
        shorten(row.name),
        shorten(row.source or row.revision, 24),
        TAGS[row.origin],
        row.facts.get("trained_on_evaluation_data") == "yes",
        row.facts.get("has_open_weights") is True,
        tuple(cells),
        ";".join(values),
        ";".join(_list_texts(together)) if has_several else "",
    )


def _read(standing: Standing, aggregate: Aggregate) -> float | None:
    number: float | None = getattr(standing, aggregate.key)
    return number


def _list_texts(standing: Standing) -> list[str]:
    texts = [format_number(_read(standing, each), each.digits) for each in AGGREGATES]
    return [",".join(pair) for pair in zip(texts, _list_aggregates(standing), strict=True)]


def _list_aggregates(standing: Standing) -> list[str]:
    texts = []
    for each in AGGREGATES:
        number = _read(standing, each)
        ends = standing.rank_interval if each.key == "rank" and number is not None else None
        texts.append(",".join(f"{end:.10g}" for end in (number, *(ends or ())) if end is not None))
    return texts


def _list_value(cell: Cell, column: Column) -> str:
    value = next(iter(cell.metrics.values()))
    if math.isnan(value.score):
        return ""
    scale = 1 if column.metric in PLAIN_METRICS else 100
    ends = value.interval_95
    shown = "" if ends is None else "," + ",".join(format_score(end, column.metric) for end in ends)
    # Digits that the page does not show: equal texts may stand for different scores.
    return f"{scale * value.score:.7g}{shown}"


def read_parameters(row: Row) -> int | None:
    """Return the number of parameters of a model; None if it is unknown or no such number."""
    number = row.facts.get("parameters")
    is_number = isinstance(number, int) and not isinstance(number, bool)
    return int(number) if is_number and 0 <= int(number) < 10**15 else None  # type: ignore[arg-type]


def read_release_date(row: Row) -> str:
    """Return the release date of a model, YYYY-MM-DD; "" if it is unknown or no such date."""
    text = str(row.facts.get("release_date", ""))
    try:
        return datetime.date.fromisoformat(text).isoformat() if len(text) == 10 else ""
    except ValueError:
        return ""


# --------------------------------------------------------------------------- the page of a model


@dataclass(frozen=True)
class ModelResult:
    """One metric of a model on one task, as text.

    Args:
        column: the task.
        metric: name of the metric, shortened.
        is_first: whether it is the first metric of its task, the one that counts.
        metrics: number of metrics of the task.
        score: the score.
        numbers: its interval, chance level and standard deviation over seeds.
        counts: the numbers of tested clips and of seeds.
        cell: the whole result.
        strip: where the score lies among those of all models; None for further metrics.
        rank: rank on the task, among rows of the same origin; "" for further metrics.
    """

    column: Column
    metric: str
    is_first: bool
    metrics: int
    score: str
    numbers: tuple[str, str, str]
    counts: tuple[str, str]
    cell: Cell
    strip: Strip | None
    rank: str


@dataclass(frozen=True)
class ModelTable:
    """What a model reached in one protocol.

    Args:
        table: the protocol's table.
        row: the model in it.
        results: by task and metric.
        missing: the titles of tasks without a result, and the reason that they share.
        cost_s: sum of the known costs; None if none is known.
        has_joules: whether the energy of a task is known.
        standings: what the model is ranked among, and how it stands there.
    """

    table: ProtocolTable
    row: Row
    results: tuple[ModelResult, ...]
    missing: tuple[tuple[tuple[str, ...], str], ...]
    cost_s: float | None
    has_joules: bool
    standings: tuple[tuple[str, Standing], ...]


@dataclass(frozen=True)
class Fact:
    """A fact about a model, as text.

    Args:
        title: its name for readers.
        text: the fact.
        is_link: whether it is a URL that a reader may follow.
    """

    title: str
    text: str
    is_link: bool


@dataclass(frozen=True)
class ModelPage:
    """The page of a model.

    Args:
        row: the model.
        tables: its results, by protocol.
        facts: what is known about it.
    """

    row: Row
    tables: tuple[ModelTable, ...]
    facts: tuple[Fact, ...]


def list_model_pages(board: Board) -> Iterator[ModelPage]:
    """Yield the page of every model; a model may be in the tables of several protocols."""
    spreads = {
        (table.protocol, column.key): find_spread(list_cells(table, column))
        for table in board.tables
        for column in table.columns
    }
    rows: dict[str, list[tuple[ProtocolTable, Row]]] = {}
    for table in board.tables:
        for row in table.rows:
            rows.setdefault(check_key(row.key), []).append((table, row))
    for places in rows.values():
        tables = tuple(_show_model_table(table, row, spreads) for table, row in places)
        facts = {name: fact for _, row in places for name, fact in row.facts.items()}
        yield ModelPage(places[0][1], tables, tuple(_show_fact(*fact) for fact in facts.items()))


def list_cells(table: ProtocolTable, column: Column) -> list[Cell]:
    """Return all results on a task."""
    return [row.cells[column.key] for row in table.rows if column.key in row.cells]


def _show_model_table(
    table: ProtocolTable, row: Row, spreads: Mapping[tuple[str, str], Spread | None]
) -> ModelTable:
    results = []
    for column in table.columns:
        cell = row.cells.get(column.key)
        if cell is None:
            continue
        rank = table.standings[row.key].task_ranks.get(column.key)
        for place, (metric, value) in enumerate(cell.metrics.items()):
            strip = draw_strip(value, spreads[table.protocol, column.key]) if place == 0 else None
            results.append(
                ModelResult(
                    column=column,
                    metric=shorten(metric),
                    is_first=place == 0,
                    metrics=len(cell.metrics),
                    score=format_score(value.score, metric),
                    numbers=(
                        format_interval(value.interval_95, metric),
                        format_score(value.chance, metric),
                        format_score(value.seed_std, metric),
                    ),
                    counts=(f"{cell.clips:,}" if cell.clips else "", str(cell.seeds or "")),
                    cell=cell,
                    strip=strip,
                    rank=f"{rank:g}" if rank is not None and place == 0 else "",
                )
            )
    titles = {column.key: column.title for column in table.columns if column.key not in row.cells}
    # A reason for a task that was never published is named like the task, its column like the task's folder.
    reasons = {key: key if key in row.missing else key.partition("-")[0] for key in titles}
    titles |= {key: find_title(key) for key in row.missing if key not in reasons.values()}
    missing: dict[str, list[str]] = {}
    for key, title in titles.items():
        missing.setdefault(row.missing.get(reasons.get(key, key), ""), []).append(title)
    costs = [cell.cost_s for cell in row.cells.values() if cell.cost_s is not None]
    return ModelTable(
        table,
        row,
        tuple(results),
        tuple((tuple(several), reason) for reason, several in missing.items()),
        sum(costs) if costs else None,
        any(cell.joules is not None for cell in row.cells.values()),
        tuple(_list_standings(table, row)),
    )


def _list_standings(table: ProtocolTable, row: Row) -> Iterator[tuple[str, Standing]]:
    """Yield the standing among rows of the same origin and, if there are others, among all rows."""
    own, every = sum(other.origin is row.origin for other in table.rows), len(table.rows)
    yield f"{own} {'row' if own == 1 else 'rows'} {KINDS[row.origin]}", table.standings[row.key]
    if own < every:
        yield f"all {every} rows", table.standings_together[row.key]


def _show_fact(name: str, fact: str | int | float | bool) -> Fact:
    text = format_fact(fact)
    title = FACT_TITLES.get(name, name.replace("_", " ").capitalize())
    return Fact(title, text, is_link(text))


# --------------------------------------------------------------------------- the page of a task


@dataclass(frozen=True)
class RankedRow:
    """A model on the page of a task.

    Args:
        row: the model.
        name: its name, shortened.
        note: revision or source, shortened.
        rank: its rank among rows of the same origin.
        numbers: its score, interval and standard deviation over seeds.
        strip: where they lie.
    """

    row: Row
    name: str
    note: str
    rank: str
    numbers: tuple[str, str, str]
    strip: Strip


@dataclass(frozen=True)
class RankedGroup:
    """The models of one origin on the page of a task, best first."""

    title: str
    rows: tuple[RankedRow, ...]


@dataclass(frozen=True)
class TaskTable:
    """The results on a task in one protocol.

    Args:
        table: the protocol's table.
        column: the task in it.
        groups: rows by origin, best first.
        chance: chance level; None if it is unknown or differs between results.
        histogram: distribution of the scores; None without any.
        summary: the same in a sentence.
    """

    table: ProtocolTable
    column: Column
    groups: tuple[RankedGroup, ...]
    chance: float | None
    histogram: Histogram | None
    summary: str


@dataclass(frozen=True)
class TaskPage:
    """The page of a task.

    Args:
        column: the task, as the first of its tables has it.
        tables: its results, by protocol.
    """

    column: Column
    tables: tuple[TaskTable, ...]


def list_task_pages(board: Board) -> Iterator[TaskPage]:
    """Yield the page of every task; a task may be in the tables of several protocols."""
    columns: dict[str, list[tuple[ProtocolTable, Column]]] = {}
    for table in board.tables:
        for column in table.columns:
            columns.setdefault(check_key(column.key), []).append((table, column))
    for places in columns.values():
        yield TaskPage(places[0][1], tuple(_show_task_table(table, column) for table, column in places))


def _show_task_table(table: ProtocolTable, column: Column) -> TaskTable:
    cells = list_cells(table, column)
    spread = find_spread(cells)
    groups = []
    for origin, title in GROUPS.items():
        rows = [row for row in table.rows if row.origin is origin and column.key in row.cells]
        # Scores that are undefined have no rank.
        ranks = {row.key: table.standings[row.key].task_ranks.get(column.key, math.inf) for row in rows}
        rows.sort(key=lambda row: ranks[row.key])
        if rows:
            shown = tuple(_show_ranked(row, ranks[row.key], column, spread) for row in rows)
            groups.append(RankedGroup(title, shown))
    scores = [cell.score for cell in cells]
    chance = _find_chance(cells)
    return TaskTable(
        table,
        column,
        tuple(groups),
        chance,
        draw_histogram(scores, chance),
        _describe(scores, chance, column),
    )


def _show_ranked(row: Row, rank: float, column: Column, spread: Spread | None) -> RankedRow:
    value = next(iter(row.cells[column.key].metrics.values()))
    shown_rank = f"{rank:g}" if math.isfinite(rank) else ""
    note = shorten(row.source or row.revision, 24)
    numbers = (
        format_score(value.score, column.metric),
        format_interval(value.interval_95, column.metric),
        format_score(value.seed_std, column.metric),
    )
    return RankedRow(row, shorten(row.name), note, shown_rank, numbers, draw_strip(value, spread))


def _find_chance(cells: Iterable[Cell]) -> float | None:
    """Return the chance level if all results that have one agree."""
    levels = {next(iter(cell.metrics.values())).chance for cell in cells} - {None}
    texts = {format_score(level) for level in levels}
    return next(iter(levels)) if len(texts) == 1 else None


def _describe(scores: Sequence[float], chance: float | None, column: Column) -> str:
    usable = list(filter(is_usable, scores))
    if not usable:
        return "No model has a score."
    numbers = {"lowest": min(usable), "median": statistics.median(usable), "highest": max(usable)}
    text = ", ".join(f"{word} {format_score(number, column.metric)}" for word, number in numbers.items())
    known = f"; chance {format_score(chance, column.metric)}" if chance is not None else ""
    return f"{len(usable)} {'model' if len(usable) == 1 else 'models'}: {text}{known}."
