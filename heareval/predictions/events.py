"""Postprocessing: from probabilities of frames to events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval.errors import HearevalError, unknown_name
from heareval.predictions.metrics.event import EventTable

THRESHOLD = 0.5
DEFAULT_GRID: Mapping[str, Sequence[float]] = {"median_filter_ms": (250,), "min_duration": (125, 250)}


@dataclass(frozen=True, order=True)
class Postprocessing:
    """How frames become events. If two reach the same score, the larger one is chosen.

    Args:
        median_filter_ms: length of the median filter along time.
        min_duration_ms: shorter events are dropped.
    """

    median_filter_ms: float
    min_duration_ms: float


@dataclass(frozen=True)
class ScoredPostprocessing:
    """A postprocessing with the score that it reached."""

    score: float
    postprocessing: Postprocessing


def expand_postprocessing_grid(grid: Mapping[str, Sequence[float]]) -> tuple[Postprocessing, ...]:
    """Return all combinations of the values of `event_postprocessing_grid`, from the smallest to the largest.

    Args:
        grid: the task's changes of the default grid.

    Raises:
        HearevalError: the grid names an unknown setting.

    >>> len(expand_postprocessing_grid({}))
    2
    """
    for name in grid:
        if name not in DEFAULT_GRID:
            raise unknown_name("setting in event_postprocessing_grid", name, DEFAULT_GRID)
    values = {**DEFAULT_GRID, **grid}
    return tuple(
        sorted(
            Postprocessing(median_filter_ms, min_duration_ms)
            for median_filter_ms in values["median_filter_ms"]
            for min_duration_ms in values["min_duration"]
        )
    )


def find_events(
    probabilities: NDArray[np.floating[Any]],
    timestamps_ms: NDArray[np.float64],
    postprocessing: Postprocessing,
) -> EventTable:
    """Return the events that the frames of clips contain.

    Args:
        probabilities: `(clips, timestamps, labels)` in time order.
        timestamps_ms: `(clips, timestamps)` milliseconds.

    Raises:
        HearevalError: the shapes differ.

    >>> frames = np.array([[[0.1], [0.9], [0.9], [0.2]]])
    >>> find_events(frames, np.array([[0.0, 50.0, 100.0, 150.0]]), Postprocessing(0, 50)).offset_ms.tolist()
    [100.0]
    """
    if probabilities.ndim != 3 or probabilities.shape[:2] != timestamps_ms.shape:
        raise HearevalError(
            "shapes of probabilities and timestamps",
            got=f"{probabilities.shape} and {timestamps_ms.shape}",
            expected="(clips, timestamps, labels) and (clips, timestamps)",
        )
    widths = median_widths(timestamps_ms, postprocessing.median_filter_ms)
    active = probabilities > THRESHOLD
    for width in np.unique(widths):
        active[widths == width] = filter_active(active[widths == width], int(width))
    return _find_runs(active, timestamps_ms, postprocessing.min_duration_ms)


def median_widths(timestamps_ms: NDArray[np.float64], median_filter_ms: float) -> NDArray[np.int64]:
    """Return the width of each clip's median filter in frames, `(clips,)`; 0 means no filter.

    >>> median_widths(np.array([[0.0, 50.0, 100.0]]), 250).tolist()
    [5]
    """
    if timestamps_ms.shape[1] < 2:
        return np.zeros(len(timestamps_ms), dtype=np.int64)
    hops_ms = np.diff(timestamps_ms, axis=1).mean(axis=1)
    return np.array([round(median_filter_ms / hop_ms) for hop_ms in hops_ms], dtype=np.int64)


def filter_active(active: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Return where the median of the probabilities over `width` frames is above the threshold.

    The middle element of the sorted window is above a threshold exactly if enough elements of the window
    are. So counting the active frames of the window replaces sorting probabilities. The result equals
    thresholding after scipy.ndimage.median_filter (mode "reflect") for windows up to twice as long as a clip.

    Args:
        active: `(clips, timestamps, labels)`, as is the result.
    """
    if width < 2:
        return active
    before, frames = width // 2, active.shape[1]
    padded = np.pad(active, ((0, 0), (before, width - 1 - before), (0, 0)), mode="symmetric").view(np.uint8)
    # Windows are short, and adding many bytes at once is fast, so this beats a running sum.
    counts = np.zeros(active.shape, dtype=np.min_scalar_type(width))
    for shift in range(width):
        counts += padded[:, shift : shift + frames]
    return np.asarray(counts >= width - width // 2)


def _find_runs(
    active: NDArray[np.bool_], timestamps_ms: NDArray[np.float64], min_duration_ms: float
) -> EventTable:
    """Return runs of active frames as events, which last from the first to the last frame's timestamp."""
    clips, frames, labels = active.shape
    # Put all clips and labels on one time axis, each followed by a silent frame, and search it once.
    line = np.zeros((clips, labels, frames + 1), dtype=bool)
    line[..., :-1] = active.transpose(0, 2, 1)
    changes = np.flatnonzero(np.diff(line.ravel(), prepend=False))
    clip, label, first = np.unravel_index(changes[::2], line.shape)
    last = changes[1::2] % (frames + 1) - 1
    onset_ms, offset_ms = timestamps_ms[clip, first], timestamps_ms[clip, last]
    return EventTable(clip, label, onset_ms, offset_ms).select(offset_ms - onset_ms >= min_duration_ms)


def choose_postprocessing(
    probabilities: NDArray[np.floating[Any]],
    timestamps_ms: NDArray[np.float64],
    grid: Sequence[Postprocessing],
    score: Callable[[EventTable], float],
    *,
    maximise: bool,
) -> ScoredPostprocessing:
    """Return the postprocessing with the best score. Ties go to the larger one, and NaN never wins."""
    sign = 1.0 if maximise else -1.0
    scored = [
        ScoredPostprocessing(score(find_events(probabilities, timestamps_ms, point)), point) for point in grid
    ]
    return max(
        scored, key=lambda one: (-np.inf if np.isnan(one.score) else sign * one.score, one.postprocessing)
    )
