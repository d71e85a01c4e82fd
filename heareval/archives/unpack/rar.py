"""The members of .rar archives, read by the system's libarchive."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heareval.archives.unpack.members import FILE, FOLDER, HARD_LINK, SYMBOLIC_LINK, Member
from heareval.errors import HearevalError

BLOCK_BYTES = 1 << 18
MARK_BYTES = 8
FORMATS = {b"Rar!\x1a\x07\x00": "rar", b"Rar!\x1a\x07\x01\x00": "rar5"}


@dataclass(frozen=True)
class Packed:
    """A member, its content, and how far into the archive it lies.

    A block is to be used up before the next one is asked for; `member.size` does not tell their sum.
    """

    member: Member
    blocks: Iterator[memoryview]
    place_bytes: int


def packed_members(archive: Path) -> Iterator[Packed]:
    """All members of an archive, in its order.

    Raises:
        HearevalError: libarchive is not installed, or the archive is damaged or encrypted.
    """
    libarchive = _libarchive()
    # Unbuffered, as libarchive reads on from where the file itself is.
    with open(archive, "rb", buffering=0) as raw:
        mark = raw.read(MARK_BYTES)
        raw.seek(0)
        # Left to guess, libarchive tries all it knows, and some kinds name files outside of the archive.
        name = next((name for start, name in FORMATS.items() if mark.startswith(start)), None)
        if name is None:
            raise _refusal(archive, f"no archive that begins with {mark!r}")
        with (
            _told(archive, libarchive),
            libarchive.fd_reader(raw.fileno(), format_name=name, filter_name="none") as reader,
        ):
            for entry in reader:
                yield Packed(_member(entry), _blocks(archive, entry, libarchive), reader.bytes_read)


@contextlib.contextmanager
def _told(archive: Path, libarchive: Any) -> Iterator[None]:
    try:
        yield
    except libarchive.ArchiveError as error:
        raise _refusal(archive, str(error.msg or error)) from error


def _libarchive() -> Any:
    """The binding, which looks for the system's library when imported, so not before there is a need."""
    try:
        import libarchive
    except (ImportError, OSError, AttributeError) as error:
        raise HearevalError(
            "libarchive",
            got=str(error),
            expected="the library that unpacks .rar",
            remedy="Install it: apt install libarchive13 (or libarchive13t64), brew install libarchive, or "
            "conda install libarchive; if it is there but not found, name its file in LIBARCHIVE.",
        ) from error
    return libarchive


def _refusal(archive: Path, why: str) -> HearevalError:
    if "ncrypt" in why:
        expected, remedy = "members without a password", ""
    else:
        expected, remedy = "a readable rar archive", "It is damaged: replace it, or remove it and run again."
    return HearevalError(f"archive {archive}", got=why, expected=expected, remedy=remedy)


def _member(entry: Any) -> Member:
    name = entry.pathname or ""
    name = os.fsdecode(name) if isinstance(name, bytes) else name
    if entry.issym or entry.islnk:
        return Member(name, SYMBOLIC_LINK if entry.issym else HARD_LINK)
    if entry.isfile or entry.isdir:
        return Member(name, FILE if entry.isfile else FOLDER)
    return Member(name, "a device")


def _blocks(archive: Path, entry: Any, libarchive: Any) -> Iterator[memoryview]:
    """The content of the member that the reader is at; the binding's own loop takes warnings for lengths."""
    buffer, total = ctypes.create_string_buffer(BLOCK_BYTES), 0
    view = memoryview(buffer)
    with _told(archive, libarchive):
        while size := libarchive.ffi.read_data(entry._archive_p, buffer, BLOCK_BYTES):
            if size < 0:
                raise _refusal(archive, "a member that can't be read whole")
            total += size
            yield view[:size]
    if entry.size is not None and total != entry.size:
        raise _refusal(archive, f"{total} of {entry.size} bytes of a member")
