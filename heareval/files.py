"""Files and folders that are written completely or not at all, checksums, JSON, fingerprints."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

MANIFEST = "MANIFEST.json"
CHUNK_BYTES = 1 << 20
FINGERPRINT_DIGITS = 16
# Processes on other machines can't be checked, so their scratch counts as abandoned after this time.
FOREIGN_SCRATCH_S = 2 * 86400
# The clock of a file server may differ from ours by this much.
CLOCK_SLACK_S = 60.0
# What a write fails with if there is no room.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What a lock fails with if the file system has none.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
# Constants of Linux's renameat2: paths are relative to the working folder; exchange the two paths.
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def fingerprint(stage: str, version: int, **settings: Any) -> str:
    """Return 16 hex digits that change with the stage, its code version or any setting.

    Args:
        stage: name of the stage.
        version: version of the code that makes its output.
        settings: all inputs that the output depends on, as JSON values.

    >>> fingerprint("prepare", 1, rate=16000) == fingerprint("prepare", 1, rate=16000)
    True
    >>> fingerprint("prepare", 1, rate=16000) == fingerprint("prepare", 2, rate=16000)
    False
    """
    text = json.dumps([stage, version, settings], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def file_checksum(path: Path, algorithm: str) -> str:
    """Return the hex digest of a file.

    Args:
        algorithm: a name that hashlib knows, such as `sha256`.
    """
    digest = hashlib.new(algorithm)
    with open(path, "rb") as stream:
        while block := stream.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def algorithm_of(checksum: str) -> str:
    """Return hashlib's name of the algorithm that made a checksum, by its number of hex digits.

    Raises:
        KeyError: the checksum is none of MD5, SHA-1 and SHA-256.

    >>> algorithm_of("6b74f3901214cb2c2934e98196829835")
    'md5'
    """
    return {32: "md5", 40: "sha1", 64: "sha256"}[len(checksum)]


def kind_of(checksum: str) -> str:
    """Return the algorithm that made a checksum, as people write it.

    >>> kind_of("6b74f3901214cb2c2934e98196829835")
    'MD5'
    """
    return {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256"}[algorithm_of(checksum)]


def dump_json(value: Any) -> str:
    """Return JSON in the format of HEAR: indented by one space, ASCII, no final newline."""
    return json.dumps(value, indent=1)


class DamagedError(OSError, ValueError):
    """A file with invalid content. An OSError, so that it is reported like all other problems with files."""

    def __str__(self) -> str:
        return str(self.strerror)


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        DamagedError: the file isn't valid JSON, for example empty after a power failure.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(errno.EBADMSG, str(error), str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all; it is on the disk when this returns."""
    with building_file(path) as scratch, open(scratch, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file completely or not at all; it is on the disk when this returns."""
    write_text(path, dump_json(value))


SCRATCH, UNFINISHED = ".heareval.partial", ".heareval.unfinished"
# A whole folder that takes the place of another one, and that other one.
REPLACEMENT, REPLACED = ".heareval.new", ".heareval.old"


def scratch_path(target: Path) -> Path:
    """Return where this process builds `target`: a hidden path beside it with the host and the process id."""
    return target.with_name(f".{target.name[:150]}.{_process_namespace()}.{os.getpid()}{SCRATCH}")


def name_process() -> str:
    """Return a name of this process that no other process has, on any host and in any container."""
    return f"{_process_namespace()}-{os.getpid()}"


@functools.cache
def _process_namespace() -> str:
    """Return a name of the host and, in it, the container. Process ids are unique only within these."""
    try:
        return f"{socket.gethostname()}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def remove_dead_scratch(target: Path) -> None:
    """Remove the scratch of `target` that killed processes left; keep the scratch of running processes."""
    _remove_abandoned(target.parent.glob(f".{glob_escape(target.name[:150])}.*{SCRATCH}"))


def remove_leftovers(folder: Path) -> None:
    """Remove the scratch that killed processes left in a folder and its direct sub-folders.

    If one was replacing a folder, that is finished. Unfinished folders, which the next run resumes, stay.
    """
    for old in [*folder.glob(f".*{REPLACED}"), *find_in_subfolders(folder, f".*{REPLACED}")]:
        finish_replacement(old.with_name(old.name[1:].removesuffix(REPLACED)))
    _remove_abandoned([*folder.glob(f".*{SCRATCH}"), *find_in_subfolders(folder, f".*{SCRATCH}")])


def find_in_subfolders(folder: Path, pattern: str) -> list[Path]:
    """Return what matches a pattern in the direct sub-folders of a folder.

    `folder.glob("*/" + pattern)` fails if a sub-folder is listed but not found: another machine has just
    removed it, or has just made it and NFS does not know it yet.
    """
    found: list[Path] = []
    for subfolder in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            found += subfolder.glob(pattern)
    return found


def unfinished_path(target: Path, fingerprint: str) -> Path:
    """Return where several runs build `target`: a hidden path beside it that contains the fingerprint."""
    return target.with_name(f".{target.name}.{fingerprint}{UNFINISHED}")


def all_unfinished(target: Path) -> list[Path]:
    """Return all unfinished paths of `target`, whatever their fingerprints."""
    # A plain * would also match targets whose names begin with this name and a dot.
    fingerprint = "[0-9a-f]" * FINGERPRINT_DIGITS
    return list(target.parent.glob(f".{glob_escape(target.name)}.{fingerprint}{UNFINISHED}"))


def _remove_abandoned(scratch: Iterable[Path]) -> None:
    for path in scratch:
        # Failing to clean up must not stop a run.
        with contextlib.suppress(OSError):
            if not has_living_owner(path):
                remove_tree(path)


def glob_escape(text: str) -> str:
    """Return a pattern for `Path.glob` that matches exactly this text."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def has_living_owner(scratch: Path, foreign_s: float = FOREIGN_SCRATCH_S) -> bool:
    """Return whether the process that builds a scratch path is running, as far as that can be known.

    Args:
        scratch: the scratch path.
        foreign_s: how many seconds after the last change the process counts as running if it is on another
            machine or in another container.
    """
    import psutil

    owner, _, pid = scratch.name.removesuffix(SCRATCH).rpartition(".")
    if not owner.endswith("." + _process_namespace()):
        changed = max(path.lstat().st_mtime for path in [scratch, *scratch.rglob("*")])
        return changed > read_clock(scratch.parent) - foreign_s
    with contextlib.suppress(psutil.Error, ValueError):
        process = psutil.Process(int(pid))
        # A killed child may remain as a zombie, and a newer process may have been given its id.
        age_s = process.create_time() - scratch.stat().st_mtime - CLOCK_SLACK_S
        if age_s > 0:
            # Unless the clock of a file server is late.
            age_s -= time.time() - read_clock(scratch.parent)
        return age_s <= 0 and bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def is_written_since(path: Path, time_s: float) -> bool:
    """Return whether a file is there and was written at a time or later, by the clock of its folder.

    Args:
        time_s: as `read_clock` returns it; 0 for any time.
    """
    try:
        return path.stat().st_mtime >= time_s
    except FileNotFoundError:
        return False


def read_clock(folder: Path) -> float:
    """Return the time in seconds by the clock that dates the files in a folder.

    A file server has a clock of its own. In a folder that may not be written to, it is that of this machine.

    Example: `read_clock(path.parent) - path.stat().st_mtime` is the age of a file.
    """
    scratch = scratch_path(folder / "clock")
    try:
        scratch.touch()
        # A file that was there already has an older time.
        os.utime(scratch)
        return scratch.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a file or a folder with everything in it; do nothing if it does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def discard_tree(path: Path) -> None:
    """Remove a file or a folder of which nobody may ever see only a part; do nothing if it does not exist.

    It gets the name of scratch first, so that others remove what a killed process leaves.
    """
    scratch = scratch_path(path)
    remove_tree(scratch)
    # As in `remove_tree`, what cannot be removed stays.
    with contextlib.suppress(OSError):
        path.rename(scratch)
        remove_tree(scratch)


def sync(path: Path) -> None:
    """Write a file's content from the operating system's cache to the disk."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


@contextlib.contextmanager
def building_file(target: Path, *, is_synced: bool = True) -> Iterator[Path]:
    """Build a file completely or not at all.

    Yields a path beside `target` to write to. At the end of the block the file is flushed to disk and renamed
    to `target`; after an exception it is removed.

    Args:
        is_synced: False saves the flush, which takes long on a busy disk. A power cut, but no kill, may then
            leave a file without its content.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_dead_scratch(target)
    scratch = scratch_path(target)
    remove_tree(scratch)
    try:
        yield scratch
        if is_synced:
            sync(scratch)
        scratch.replace(target)
    except OSError as error:
        # A failed write does not know which file it is about. A failed read may be about another file.
        if error.errno in FULL:
            error.filename = error.filename or str(target)
        raise
    finally:
        scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def building_folder(
    target: Path,
    *,
    replace: bool = False,
    is_current: Callable[[Path], bool] = lambda folder: False,
    mark: str = MANIFEST,
) -> Iterator[Path]:
    """Build a folder completely or not at all.

    Yields an empty folder beside `target`. At the end of the block it is renamed to `target`; after an
    exception it is removed. If another process has created `target` in the meantime, that folder stays and
    this one is removed: the name contains the fingerprint, so both were made from the same settings.

    Args:
        target: the folder's final path.
        replace: replace an existing folder, because the name does not contain a fingerprint.
        is_current: with `replace`, says whether an existing folder is the same and may stay.
        mark: with `replace`, the file by which an existing folder is known to be heareval's.

    Raises:
        FileExistsError: with `replace`, the existing folder was not made by heareval.
    """
    if replace:
        check_is_ours(target, mark)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_dead_scratch(target)
    scratch = scratch_path(target)
    remove_tree(scratch)
    scratch.mkdir()
    try:
        yield scratch
        if replace:
            _swap(scratch, target, is_current, mark)
        else:
            _rename_unless_there(scratch, target)
    finally:
        remove_tree(scratch)


def _rename_unless_there(scratch: Path, target: Path) -> None:
    try:
        scratch.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def check_is_ours(folder: Path, mark: str = MANIFEST) -> None:
    """Raise FileExistsError if a folder holds files that heareval did not make, which nobody may replace.

    Args:
        folder: a folder that is about to be replaced; it may be missing or empty.
        mark: the file that heareval writes into every such folder.
    """
    if folder.is_dir() and not (folder / mark).exists() and any(folder.iterdir()):
        raise FileExistsError(errno.EEXIST, f"files that heareval did not make (no {mark})", str(folder))


def _swap(scratch: Path, target: Path, is_current: Callable[[Path], bool], mark: str) -> None:
    """Replace `target` by the new folder; the old folder is then at the scratch path and gets removed."""
    with locked(_swap_lock(target)):
        _finish_replacement(target)
        check_is_ours(target, mark)
        if not target.exists():
            scratch.rename(target)
        elif not target.is_dir():
            # No run has made this, so don't replace it.
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))
        elif not is_current(target) and not _exchange(scratch, target):
            # For a moment there is no such folder. If this process is killed then, another one goes on.
            new, old = _replacement_paths(target)
            scratch.rename(new)
            target.rename(old)
            _finish_replacement(target)


