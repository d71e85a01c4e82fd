"""Where the shapes of the site's small plots lie, in units of their SVG; the templates draw them."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from heareval.leaderboard.board import Cell, MetricValue

# Scores beyond this, times 100 or not, are no scores; a plot leaves them out.
LARGEST_SCORE = 1e6
STRIP_WIDTH = 160
HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT = 640, 140
BINS = 20


@dataclass(frozen=True)
class Axis:
    """A linear scale.

    Args:
        low: the score at the left end.
        high: the score at the right end; higher than `low`.
        width: length of the axis.
    """

    low: float
    high: float
    width: float

    def place(self, score: float) -> float:
        """Return where a score lies; a score beyond an end lies at the end.

        >>> Axis(0, 1, 160).place(0.25)
        40.0
        """
        share = (score - self.low) / (self.high - self.low)
        return round(self.width * min(max(share, 0.0), 1.0), 1)


def make_axis(scores: Iterable[float], width: float) -> Axis:
    """Return an axis from 0 to 1 or, if some scores are beyond, one that has room for all of them.

    >>> make_axis([0.2, 0.9], 10), make_axis([-0.5, 2.0], 10)
    (Axis(low=0.0, high=1.0, width=10), Axis(low=-0.5, high=2.0, width=10))
    """
    usable = list(filter(is_usable, scores))
    return Axis(min([0.0, *usable]), max([1.0, *usable]), width)


def is_usable(score: float) -> bool:
    """Return whether a score is a finite number of a usual size."""
    return math.isfinite(score) and abs(score) <= LARGEST_SCORE


@dataclass(frozen=True)
class Strip:
    """One model on one task, among the scores of the others: horizontal positions.

    Args:
        score: of the model's score; None if it cannot be drawn.
        interval: of the ends of its interval.
        others: of the lowest and the highest score of all models.
        chance: of the chance level.
    """

    score: float | None
    interval: tuple[float, float] | None
    others: tuple[float, float] | None
    chance: float | None


@dataclass(frozen=True)
class Spread:
    """The lowest and the highest score on a task."""

    low: float
    high: float

    @functools.cached_property
    def axis(self) -> Axis:
        """Return the axis of the strips of all models."""
        return make_axis((self.low, self.high), STRIP_WIDTH)


def find_spread(cells: Iterable[Cell]) -> Spread | None:
    """Return the lowest and the highest score among results; None if none can be drawn."""
    scores = [cell.score for cell in cells if is_usable(cell.score)]
    return Spread(min(scores), max(scores)) if scores else None


def draw_strip(value: MetricValue, spread: Spread | None) -> Strip:
    """Return the plot of one score among those of all models on the task.

    >>> draw_strip(MetricValue(0.5, (0.25, 0.75)), Spread(0.0, 1.0))
    Strip(score=80.0, interval=(40.0, 120.0), others=(0.0, 160.0), chance=None)
    """
    axis = spread.axis if spread else make_axis((), STRIP_WIDTH)

    def place(score: float | None) -> float | None:
        return axis.place(score) if score is not None and is_usable(score) else None

    low, high = map(place, value.interval_95 or (None, None))
    return Strip(
        place(value.score),
        (low, high) if low is not None and high is not None else None,
        (axis.place(spread.low), axis.place(spread.high)) if spread else None,
        place(value.chance),
    )


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram: its rectangle and how many models it stands for."""

    x: float
    y: float
    width: float
    height: float
    count: int


@dataclass(frozen=True)
class Histogram:
    """The distribution of the scores on a task.

    Args:
        bars: those that are not empty.
        chance: horizontal position of the chance level; None if it is unknown.
        low: the score at the left end.
        high: the score at the right end.
        most: number of models of the highest bar.
    """

    bars: tuple[Bar, ...]
    chance: float | None
    low: float
    high: float
    most: int


def draw_histogram(scores: Sequence[float], chance: float | None) -> Histogram | None:
    """Return the histogram of scores; None if there are none that can be drawn.

    >>> [(bar.x, bar.count) for bar in draw_histogram([0.01, 0.02, 0.99], None).bars]
    [(0, 2), (608, 1)]
    """
    usable = list(filter(is_usable, scores))
    if not usable:
        return None
    axis = make_axis(usable, BINS)
    counts = [0] * BINS
    for score in usable:
        counts[min(int(axis.place(score)), BINS - 1)] += 1
    width = HISTOGRAM_WIDTH // BINS
    heights = [round(HISTOGRAM_HEIGHT * count / max(counts), 1) for count in counts]
    bars = tuple(
        Bar(width * place, round(HISTOGRAM_HEIGHT - height, 1), width - 2, height, count)
        for place, (count, height) in enumerate(zip(counts, heights, strict=True))
        if count
    )
    place_chance = round(width * axis.place(chance), 1) if chance is not None and is_usable(chance) else None
    return Histogram(bars, place_chance, axis.low, axis.high, max(counts))
