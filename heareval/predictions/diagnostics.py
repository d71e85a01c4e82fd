"""Diagnostics of a stored result: the performance on each label, the worst clips, timelines of events.

Diagnostics describe the first seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from heareval.predictions.kinds.kind import ClipEvents, ClipLabels
from heareval.predictions.stored import StoredResult


@dataclass(frozen=True)
class ClipScore:
    """The performance on one clip.

    Args:
        value: the number by which clips are ranked.
        labels: the reference labels and the predicted labels.
    """

    split: str
    clip: str
    value: float
    labels: ClipLabels


@dataclass(frozen=True)
class ClipRanking:
    """The tested clips, the worst first.

    Args:
        measure: name of the number by which clips are ranked.
        high_is_bad: whether the worst clips have the highest number.
    """

    measure: str
    high_is_bad: bool
    clips: tuple[ClipScore, ...]


@dataclass(frozen=True)
class Timeline:
    """The events of one clip."""

    split: str
    clip: str
    events: ClipEvents


def rank_clips(result: StoredResult) -> ClipRanking:
    """Return the tested clips, the worst first; clips without references and predictions are left out."""
    kind = result.trained_kind
    measure = kind.clip_measure
    clips = []
    for fold in result.runs[0]:
        values = measure.of_clips(fold.scored)
        for row, (clip, value) in enumerate(zip(fold.predictions.clips, values, strict=True)):
            if not math.isnan(value):
                labels = kind.describe_clip(fold.scored, row)
                clips.append(ClipScore(fold.split, clip, float(value), labels))
    clips.sort(key=lambda clip: clip.value, reverse=measure.high_is_bad)
    return ClipRanking(measure.name, measure.high_is_bad, tuple(clips))


def make_timeline(result: StoredResult, split: str, clip: str) -> Timeline:
    """Return the reference events and the predicted events of one clip."""
    fold = next(fold for fold in result.runs[0] if fold.split == split)
    row = fold.predictions.clips.index(clip)
    return Timeline(split, clip, result.trained_kind.list_events(fold.scored, row))
