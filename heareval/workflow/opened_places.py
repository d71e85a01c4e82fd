"""The folders of a run, while it lasts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from heareval.layout import Places
from heareval.workflow.file_systems import check_file_systems
from heareval.workflow.folder_ids import make_ids
from heareval.workflow.requests import RunSettings
from heareval.workflow.run_lock import share_work_folder


@contextlib.contextmanager
def open_places(places: Places, settings: RunSettings) -> Iterator[Places]:
    """Check the folders of a run, keep them from being cleaned, and yield them with their ids.

    They have ids only if a luigid is used, which needs them.

    Args:
        places: the folders; those that the run uses have absolute paths.
        settings: how the run is carried out.

    Raises:
        HearevalError: a file system has no locks, or replaces folders.
        OSError: the lock of the work folder cannot be opened.

    Example: `with open_places(places, settings) as places: ...`
    """
    used = [name for name, folder in places.folders.items() if Path(folder).is_absolute()]
    is_shared = bool(settings.scheduler_url)
    with share_work_folder(places, settings.notify):
        folders = [Path(places.folders[name]) for name in used]
        check_file_systems(folders, settings.notify, is_shared=is_shared)
        if is_shared:
            places = make_ids(places, used)
        yield places
