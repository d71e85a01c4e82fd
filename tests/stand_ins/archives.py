"""Archives of every kind that the corpora are published in, the same bytes on every run."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from tests.stand_ins.trees import Tree, write_tree

# The zips that are published in several volumes.
VOLUMES = {"FSD50K.dev_audio.zip": 6, "FSD50K.eval_audio.zip": 2}


def pack(tree: Tree, archive: Path) -> Path:
    """The members as an archive of the kind that its name says.

    A name without a known suffix is no archive: the tree's one file if it bears that name, else a folder.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.name in VOLUMES:
        return split_zip(tree, archive, VOLUMES[archive.name])
    kind = next((kind for kind in PACKERS if archive.name.endswith(kind)), None)
    if kind:
        PACKERS[kind](tree, archive)
    elif list(tree) == [archive.name]:
        archive.write_bytes(tree[archive.name])
    else:
        write_tree(tree, archive)
    return archive


def _zip(tree: Tree, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w") as out:
        for name in sorted(tree):
            out.writestr(zipfile.ZipInfo(name), tree[name])


def _tar_gz(tree: Tree, archive: Path) -> None:
    with gzip.GzipFile(archive, "wb", 1, mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as out:
        for name in sorted(tree):
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(tree[name])
            out.addfile(info, io.BytesIO(tree[name]))


# --------------------------------------------------------------------------- rar


def _rar(tree: Tree, archive: Path) -> None:
    """RAR 5 with its members stored as they are."""
    with archive.open("wb") as out:
        out.write(b"Rar!\x1a\x07\x01\x00" + _rar_header(_numbers(1, 0, 0)))
        for name in sorted(tree):
            content, raw_name = tree[name], name.encode()
            # A file (2) with data behind its header (2), which has a checksum (4); stored (0), from Unix (1).
            facts = _numbers(2, 2, len(content), 4, len(content), 0o100644)
            facts += struct.pack("<I", zlib.crc32(content)) + _numbers(0, 1, len(raw_name)) + raw_name
            out.write(_rar_header(facts) + content)
        out.write(_rar_header(_numbers(5, 0, 0)))


def _rar_header(facts: bytes) -> bytes:
    sized = _numbers(len(facts)) + facts
    return struct.pack("<I", zlib.crc32(sized)) + sized


def _numbers(*values: int) -> bytes:
    """Numbers in seven bits a byte, the lowest first; the eighth bit says that more follow."""
    out = bytearray()
    for value in values:
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


# --------------------------------------------------------------------------- zip in volumes


class _Volumes:
    """Bytes dealt out to volumes of one size; the last one takes whatever is left."""

    def __init__(self, size_bytes: int, count: int) -> None:
        self.size_bytes, self.count, self.volumes = size_bytes, count, [bytearray()]

    def _room(self) -> int:
        is_last = len(self.volumes) == self.count
        return 1 << 62 if is_last else self.size_bytes - len(self.volumes[-1])

    def put_whole(self, record: bytes) -> tuple[int, int]:
        """Put what may not straddle volumes; returns its volume and its place in there."""
        if self._room() < len(record):
            self.volumes.append(bytearray())
        place = len(self.volumes) - 1, len(self.volumes[-1])
        self.volumes[-1] += record
        return place

    def put(self, content: bytes) -> None:
        """Put what may be cut anywhere."""
        while content:
            if not self._room():
                self.volumes.append(bytearray())
            room = self._room()
            self.volumes[-1] += content[:room]
            content = content[room:]


def split_zip(tree: Tree, archive: Path, parts: int) -> Path:
    """The members, stored, as a zip in volumes: `.z01`, `.z02` ... and, as the last, the archive itself."""
    names = sorted(tree)
    total = 26 + sum(76 + 2 * len(name.encode()) + len(tree[name]) for name in names)
    out = _Volumes(total // parts, parts)
    out.put_whole(b"PK\x07\x08")
    facts = {name: _facts(name, tree[name]) for name in names}
    places = {}
    for name in names:
        places[name] = out.put_whole(b"PK\x03\x04" + facts[name] + name.encode())
        out.put(tree[name])
    directory = [out.put_whole(_entry(name, facts[name], *places[name])) for name in names]
    last, (first, start) = len(out.volumes) - 1, directory[0]
    size = sum(46 + len(name.encode()) for name in names)
    here = sum(volume == last for volume, _ in directory)
    out.put_whole(struct.pack("<4s4H2IH", b"PK\x05\x06", last, first, here, len(names), size, start, 0))
    for number, volume in enumerate(out.volumes, start=1):
        path = archive if number == parts else archive.with_suffix(f".z{number:02d}")
        path.write_bytes(volume)
    return archive


def _facts(name: str, content: bytes) -> bytes:
    """What the headers in front of a member and in the directory both tell, dated 1 January 1980."""
    return struct.pack(
        "<5H3I2H", 10, 0, 0, 0, 33, zlib.crc32(content), len(content), len(content), len(name.encode()), 0
    )


def _entry(name: str, facts: bytes, volume: int, offset: int) -> bytes:
    made_on_unix, mode = 3 << 8 | 30, 0o100644 << 16
    where = struct.pack("<3H2I", 0, volume, 0, mode, offset)
    return struct.pack("<4sH", b"PK\x01\x02", made_on_unix) + facts + where + name.encode()


PACKERS: dict[str, Callable[[Tree, Path], None]] = {".zip": _zip, ".tar.gz": _tar_gz, ".rar": _rar}
