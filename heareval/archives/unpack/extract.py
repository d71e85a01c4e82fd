"""Unpack zip, tar and rar archives into a folder, and never outside of it."""

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
from heareval.spec import Progress, ignore_progress

VERSION = 1
BLOCK_BYTES = 1 << 18
# One disk block, which is enough for the audio headers of all corpora.
HEAD_BYTES = 1 << 12
# bzip2 and LZMA expand a whole block at once, which in a malicious archive is a thousandfold.
SMALL_BLOCK_BYTES = 1 << 12
# Compression method of a zip member -> the size of the blocks in which it is read.
ZIP_METHODS = {
    zipfile.ZIP_STORED: BLOCK_BYTES,
    zipfile.ZIP_DEFLATED: BLOCK_BYTES,
    zipfile.ZIP_BZIP2: SMALL_BLOCK_BYTES,
    zipfile.ZIP_LZMA: SMALL_BLOCK_BYTES,
}
ZIP_ENCRYPTED = 1
# tarfile reads long names and extended headers whole; larger ones would only fill the memory.
MAX_EXTENDED_HEADER_BYTES = 1 << 20
EXTENDED_HEADERS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
# Everything that the readers raise for damaged archives. bzip2 and gzip raise OSError without an errno.
DAMAGED: tuple[Any, ...] = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, isal_zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, ValueError, IndexError, OverflowError, RuntimeError, OSError),
)


class Portion(enum.Enum):
    """How much of a member is written; HEAD is the first bytes, then a hole up to the member's size."""

    WHOLE = "whole"
    HEAD = "head"
    NOTHING = "nothing"


# Maps the path of a member below the folder to how much of it is written.
PortionOf = Callable[[str], Portion]


def select_everything(member: str) -> Portion:
    """Select all of every member: the default."""
    return Portion.WHOLE


@dataclass(frozen=True)
class UnpackJob:
    """An archive to unpack.

    Args:
        path: the file; the last volume if it is a zip in volumes.
        volumes: the earlier volumes.
        portion_of: maps a member to how much of it is written.
    """

    path: Path
    volumes: tuple[Path, ...]
    portion_of: PortionOf

    @functools.cached_property
    def size_bytes(self) -> int:
        """The size of all volumes together."""
        return sum(path.stat().st_size for path in (*self.volumes, self.path))


def extract(
    archive: Path,
    folder: Path,
    progress: Progress = ignore_progress,
    *,
    volumes: Sequence[Path] = (),
    portion_of: PortionOf = select_everything,
) -> int:
    """Unpack an archive, or copy a file that is not an archive; return the number of files.

    Args:
        archive: the file; the last volume if it is a zip in volumes.
        folder: where to write the members; created if necessary.
        progress: called with the work done and all the work, in bytes.
        volumes: the earlier volumes of a zip (.z01, .z02 ...), in their order.
        portion_of: maps a file in a zip or tar to how much of it is written; rar is unpacked whole.

    Raises:
        HearevalError: the kind of archive is unknown, it is damaged or encrypted, or `members.Gate` refuses a
            member.
    """
    suffix = next((suffix for suffix in UNPACKERS if archive.name.endswith(suffix)), None)
    if suffix is None or (volumes and suffix != ".zip"):
        kinds = ".zip as the last of several volumes" if volumes else ", ".join(UNPACKERS)
        raise HearevalError(f"archive {archive}", got="an unknown kind", expected=kinds)
    folder.mkdir(parents=True, exist_ok=True)
    job = UnpackJob(archive, tuple(volumes), portion_of)
    gate = Gate(archive, folder, job.size_bytes)
    try:
        UNPACKERS[suffix](job, gate, progress)
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
    """Write the rest of a stream to a new file; return the number of bytes."""
    with create(path) as target:
        shutil.copyfileobj(source, target, block_bytes)
        return target.tell()


def _write_head(path: Path, source: IO[bytes], size: int) -> None:
    """Write the first bytes of a stream to a new file, and extend the file to the size of the member."""
    with create(path) as target:
        target.write(source.read(min(HEAD_BYTES, size)))
        target.truncate(size)


# ------------------------------------------------------------------------------------------------------- zip


def _unpack_zip(job: UnpackJob, gate: Gate, progress: Progress) -> None:
    with _open_zip(job) as stream, zipfile.ZipFile(stream) as source:
        # The gate checks all members before the first byte is written.
        for info in source.infolist():
            gate.admit(_zip_member(info, gate))
        done, total = 0, sum(info.file_size for info in source.infolist())
        for info in source.infolist():
            path = gate.path_of(info.orig_filename)
            if _is_zip_folder(info):
                path.mkdir(parents=True, exist_ok=True)
            else:
                _unpack_zip_member(source, info, path, job.portion_of(gate.name_of(path)))
            done += info.file_size
            progress(done, total)


