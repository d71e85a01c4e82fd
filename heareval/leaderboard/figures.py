"""Figures of a board: a heat map, correlations of tasks and of models, score against cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heareval.drawing import Sheet, find_fonts, new_figure, render_svg, use_web_style
from heareval.leaderboard.board import Board, ProtocolTable, Row
from heareval.leaderboard.slugs import make_slug
from heareval.leaderboard.standings import orient_scores, rank_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from heareval.drawing import Figure

# More would be too small to read; the best are shown.
MAX_ROWS, MAX_COLUMNS, MAX_CORRELATED = 60, 40, 40
# Names of more points would cover each other.
MAX_NAMED_POINTS = 30
# A correlation of fewer pairs says nothing.
MIN_PAIRS = 5
CELL_WIDTH_INCHES, CELL_HEIGHT_INCHES, SQUARE_INCHES = 0.36, 0.19, 0.34
# Standardised scores beyond it have the colour of it.
MAX_Z = 2.0
# Not white, which is a score at the mean, and no correlation.
MISSING_COLOR = "#d9d9d9"
# Marks of devices, with colours that people with any kind of colour blindness tell apart, by Okabe and Ito.
DEVICE_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
DEVICE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#b0a000")


@dataclass(frozen=True)
class BoardFigure:
    """A figure.

    Args:
        name: name of its file without suffix.
        title: what it shows, in a few words.
        description: what it shows, for readers who cannot see it.
        svg: the image.
    """

    name: str
    title: str
    description: str
    svg: bytes


def draw_figures(board: Board) -> Iterator[BoardFigure]:
    """Yield the figures of each table: those that its rows suffice for.

    A heat map needs a score and two models, correlations need two tasks or models with five scores in common
    and five models, and score against cost needs two models with a mean score and known costs. Equal boards
    give equal figures.
    """
    for table in board.tables:
        rows, columns = table.rows, table.columns
        fonts = find_fonts([*(row.name for row in rows), *(column.title for column in columns), board.title])
        sheet = Sheet((board.title, f"Protocol {table.protocol}"), fonts)
        drawers = {
            "heat-map": ("Scores of models on tasks", _describe_heat_map(table), plot_heat_map),
            "task-correlations": (
                "Correlations of tasks",
                "Spearman's correlation of the scores of each two tasks over the models that have both.",
                plot_task_correlations,
            ),
            "model-correlations": (
                "Correlations of models",
                "Spearman's correlation of the scores of each two models over the tasks that both have.",
                plot_model_correlations,
            ),
            "cost": (
                "Mean score against cost",
                "The mean score of each model over the seconds that its embeddings and predictors took.",
                plot_cost,
            ),
        }
        for name, (title, description, plot) in drawers.items():
            with use_web_style(fonts):
                figure = plot(sheet, table)
                if figure is not None:
                    yield BoardFigure(
                        f"{make_slug(table.protocol)}-{name}",
                        f"{title}, protocol {table.protocol}",
                        description,
                        render_svg(figure),
                    )


def _describe_heat_map(table: ProtocolTable) -> str:
    return (
        f"A table of {len(table.rows)} models and {len(table.columns)} tasks, coloured by how much better or "
        "worse than the other models each is. The table of the board has the same numbers."
    )


# --------------------------------------------------------------------------- heat map


def plot_heat_map(sheet: Sheet, table: ProtocolTable) -> Figure | None:
    """Plot a cell for each model and task: the score times 100, coloured by the standardised score."""
    rows, columns = table.rows[:MAX_ROWS], table.columns[:MAX_COLUMNS]
    if len(rows) < 2 or not columns:
        return None
    scores = orient_scores(table.rows, columns)
    z_scores = standardise(scores)[: len(rows)]
    width, height = CELL_WIDTH_INCHES * len(columns), CELL_HEIGHT_INCHES * len(rows)
    figure, axes = new_figure(width, height)
    image = _show(axes, z_scores, MAX_Z)
    for row, column in np.argwhere(~np.isnan(z_scores)):
        score = 100 * rows[row].cells[columns[column].key].score
        text = f"{score:.1f}" if abs(score) < 1000 else f"{score:.0e}"
        _write(axes, column, row, text, abs(z_scores[row, column]) / MAX_Z)
    names = sheet.name(_name_rows(rows))
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.set_xticks(
        range(len(columns)), sheet.name([each.title for each in columns]), rotation=90, fontsize=7
    )
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    _add_bar(figure, image, width, "standard deviations", height)
    shown = f"{len(rows)} of {len(table.rows)} models" if len(rows) < len(table.rows) else "all models"
    caption = (
        f"Scores times 100 of {shown}, coloured by the distance from the mean of the task in standard "
        "deviations over models; blue is better. Grey: no score."
    )
    if len(columns) < len(table.columns):
        caption += f" The first {len(columns)} of {len(table.columns)} tasks."
    return sheet.finish(figure, caption)


def standardise(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores `(models, tasks)` minus the mean of the task, by its standard deviation; NaN stays.

    A task on which all models are equal is 0.

    >>> standardise(np.array([[0.5, 1.0], [0.7, 1.0], [np.nan, 1.0]])).round(6).tolist()
    [[-1.0, 0.0], [1.0, 0.0], [nan, 0.0]]
    """
    result = np.full(scores.shape, np.nan)
    for place, column in enumerate(scores.T):
        known = ~np.isnan(column)
        if known.any():
            centred = column[known] - column[known].mean()
            deviation = 0.0 if np.ptp(column[known]) == 0 else centred.std()
            result[known, place] = centred / deviation if deviation else 0.0
    return result


