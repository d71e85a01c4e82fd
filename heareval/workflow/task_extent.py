"""How much sound a task has: counted in its folder, or estimated before it is prepared."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from heareval.errors import HearevalError
from heareval.formats.task_manifest import find_task_manifest
from heareval.layout import Places
from heareval.tasks.extent import estimate_hours
from heareval.workflow.corpus import WAV_HEADER_BYTES, TaskJob


@dataclass(frozen=True)
class Extent:
    """How much sound a task has.

    Args:
        clips: number of clips; None if that is not known.
        hours: their length together; None if that is not known.
    """

    clips: int | None
    hours: float | None

    @property
    def clip_s(self) -> float | None:
        """Mean length of a clip in seconds; None if that is not known."""
        return self.hours * 3600 / self.clips if self.clips and self.hours else None


def find_extent(job: TaskJob, places: Places, *, limit: int | None = None) -> Extent:
    """Return how much sound of a task is embedded: what its folder has, or what is known beforehand.

    Args:
        job: the task.
        places: the folders of the run.
        limit: the most clips of each split; None for all.
    """
    extent = _find_whole_extent(job, places)
    most = limit * len(job.spec.splits_of(job.mode).names) if limit else None
    if most is None or not extent.clips or most >= extent.clips:
        return extent
    return Extent(most, extent.hours * most / extent.clips if extent.hours else None)


def _find_whole_extent(job: TaskJob, places: Places) -> Extent:
    spec, folder = job.spec, places.task(job.folder)
    known_s = spec.duration_s(job.mode)
    # A damaged folder is reported with the state of its step.
    with contextlib.suppress(HearevalError):
        if manifest := find_task_manifest(folder):
            clips = sum(manifest.clips.values()) - len(manifest.skipped)
            return Extent(clips, clips * known_s / 3600 if known_s else _measure_hours(folder))
    clips = job.expected_clips
    hours = estimate_hours(spec, job.mode)
    return Extent(clips or None, (clips * known_s / 3600 if known_s else hours) or None if clips else None)


def _measure_hours(folder: Path) -> float | None:
    """Return the hours of the clips of a task folder, at the lowest of its rates; None without any."""
    rates = sorted((path for path in folder.iterdir() if path.name.isdecimal()), key=lambda p: int(p.name))
    if not rates:
        return None
    sizes = [path.stat().st_size for path in rates[0].rglob("*.wav")]
    # The clips are 16-bit mono.
    return sum(max(0, size - WAV_HEADER_BYTES) for size in sizes) / 2 / int(rates[0].name) / 3600
