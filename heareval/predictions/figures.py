"""Figures of diagnostics. Equal numbers give equal figures, and one score has one axis for all models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heareval.drawing import BLUE, GREY, ORANGE, Sheet, new_figure, score_limits
from heareval.formats.scores import GridEntry
from heareval.predictions.breakdowns import ErrorPlot, PartPlot, RatingPlot
from heareval.predictions.diagnostics import Timeline
from heareval.predictions.kinds.kind import LabelScores
from heareval.predictions.metrics import find_metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from heareval.drawing import Figure

LINE_INCHES = 0.2
BAR_INCHES = 4.5
# A figure with more bars would be longer than a screen can show.
MAX_BARS = 100
# Names that are left out are listed up to this number.
MAX_LISTED = 5
# Tick labels would overlap beyond this many labels, so only every nth is drawn.
MAX_TICK_LABELS = 60
# Up to this many labels the cells of a confusion matrix have room for their counts.
MAX_COUNTED_LABELS = 12
# Maps of distances: size and number of panels, and points of each.
PANEL_INCHES, ONLY_PANEL_INCHES, PANEL_GAP_INCHES, PANEL_COLUMNS = 1.5, 3.5, 0.45, 5
MAX_PANELS, MAX_POINTS = 25, 2000
COUNT_CELL_INCHES, CELL_INCHES = 0.45, 0.16
# Every cell is at least three pixels wide.
MIN_CELL_INCHES = 3 / 120
# Smaller shares have the colour of this one. White means none, so the palest colour is clearly darker.
MIN_SHARE, PALEST = 0.001, 0.1
# Curves with few points would be hard to see, or invisible, without markers.
MAX_MARKED_POINTS = 40
# Eight colours that people with any kind of colour blindness tell apart, by Okabe and Ito; dashes follow.
LINE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#b0a000")
LINE_STYLES = ("-", "--", ":", "-.")


def plot_labels(sheet: Sheet, labels: Sequence[LabelScores], score: str) -> Figure:
    """Plot a bar with a 95 % interval for each label, the worst at the top, with its support behind its name.

    Args:
        score: which of the scores is plotted.
    """
    names = dict(
        zip((label.label for label in labels), sheet.name([label.label for label in labels]), strict=True)
    )
    defined = [label for label in labels if not math.isnan(label.scores[score])]
    undefined = [names[label.label] for label in labels if math.isnan(label.scores[score])]
    defined.sort(key=lambda label: (label.scores[score], label.label))
    shown = defined[:MAX_BARS]
    values = [label.scores[score] for label in shown]
    figure, axes = new_figure(BAR_INCHES, LINE_INCHES * (len(shown) + 1))
    axes.barh(range(len(shown)), values, color=BLUE, height=0.7)
    for place, label in enumerate(shown):
        axes.text(
            1.01, place, f"{label.scores[score]:.3f}", va="center", transform=axes.get_yaxis_transform()
        )
        if label.interval_95:
            axes.plot(
                label.interval_95, (place, place), color="black", linewidth=0.8, marker="|", clip_on=False
            )
    axes.set_yticks(range(len(shown)), [f"{names[label.label]} ({label.support})" for label in shown])
    axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    ends = [end for label in shown for end in label.interval_95 or ()]
    axes.set_xlim(score_limits(score, [*values, *ends]))
    axes.set_xlabel(score)
    axes.grid(axis="x", alpha=0.4)
    axes.set_axisbelow(True)
    which = f"the {len(shown)} worst of {len(defined)} labels" if len(shown) < len(defined) else "each label"
    caption = f"{score} of {which}, the worst first, with 95 % intervals; in brackets: its clips or events."
    if undefined:
        listed = ", ".join(undefined[:MAX_LISTED])
        more = len(undefined) - MAX_LISTED
        caption += f" Undefined, so left out: {listed}{f' and {more} more' if more > 0 else ''}."
    return sheet.finish(figure, caption)


def plot_parts(sheet: Sheet, plot: PartPlot) -> Figure:
    """Plot a bar for each part of a pairwise task, the worst at the top, with its chance level.

    What the part holds stands in brackets behind its name.
    """
    metric, parts = plot.metric, plot.table.parts
    names = sheet.name([" / ".join(part.names.values()) for part in parts])
    defined = [place for place, part in enumerate(parts) if not math.isnan(part.scores[metric])]
    sign = 1 if find_metric(metric).maximise else -1
    defined.sort(key=lambda place: sign * parts[place].scores[metric])
    shown = defined[:MAX_BARS]
    values = [parts[place].scores[metric] for place in shown]
    figure, axes = new_figure(BAR_INCHES, LINE_INCHES * (len(shown) + 1))
    axes.barh(range(len(shown)), values, color=BLUE, height=0.7)
    for bar, value in enumerate(values):
        axes.text(1.01, bar, f"{value:.3f}", va="center", transform=axes.get_yaxis_transform())
        chance = parts[shown[bar]].chance[metric]
        axes.plot((chance, chance), (bar - 0.45, bar + 0.45), color=ORANGE, linewidth=1.5, clip_on=False)
    ticks = [f"{names[place]} ({next(iter(parts[place].counts.values()))})" for place in shown]
    axes.set_yticks(range(len(shown)), ticks)
    axes.set_ylim(max(len(shown), 1) - 0.5, -0.5)
    axes.set_xlim(score_limits(metric, values))
    axes.set_xlabel(metric)
    axes.grid(axis="x", alpha=0.4)
    axes.set_axisbelow(True)
    which = f"; the {len(shown)} worst of {len(defined)}" if len(shown) < len(defined) else ""
    counted = next(iter(parts[0].counts)).replace("_", " ") if parts else ""
    caption = (
        f"{metric} of {plot.table.about}{which}, the worst first. In brackets: {counted}; orange: chance."
    )
    if len(defined) < len(parts):
        caption += f" Undefined, so left out: {len(parts) - len(defined)}."
    return sheet.finish(figure, caption)


def plot_confusion(sheet: Sheet, counts: NDArray[np.int64], labels: Sequence[str]) -> Figure:
    """Plot a confusion matrix with a row for each true label, as shares of the row on a logarithmic scale.

    Args:
        counts: `(labels, labels)`.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, LogNorm

    support = counts.sum(axis=1)
    shares = counts / np.maximum(support, 1)[:, None]
    size = len(labels)
    is_counted = size <= MAX_COUNTED_LABELS
    cell = COUNT_CELL_INCHES if is_counted else CELL_INCHES
    side = max(min(size, MAX_TICK_LABELS) * cell, size * MIN_CELL_INCHES)
    figure, axes = new_figure(side, side)
    # From yellow to dark violet, which also differ in lightness; zeros are masked and stay white.
    colors = ListedColormap(colormaps["viridis_r"](np.linspace(PALEST, 1, 256)))
    norm = LogNorm(MIN_SHARE, 1, clip=True)
    image = axes.imshow(
        np.ma.masked_equal(shares, 0), cmap=colors, norm=norm, interpolation="nearest", aspect="auto"
    )
    if is_counted:
        _write_counts(axes, counts, shares)
    step = math.ceil(size / MAX_TICK_LABELS)
    ticks, names = range(0, size, step), sheet.name(labels)
    axes.set_xticks(ticks, names[::step], rotation=90)
    axes.set_yticks(
        ticks, [f"{name} ({clips})" for name, clips in zip(names[::step], support[::step], strict=True)]
    )
    axes.set_xlabel("predicted label")
    axes.set_ylabel("true label (clips)")
    bar_height = max(side, 1.5) / side
    bar = figure.add_axes((1 + 0.15 / side, 1 - bar_height, 0.15 / side, bar_height))
    figure.colorbar(image, cax=bar, label="share of the row; white: none")
    bar.set_yticks([0.001, 0.01, 0.1, 1], ["0.1 % or less", "1 %", "10 %", "100 %"])
    bar.minorticks_off()
    correct, total = int(np.trace(counts)), int(counts.sum())
    every = "" if step == 1 else f" One label in {step} is named."
    return sheet.finish(
        figure, f"Confusion matrix: {correct} of {total} clips have the right label, on the diagonal.{every}"
    )


