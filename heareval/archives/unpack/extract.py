"""Archives unpacked into a folder, never outside of it."""

from __future__ import annotations

import contextlib
import enum
import functools
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from isal import igzip, isal_zlib

from heareval import files
from heareval.archives.unpack import rar
from heareval.archives.unpack import volumes as zip_volumes
from heareval.archives.unpack.members import (
    FILE,
    FOLDER,
    HARD_LINK,
    LINKS,
    SYMBOLIC_LINK,
    Gate,
    Member,
    clear,
    create,
)
from heareval.errors import HearevalError
from heareval.spec import Progress

VERSION = 1
BLOCK_BYTES = 1 << 18
# What the smallest file takes on disk, and enough for the headers that corpora have.
HEAD_BYTES = 1 << 12
# bzip2 and LZMA unfold as much as they are given at once, which in a trap is a thousandfold.
SMALL_BLOCK_BYTES = 1 << 12
ZIP_METHODS = {
    zipfile.ZIP_STORED: BLOCK_BYTES,
    zipfile.ZIP_DEFLATED: BLOCK_BYTES,
    zipfile.ZIP_BZIP2: SMALL_BLOCK_BYTES,
    zipfile.ZIP_LZMA: SMALL_BLOCK_BYTES,
}
ZIP_ENCRYPTED = 1
# A long name or other facts before a member, which tarfile reads whole; more would only fill the memory.
MAX_TAR_NOTE_BYTES = 1 << 20
TAR_NOTES = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
# Whatever a damaged archive makes the readers raise; OSError comes from bzip2 and gzip, without a number.
DAMAGED: tuple[Any, ...] = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, isal_zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, ValueError, IndexError, OverflowError, RuntimeError, OSError),
)


class Portion(enum.Enum):
    """How much of a member is written; of HEAD the first bytes are true and the rest is a hole."""

    WHOLE = "whole"
    HEAD = "head"
    NOTHING = "nothing"


# Tells how much of a member is written, by its path below the folder.
PortionOf = Callable[[str], Portion]


def whole(member: str) -> Portion:
    """All of everything."""
    return Portion.WHOLE


@dataclass(frozen=True)
class Archive:
    """What is to be unpacked.

    Args:
        volumes: the earlier volumes of a zip that ends with `path`.
        portion_of: how much of each member.
    """

    path: Path
    volumes: tuple[Path, ...]
    portion_of: PortionOf

    @functools.cached_property
    def size_bytes(self) -> int:
        """The size of all volumes."""
        return sum(path.stat().st_size for path in (*self.volumes, self.path))


def extract(
    archive: Path,
    folder: Path,
    progress: Progress,
    *,
    volumes: Sequence[Path] = (),
    portion_of: PortionOf = whole,
) -> int:
    """Unpack the members of an archive, or take over a plain file; returns how many files there are.

    Args:
        archive: the file; of a zip in volumes the last one.
        folder: gets the members; made if it is not there.
        progress: told how much is done, of how much.
        volumes: the earlier volumes of a zip (.z01, .z02 ...), in their order.
        portion_of: how much is written of each file in a zip or tar; the others are unpacked whole.

    Raises:
        HearevalError: unknown kind, damaged, encrypted, or a member that `members.Gate` refuses.
    """
    suffix = next((suffix for suffix in UNPACKERS if archive.name.endswith(suffix)), None)
    if suffix is None or (volumes and suffix != ".zip"):
        kinds = ".zip after other volumes" if volumes else ", ".join(UNPACKERS)
        raise HearevalError(f"archive {archive}", got="an unknown kind", expected=kinds)
    folder.mkdir(parents=True, exist_ok=True)
    source = Archive(archive, tuple(volumes), portion_of)
    gate = Gate(archive, folder, source.size_bytes)
    try:
        UNPACKERS[suffix](source, gate, progress)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _damaged(archive, f"{type(error).__name__}: {error}") from error
    return gate.files


def _damaged(archive: Path, why: str) -> HearevalError:
    return HearevalError(
        f"archive {archive}",
        got=why,
        expected="a readable archive",
        remedy="It is damaged: replace it, or remove it and run again.",
    )


def _write(path: Path, source: IO[bytes], block_bytes: int = BLOCK_BYTES) -> int:
    """Write what is left of a stream to a new file; returns the number of bytes."""
    with create(path) as target:
        shutil.copyfileobj(source, target, block_bytes)
        return target.tell()


def _write_head(path: Path, source: IO[bytes], size: int) -> None:
    """Write the first bytes of a stream to a new file, which is then as long as the member is."""
    with create(path) as target:
        target.write(source.read(min(HEAD_BYTES, size)))
        target.truncate(size)


# ------------------------------------------------------------------------------------------------------- zip


def _unpack_zip(archive: Archive, gate: Gate, progress: Progress) -> None:
    with _opened_zip(archive) as stream, zipfile.ZipFile(stream) as source:
        # All members pass the gate before the first byte is written.
        for info in source.infolist():
            gate.admit(_zip_member(info, gate))
        for done, info in enumerate(source.infolist(), start=1):
            path = gate.path_of(info.orig_filename)
            if _is_zip_folder(info):
                path.mkdir(parents=True, exist_ok=True)
            else:
                _unpack_zip_member(source, info, path, archive.portion_of(gate.name_of(path)))
            progress(done, len(source.infolist()))


def _unpack_zip_member(source: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, portion: Portion) -> None:
    if portion is Portion.NOTHING:
        return
    with source.open(info) as content:
        if portion is Portion.HEAD:
            _write_head(path, content, info.file_size)
        elif _write(path, content, ZIP_METHODS[info.compress_type]) != info.file_size:
            raise zipfile.BadZipFile(f"{info.filename!r} has not the size that it should have")


