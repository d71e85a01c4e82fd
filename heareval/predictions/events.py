"""From the probabilities of frames to events."""

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
    """How frames become events; of two that score the same the larger one is taken.

    Args:
        median_filter_ms: length of the median filter along time.
        min_duration_ms: shorter events are dropped.
    """

    median_filter_ms: float
    min_duration_ms: float


@dataclass(frozen=True)
class ScoredPostprocessing:
    """The score that a postprocessing reached."""

    score: float
    postprocessing: Postprocessing


def postprocessing_grid(grid: Mapping[str, Sequence[float]]) -> tuple[Postprocessing, ...]:
    """All combinations of `event_postprocessing_grid`, from the smallest to the largest.

    >>> len(postprocessing_grid({}))
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
    """The events in the frames of clips.

    Args:
        probabilities: `(clips, timestamps, labels)` in time order.
        timestamps_ms: `(clips, timestamps)` milliseconds.
        postprocessing: the settings.
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
        active[widths == width] = median_of_active(active[widths == width], int(width))
    return _runs(active, timestamps_ms, postprocessing.min_duration_ms)


def median_widths(timestamps_ms: NDArray[np.float64], median_filter_ms: float) -> NDArray[np.int64]:
    """Width of each clip's median filter in frames, `(clips,)`; 0 means none."""
    if timestamps_ms.shape[1] < 2:
        return np.zeros(len(timestamps_ms), dtype=np.int64)
    hops_ms = np.diff(timestamps_ms, axis=1).mean(axis=1)
    return np.array([round(median_filter_ms / hop_ms) for hop_ms in hops_ms], dtype=np.int64)


def median_of_active(active: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Where the median of the probabilities over `width` frames is above the threshold.

    Takes and returns `(clips, timestamps, labels)`.

    The element in the middle of the sorted window is above a threshold exactly when enough of the window
    is. So the window's active frames are counted instead of sorting probabilities; the result is that of
    scipy.ndimage.median_filter (mode "reflect") before the threshold, for windows up to twice a clip.
    """
    if width < 2:
        return active
    before, frames = width // 2, active.shape[1]
    padded = np.pad(active, ((0, 0), (before, width - 1 - before), (0, 0)), mode="symmetric").view(np.uint8)
    # A frame at a time: windows are short, and bytes are added many at once, which no running sum can do.
    counts = np.zeros(active.shape, dtype=np.min_scalar_type(width))
    for shift in range(width):
        counts += padded[:, shift : shift + frames]
    return np.asarray(counts >= width - width // 2)


def _runs(
    active: NDArray[np.bool_], timestamps_ms: NDArray[np.float64], min_duration_ms: float
) -> EventTable:
    """Runs of active frames as events, from the first to the last frame's timestamp."""
    clips, frames, labels = active.shape
    # All clips and labels on one line of time, each followed by a silent frame.
    line = np.zeros((clips, labels, frames + 1), dtype=bool)
    line[..., :-1] = active.transpose(0, 2, 1)
    changes = np.flatnonzero(np.diff(line.ravel(), prepend=False))
    clip, label, first = np.unravel_index(changes[::2], line.shape)
    last = changes[1::2] % (frames + 1) - 1
    onset_ms, offset_ms = timestamps_ms[clip, first], timestamps_ms[clip, last]
    return EventTable(clip, label, onset_ms, offset_ms).rows(offset_ms - onset_ms >= min_duration_ms)


def best_postprocessing(
    probabilities: NDArray[np.floating[Any]],
    timestamps_ms: NDArray[np.float64],
    grid: Sequence[Postprocessing],
    score: Callable[[EventTable], float],
    *,
    maximise: bool,
) -> ScoredPostprocessing:
    """The combination with the best score; ties go to the larger one, an undefined score never wins."""
    sign = 1.0 if maximise else -1.0
    tried = [
        ScoredPostprocessing(score(find_events(probabilities, timestamps_ms, point)), point) for point in grid
    ]
    return max(
        tried, key=lambda one: (-np.inf if np.isnan(one.score) else sign * one.score, one.postprocessing)
    )