def plot_errors(sheet: Sheet, plot: ErrorPlot) -> Figure:
    """Plot a matrix of error rates from 0 to 1; cells without one stay white."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    is_written = max(plot.errors.shape) <= MAX_COUNTED_LABELS
    cell = COUNT_CELL_INCHES if is_written else CELL_INCHES
    high, wide = (
        max(min(size, MAX_TICK_LABELS) * cell, size * MIN_CELL_INCHES) for size in plot.errors.shape
    )
    figure, axes = new_figure(wide, high)
    image = axes.imshow(
        np.ma.masked_invalid(plot.errors),
        cmap=colormaps["viridis_r"],
        norm=Normalize(0, 1),
        interpolation="nearest",
        aspect="auto",
    )
    for (row, column), error in np.ndenumerate(plot.errors):
        if is_written and not math.isnan(error):
            color = "white" if error > 0.5 else "black"
            axes.text(column, row, f"{error:.2f}", ha="center", va="center", color=color, size=7)
    for axis, names in ((axes.xaxis, plot.columns), (axes.yaxis, plot.rows)):
        step = math.ceil(len(names) / MAX_TICK_LABELS)
        axis.set_ticks(range(0, len(names), step), sheet.name(names)[::step])
    axes.tick_params(axis="x", labelrotation=90)
    axes.set_xlabel(plot.column_title)
    axes.set_ylabel(plot.row_title)
    bar_height = max(high, 1.5) / high
    bar = figure.add_axes((1 + 0.15 / wide, 1 - bar_height, 0.15 / wide, bar_height))
    figure.colorbar(image, cax=bar, label="error; white: none")
    every = " Not every name is shown." if max(plot.errors.shape) > MAX_TICK_LABELS else ""
    return sheet.finish(figure, plot.caption + every)


def plot_ratings(sheet: Sheet, plot: RatingPlot) -> Figure:
    """Plot a map of distances for each set of rated pairs, with a point for each pair."""
    by_score = sorted(plot.sets, key=lambda rated: (math.isnan(rated.score), rated.score))
    worst = {rated.name for rated in by_score[:MAX_PANELS]}
    shown = [rated for rated in plot.sets if rated.name in worst]
    names = sheet.name([rated.name for rated in shown])
    columns = min(len(shown), PANEL_COLUMNS)
    rows = math.ceil(len(shown) / columns)
    side = ONLY_PANEL_INCHES if len(shown) == 1 else PANEL_INCHES
    pitch = side + PANEL_GAP_INCHES
    wide, high = columns * pitch - PANEL_GAP_INCHES, rows * pitch - PANEL_GAP_INCHES
    figure, frame = new_figure(wide, high)
    # The frame around all panels holds what they share.
    frame.set_axis_off()
    frame.text(0.5, -0.35 / high, "rated difference", ha="center", va="top")
    frame.text(-0.35 / wide, 0.5, "distance", rotation=90, ha="right", va="center")
    for number, (rated, name) in enumerate(zip(shown, names, strict=True)):
        row, column = divmod(number, columns)
        left, bottom = column * pitch / wide, (rows - 1 - row) * pitch / high
        axes = figure.add_axes((left, bottom, side / wide, side / high))
        step = math.ceil(len(rated.ratings) / MAX_POINTS)
        axes.plot(rated.ratings[::step], rated.distances[::step], ".", color=BLUE, alpha=0.5, clip_on=False)
        score = "undefined" if math.isnan(rated.score) else f"{rated.score:.3f}"
        axes.set_title(f"{name}\n{plot.metric} {score}".strip(), fontsize=7)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        is_lowest, is_first = number + columns >= len(shown), column == 0
        for set_ticks, is_named in ((axes.set_xticks, is_lowest), (axes.set_yticks, is_first)):
            set_ticks([0, 0.5, 1], ["0", "0.5", "1"] if is_named else ["", "", ""])
        axes.grid(alpha=0.4)
    which = f" of the {len(shown)} worst of {len(plot.sets)} sets" if len(shown) < len(plot.sets) else ""
    caption = f"Rated difference and distance of each pair{which}, as shares of the largest of the set."
    if any(len(rated.ratings) > MAX_POINTS for rated in shown):
        caption += f" Of more than {MAX_POINTS} pairs, some are shown."
    return sheet.finish(figure, caption)


def _write_counts(axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for (row, column), count in np.ndenumerate(counts):
        color = GREY if count == 0 else "white" if shares[row, column] > 0.05 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color, size=7)


def plot_timeline(sheet: Sheet, timeline: Timeline, labels: Sequence[str]) -> Figure:
    """Plot a lane for each label that occurs, with reference events above and predicted events below.

    Args:
        labels: the vocabulary, in whose order the lanes lie.
    """
    reference, predicted = timeline.events.reference, timeline.events.predicted
    occurring = {event.label for event in (*reference, *predicted)}
    names = {
        label: name for label, name in zip(labels, sheet.name(labels), strict=True) if label in occurring
    }
    lanes = {label: number for number, label in enumerate(names)}
    figure, axes = new_figure(8, 1.5 * LINE_INCHES * max(len(lanes), 2))
    for events, top, color, name in (
        (reference, -0.4, BLUE, "true (above)"),
        (predicted, 0.0, ORANGE, "predicted (below)"),
    ):
        axes.barh(
            [lanes[event.label] + top for event in events],
            [(event.end_ms - event.start_ms) / 1000 for event in events],
            height=0.4,
            left=[event.start_ms / 1000 for event in events],
            align="edge",
            # The edge separates events that touch, and shows those that are shorter than a pixel.
            facecolor=(color, 0.6),
            edgecolor=color,
            linewidth=0.8,
            label=name,
        )
    axes.set_yticks(range(len(lanes)), list(names.values()))
    axes.set_ylim(max(len(lanes), 1) - 0.5, -0.5)
    axes.set_xlim(0, max([1, *(math.ceil(event.end_ms / 1000) for event in (*reference, *predicted))]))
    axes.set_xlabel("seconds")
    axes.grid(axis="x", alpha=0.4)
    # Place the legend above the plot, where it hides no event.
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    if not lanes:
        axes.text(0.5, 0.5, "no events", ha="center", va="center", transform=axes.transAxes)
    return sheet.finish(figure, f"Events of {timeline.split}/{timeline.clip}.")


def plot_grid(sheet: Sheet, grid: Sequence[GridEntry], chosen: GridEntry, decided_by: str) -> Figure:
    """Plot the validation score of every grid point, named by the settings that differ between grid points.

    Args:
        chosen: the grid point that was selected, which is marked.
        decided_by: name of the validation score.
    """
    winner = grid.index(chosen) if chosen in grid else None
    figure, axes = new_figure(BAR_INCHES, 1.2 * LINE_INCHES * (len(grid) + 1))
    for place, point in enumerate(grid):
        score = point.validation_score
        marker = {"marker": "*", "color": ORANGE, "markersize": 10} if place == winner else {"marker": "o"}
        if score is not None:
            axes.plot([score], [place], **{"color": BLUE, "clip_on": False, **marker})  # type: ignore[arg-type]
        said = "undefined" if score is None else f"{score:.4f}"
        said += ", chosen" if place == winner else ""
        axes.text(1.02, place, said, va="center", transform=axes.get_yaxis_transform())
    axes.set_yticks(range(len(grid)), _name_points(sheet, grid))
    axes.set_ylim(max(len(grid), 1) - 0.5, -0.5)
    axes.set_xlim(score_limits(decided_by, _defined_scores(grid)))
    axes.set_xlabel(f"{decided_by} on the validation split")
    axes.grid(alpha=0.4)
    axes.set_axisbelow(True)
    return sheet.finish(
        figure, f"Validation {decided_by} of each setting that was tried; the star is chosen."
    )


def _defined_scores(grid: Sequence[GridEntry]) -> list[float]:
    return [point.validation_score for point in grid if point.validation_score is not None]


def _name_points(sheet: Sheet, grid: Sequence[GridEntry]) -> list[str]:
    return [sheet.fonts.write(name) for name in name_settings([point.settings for point in grid])]


def name_settings(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each grid point: the settings that differ between grid points.

    >>> name_settings([{"lr": 0.1, "hidden_layers": 1}, {"lr": 0.2, "hidden_layers": 1}])
    ['lr 0.1', 'lr 0.2']
    >>> name_settings([{"lr": 0.1, "hidden_layers": 1}])
    ['the only setting']
    """
    if len(settings) == 1:
        return ["the only setting"]
    vary = [name for name in settings[0] if len({str(one[name]) for one in settings}) > 1] if settings else []
    return [", ".join(f"{name} {one[name]}" for name in vary) or "the same settings" for one in settings]