@contextlib.contextmanager
def _opened_zip(archive: Archive) -> Iterator[BinaryIO]:
    paths = [*archive.volumes, archive.path]
    if archive.volumes:
        with zip_volumes.opened(paths) as stream:
            yield stream
        return
    if earlier := zip_volumes.last_disk(archive.path):
        raise zip_volumes.wrong_number(paths, earlier + 1)
    with open(archive.path, "rb") as stream:
        yield stream


def _is_zip_folder(info: zipfile.ZipInfo) -> bool:
    return info.orig_filename.endswith("/")


def _zip_member(info: zipfile.ZipInfo, gate: Gate) -> Member:
    # `filename` is cut at a NUL, and from Python 3.12 on it may be that of an extra field.
    name = info.orig_filename
    if info.header_offset < 0:
        raise zipfile.BadZipFile(f"{name!r} begins before the file")
    if info.flag_bits & ZIP_ENCRYPTED:
        raise gate.refusal(name, ", which is encrypted", "members without a password")
    if info.compress_type not in ZIP_METHODS:
        got = f", packed with method {info.compress_type}"
        raise gate.refusal(name, got, ", ".join(f"{method}" for method in ZIP_METHODS))
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return Member(name, SYMBOLIC_LINK if kind == stat.S_IFLNK else "a device", info.file_size)
    return Member(name, FOLDER if _is_zip_folder(info) else FILE, info.file_size)


# ------------------------------------------------------------------------------------------------------- tar


class _Header(tarfile.TarInfo):
    """A header that is either right or the end; tarfile takes any wrong one but the first for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if any(buf):
                raise tarfile.ReadError(f"no header where a member's belongs: {error}") from error
            raise
        if header.type in TAR_NOTES and header.size > MAX_TAR_NOTE_BYTES:
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header


def _unpack_tar(archive: Archive, gate: Gate, progress: Progress) -> None:
    # What is not written is not read either.
    with open(archive.path, "rb") as raw, tarfile.open(fileobj=raw, mode="r:", tarinfo=_Header) as source:
        _unpack_tar_members(source, archive, gate, lambda: progress(raw.tell(), archive.size_bytes))


def _unpack_tar_gz(archive: Archive, gate: Gate, progress: Progress) -> None:
    with open(archive.path, "rb") as raw, igzip.open(raw) as stream:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header, bufsize=BLOCK_BYTES) as source:
            _unpack_tar_members(source, archive, gate, lambda: progress(raw.tell(), archive.size_bytes))
        # tarfile stops short of gzip's end, where the checksum is.
        while stream.read(BLOCK_BYTES):
            pass


def _unpack_tar_members(
    source: tarfile.TarFile, archive: Archive, gate: Gate, report: Callable[[], None]
) -> None:
    while info := source.next():
        # It would keep all of them, a kilobyte each; nothing here looks back.
        source.members.clear()  # type: ignore[attr-defined]
        member = _tar_member(info)
        path = gate.admit(member)
        if member.kind == FOLDER:
            path.mkdir(parents=True, exist_ok=True)
        else:
            _unpack_tar_member(source, info, path, gate, archive.portion_of)
        report()


def _unpack_tar_member(
    source: tarfile.TarFile, info: tarfile.TarInfo, path: Path, gate: Gate, portion_of: PortionOf
) -> None:
    portion = portion_of(gate.name_of(path))
    if portion is Portion.NOTHING:
        return
    if (member := _tar_member(info)).kind in LINKS:
        linked = gate.linked_file(member)
        if portion_of(gate.name_of(linked)) is not portion:
            got = f", {member.kind} to a file that is not unpacked like it"
            raise gate.refusal(member.name, got, "no such links where only some sounds are unpacked")
        clear(path)
        files.link_or_copy(linked, path)
    elif content := source.extractfile(info):
        if portion is Portion.HEAD:
            _write_head(path, content, info.size)
        else:
            _write(path, content)


def _tar_member(info: tarfile.TarInfo) -> Member:
    if info.isreg() or info.isdir():
        return Member(info.name, FILE if info.isreg() else FOLDER, info.size)
    if info.issym() or info.islnk():
        return Member(info.name, SYMBOLIC_LINK if info.issym() else HARD_LINK, link=info.linkname)
    return Member(info.name, "a device")


# ------------------------------------------------------------------------------------------------------- rar


def _unpack_rar(archive: Archive, gate: Gate, progress: Progress) -> None:
    for packed in rar.packed_members(archive.path):
        member, path = packed.member, gate.admit(packed.member)
        if member.kind == FOLDER:
            path.mkdir(parents=True, exist_ok=True)
            continue
        with create(path) as target:
            for block in packed.blocks:
                gate.grow(member.name, len(block))
                target.write(block)
        progress(packed.place_bytes, archive.size_bytes)


# ------------------------------------------------------------------------------------------------------ plain


def _take_over(archive: Archive, gate: Gate, progress: Progress) -> None:
    path = gate.admit(Member(archive.path.name, FILE, archive.size_bytes))
    clear(path)
    # Resolved, as a second name for a symbolic link might lead nowhere from here.
    files.link_or_copy(archive.path.resolve(), path)
    progress(1, 1)


UNPACKERS: dict[str, Callable[[Archive, Gate, Progress], None]] = {
    ".zip": _unpack_zip,
    ".tar.gz": _unpack_tar_gz,
    ".tgz": _unpack_tar_gz,
    ".tar": _unpack_tar,
    ".rar": _unpack_rar,
    **dict.fromkeys((".wav", ".csv", ".txt", ".json", ".midi"), _take_over),
}
