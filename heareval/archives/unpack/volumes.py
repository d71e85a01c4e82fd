"""A zip in volumes (.z01, .z02 ... .zip), read as one file that is nowhere on disk.

Its directory counts places within volumes. What is read here is the volumes one after another and, instead of
the directory, one that counts from the beginning of the first volume, as in an ordinary zip. Names of records
are those of PKWARE's APPNOTE 6.3, section 4.3.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import itertools
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from heareval.errors import HearevalError

BUFFER_BYTES = 1 << 18
HEADER_MARK, ENTRY_MARK, END_MARK = b"PK\3\4", b"PK\1\2", b"PK\5\6"
END64_MARK, LOCATOR_MARK = b"PK\6\6", b"PK\6\7"
# signature, disk, disk of the directory, entries here, entries, directory's bytes and place, comment's bytes
END = struct.Struct("<4s4H2LH")
# signature, disk of the zip64 end, its place there, disks
LOCATOR = struct.Struct("<4sLQL")
# signature, bytes that follow, two versions, disk, disk of the directory, entries here, entries, bytes, place
END64 = struct.Struct("<4sQ2H2L4Q")
# signature, two versions, flags, method, time, date, CRC, packed, unpacked,
# lengths of name, extra and comment, disk, two attributes, place
ENTRY = struct.Struct("<4s6H3L5H2L")
# A member's own header, without its name and the extra fields that only it knows.
HEADER_BYTES = 30
MAX_COMMENT_BYTES = 0xFFFF
FULL_16, FULL_32 = 0xFFFF, 0xFFFFFFFF
ZIP64 = 1
ZIP64_VERSION = 45


@dataclass(frozen=True)
class Directory:
    """Where a zip's directory is: the volume (from 0), its bytes, and the place in that volume."""

    disk: int
    size: int
    place: int


@dataclass(frozen=True)
class Entry:
    """A member in the directory; `start` counts from its volume, or later on from the first one."""

    fixed: tuple[Any, ...]
    name: bytes
    extra: bytes
    packed: int
    unpacked: int
    disk: int
    start: int


def last_disk(archive: Path) -> int:
    """How many volumes a zip says come before it; 0 too where it is too damaged to tell."""
    with open(archive, "rb") as stream:
        place = _end_place(stream)
        if place is None:
            return 0
        stream.seek(max(0, place - LOCATOR.size))
        records = stream.read(LOCATOR.size + END.size)
    if records.startswith(LOCATOR_MARK):
        return max(0, int(LOCATOR.unpack_from(records)[3]) - 1)
    return int(END.unpack(records[-END.size :])[1])


@contextlib.contextmanager
def opened(volumes: Sequence[Path]) -> Iterator[BinaryIO]:
    """The volumes of a zip, the last one last, as one seekable file that `zipfile` reads.

    Raises:
        HearevalError: a volume is missing, cut off or in another's place, or the directory is damaged.
    """
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(open(path, "rb")) for path in volumes]
        whole = _Joined(streams, [stream.seek(0, os.SEEK_END) for stream in streams])
        try:
            entries, begin = _absolute_entries(whole, _find_directory(whole, volumes))
            tail = _directory(entries, begin)
        except (struct.error, ValueError, IndexError) as error:
            raise HearevalError(
                f"archive {volumes[-1]}",
                got=f"a damaged directory ({error})",
                expected=f"the last of {len(volumes)} volumes of a zip",
                remedy="It is damaged: remove it and run again.",
            ) from error
        _check_seams(whole, entries, begin, volumes)
        sizes = [
            max(0, min(size, begin - start)) for start, size in zip(whole.starts, whole.sizes, strict=False)
        ]
        joined = _Joined([*streams, io.BytesIO(tail)], [*sizes, len(tail)])
        yield io.BufferedReader(joined, BUFFER_BYTES)


