"""The folders of a run, while it lasts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from heareval.layout import Places
from heareval.workflow.folder_ids import make_ids
from heareval.workflow.requests import RunSettings
from heareval.workflow.run_lock import share_work_folder


@contextlib.contextmanager
def open_places(places: Places, settings: RunSettings) -> Iterator[Places]:
    """Keep the folders of a run from being cleaned while the block lasts; yield them with their ids.

    They have ids only if a luigid is used, which needs them.

    Args:
        places: the folders; those that the run uses have absolute paths.
        settings: how the run is carried out.

    Example: `with open_places(places, settings) as places: ...`
    """
    with share_work_folder(places, settings.notify):
        if settings.scheduler_url:
            used = [name for name, folder in places.folders.items() if Path(folder).is_absolute()]
            places = make_ids(places, used)
        yield places