def _unpack_zip_member(source: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, portion: Portion) -> None:
    if portion is Portion.NOTHING:
        return
    with source.open(info) as content:
        if portion is Portion.HEAD:
            _write_head(path, content, info.file_size)
        elif _write(path, content, ZIP_METHODS[info.compress_type]) != info.file_size:
            raise zipfile.BadZipFile(f"{info.filename!r} does not have the size in the directory")


@contextlib.contextmanager
def _open_zip(job: UnpackJob) -> Iterator[BinaryIO]:
    paths = [*job.volumes, job.path]
    if job.volumes:
        with zip_volumes.open_volumes(paths) as stream:
            yield stream
        return
    if earlier := zip_volumes.count_earlier_volumes(job.path):
        raise zip_volumes.wrong_volume_count(paths, earlier + 1)
    with open(job.path, "rb") as stream:
        yield stream


def _is_zip_folder(info: zipfile.ZipInfo) -> bool:
    return info.orig_filename.endswith("/")


def _zip_member(info: zipfile.ZipInfo, gate: Gate) -> Member:
    # Not `filename`: it is cut at a NUL, and from Python 3.12 on it may come from an extra field.
    name = info.orig_filename
    if info.header_offset < 0:
        raise zipfile.BadZipFile(f"{name!r} begins before the start of the file")
    if info.flag_bits & ZIP_ENCRYPTED:
        raise gate.refusal(name, ", which is encrypted", "members without a password")
    if info.compress_type not in ZIP_METHODS:
        got = f", compressed with method {info.compress_type}"
        raise gate.refusal(name, got, "method " + ", ".join(f"{method}" for method in ZIP_METHODS))
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return Member(name, SYMBOLIC_LINK if kind == stat.S_IFLNK else "a device", info.file_size)
    return Member(name, FOLDER if _is_zip_folder(info) else FILE, info.file_size)


# ------------------------------------------------------------------------------------------------------- tar


class _Header(tarfile.TarInfo):
    """A header whose reading raises ReadError if it is invalid; tarfile takes it for the end instead."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if any(buf):
                raise tarfile.ReadError(f"an invalid header: {error}") from error
            raise
        if header.type in EXTENDED_HEADERS and header.size > MAX_EXTENDED_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header


def _unpack_tar(job: UnpackJob, gate: Gate, progress: Progress) -> None:
    # Opened for seeking, so that members which are not written need not be read.
    with open(job.path, "rb") as raw, tarfile.open(fileobj=raw, mode="r:", tarinfo=_Header) as source:
        _unpack_tar_members(source, job, gate, lambda: progress(raw.tell(), job.size_bytes))


def _unpack_tar_gz(job: UnpackJob, gate: Gate, progress: Progress) -> None:
    with open(job.path, "rb") as raw, igzip.open(raw) as stream:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header, bufsize=BLOCK_BYTES) as source:
            _unpack_tar_members(source, job, gate, lambda: progress(raw.tell(), job.size_bytes))
        # tarfile stops before the end of the gzip stream, which holds the checksum; reading on verifies it.
        while stream.read(BLOCK_BYTES):
            pass


def _unpack_tar_members(
    source: tarfile.TarFile, job: UnpackJob, gate: Gate, report: Callable[[], None]
) -> None:
    while info := source.next():
        # tarfile would keep all headers, a kilobyte each; nothing here needs them.
        source.members.clear()  # type: ignore[attr-defined]
        member = _tar_member(info)
        path = gate.admit(member)
        if member.kind == FOLDER:
            path.mkdir(parents=True, exist_ok=True)
        else:
            _unpack_tar_member(source, info, path, gate, job.portion_of)
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
            got = f", {member.kind} to a file of which another portion is unpacked"
            raise gate.refusal(member.name, got, "no such link where only some sounds are unpacked")
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


def _unpack_rar(job: UnpackJob, gate: Gate, progress: Progress) -> None:
    for rar_member in rar.read_members(job.path):
        member, path = rar_member.member, gate.admit(rar_member.member)
        if member.kind == FOLDER:
            path.mkdir(parents=True, exist_ok=True)
            continue
        with create(path) as target:
            for block in rar_member.blocks:
                gate.grow(member.name, len(block))
                target.write(block)
        progress(rar_member.offset_bytes, job.size_bytes)


# ------------------------------------------------------------------------------------------------------ plain


def _copy_file(job: UnpackJob, gate: Gate, progress: Progress) -> None:
    path = gate.admit(Member(job.path.name, FILE, job.size_bytes))
    clear(path)
    # Resolved, because a hard link to a relative symbolic link would be broken here.
    files.link_or_copy(job.path.resolve(), path)
    progress(job.size_bytes, job.size_bytes)


UNPACKERS: dict[str, Callable[[UnpackJob, Gate, Progress], None]] = {
    ".zip": _unpack_zip,
    ".tar.gz": _unpack_tar_gz,
    ".tgz": _unpack_tar_gz,
    ".tar": _unpack_tar,
    ".rar": _unpack_rar,
    **dict.fromkeys((".wav", ".csv", ".txt", ".json", ".midi"), _copy_file),
}
