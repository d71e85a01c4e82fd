"""Archives unpacked into a folder, never outside of it."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from isal import igzip

from heareval.errors import HearevalError
from heareval.spec import Progress

VERSION = 1


# Whatever a damaged archive makes the readers raise.
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, igzip.BadGzipFile, EOFError)


def extract(archive: Path, folder: Path, progress: Progress) -> int:
    """Unpack all members of an archive; returns how many files there were.

    Raises:
        HearevalError: unknown kind, damaged, or a member that would leave the folder.
    """
    unpack = next((u for suffix, u in UNPACKERS.items() if archive.name.endswith(suffix)), None)
    if unpack is None:
        raise HearevalError(f"archive {archive}", got="an unknown kind", expected=", ".join(UNPACKERS))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return unpack(archive, folder, progress)
    except DAMAGED as error:
        raise HearevalError(
            f"archive {archive}",
            got=f"{type(error).__name__}: {error}",
            expected="a readable archive",
            remedy="It is damaged: remove it and run again.",
        ) from error


def _unpack_zip(archive: Path, folder: Path, progress: Progress) -> int:
    with zipfile.ZipFile(archive) as source:
        members = [member for member in source.infolist() if not member.is_dir()]
        for done, member in enumerate(members, start=1):
            _check_name(archive, member.filename)
            source.extract(member, folder)
            progress(done, len(members))
    return len(members)


def _unpack_tar_gz(archive: Path, folder: Path, progress: Progress) -> int:
    count, size = 0, archive.stat().st_size
    with (
        open(archive, "rb") as raw,
        igzip.open(raw) as stream,
        tarfile.open(fileobj=stream, mode="r|") as source,
    ):
        for member in source:
            _check_name(archive, member.name)
            # "data" refuses devices and links that leave the folder, and drops owners and odd modes.
            source.extract(member, folder, filter="data")
            count += member.isfile()
            progress(raw.tell(), size)
    return count


UNPACKERS: dict[str, Callable[[Path, Path, Progress], int]] = {
    ".zip": _unpack_zip,
    ".tar.gz": _unpack_tar_gz,
    ".tgz": _unpack_tar_gz,
}


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise HearevalError(
            f"archive {archive}",
            got=f"member {name!r}",
            expected="names inside the archive's folder",
            remedy="It would write elsewhere on this machine; nothing was kept.",
        )
