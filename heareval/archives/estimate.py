"""Sizes of archives and of what is in them, as far as they can be known before anything is fetched."""

from __future__ import annotations

import contextlib
import functools
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from heareval.archives import fetch
from heareval.archives.sizes import UNKNOWN, Size, blocks, sizes_on_the_web, total
from heareval.archives.unpack import extract, parts, volumes
from heareval.errors import HearevalError
from heareval.spec import Download

# Extracted bytes per byte of an archive whose directory can't be read yet. Other files are hard-linked.
EXPANSION = {".zip": 1.5, ".gz": 1.5, ".tgz": 1.5, ".rar": 1.5, ".tar": 1.0}
# The share of labels and sound headers in an archive whose directory can't be read yet.
SCANNED_SHARE = 0.05


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch, and where.

    Args:
        download: the published file.
        path: where it will be in the work folder; it may be there already.
        mirrors: folders and URLs to try before the publisher.
    """

    download: Download
    path: Path
    mirrors: tuple[str, ...]


class ArchiveSizes:
    """Sizes of files to fetch, and of the archives that consist of them. Nothing is fetched.

    An archive is given as its files: usually one; of a zip in volumes all of them, the last one last.

    Args:
        mirrored: for the path that a file will have, its copy in a mirror folder.
        reported: for the path that a file will have, its bytes as a server reports them.
    """

    def __init__(self, mirrored: Mapping[Path, Path], reported: Mapping[str, int]) -> None:
        self._mirrored, self._reported = mirrored, reported
        # A folder or a directory of a zip is read once, however many steps ask.
        self.folder_size = functools.cache(_folder_size)
        self._members = functools.cache(self._read_members)

    @classmethod
    def look_up(cls, files: Iterable[RemoteFile]) -> ArchiveSizes:
        """Look for the files in mirror folders, and ask servers for the sizes of all others."""
        missing = [file for file in files if not file.path.exists()]
        opened = {mirrors: fetch.open_mirrors(mirrors) for mirrors in {file.mirrors for file in missing}}
        mirrored: dict[Path, Path] = {}
        urls: dict[str, list[str]] = {}
        for file in missing:
            name, mirrors = file.download.file_name, opened[file.mirrors]
            copies = [path for mirror in mirrors if mirror.found for path in mirror.found.get(name, ())]
            if copies:
                mirrored[file.path] = max(copies, key=lambda path: path.stat().st_size)
            else:
                on_mirrors = [f"{m.address.rstrip('/')}/{quote(name)}" for m in mirrors if m.found is None]
                urls[str(file.path)] = [*on_mirrors, file.download.url, *file.download.other_urls]
        return cls(mirrored, sizes_on_the_web(urls))

    def fetched_size(self, file: RemoteFile) -> Size:
        """Return the bytes of a file as it is published."""
        path = self._readable_copy(file)
        if path:
            return Size(path.stat().st_size)
        reported = self._reported.get(str(file.path))
        return UNKNOWN if reported is None else Size(reported)

    def missing_size(self, file: RemoteFile) -> Size:
        """Return the bytes of a file that are still to be written to the work folder."""
        if file.path.exists():
            return Size()
        whole = self.fetched_size(file)
        part = file.path.with_name(f"{file.path.name}.part")
        # An interrupted download is resumed; a copy from a mirror folder starts again.
        fetched = part.stat().st_size if part.exists() and file.path not in self._mirrored else 0
        return replace(whole, bytes=max(0, whole.bytes - fetched))

    def extracted_size(self, archive: Sequence[RemoteFile]) -> Size:
        """Return the bytes on disk of everything in an archive."""
        members = self._members(tuple(archive))
        if members is not None:
            return Size(sum(blocks(size) for size in members.values()))
        suffix = Path(archive[-1].download.file_name).suffix
        return total(self.fetched_size(file) for file in archive).scaled(EXPANSION.get(suffix, 0))

    def scanned_size(self, archive: Sequence[RemoteFile], *, headers: bool) -> Size:
        """Return the bytes on disk of an archive without its sounds, or with only their headers."""
        members = self._members(tuple(archive))
        if members is None:
            return self.extracted_size(archive).scaled(SCANNED_SHARE)
        head = extract.HEAD_BYTES if headers else 0
        return Size(sum(min(head, s) if parts.is_sound(n) else blocks(s) for n, s in members.items()))

    def _readable_copy(self, file: RemoteFile) -> Path | None:
        return file.path if file.path.exists() else self._mirrored.get(file.path)

    def _read_members(self, archive: tuple[RemoteFile, ...]) -> dict[str, int] | None:
        """Return the members of a zip with their bytes; None unless it is on this machine and readable."""
        paths = [path for file in archive if (path := self._readable_copy(file))]
        if len(paths) < len(archive) or not archive[-1].download.file_name.endswith(".zip"):
            return None
        try:
            whole = volumes.open_volumes(paths) if paths[1:] else contextlib.nullcontext(paths[0])
            with whole as source, zipfile.ZipFile(source) as opened:
                return {member.filename: member.file_size for member in opened.infolist()}
        except (*extract.DAMAGED, HearevalError):
            return None


def _folder_size(folder: Path) -> Size:
    """Return the bytes on disk of all files below a folder."""
    return Size(sum(blocks(path.stat().st_size) for path in folder.rglob("*") if path.is_file()))
