"""The lock of a work folder: any number of runs share it, and `heareval clean` holds it alone.

The operating system releases it when a process ends, however it ends. A step's process inherits it from its
runner, so that it is held as long as anything works in the folder. NFS keeps such locks on the server.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from heareval import files
from heareval.layout import Places, display_path


@contextlib.contextmanager
def share_work_folder(places: Places, notify: Callable[[str], None]) -> Iterator[None]:
    """Keep `heareval clean` from deleting while the block lasts; wait for one that has begun.

    A work folder that is empty at the end is removed: the run was refused before it made anything.

    Args:
        places: the folders of the run.
        notify: receives a line if it has to wait.

    Example: `with share_work_folder(places, notify_stderr): ...`
    """
    with contextlib.ExitStack() as stack:
        if (stream := _open_to_share(places, notify)) is not None:
            stack.enter_context(stream)
            stack.callback(_remove_if_empty, stream, places)
        yield


@contextlib.contextmanager
def claim_work_folder(places: Places) -> Iterator[bool]:
    """Yield whether no run is using the work folder; if so, none begins while the block lasts.

    Example: `with claim_work_folder(places) as is_alone: ...`
    """
    with files.open_lock(places.run_lock()) as stream:
        yield _try_lock(stream, fcntl.LOCK_EX)


def _open_to_share(places: Places, notify: Callable[[str], None]) -> IO[Any] | None:
    """Open the lock and share it; return None where this user may write nothing that has to be kept."""
    path = places.run_lock()
    while True:
        try:
            stream = files.open_lock(path)
        except FileNotFoundError:
            if path.parent.is_dir():
                raise
            continue  # a run that was refused has just removed the folder
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EROFS):
                return None
            raise
        if not _try_lock(stream, fcntl.LOCK_SH):
            notify(f"waiting for `heareval clean`, which is at work in {display_path(places.work)}")
            files.lock(stream, fcntl.LOCK_SH)
        if _is_at(stream, path):
            return stream
        stream.close()


def _is_at(stream: IO[Any], path: Path) -> bool:
    """Return whether an open file still is what its path names."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    return False


def _remove_if_empty(stream: IO[Any], places: Places) -> None:
    lock, folder_id = places.run_lock(), places.folder_id("work")
    # A failure to clean up must not hide why the run ended.
    with contextlib.suppress(OSError):
        if {*lock.parent.iterdir()} <= {lock, folder_id} and _try_lock(stream, fcntl.LOCK_EX):
            folder_id.unlink(missing_ok=True)
            lock.unlink()
            lock.parent.rmdir()


def _try_lock(stream: IO[Any], kind: int) -> bool:
    try:
        files.lock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