def _swap_lock(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def _replacement_paths(target: Path) -> tuple[Path, Path]:
    return tuple(target.with_name(f".{target.name}{suffix}") for suffix in (REPLACEMENT, REPLACED))  # type: ignore[return-value]


def _finish_replacement(target: Path) -> None:
    """Finish what is left to do of replacing a folder; the caller has its lock."""
    new, old = _replacement_paths(target)
    if not target.exists():
        for whole in (new, old):
            if whole.exists():
                whole.rename(target)
                break
    remove_tree(old)
    # Without `old` it is that of a process that was killed before it moved anything away.
    remove_tree(new)


def finish_replacement(target: Path) -> None:
    """Wait while another process replaces a folder, and finish what a killed one began.

    File systems that cannot exchange two folders, such as NFS, have none under its name for a moment.
    """
    _, old = _replacement_paths(target)
    # Whoever may not write there leaves it to others.
    with contextlib.suppress(OSError):
        if old.exists():
            with locked(_swap_lock(target)):
                _finish_replacement(target)


def has_file(folder: Path, name: str) -> bool:
    """Return whether a folder, which another process may just be replacing, has a file."""
    path = folder / name
    if path.exists():
        return True
    finish_replacement(folder)
    return path.exists()


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths atomically; returns False if the operating or file system can't."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    return bool(renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the advisory lock of a file while the block lasts, as soon as no other process holds it.

    The operating system releases the lock of a killed process.

    Args:
        on_wait: called if another process holds it.
    """
    with open_lock(path) as stream:
        try:
            lock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait:
                on_wait()
            lock(stream, fcntl.LOCK_EX)
        yield


def lock(stream: IO[Any], operation: int) -> None:
    """Acquire the lock of an open file; the error of the operating system names the file.

    Args:
        operation: of `fcntl.flock`.
    """
    try:
        fcntl.flock(stream, operation)
    except OSError as error:
        if error.errno == errno.EBADF:
            # NFS gives an exclusive lock only to those who may write the file.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), stream.name) from error
        error.filename = stream.name
        raise


def open_lock(path: Path) -> IO[Any]:
    """Open the file of a lock; one that another user has made can be held by whoever may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return open(path, "a+")
    except PermissionError:
        if not path.exists():
            raise
        return open(path)


def nearest_existing(path: Path) -> Path:
    """Return the path itself or, if it does not exist, its nearest parent that does."""
    return next(each for each in (path, *path.parents) if each.exists())


def is_same_file_system(one: Path, other: Path) -> bool:
    """Return whether two paths are on one file system, or will be when they are created."""
    return file_system_of(one) == file_system_of(other)


def file_system_of(path: Path) -> int:
    """Return the device number of the file system that a path is on, or will be on."""
    return nearest_existing(path).stat().st_dev


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy if the file system has no hard links.

    Raises:
        FileExistsError: there is a target already.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        # Copying would overwrite the content of the existing file and of all its links.
        raise
    except OSError:
        shutil.copyfile(source, target)