def _name_rows(rows: Sequence[Row]) -> list[str]:
    """Return the names of models; several of one name have their revision or source as well."""
    times = Counter(row.name for row in rows)
    return [
        row.name if times[row.name] == 1 else f"{row.name} ({row.revision or row.source})" for row in rows
    ]


def _show(axes: Axes, values: NDArray[np.float64], limit: float) -> Any:
    from matplotlib import colormaps

    colors = colormaps["RdBu"].with_extremes(bad=MISSING_COLOR)
    return axes.imshow(
        np.ma.masked_invalid(values),
        cmap=colors,
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
        aspect="auto",
    )


def _write(axes: Axes, x: float, y: float, text: str, darkness: float, size: float = 6) -> None:
    color = "white" if darkness > 0.7 else "black"
    # Cells lie inside the axes, so they need not be measured for the layout.
    axes.text(x, y, text, ha="center", va="center", color=color, fontsize=size, in_layout=False)


def _add_bar(figure: Figure, image: Any, width: float, label: str, height: float) -> None:
    """Add a colour bar to the right of axes that fill the figure."""
    bar_height = min(height, 3.0) / height
    bar = figure.add_axes((1 + 0.15 / width, 1 - bar_height, 0.12 / width, bar_height))
    figure.colorbar(image, cax=bar)
    bar.set_ylabel(label, fontsize=6)
    bar.tick_params(labelsize=6)


# --------------------------------------------------------------------------- correlations


def plot_task_correlations(sheet: Sheet, table: ProtocolTable) -> Figure | None:
    """Plot Spearman's correlation of each two tasks over models."""
    columns = table.columns[:MAX_CORRELATED]
    names = sheet.name([column.title for column in columns])
    caption = "Spearman's correlation of each two tasks over the models that have both scores"
    return _plot_correlations(sheet, orient_scores(table.rows, columns), names, caption, "models")


def plot_model_correlations(sheet: Sheet, table: ProtocolTable) -> Figure | None:
    """Plot Spearman's correlation of each two models over tasks, of scores standardised over models.

    Without that, all models would correlate, because some tasks are harder than others for each of them. The
    standardised scores of a few models are anticorrelated whatever these are, those of two always by -1.
    """
    if len(table.rows) < MIN_PAIRS:
        return None
    rows = table.rows[:MAX_CORRELATED]
    scores = standardise(orient_scores(table.rows, table.columns))[: len(rows)]
    caption = (
        "Spearman's correlation of each two models over the tasks that both have, of standardised scores"
    )
    if len(rows) < len(table.rows):
        caption += f", of {len(rows)} of {len(table.rows)} models"
    return _plot_correlations(sheet, scores.T, sheet.name(_name_rows(rows)), caption, "tasks")


