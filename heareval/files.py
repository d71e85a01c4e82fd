"""Things that appear on disk whole or not at all; checksums; JSON; fingerprints."""

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
from typing import Any

import psutil

MANIFEST = "MANIFEST.json"
CHUNK_BYTES = 1 << 20
FINGERPRINT_DIGITS = 16
# Another machine's scratch cannot be asked whether its owner lives; after this long it is dead.
FOREIGN_SCRATCH_S = 2 * 86400
# A file server's clock may differ from ours by so much.
CLOCK_SLACK_S = 60.0
# Of Linux: relative to the working folder; let both names live on.
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def fingerprint(stage: str, version: int, **settings: Any) -> str:
    """Sixteen hex digits that change with the stage, its code version or any setting.

    >>> fingerprint("prepare", 1, rate=16000) == fingerprint("prepare", 1, rate=16000)
    True
    >>> fingerprint("prepare", 1, rate=16000) == fingerprint("prepare", 2, rate=16000)
    False
    """
    text = json.dumps([stage, version, settings], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def file_checksum(path: Path, algorithm: str) -> str:
    """Hex digest of a file, read in blocks."""
    digest = hashlib.new(algorithm)
    with open(path, "rb") as stream:
        while block := stream.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def algorithm_of(checksum: str) -> str:
    """The hash function whose hex digests have this length.

    >>> algorithm_of("6b74f3901214cb2c2934e98196829835")
    'md5'
    """
    return {32: "md5", 40: "sha1", 64: "sha256"}[len(checksum)]


def kind_of(checksum: str) -> str:
    """The hash function of a checksum, as people write it.

    >>> kind_of("6b74f3901214cb2c2934e98196829835")
    'MD5'
    """
    return {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256"}[algorithm_of(checksum)]


def dump_json(value: Any) -> str:
    """JSON as HEAR publishes it: one space of indent, ASCII, no final newline."""
    return json.dumps(value, indent=1)


class DamagedError(OSError, ValueError):
    """A file that holds something else than it should, told like all else that is wrong with files."""

    def __str__(self) -> str:
        return str(self.strerror)


def read_json(path: Path) -> Any:
    """The value in a JSON file; after a power cut the file may be empty."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(errno.EBADMSG, str(error), str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, durably."""
    with building_file(path) as scratch, open(scratch, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, dump_json(value))


SCRATCH, UNFINISHED = ".heareval.partial", ".heareval.unfinished"


def scratch_path(target: Path) -> Path:
    """Where this process builds `target`: a hidden neighbour that tells whose it is."""
    return target.with_name(f".{target.name[:150]}.{_here()}.{os.getpid()}{SCRATCH}")


@functools.cache
def _here() -> str:
    """Where process numbers mean what they do here: this host, and in it this container."""
    try:
        return f"{socket.gethostname()}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def remove_dead_scratch(target: Path) -> None:
    """Remove what killed processes left of `target`; scratch of the living stays."""
    _remove_dead(target.parent.glob(f".{glob_escape(target.name[:150])}.*{SCRATCH}"))


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder and its sub-folders, whatever it was to become.

    What the next run goes on with stays.
    """
    _remove_dead([*folder.glob(f".*{SCRATCH}"), *folder.glob(f"*/.*{SCRATCH}")])


def unfinished_path(target: Path, fingerprint: str) -> Path:
    """Where `target` grows over several runs: a hidden neighbour that tells what it is made from."""
    return target.with_name(f".{target.name}.{fingerprint}{UNFINISHED}")


def all_unfinished(target: Path) -> list[Path]:
    """What was begun of `target`, whatever it is made from."""
    # Another target's name may begin with this one and a dot.
    fingerprint = "[0-9a-f]" * FINGERPRINT_DIGITS
    return list(target.parent.glob(f".{glob_escape(target.name)}.{fingerprint}{UNFINISHED}"))


def _remove_dead(scratch: Iterable[Path]) -> None:
    for path in scratch:
        # Tidying up is a courtesy that must not stop a run.
        with contextlib.suppress(OSError):
            if not _owner_lives(path):
                remove_tree(path)


def glob_escape(text: str) -> str:
    """Text that `glob` matches literally."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _owner_lives(scratch: Path) -> bool:
    owner, _, pid = scratch.name.removesuffix(SCRATCH).rpartition(".")
    if not owner.endswith("." + _here()):
        changed = max(path.stat().st_mtime for path in [scratch, *scratch.rglob("*")])
        return changed > time.time() - FOREIGN_SCRATCH_S
    with contextlib.suppress(psutil.Error, ValueError):
        process = psutil.Process(int(pid))
        # A killed child may stay as a zombie, and a number may have gone to a newer process.
        is_owner: bool = process.create_time() <= scratch.stat().st_mtime + CLOCK_SLACK_S
        return is_owner and bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def remove_tree(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Return when a file's content is on the disk."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


@contextlib.contextmanager
def building_file(target: Path) -> Iterator[Path]:
    """Build a file beside its place; at the end of the block it is on disk and has its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_dead_scratch(target)
    scratch = scratch_path(target)
    remove_tree(scratch)
    try:
        yield scratch
        sync(scratch)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def building_folder(
    target: Path, *, replace: bool = False, is_current: Callable[[Path], bool] = lambda folder: False
) -> Iterator[Path]:
    """Build a folder beside its place and rename it there at the end of the block.

    An exception removes the scratch. When another process has published the same folder
    meanwhile, that one stays and ours is removed: both were built from the same settings.

    Args:
        target: the folder's final path.
        replace: the name is stable, so an older folder gives way.
        is_current: whether a folder in that place is what is being built, and may stay.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_dead_scratch(target)
    scratch = scratch_path(target)
    remove_tree(scratch)
    scratch.mkdir()
    try:
        yield scratch
        if replace:
            _swap(scratch, target, is_current)
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


def _swap(scratch: Path, target: Path, is_current: Callable[[Path], bool]) -> None:
    """Put the new folder in the old one's place; the old one becomes the scratch."""
    with locked(target.with_name(f".{target.name}.lock")):
        if not target.exists():
            scratch.rename(target)
        elif not target.is_dir():
            # Whatever it is, it is not ours to replace.
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))
        elif not is_current(target) and not _exchanged(scratch, target):
            old = scratch_path(target.with_name(f"{target.name}.old"))
            target.rename(old)
            scratch.rename(target)
            remove_tree(old)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two paths change places at once, where Linux can; False where it can't."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    return bool(renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the advisory lock of a file; another process waits its turn, a killed one lets go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or a copy where the file system can't."""
    try:
        os.link(source, target)
    except FileExistsError:
        # A copy would go into the other file, and into all that is linked to it.
        raise
    except OSError:
        shutil.copyfile(source, target)
