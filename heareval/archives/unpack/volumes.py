"""Read a zip in volumes (.z01, .z02 ... .zip) as one file, without joining the volumes on disk.

The directory of such a zip gives offsets within volumes. The file that is returned here consists of the
volumes, one after another, and a new directory with offsets from the beginning of the first volume, as in an
ordinary zip. The records are described in PKWARE's APPNOTE 6.3, section 4.3.
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
HEADER_SIGNATURE, ENTRY_SIGNATURE, END_SIGNATURE = b"PK\3\4", b"PK\1\2", b"PK\5\6"
END64_SIGNATURE, LOCATOR_SIGNATURE = b"PK\6\6", b"PK\6\7"
# signature, disk, disk of the directory, entries on this disk, entries, size and offset of the directory,
# size of the comment
END = struct.Struct("<4s4H2LH")
# signature, disk of the zip64 end record, its offset there, number of disks
LOCATOR = struct.Struct("<4sLQL")
# signature, size of the rest, two versions, disk, disk of the directory, entries on this disk, entries, size
# and offset of the directory
END64 = struct.Struct("<4sQ2H2L4Q")
# signature, two versions, flags, method, time, date, CRC, compressed and uncompressed size,
# lengths of name, extra fields and comment, disk, two attributes, offset
ENTRY = struct.Struct("<4s6H3L5H2L")
# The size of the header before a member's data, without its name and extra fields.
HEADER_BYTES = 30
MAX_COMMENT_BYTES = 0xFFFF
FULL_16, FULL_32 = 0xFFFF, 0xFFFFFFFF
ZIP64 = 1
ZIP64_VERSION = 45


@dataclass(frozen=True)
class Directory:
    """Where the directory of a zip is: its volume (from 0), its size, and its offset in that volume."""

    disk: int
    size: int
    offset: int


@dataclass(frozen=True)
class Entry:
    """A member in the directory.

    Args:
        fixed: the fields of its record, in the order of ENTRY.
        name: its name.
        extra: its extra fields, without that of zip64.
        packed: its compressed size in bytes.
        unpacked: its uncompressed size in bytes.
        disk: its volume, from 0.
        start: its offset, as read in that volume, and later from the beginning of the first volume.
    """

    fixed: tuple[Any, ...]
    name: bytes
    extra: bytes
    packed: int
    unpacked: int
    disk: int
    start: int


def count_earlier_volumes(archive: Path) -> int:
    """Return how many volumes precede a zip, according to its end record; 0 if it has none."""
    with open(archive, "rb") as stream:
        offset = _find_end_record(stream)
        if offset is None:
            return 0
        stream.seek(max(0, offset - LOCATOR.size))
        records = stream.read(LOCATOR.size + END.size)
    if records.startswith(LOCATOR_SIGNATURE):
        return max(0, int(LOCATOR.unpack_from(records)[3]) - 1)
    return int(END.unpack(records[-END.size :])[1])


@contextlib.contextmanager
def open_volumes(volumes: Sequence[Path]) -> Iterator[BinaryIO]:
    """Open the volumes of a zip as one seekable file that `zipfile` can read.

    Args:
        volumes: all volumes in their order; the last one is the `.zip`.

    Raises:
        HearevalError: a volume is missing, truncated or in the wrong place, or the directory is damaged.
    """
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(open(path, "rb")) for path in volumes]
        whole = _Joined(streams, [stream.seek(0, os.SEEK_END) for stream in streams])
        try:
            entries, begin = _absolute_entries(whole, _find_directory(whole, volumes))
            tail = _pack_directory(entries, begin)
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
    """A file that consists of the first bytes of several files, one after another."""

    def __init__(self, streams: Sequence[BinaryIO], sizes: Sequence[int]) -> None:
        self.streams, self.sizes, self.position = streams, sizes, 0
        self.starts = list(itertools.accumulate(sizes, initial=0))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.starts[-1]}[whence]
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: Any) -> int:
        n = bisect.bisect_right(self.starts, self.position) - 1
        if n >= len(self.streams):
            return 0
        self.streams[n].seek(self.position - self.starts[n])
        block = self.streams[n].read(min(len(buffer), self.starts[n + 1] - self.position))
        buffer[: len(block)] = block
        self.position += len(block)
        return len(block)

    def bytes_at(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes from an offset; raise ValueError if there are fewer."""
        if not 0 <= offset <= offset + size <= self.starts[-1]:
            raise ValueError(f"{size} bytes at {offset} of {self.starts[-1]}")
        self.seek(offset)
        blocks = []
        while size and (block := self.read(size)):
            blocks.append(block)
            size -= len(block)
        return b"".join(blocks)


def _find_end_record(volume: BinaryIO) -> int | None:
    """Return the offset of the end record in the last volume; a comment may follow it."""
    size = volume.seek(0, os.SEEK_END)
    begin = max(0, size - END.size - MAX_COMMENT_BYTES)
    volume.seek(begin)
    found = volume.read().rfind(END_SIGNATURE, 0, size - begin - END.size + 4)
    return None if found < 0 else begin + found


def _find_directory(whole: _Joined, volumes: Sequence[Path]) -> Directory:
    offset = _find_end_record(whole.streams[-1])
    if offset is None:
        raise ValueError("no end record")
    offset += whole.starts[-2]
    _, last, disk, _, _, size, start, _ = END.unpack(whole.bytes_at(offset, END.size))
    locator = whole.bytes_at(offset - LOCATOR.size, LOCATOR.size) if offset >= LOCATOR.size else b""
    is_wide = locator.startswith(LOCATOR_SIGNATURE)
    if is_wide:
        _, end_disk, end_offset, disks = LOCATOR.unpack(locator)
        last = disks - 1
    if last + 1 != len(volumes):
        raise wrong_volume_count(volumes, last + 1)
    if is_wide:
        record = whole.bytes_at(whole.starts[:-1][end_disk] + end_offset, END64.size)
        if not record.startswith(END64_SIGNATURE):
            raise ValueError("no zip64 end record where its locator points")
        *_, disk, _, _, size, start = END64.unpack(record)
    return Directory(disk, size, start)


