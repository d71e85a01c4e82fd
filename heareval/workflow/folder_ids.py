"""Ids of the folders that machines share, by which a luigid tells steps apart.

The same folder may have another path on another machine, and other folders may have the same path there. So
each shared folder gets a file with a random id when a run with a luigid first uses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from heareval.layout import FOLDERS, FolderName, Places

ID_DIGITS = 32


@contextlib.contextmanager
def making_ids(places: Places, names: Sequence[FolderName]) -> Iterator[Places]:
    """Yield the folders with ids, as `make_ids` gives them; what the block leaves empty is removed again.

    Example: `with making_ids(places, ("work", "tasks")) as places: ...`
    """
    missing = [name for name in names if not Path(places.folders[name]).exists()]
    try:
        yield make_ids(places, names)
    finally:
        for name in missing:
            folder, folder_id = Path(places.folders[name]), places.folder_id(name)
            # A failure to clean up must not hide why the run ended.
            with contextlib.suppress(OSError):
                if list(folder.iterdir()) == [folder_id]:
                    folder_id.unlink()
                    folder.rmdir()


def make_ids(places: Places, names: Sequence[FolderName]) -> Places:
    """Return the folders with the ids of some of them; a folder without an id gets one.

    A folder that cannot be written to, and has none, is identified by its path.

    Example: `make_ids(places, ("work", "tasks")).identify("work")`
    """
    for name in names:
        # The step that uses the folder reports what is wrong with it.
        with contextlib.suppress(OSError):
            Path(places.folders[name]).mkdir(parents=True, exist_ok=True)
            # Not "x": the name of a file that another machine has just made may still be unknown here.
            with open(places.folder_id(name), "a+", encoding="ascii") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                if len(_read(stream)) < ID_DIGITS:
                    stream.truncate(0)
                    stream.write(uuid.uuid4().hex)
    return read_ids(places)


def read_ids(places: Places) -> Places:
    """Return the folders with the ids of those that have one; nothing is written.

    Example: `read_ids(places).identify("work")`
    """
    ids = []
    for name in FOLDERS:
        with contextlib.suppress(OSError), open(places.folder_id(name), encoding="ascii") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)
            if len(text := _read(stream)) == ID_DIGITS:
                # A copy of the folder has a copy of the file, which has another number.
                ids.append((str(name), f"{text}-{os.fstat(stream.fileno()).st_ino}"))
    return replace(places, ids=tuple(ids))


def _read(stream: IO[Any]) -> str:
    stream.seek(0)
    return str(stream.read(ID_DIGITS))
