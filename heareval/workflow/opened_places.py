"""The folders of a run, while it lasts."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from heareval import files
from heareval.layout import Places
from heareval.workflow.file_systems import check_file_systems
from heareval.workflow.folder_ids import making_ids
from heareval.workflow.requests import RunSettings
from heareval.workflow.run_lock import share_work_folder


@contextlib.contextmanager
def open_places(places: Places, settings: RunSettings) -> Iterator[Places]:
    """Check the folders of a run, keep them from being cleaned, and yield them with their ids.

    They have ids only if a luigid is used, which needs them, and a scratch folder only if one was asked for.

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
    with share_work_folder(places, settings.notify), _open_scratch(settings.scratch_dir) as scratch:
        folders = [Path(places.folders[name]) for name in used]
        check_file_systems(folders, settings.notify, is_shared=is_shared)
        with making_ids(places, used) if is_shared else contextlib.nullcontext(places) as identified:
            yield replace(identified, scratch=scratch)


@contextlib.contextmanager
def _open_scratch(scratch_dir: str) -> Iterator[str]:
    """Make a folder for what this run throws away, where models find it, and remove it at the end.

    What killed runs of this machine left there is removed first. Yields its path; "" if none was asked for.
    """
    if not scratch_dir:
        yield ""
        return
    base = Path(scratch_dir).absolute()
    base.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(base)
    folder = files.scratch_path(base / "run")
    files.remove_tree(folder)
    folder.mkdir(mode=0o700)
    # Python keeps the folder that it finds now. There are the locks of GPUs, which all runs look at.
    tempfile.gettempdir()
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield str(folder)
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before
        files.remove_tree(folder)