def wrong_volume_count(volumes: Sequence[Path], expected: int) -> HearevalError:
    """Return the error for a zip whose number of volumes differs from that in its last volume."""
    return HearevalError(
        f"archive {volumes[-1]}",
        got=f"{len(volumes)} volumes" if len(volumes) > 1 else "only its last volume",
        expected=f"the {expected} volumes of this zip" if expected > 1 else "a zip in one file",
        remedy="Some are missing, or belong to another zip.",
    )


def _absolute_entries(whole: _Joined, directory: Directory) -> tuple[list[Entry], int]:
    """Return the entries with offsets from the beginning of the first volume, and the directory's offset."""
    volume_starts = whole.starts[:-1]
    begin = volume_starts[directory.disk] + directory.offset
    content, offset, entries = whole.bytes_at(begin, directory.size), 0, []
    while offset < len(content):
        entry, offset = _read_entry(content, offset)
        entries.append(replace(entry, start=volume_starts[entry.disk] + entry.start))
    return entries, begin


def _read_entry(directory: bytes, offset: int) -> tuple[Entry, int]:
    fixed = ENTRY.unpack_from(directory, offset)
    if fixed[0] != ENTRY_SIGNATURE:
        raise ValueError(f"no entry at byte {offset} of it")
    name_end = offset + ENTRY.size + fixed[10]
    extra_end = name_end + fixed[11]
    if extra_end + fixed[12] > len(directory):
        raise ValueError("its last entry is cut off")
    extra, wide = _split_extra(directory[name_end:extra_end])
    # The zip64 field holds, in this order, the numbers that do not fit into the fields of the record.
    packed, unpacked, disk, start = fixed[8], fixed[9], fixed[13], fixed[16]
    if unpacked == FULL_32:
        unpacked, wide = struct.unpack_from("<Q", wide)[0], wide[8:]
    if packed == FULL_32:
        packed, wide = struct.unpack_from("<Q", wide)[0], wide[8:]
    if start == FULL_32:
        start, wide = struct.unpack_from("<Q", wide)[0], wide[8:]
    if disk == FULL_16:
        disk = struct.unpack_from("<L", wide)[0]
    name = directory[offset + ENTRY.size : name_end]
    return Entry(fixed, name, extra, packed, unpacked, disk, start), extra_end + fixed[12]


def _split_extra(extra: bytes) -> tuple[bytes, bytes]:
    """Return an entry's extra fields without the zip64 field, and the content of the zip64 field."""
    others, wide, offset = [], b"", 0
    while offset + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, offset)
        field = extra[offset : offset + 4 + size]
        if kind == ZIP64:
            wide = field[4:]
        else:
            others.append(field)
        offset += 4 + size
    return b"".join(others), wide


def _check_seams(whole: _Joined, entries: Sequence[Entry], end: int, volumes: Sequence[Path]) -> None:
    """Raise HearevalError unless each volume's first member is in place, and no member overlaps the next."""
    # Sorted by volume, so that a truncated volume is blamed itself, not the one before it.
    ordered = sorted(entries, key=lambda entry: (entry.disk, entry.start))
    ends = [entry.start for entry in ordered[1:]] + [end]
    seen = set()
    for entry, limit in zip(ordered, ends, strict=True):
        if entry.disk not in seen and not _is_in_place(whole, entry):
            raise _misplaced(volumes, entry.disk, "something else where a member should begin")
        if entry.start + HEADER_BYTES + len(entry.name) + entry.packed > limit:
            raise _misplaced(volumes, entry.disk, "fewer bytes than its members need")
        seen.add(entry.disk)


def _is_in_place(whole: _Joined, entry: Entry) -> bool:
    size = HEADER_BYTES + len(entry.name)
    if entry.start + size > whole.starts[-1]:
        return False
    header = whole.bytes_at(entry.start, size)
    return header.startswith(HEADER_SIGNATURE) and header.endswith(entry.name)


def _misplaced(volumes: Sequence[Path], disk: int, got: str) -> HearevalError:
    return HearevalError(
        f"volume {volumes[disk]}",
        got=got,
        expected=f"volume {disk + 1} of the {len(volumes)} of {volumes[-1].name}",
        remedy="It is damaged, truncated or another volume: remove it and run again.",
    )


def _pack_directory(entries: Sequence[Entry], begin: int) -> bytes:
    """Return a directory and its end records as in an ordinary zip64 file."""
    directory = b"".join(_pack_entry(entry) for entry in entries)
    offset, count = begin + len(directory), len(entries)
    return (
        directory
        + END64.pack(
            *(END64_SIGNATURE, END64.size - 12, ZIP64_VERSION, ZIP64_VERSION, 0, 0),
            *(count, count, len(directory), begin),
        )
        + LOCATOR.pack(LOCATOR_SIGNATURE, 0, offset, 1)
        + END.pack(END_SIGNATURE, 0, 0, FULL_16, FULL_16, FULL_32, FULL_32, 0)
    )


def _pack_entry(entry: Entry) -> bytes:
    wide = struct.pack("<2H3Q", ZIP64, 24, entry.unpacked, entry.packed, entry.start)
    extra = wide + entry.extra
    fixed = (
        *(*entry.fixed[:8], FULL_32, FULL_32, len(entry.name), len(extra), 0, 0),
        *(*entry.fixed[14:16], FULL_32),
    )
    return ENTRY.pack(*fixed) + entry.name + extra