class _Joined(io.RawIOBase):
    """The first so many bytes of each of some files, one after another."""

    def __init__(self, streams: Sequence[BinaryIO], sizes: Sequence[int]) -> None:
        self.streams, self.sizes, self.place = streams, sizes, 0
        self.starts = list(itertools.accumulate(sizes, initial=0))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.starts[-1]}[whence]
        self.place = base + offset
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: Any) -> int:
        n = bisect.bisect_right(self.starts, self.place) - 1
        if n >= len(self.streams):
            return 0
        self.streams[n].seek(self.place - self.starts[n])
        block = self.streams[n].read(min(len(buffer), self.starts[n + 1] - self.place))
        buffer[: len(block)] = block
        self.place += len(block)
        return len(block)

    def bytes_at(self, place: int, size: int) -> bytes:
        """Exactly so many bytes from a place."""
        if not 0 <= place <= place + size <= self.starts[-1]:
            raise ValueError(f"{size} bytes at {place} of {self.starts[-1]}")
        self.seek(place)
        blocks = []
        while size and (block := self.read(size)):
            blocks.append(block)
            size -= len(block)
        return b"".join(blocks)


def _end_place(volume: BinaryIO) -> int | None:
    """Where the end record begins in the last volume; a comment may follow it."""
    size = volume.seek(0, os.SEEK_END)
    begin = max(0, size - END.size - MAX_COMMENT_BYTES)
    volume.seek(begin)
    found = volume.read().rfind(END_MARK, 0, size - begin - END.size + 4)
    return None if found < 0 else begin + found


def _find_directory(whole: _Joined, volumes: Sequence[Path]) -> Directory:
    place = _end_place(whole.streams[-1])
    if place is None:
        raise ValueError("no end record")
    place += whole.starts[-2]
    _, last, disk, _, _, size, start, _ = END.unpack(whole.bytes_at(place, END.size))
    locator = whole.bytes_at(place - LOCATOR.size, LOCATOR.size) if place >= LOCATOR.size else b""
    is_wide = locator.startswith(LOCATOR_MARK)
    if is_wide:
        _, end_disk, end_place, disks = LOCATOR.unpack(locator)
        last = disks - 1
    if last + 1 != len(volumes):
        raise wrong_number(volumes, last + 1)
    if is_wide:
        record = whole.bytes_at(whole.starts[:-1][end_disk] + end_place, END64.size)
        if not record.startswith(END64_MARK):
            raise ValueError("no zip64 end record where its locator points")
        *_, disk, _, _, size, start = END64.unpack(record)
    return Directory(disk, size, start)


def wrong_number(volumes: Sequence[Path], expected: int) -> HearevalError:
    """The error for a zip whose last volume tells of more or fewer volumes than there are."""
    return HearevalError(
        f"archive {volumes[-1]}",
        got=f"{len(volumes)} volumes" if len(volumes) > 1 else "its last volume alone",
        expected=f"the {expected} volumes of this zip" if expected > 1 else "a zip in one file",
        remedy="Some are missing, or are those of another zip.",
    )


def _absolute_entries(whole: _Joined, directory: Directory) -> tuple[list[Entry], int]:
    """The entries with places from the first volume's beginning, and the directory's own place."""
    volume_starts = whole.starts[:-1]
    begin = volume_starts[directory.disk] + directory.place
    content, place, entries = whole.bytes_at(begin, directory.size), 0, []
    while place < len(content):
        entry, place = _read_entry(content, place)
        entries.append(replace(entry, start=volume_starts[entry.disk] + entry.start))
    return entries, begin


