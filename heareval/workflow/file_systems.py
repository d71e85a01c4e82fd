"""Whether file systems do what runs rely on: locks, and renaming that never replaces a whole folder.

What only costs time or space, such as a file system without hard links, is not told.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from heareval import files
from heareval.errors import HearevalError, file_error

# Type of file system -> options of a mount whose locks hold on one machine only; "" means always.
LOCAL_LOCKS = {
    "nfs": ("local_lock=all", "local_lock=flock", "nolock"),
    "nfs4": ("local_lock=all", "local_lock=flock", "nolock"),
    "lustre": ("localflock",),
    "fuse.sshfs": ("",),
}
MOUNTS = Path("/proc/self/mountinfo")


def check_file_systems(folders: Iterable[Path], notify: Callable[[str], None], *, is_shared: bool) -> None:
    """Raise HearevalError if runs in these folders could damage each other's work; each file system once.

    A folder that is missing or may only be read is passed over: the step that needs it reports that.

    Args:
        folders: the folders that a run writes to.
        notify: receives a line about locks that other machines do not see.
        is_shared: whether other machines work in the folders.

    Example: `check_file_systems([Path("_workdir")], print, is_shared=False)`
    """
    one_of_each = {folder.stat().st_dev: folder for folder in folders if folder.is_dir()}
    mounts = MOUNTS.read_text(encoding="utf-8", errors="replace") if is_shared and MOUNTS.exists() else ""
    for folder in one_of_each.values():
        _check_file_system(folder)
        if found := find_local_locks(mounts, folder.resolve()):
            warning = HearevalError(
                f"folder {folder}",
                got=f"locks that other machines do not see ({found})",
                expected="locks over all machines",
                remedy="Mount NFS with local_lock=none and Lustre with -o flock, or use one machine only.",
            )
            notify(f"warning: {warning}")


def _check_file_system(folder: Path) -> None:
    probe = files.scratch_path(folder / "probe")
    try:
        files.remove_tree(probe)
        for name in ("one", "other"):
            (probe / name / "content").mkdir(parents=True)
        replaces, locks = _replaces_folders(probe), _has_locks(probe)
    except OSError as error:
        if error.errno in files.NO_LOCKS:
            raise file_error(error) from error
        return
    finally:
        files.remove_tree(probe)
    if replaces or not locks:
        raise HearevalError(
            f"folder {folder}",
            got="a file system that " + ("replaces folders" if replaces else "gives one lock to two"),
            expected="one that never does",
            remedy="Choose a folder on a local disk, NFS version 4, or Lustre mounted with -o flock.",
        )


def _replaces_folders(probe: Path) -> bool:
    """Return whether renaming replaces a folder that is not empty."""
    try:
        (probe / "one").rename(probe / "other")
    except OSError:
        return False
    return True


def _has_locks(probe: Path) -> bool:
    """Return whether a lock excludes others, which is the same within a process as between two."""
    with open(probe / "lock", "a") as one, open(probe / "lock", "a") as other:
        files.lock(one, fcntl.LOCK_EX)
        with contextlib.suppress(BlockingIOError):
            files.lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    return True


def find_local_locks(mounts: str, folder: Path) -> str:
    """Return the type and option of a folder's mount if its locks hold on this machine only; else "".

    Args:
        mounts: the text of /proc/self/mountinfo.
        folder: the folder, without links in its path.

    >>> mounts = "36 25 0:40 / /mnt/hear rw,relatime - nfs4 server:/hear rw,vers=4.2,local_lock=flock"
    >>> find_local_locks(mounts, Path("/mnt/hear/_workdir")), find_local_locks(mounts, Path("/home"))
    ('nfs4, local_lock=flock', '')
    """
    deepest, found = -1, ""
    for line in mounts.splitlines():
        of_mount, _, of_system = line.partition(" - ")
        point, (kind, _, *options) = Path(_unescape(of_mount.split()[4])), of_system.split()
        if folder.is_relative_to(point) and len(point.parts) >= deepest:
            deepest, has = len(point.parts), {"", *",".join(options).split(",")}
            option = next((each for each in LOCAL_LOCKS.get(kind, ()) if each in has), None)
            found = "" if option is None else ", ".join(filter(None, (kind, option)))
    return found


def _unescape(text: str) -> str:
    """Return a path of the mount table, in which blanks are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), text)
