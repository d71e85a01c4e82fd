"""The disk space that a run needs, computed before it starts, and whether there is room for it.

Every step estimates what it will write (`Step.disk_need`); this module only adds up. Sizes on disk are in
whole blocks. Labels and logs are too small to count; only the submission knows the size of its embeddings.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import luigi

from heareval import files
from heareval.archives.estimate import ArchiveSizes
from heareval.archives.sizes import Size, total
from heareval.layout import Places
from heareval.workflow.corpus import CorpusStep, FetchArchive, TaskJob
from heareval.workflow.prepare import PrepareClips
from heareval.workflow.step import Step, incomplete_steps

NOTHING = Size()
# Columns of a plan, and the folder of `Places` that each needs room in.
COLUMNS = {"download": "work", "work": "work", "task folder": "tasks", "tarballs": "tars"}


@dataclass(frozen=True)
class TaskNeeds:
    """The disk space that one task and mode still needs, beyond what the tasks before it share with it.

    Args:
        folder: name of the published folder.
        state: `done`, `partly` or `to do`.
        sizes: bytes for each of COLUMNS.
        may_be_packed: whether the licence of its corpus allows tarballs.
        clips: bytes of its clips, which `work` includes.
    """

    folder: str
    state: str
    sizes: Mapping[str, Size]
    may_be_packed: bool = True
    clips: Size = NOTHING


@dataclass(frozen=True)
class FileSystem:
    """A file system that a run writes to.

    Args:
        folders: the folders of the run on it.
        needed: bytes that the run will write to it.
        free_bytes: bytes that are free now.
        tasks: folder names of the tasks that need room on it, the largest need first.
    """

    folders: tuple[str, ...]
    needed: Size
    free_bytes: int
    tasks: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether there is room for everything whose size is known."""
        return self.needed.bytes <= self.free_bytes


@dataclass(frozen=True)
class DiskPlan:
    """The disk space that several tasks need, and the file systems that must provide it."""

    tasks: tuple[TaskNeeds, ...]
    file_systems: tuple[FileSystem, ...]

    @property
    def sizes(self) -> dict[str, Size]:
        """The sum of each column."""
        columns = self.tasks[0].sizes if self.tasks else COLUMNS
        return {column: total(task.sizes[column] for task in self.tasks) for column in columns}

    @property
    def not_packed(self) -> tuple[str, ...]:
        """Names of the task folders that get no tarballs, because the corpus may not be redistributed."""
        return tuple(task.folder for task in self.tasks if not task.may_be_packed)

    @property
    def fits(self) -> bool:
        """Whether every file system has room."""
        return all(system.fits for system in self.file_systems)


def plan_run(roots: Mapping[TaskJob, Sequence[Step]], places: Places) -> DiskPlan:
    """Return the disk space that a run needs. Nothing is fetched; servers are only asked for sizes.

    Args:
        roots: the last steps of each task and mode; steps that two tasks share count for the first.
        places: the folders of the run.
    """
    todo: dict[TaskJob, list[Step]] = {job: [] for job in roots}
    seen: set[str] = set()
    for job, steps in roots.items():
        for step in incomplete_steps(list(steps)):
            if step.output not in seen:
                seen.add(step.output)
                # A task that waits for another one of the run does not count what that one needs.
                is_other = isinstance(step, CorpusStep) and step.job in todo
                todo[step.job if is_other else job].append(step)
    fetches = [step for steps in todo.values() for step in steps if isinstance(step, FetchArchive)]
    sizes = ArchiveSizes.look_up(step.remote_file for step in fetches)
    tasks = tuple(
        TaskNeeds(
            job.folder,
            _state(roots[job], steps),
            _sum_needs(steps, sizes),
            job.licence.may_be_packed,
            total(step.disk_need(sizes).size for step in steps if isinstance(step, PrepareClips)),
        )
        for job, steps in todo.items()
    )
    return DiskPlan(tasks, find_file_systems(tasks, places))


def _sum_needs(steps: Iterable[Step], sizes: ArchiveSizes) -> dict[str, Size]:
    """Return the bytes that some steps will write, for each of COLUMNS."""
    sums = dict.fromkeys(COLUMNS, Size())
    for step in steps:
        need = step.disk_need(sizes)
        sums[need.column] += need.size
    return sums


def _state(roots: Sequence[Step], todo: Sequence[Step]) -> str:
    if all(root.complete() for root in roots):
        return "done"
    steps: dict[str, Step] = {}
    waiting = list(roots)
    while waiting:
        step = waiting.pop()
        if step.task_id not in steps:
            steps[step.task_id] = step
            waiting += luigi.task.flatten(step.requires())
    # Steps that count for an earlier task aren't in `todo`, but they aren't complete either.
    others = steps.keys() - {step.task_id for step in todo}
    return "partly" if any(steps[task_id].complete() for task_id in others) else "to do"


def find_file_systems(
    tasks: Sequence[TaskNeeds], places: Places, columns: Mapping[str, str] = COLUMNS
) -> tuple[FileSystem, ...]:
    """Return the file systems of the run's folders; the run uses only those with an absolute path.

    Args:
        tasks: what tasks need.
        places: the folders of the run.
        columns: the columns of `tasks`, and the folder of `places` that each needs room in.
    """
    folders = {place: Path(getattr(places, place)) for place in dict.fromkeys(columns.values())}
    devices = {p: files.file_system_of(folder) for p, folder in folders.items() if folder.is_absolute()}
    systems = []
    for device in dict.fromkeys(devices.values()):
        here = [place for place in devices if devices[place] == device]
        needs = [total(task.sizes[c] for c, place in columns.items() if place in here) for task in tasks]
        ranked = sorted(zip(needs, tasks, strict=True), key=lambda pair: -pair[0].bytes)
        largest_first = tuple(task.folder for need, task in ranked if need.bytes)
        free = shutil.disk_usage(files.nearest_existing(folders[here[0]])).free
        names = tuple(str(folders[place]) for place in here)
        systems.append(FileSystem(names, total(needs), free, largest_first))
    return tuple(systems)


def plan_facts(plan: DiskPlan) -> dict[str, Any]:
    """Return the plan as JSON values."""
    tasks = [
        {
            "folder": task.folder,
            "state": task.state,
            "may_be_packed": task.may_be_packed,
            "clips": asdict(task.clips),
            **_facts(task.sizes),
        }
        for task in plan.tasks
    ]
    systems = [{**asdict(system), "fits": system.fits} for system in plan.file_systems]
    return {"tasks": tasks, "total": _facts(plan.sizes), "file_systems": systems, "fits": plan.fits}


def _facts(sizes: Mapping[str, Size]) -> dict[str, Any]:
    return {column.replace(" ", "_"): asdict(size) for column, size in sizes.items()}