def _read_entry(directory: bytes, place: int) -> tuple[Entry, int]:
    fixed = ENTRY.unpack_from(directory, place)
    if fixed[0] != ENTRY_MARK:
        raise ValueError(f"no entry at byte {place} of it")
    name_end = place + ENTRY.size + fixed[10]
    extra_end = name_end + fixed[11]
    if extra_end + fixed[12] > len(directory):
        raise ValueError("its last entry is cut off")
    extra, wide = _split_extra(directory[name_end:extra_end])
    # In the zip64 field are those numbers, in this order, that their own fields are too small for.
    packed, unpacked, disk, start = fixed[8], fixed[9], fixed[13], fixed[16]
    if unpacked == FULL_32:
        unpacked, wide = struct.unpack_from("<Q", wide)[0], wide[8:]
    if packed == FULL_32:
        packed, wide = struct.unpack_from("<Q", wide)[0], wide[8:]
    if start == FULL_32:
        start, wide = struct.unpack_from("<Q", wide)[0], wide[8:]
    if disk == FULL_16:
        disk = struct.unpack_from("<L", wide)[0]
    name = directory[place + ENTRY.size : name_end]
    return Entry(fixed, name, extra, packed, unpacked, disk, start), extra_end + fixed[12]


def _split_extra(extra: bytes) -> tuple[bytes, bytes]:
    """An entry's extra fields without the zip64 one, and what is in that one."""
    others, wide, place = [], b"", 0
    while place + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, place)
        field = extra[place : place + 4 + size]
        if kind == ZIP64:
            wide = field[4:]
        else:
            others.append(field)
        place += 4 + size
    return b"".join(others), wide


def _check_seams(whole: _Joined, entries: Sequence[Entry], end: int, volumes: Sequence[Path]) -> None:
    """In every volume the first member is where it should be, and none reaches into the next one."""
    # By volume first: then it is the one cut off that is found to lack something, not one before it.
    ordered = sorted(entries, key=lambda entry: (entry.disk, entry.start))
    ends = [entry.start for entry in ordered[1:]] + [end]
    seen = set()
    for entry, limit in zip(ordered, ends, strict=True):
        if entry.disk not in seen and not _is_there(whole, entry):
            raise _misplaced(volumes, entry.disk, "something else where a member begins")
        if entry.start + HEADER_BYTES + len(entry.name) + entry.packed > limit:
            raise _misplaced(volumes, entry.disk, "fewer bytes than its members have")
        seen.add(entry.disk)


def _is_there(whole: _Joined, entry: Entry) -> bool:
    size = HEADER_BYTES + len(entry.name)
    if entry.start + size > whole.starts[-1]:
        return False
    header = whole.bytes_at(entry.start, size)
    return header.startswith(HEADER_MARK) and header.endswith(entry.name)


def _misplaced(volumes: Sequence[Path], disk: int, got: str) -> HearevalError:
    return HearevalError(
        f"volume {volumes[disk]}",
        got=got,
        expected=f"volume {disk + 1} of the {len(volumes)} of {volumes[-1].name}",
        remedy="It is damaged, cut off, or in another's place: remove it and run again.",
    )


def _directory(entries: Sequence[Entry], begin: int) -> bytes:
    """A directory and its end records, as an ordinary zip that needs 64 bits has them."""
    directory = b"".join(_packed_entry(entry) for entry in entries)
    place, count = begin + len(directory), len(entries)
    return (
        directory
        + END64.pack(
            *(END64_MARK, END64.size - 12, ZIP64_VERSION, ZIP64_VERSION, 0, 0),
            *(count, count, len(directory), begin),
        )
        + LOCATOR.pack(LOCATOR_MARK, 0, place, 1)
        + END.pack(END_MARK, 0, 0, FULL_16, FULL_16, FULL_32, FULL_32, 0)
    )


def _packed_entry(entry: Entry) -> bytes:
    wide = struct.pack("<2H3Q", ZIP64, 24, entry.unpacked, entry.packed, entry.start)
    extra = wide + entry.extra
    fixed = (
        *(*entry.fixed[:8], FULL_32, FULL_32, len(entry.name), len(extra), 0, 0),
        *(*entry.fixed[14:16], FULL_32),
    )
    return ENTRY.pack(*fixed) + entry.name + extra
