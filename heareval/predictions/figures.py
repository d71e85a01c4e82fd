"""Diagnostics as figures, PNG and SVG; the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heareval.predictions.diagnostics import LabelScores, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH, SAID = "tab:blue", "tab:orange"
# More labels than this are not written beside a matrix, where they would cover each other.
NAMED_LABELS = 60
LINE_INCHES = 0.2
# No date, no version: what is drawn from the same numbers is the same file.
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


def style() -> AbstractContextManager[None]:
    """While it is entered, figures are drawn alike on every machine."""
    from matplotlib import style as styles

    # The first sets back what a matplotlibrc of the user changes.
    return styles.context(["default", STYLE])


def new_figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    """An empty figure and its axes; no window is opened for it, now or later."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    return figure, figure.subplots()


def save(figure: Figure, path: Path) -> None:
    """Write `path.png` and `path.svg`."""
    for kind, metadata in METADATA.items():
        figure.savefig(path.with_name(f"{path.name}.{kind}"), metadata=dict(metadata))


def draw_labels(path: Path, labels: Sequence[LabelScores], score: str) -> None:
    """A bar for each label, the worst at the top, its support behind its name."""
    defined = sorted((each for each in labels if each.scores[score] == each.scores[score]), key=_by(score))
    figure, axes = new_figure(7, 1.2 + LINE_INCHES * len(defined))
    axes.barh(range(len(defined)), [each.scores[score] for each in defined], color=TRUTH)
    axes.set_yticks(range(len(defined)), [f"{each.label} ({each.support})" for each in defined])
    axes.set_ylim(max(len(defined), 1) - 0.5, -0.5)
    axes.set_xlabel(score)
    save(figure, path)


def _by(score: str) -> Any:
    return lambda each: (each.scores[score], each.label)


def draw_confusion(path: Path, counts: NDArray[np.int64], labels: Sequence[str]) -> None:
    """Each label's clips by what they were taken for, as shares of a row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.5 + min(len(labels), NAMED_LABELS) * LINE_INCHES * 0.8
    figure, axes = new_figure(side + 1, side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(labels) <= NAMED_LABELS:
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(image, label="share of the true label's clips")
    save(figure, path)


def draw_timeline(path: Path, timeline: Timeline) -> None:
    """A lane for each label that sounds or was said to: above what is true, below what was predicted."""
    names = sorted({each.label for each in (*timeline.truth, *timeline.said)})
    figure, axes = new_figure(10, 1.4 + 1.5 * LINE_INCHES * max(len(names), 1))
    for events, top, color, name in (
        (timeline.truth, -0.4, TRUTH, "true"),
        (timeline.said, 0.0, SAID, "predicted"),
    ):
        lanes = [names.index(each.label) + top for each in events]
        starts, lengths = [each.start_ms / 1000 for each in events], [_seconds(each) for each in events]
        axes.barh(lanes, lengths, height=0.4, left=starts, align="edge", color=color, label=name)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds")
    axes.set_title(f"{timeline.split}/{timeline.clip}", loc="left")
    # Above the events, which it would hide.
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    save(figure, path)


def _seconds(event: Any) -> float:
    return float(event.end_ms - event.start_ms) / 1000


def draw_grid(path: Path, grid: Sequence[Mapping[str, Any]], decided_by: str) -> None:
    """The validation score of every grid point, named by the settings in which they differ."""
    points = [point for point in grid if point["validation_score"] is not None]
    figure, axes = new_figure(7, 1.2 + 1.5 * LINE_INCHES * len(points))
    axes.plot([point["validation_score"] for point in points], range(len(points)), "o", color=TRUTH)
    axes.set_yticks(range(len(points)), names_of_points(points))
    axes.set_ylim(max(len(points), 1) - 0.5, -0.5)
    axes.set_xlabel(f"{decided_by} on the validation split")
    axes.grid(axis="x")
    save(figure, path)


def names_of_points(grid: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings of each grid point in which it differs from others, as text.

    >>> names_of_points([{"settings": {"lr": 0.1, "layers": 1}}, {"settings": {"lr": 0.2, "layers": 1}}])
    ['lr 0.1', 'lr 0.2']
    """
    settings = [point["settings"] for point in grid]
    vary = [name for name in settings[0] if len({str(one[name]) for one in settings}) > 1] if settings else []
    return [", ".join(f"{name} {one[name]}" for name in vary) for one in settings]


def draw_curves(path: Path, grid: Sequence[Mapping[str, Any]], decided_by: str) -> None:
    """The validation score over epochs, a line for each grid point that recorded it."""
    figure, axes = new_figure(8, 5)
    for point, name in zip(grid, names_of_points(grid), strict=True):
        if curve := [(epoch, score) for epoch, score in point.get("curve") or () if score is not None]:
            axes.plot(*zip(*curve, strict=True), label=name, linewidth=1)
    axes.set_xlabel("epochs")
    axes.set_ylabel(f"{decided_by} on the validation split")
    if len(grid) > 1:
        axes.legend(fontsize=6)
    axes.grid()
    save(figure, path)
