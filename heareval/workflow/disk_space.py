"""Whether the disks have room for a run, checked before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from heareval.archives.sizes import readable
from heareval.errors import HearevalError
from heareval.layout import Places, display_path
from heareval.workflow.corpus import TaskJob
from heareval.workflow.plan import FileSystem, plan_run
from heareval.workflow.step import Step

# How many tasks an error names before it only counts the rest.
NAMED_TASKS = 4


def check_disk_space(roots: Mapping[TaskJob, Sequence[Step]], places: Places) -> None:
    """Raise HearevalError if a disk is known to have too little room for what a run will write.

    Args:
        roots: the last steps of each task and mode.
    """
    for system in plan_run(roots, places).file_systems:
        if not system.fits:
            more = len(system.tasks) - NAMED_TASKS
            tasks = ", ".join(system.tasks[:NAMED_TASKS]) + (f" and {more} more" if more > 0 else "")
            raise HearevalError(
                name_folders(system),
                got=f"{readable(system.free_bytes)} free",
                expected=f"{system.needed} for {tasks}",
                remedy="Free some space, choose other folders, fewer tasks or rates, or use --force.",
            )


def name_folders(system: FileSystem) -> str:
    """Return the folders of a run that share a file system, as text: `_workdir, tasks and tars`."""
    *others, last = (display_path(folder) for folder in system.folders)
    return f"{', '.join(others)} and {last}" if others else last
