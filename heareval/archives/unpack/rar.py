"""Read the members of .rar archives with the system's libarchive."""

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
SIGNATURE_BYTES = 8
FORMATS = {b"Rar!\x1a\x07\x00": "rar", b"Rar!\x1a\x07\x01\x00": "rar5"}


@dataclass(frozen=True)
class RarMember:
    """A member of a rar archive.

    Args:
        member: its header; its size is not reliable.
        blocks: its content; a block is valid only until the next one is read.
        offset_bytes: how much of the archive has been read.
    """

    member: Member
    blocks: Iterator[memoryview]
    offset_bytes: int


def read_members(archive: Path) -> Iterator[RarMember]:
    """Yield all members of an archive in their order.

    Raises:
        HearevalError: libarchive is not installed, or the archive is damaged or encrypted.
    """
    libarchive = _import_libarchive()
    # Unbuffered, because libarchive reads on from the position of the file descriptor.
    with open(archive, "rb", buffering=0) as raw:
        signature = raw.read(SIGNATURE_BYTES)
        raw.seek(0)
        # Otherwise libarchive would try all its formats, some of which refer to files outside the archive.
        name = next((name for start, name in FORMATS.items() if signature.startswith(start)), None)
        if name is None:
            raise _refusal(archive, f"a file that begins with {signature!r}")
        with (
            _convert_errors(archive, libarchive),
            libarchive.fd_reader(raw.fileno(), format_name=name, filter_name="none") as reader,
        ):
            for entry in reader:
                blocks = _read_blocks(archive, entry, libarchive)
                yield RarMember(_read_header(entry), blocks, reader.bytes_read)


@contextlib.contextmanager
def _convert_errors(archive: Path, libarchive: Any) -> Iterator[None]:
    try:
        yield
    except libarchive.ArchiveError as error:
        raise _refusal(archive, str(error.msg or error)) from error


def _import_libarchive() -> Any:
    """Import the binding when it is needed, because it looks for the system's library at once."""
    try:
        import libarchive
    except (ImportError, OSError, AttributeError) as error:
        raise HearevalError(
            "libarchive",
            got=str(error),
            expected="the library that unpacks .rar",
            remedy="Install it: apt install libarchive13 (or libarchive13t64), brew install libarchive, or "
            "conda install libarchive. If it is installed but not found, set LIBARCHIVE to its path.",
        ) from error
    return libarchive


def _refusal(archive: Path, why: str) -> HearevalError:
    if "ncrypt" in why:
        expected, remedy = "members without a password", ""
    else:
        expected, remedy = "a readable rar archive", "It is damaged: replace it, or remove it and run again."
    return HearevalError(f"archive {archive}", got=why, expected=expected, remedy=remedy)


def _read_header(entry: Any) -> Member:
    name = entry.pathname or ""
    name = os.fsdecode(name) if isinstance(name, bytes) else name
    if entry.issym or entry.islnk:
        return Member(name, SYMBOLIC_LINK if entry.issym else HARD_LINK)
    if entry.isfile or entry.isdir:
        return Member(name, FILE if entry.isfile else FOLDER)
    return Member(name, "a device")


def _read_blocks(archive: Path, entry: Any, libarchive: Any) -> Iterator[memoryview]:
    """Yield the content of the current member; the loop of the binding would take warnings for lengths."""
    buffer, total = ctypes.create_string_buffer(BLOCK_BYTES), 0
    view = memoryview(buffer)
    with _convert_errors(archive, libarchive):
        while size := libarchive.ffi.read_data(entry._archive_p, buffer, BLOCK_BYTES):
            if size < 0:
                raise _refusal(archive, "a member that cannot be read to its end")
            total += size
            yield view[:size]
    if entry.size is not None and total != entry.size:
        raise _refusal(archive, f"{total} of {entry.size} bytes of a member")
