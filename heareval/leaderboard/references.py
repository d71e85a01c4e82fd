"""The references of a results repository: descriptions of tasks, with all labels and without sounds."""

from __future__ import annotations

import shutil
from pathlib import Path

from heareval import files, layout
from heareval.formats.task_folder import find_task_folders, read_task_folder


def write_references(tasks: Path, folder: Path) -> tuple[Path, ...]:
    """Copy the descriptions of all task folders, each whole or not at all, and return the copies.

    A copy of the same name is replaced; copies of other tasks stay.

    Args:
        tasks: the folder of task folders.
        folder: where the copies go, as TASK_FOLDER/.

    Raises:
        HearevalError: there is no task folder, or one is damaged.
        FileExistsError: a folder of that name is no task's.

    Example: `write_references(Path("tasks"), Path("results/references"))`
    """
    found = find_task_folders(tasks)
    for task in found:
        # Nothing is copied before all are known to be whole.
        read_task_folder(task)
    copies = []
    for task in found:
        copy = folder / task.name
        with files.building_folder(copy, replace=True, mark=layout.TASK_METADATA) as scratch:
            # Sounds lie in folders of their own.
            for path in sorted(task.iterdir()):
                if path.is_file() and not path.name.startswith("."):
                    shutil.copyfile(path, scratch / path.name)
        copies.append(copy)
    return tuple(copies)
