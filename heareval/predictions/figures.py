"""Figures of diagnostics, as PNG and SVG. Equal numbers give equal bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heareval.formats.scores import GridEntry
from heareval.predictions.diagnostics import Timeline
from heareval.predictions.kinds.kind import LabelScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE_COLOR, PREDICTED_COLOR = "tab:blue", "tab:orange"
# Tick labels would overlap beyond this many labels.
MAX_TICK_LABELS = 60
LINE_INCHES = 0.2
# Leave out dates and versions, so that equal figures are equal files.
METADATA: Mapping[str, Mapping[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "heareval",
    "text.parse_math": False,
    "font.size": 8,
    "savefig.dpi": 120,
}


def use_style() -> AbstractContextManager[None]:
    """Return a context in which figures look alike on every machine."""
    from matplotlib import style

    # "default" undoes the user's matplotlibrc.
    return style.context(["default", STYLE])


def new_figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    """Return an empty figure and its axes; it never opens a window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    return figure, figure.subplots()


def save(figure: Figure, path: Path) -> None:
    """Write `path.png` and `path.svg`."""
    for kind, metadata in METADATA.items():
        figure.savefig(path.with_name(f"{path.name}.{kind}"), metadata=dict(metadata))


def plot_labels(path: Path, labels: Sequence[LabelScores], score: str) -> None:
    """Plot a bar for each label, the worst at the top, with the label's support behind its name.

    Args:
        path: path of the files, without suffix.
        score: which of the scores is plotted.
    """
    defined = [label for label in labels if not math.isnan(label.scores[score])]
    defined.sort(key=lambda label: (label.scores[score], label.label))
    figure, axes = new_figure(7, 1.2 + LINE_INCHES * len(defined))
    axes.barh(range(len(defined)), [label.scores[score] for label in defined], color=REFERENCE_COLOR)
    axes.set_yticks(range(len(defined)), [f"{label.label} ({label.support})" for label in defined])
    axes.set_ylim(max(len(defined), 1) - 0.5, -0.5)
    axes.set_xlabel(score)
    save(figure, path)


def plot_confusion(path: Path, counts: NDArray[np.int64], labels: Sequence[str]) -> None:
    """Plot a confusion matrix, with a row for each true label, as shares of the row.

    Args:
        path: path of the files, without suffix.
        counts: `(labels, labels)`.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.5 + min(len(labels), MAX_TICK_LABELS) * LINE_INCHES * 0.8
    figure, axes = new_figure(side + 1, side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(labels) <= MAX_TICK_LABELS:
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(image, label="share of the true label's clips")
    save(figure, path)


def plot_timeline(path: Path, timeline: Timeline) -> None:
    """Plot a lane for each label that occurs, with reference events above and predicted events below.

    Args:
        path: path of the files, without suffix.
    """
    reference, predicted = timeline.events.reference, timeline.events.predicted
    names = sorted({event.label for event in (*reference, *predicted)})
    figure, axes = new_figure(10, 1.4 + 1.5 * LINE_INCHES * max(len(names), 1))
    for events, top, color, name in (
        (reference, -0.4, REFERENCE_COLOR, "true"),
        (predicted, 0.0, PREDICTED_COLOR, "predicted"),
    ):
        lanes = [names.index(event.label) + top for event in events]
        starts_s = [event.start_ms / 1000 for event in events]
        lengths_s = [(event.end_ms - event.start_ms) / 1000 for event in events]
        axes.barh(lanes, lengths_s, height=0.4, left=starts_s, align="edge", color=color, label=name)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds")
    axes.set_title(f"{timeline.split}/{timeline.clip}", loc="left")
    # Place the legend above the plot, where it hides no event.
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    save(figure, path)


def plot_grid(path: Path, grid: Sequence[GridEntry], decided_by: str) -> None:
    """Plot the validation score of every grid point, named by the settings that differ between grid points.

    Args:
        path: path of the files, without suffix.
        decided_by: name of the validation score.
    """
    points = [point for point in grid if point.validation_score is not None]
    scores: list[Any] = [point.validation_score for point in points]
    figure, axes = new_figure(7, 1.2 + 1.5 * LINE_INCHES * len(points))
    axes.plot(scores, range(len(points)), "o", color=REFERENCE_COLOR)
    axes.set_yticks(range(len(points)), name_settings([point.settings for point in points]))
    axes.set_ylim(max(len(points), 1) - 0.5, -0.5)
    axes.set_xlabel(f"{decided_by} on the validation split")
    axes.grid(axis="x")
    save(figure, path)


def name_settings(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each grid point: the settings that differ between grid points.

    >>> name_settings([{"lr": 0.1, "hidden_layers": 1}, {"lr": 0.2, "hidden_layers": 1}])
    ['lr 0.1', 'lr 0.2']
    """
    vary = [name for name in settings[0] if len({str(one[name]) for one in settings}) > 1] if settings else []
    return [", ".join(f"{name} {one[name]}" for name in vary) for one in settings]


def plot_curves(path: Path, grid: Sequence[GridEntry], decided_by: str) -> None:
    """Plot the validation score over epochs, with a line for each grid point.

    Args:
        path: path of the files, without suffix.
        decided_by: name of the validation score.
    """
    figure, axes = new_figure(8, 5)
    for point, name in zip(grid, name_settings([point.settings for point in grid]), strict=True):
        if curve := [(epoch, score) for epoch, score in point.curve if score is not None]:
            axes.plot(*zip(*curve, strict=True), label=name, linewidth=1)
    axes.set_xlabel("epochs")
    axes.set_ylabel(f"{decided_by} on the validation split")
    if len(grid) > 1:
        axes.legend(fontsize=6)
    axes.grid()
    save(figure, path)
