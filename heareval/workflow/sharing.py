"""Tasks that share clips: which they are, in which order a run makes them, and the clips to link.

Clips are shared by the stretch of sound that they hold. They are made alike for every task, so the bytes of a
task are the same whether its clips are links or not.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from heareval.formats.digests import find_changes
from heareval.formats.task_folder import read_clip_digests
from heareval.spec import TaskSpec
from heareval.tasks import metadata
from heareval.tasks.registry import all_tasks
from heareval.workflow.corpus import TaskJob


def find_relatives(job: TaskJob) -> list[TaskJob]:
    """Return jobs for the other tasks of the benchmark that share clips with a task, in the same mode.

    >>> [each.task for each in find_relatives(TaskJob("tfds_crema_d_same_speaker", "full"))]
    ['tfds_crema_d', 'tfds_crema_d_same_emotion']
    """
    family = _family_of(job.spec)
    names = [
        name for name, task in all_tasks().items() if _family_of(task) == family and job.mode in task.modes
    ]
    return [replace(job, task=name) for name in names if name != job.spec.name]


def find_predecessors(jobs: Sequence[TaskJob]) -> dict[TaskJob, TaskJob]:
    """Return the job that each job of a run waits for, where two or more share clips.

    A task that needs fewer archives comes first, so that no task waits for an archive that it does not need.
    Of tasks with equally many archives, the one whose clips the others share comes first.

    >>> jobs = [TaskJob(name, "small") for name in ("esc50_retrieval", "esc50")]
    >>> [(later.task, earlier.task) for later, earlier in find_predecessors(jobs).items()]
    [('esc50_retrieval', 'esc50')]
    """
    families: dict[Hashable, list[TaskJob]] = {}
    for job in jobs:
        if not job.published:
            families.setdefault((_family_of(job.spec), job.mode), []).append(job)
    return {
        later: earlier
        for family in families.values()
        for earlier, later in itertools.pairwise(sorted(family, key=_rank))
    }


def _family_of(task: TaskSpec) -> str:
    return task.clips_of or task.name


def _rank(job: TaskJob) -> tuple[int, bool, str]:
    return len(job.mode_spec.downloads), bool(job.spec.clips_of), job.task


def find_stretch(clip: metadata.ClipSource) -> Hashable:
    """Return what decides the samples of a clip: its source, the stretch of it, and the rounding."""
    return clip.source, clip.start_frame, clip.frames, clip.floor


def find_finished_clips(
    stretches: Collection[Hashable], selection: Path, task_folder: Path, sample_rates: Sequence[int]
) -> Mapping[Hashable, Sequence[Path]]:
    """Return the files of the clips of a published task that hold some stretches of sound.

    Args:
        stretches: as `find_stretch` returns them.
        selection: the folder with the list of the task's clips.
        task_folder: the published folder.
        sample_rates: in Hz.

    Returns:
        for every stretch that is found, the file at each rate. A clip that another program has changed, or
        that is missing at one of the rates, is left out.

    Raises:
        HearevalError: the digests of the folder are damaged.

    Example: `find_finished_clips({find_stretch(clip)}, selection, Path("tasks/esc50-v2.0.0-full"), (16000,))`
    """
    digests = {rate: read_clip_digests(task_folder, rate) for rate in sample_rates}
    found: dict[Hashable, Sequence[Path]] = {}
    for clip in metadata.read_clips(selection / metadata.CLIPS):
        name, stretch = f"{clip.split}/{clip.clip_id}.wav", find_stretch(clip)
        if stretch in stretches and all(
            name in digests[rate]
            and not list(find_changes(task_folder / str(rate), {name: digests[rate][name]}))
            for rate in sample_rates
        ):
            found[stretch] = [task_folder / str(rate) / name for rate in sample_rates]
    return found