def plot_curves(sheet: Sheet, grid: Sequence[GridEntry], chosen: GridEntry, decided_by: str) -> Figure:
    """Plot the validation score over epochs, with a line for each grid point.

    Args:
        chosen: the grid point that was selected, which is marked.
        decided_by: name of the validation score.
    """
    figure, axes = new_figure(6, 4)
    winner = grid.index(chosen) if chosen in grid else None
    scores: list[float] = []
    for number, (point, name) in enumerate(zip(grid, _name_points(sheet, grid), strict=True)):
        curve = [(epoch, score) for epoch, score in point.curve if score is not None]
        scores += [score for _, score in curve]
        is_chosen = number == winner
        axes.plot(
            [epoch for epoch, _ in curve],
            [score for _, score in curve],
            label=name + (", chosen" if is_chosen else "") + ("" if curve else ", undefined"),
            color=LINE_COLORS[number % len(LINE_COLORS)],
            linestyle=LINE_STYLES[number // len(LINE_COLORS) % len(LINE_STYLES)],
            linewidth=2.5 if is_chosen else 1,
            marker="." if len(curve) <= MAX_MARKED_POINTS else "",
        )
        for epoch, score in curve:
            if is_chosen and epoch == point.best_epoch:
                axes.plot([epoch], [score], "*", color="black", markersize=11, clip_on=False)
    axes.set_xlim(left=0)
    axes.set_ylim(score_limits(decided_by, scores))
    axes.set_xlabel("epochs")
    axes.set_ylabel(f"{decided_by} on the validation split")
    # Beside the plot, where it hides no line.
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=7)
    axes.grid(alpha=0.4)
    return sheet.finish(
        figure, f"Validation {decided_by} during training; the star is the best epoch of the chosen setting."
    )