def _plot_correlations(
    sheet: Sheet, values: NDArray[np.float64], names: Sequence[str], caption: str, of_what: str
) -> Figure | None:
    """Plot correlations of the columns of an array: the numbers above the diagonal, the pairs below it."""
    rho, pairs = correlate(values)
    off_diagonal = ~np.eye(len(names), dtype=bool)
    if np.isnan(rho[off_diagonal]).all():
        return None
    side = SQUARE_INCHES * len(names)
    figure, axes = new_figure(side, side)
    image = _show(axes, np.where(off_diagonal, rho, np.nan), 1.0)
    for row, column in np.argwhere(off_diagonal):
        known = not math.isnan(rho[row, column])
        # Adding 0 makes -0.00 positive.
        text = f"{round(rho[row, column], 2) + 0:.2f}" if row < column and known else ""
        text = f"{pairs[row, column]}" if row > column else text
        _write(axes, column, row, text, abs(rho[row, column]) if known else 0, size=5.5)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    _add_bar(figure, image, side, "Spearman's correlation", side)
    return sheet.finish(
        figure,
        f"{caption}. Above the diagonal: the correlation; below it: the number of {of_what}. Grey: fewer "
        f"than {MIN_PAIRS}, or equal scores.",
    )


def correlate(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return Spearman's correlation of each two columns over the rows that have both, and their number.

    The correlation is NaN with fewer than five rows, or if a column's values are equal in them.

    Args:
        values: `(rows, columns)`, NaN where missing.

    Returns:
        Both `(columns, columns)`.
    """
    known = ~np.isnan(values)
    pairs = known.T.astype(np.int64) @ known
    rho = np.full(pairs.shape, np.nan)
    for first, second in zip(*np.triu_indices(len(pairs)), strict=True):
        both = known[:, first] & known[:, second]
        if pairs[first, second] < MIN_PAIRS:
            continue
        ranks = rank_scores(values[both][:, [first, second]])
        centred = ranks - ranks.mean(axis=0)
        norms = np.sqrt((centred**2).sum(axis=0))
        if norms.all():
            rho[first, second] = rho[second, first] = (centred[:, 0] @ centred[:, 1]) / norms.prod()
    return rho, pairs


# --------------------------------------------------------------------------- cost


@dataclass(frozen=True)
class _Point:
    name: str
    seconds: float
    mean: float
    device: str


def plot_cost(sheet: Sheet, table: ProtocolTable) -> Figure | None:
    """Plot the mean score of models over the seconds that all ranked tasks took, a mark for each device."""
    points = list(_list_points(table))
    if len(points) < 2:
        return None
    devices = sorted({point.device for point in points})
    figure, axes = new_figure(6.5, 4)
    for number, device in enumerate(devices):
        mine = [point for point in points if point.device == device]
        axes.scatter(
            [point.seconds for point in mine],
            [point.mean for point in mine],
            marker=DEVICE_MARKS[number % len(DEVICE_MARKS)],
            color=DEVICE_COLORS[number % len(DEVICE_COLORS)],
            label=sheet.name([device or "unknown device"])[0],
            s=22,
        )
    for point, name in zip(points, sheet.name([point.name for point in points]), strict=True):
        if len(points) <= MAX_NAMED_POINTS or _is_on_front(point, points):
            axes.annotate(
                name, (point.seconds, point.mean), xytext=(4, 3), textcoords="offset points", fontsize=6
            )
    _use_log_seconds(axes)
    axes.set_xlabel("seconds of embedding and prediction on all ranked tasks")
    axes.set_ylabel("mean score times 100")
    axes.grid(alpha=0.4)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=7)
    caption = "Mean score of each model with a known cost. Seconds on different devices are not comparable."
    if len(points) > MAX_NAMED_POINTS:
        caption += " Named are the models that no cheaper one equals."
    return sheet.finish(figure, caption)


def _is_on_front(point: _Point, points: Sequence[_Point]) -> bool:
    return not any(
        other.mean >= point.mean and other.seconds <= point.seconds for other in points if other is not point
    )


def _use_log_seconds(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    # The usual labels are formulas, which names of models must never become.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _list_points(table: ProtocolTable) -> Iterator[_Point]:
    for row, name in zip(table.rows, _name_rows(table.rows), strict=True):
        mean = table.standings[row.key].mean
        cells = [row.cells[key] for key in table.ranked.get(row.origin.value, ()) if key in row.cells]
        costs = [cell.cost_s for cell in cells]
        devices = sorted({cell.device for cell in cells})
        if mean is not None and costs and None not in costs:
            seconds = sum(cost for cost in costs if cost is not None)
            if seconds > 0:
                yield _Point(name, seconds, mean, ", ".join(devices))
