"""Pack published task folders into reproducible tarballs, and list their checksums."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from isal import igzip

from heareval import files, layout
from heareval.formats.tarball_record import find_tarball_record, read_tarball_record
from heareval.spec import Progress, ignore_progress

VERSION = 2
# On 48 kHz clips, ISA-L's level 1 compresses as well as zlib's level 9 (to 0.868), 13 times as fast; level 3
# gains nothing.
GZIP_LEVEL = 1
BUFFER_BYTES = 1 << 20


class _HashingWriter(io.RawIOBase):
    """A stream that writes to a file and computes the SHA-256 of what it writes."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.digest = stream, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self.stream.write(data)


def pack(
    task_folder: Path,
    sample_rate: int,
    target: Path,
    license_text: str,
    progress: Progress = ignore_progress,
) -> str:
    """Write the tarball of one sample rate of a published task; return its SHA-256.

    Members are sorted, and owners, times and modes are fixed, so equal folders and texts give equal bytes.

    Args:
        task_folder: the published folder.
        sample_rate: in Hz.
        target: the path of the tarball.
        license_text: the text of LICENSE.txt, which a folder that an earlier version published lacks.
        progress: called with the number of members packed, and of all members.
    """
    members = list(_list_members(task_folder, sample_rate))
    with files.building_file(target) as scratch, open(scratch, "wb") as raw:
        hashing = _HashingWriter(raw)
        compressed = igzip.IGzipFile("", "wb", GZIP_LEVEL, fileobj=hashing, mtime=0)
        with (
            io.BufferedWriter(compressed, BUFFER_BYTES) as buffer,
            tarfile.open(fileobj=buffer, mode="w") as tar,
        ):
            for done, path in enumerate(members, start=1):
                if path.name == layout.LICENSE:
                    _add_file(tar, _name_member(path, task_folder), license_text.encode())
                else:
                    _add_member(tar, path, task_folder)
                progress(done, len(members))
    return hashing.digest.hexdigest()


def _list_members(task_folder: Path, sample_rate: int) -> Iterator[Path]:
    """Yield the description, the folder of the sample rate, and each split's folder with its clips."""
    described = {path for path in task_folder.iterdir() if path.is_file() and path.name != files.MANIFEST}
    yield from sorted(described | {task_folder / layout.LICENSE})
    rate_folder = task_folder / str(sample_rate)
    yield rate_folder
    for split in sorted(p for p in rate_folder.iterdir() if p.is_dir()):
        yield split
        yield from sorted(split.iterdir())


def _add_member(tar: tarfile.TarFile, path: Path, task_folder: Path) -> None:
    name = _name_member(path, task_folder)
    if path.is_dir():
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
    else:
        _add_file(tar, name, path.read_bytes())


def _name_member(path: Path, task_folder: Path) -> str:
    return f"{layout.TAR_EDITION}/tasks/{task_folder.name}/{path.relative_to(task_folder).as_posix()}"


def _add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    tar.addfile(info, io.BytesIO(content))


def write_checksums(tars: Path) -> None:
    """Write SHA256SUMS for all tarballs in a folder, from their sidecars.

    Lines about other files that are there, which heareval did not pack, stay.
    """
    with files.locked(layout.tar_manifests(tars) / ".lock"):
        checksums: dict[str, str] = {}
        for sidecar in sorted(layout.tar_manifests(tars).glob("*.json")):
            # NFS lists what another machine has just made, but may not find it by name for a while. That
            # machine has written the line itself.
            if sidecar.exists():
                record = read_tarball_record(sidecar)
                checksums |= dict.fromkeys(record.names, record.sha256)
        checksums = {**_read_checksums(tars / layout.SHA256SUMS), **checksums}
        there = {path.name for path in tars.iterdir()}
        listed = {name: sha256 for name, sha256 in checksums.items() if sha256 and name in there}
        text = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(listed.items()))
        files.write_text(tars / layout.SHA256SUMS, text)


def _read_checksums(path: Path) -> dict[str, str]:
    """Return the SHA-256 by file name in a file of `sha256sum`; lines of another form are left out."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return {name: sha256 for sha256, name in re.findall(r"^([0-9a-f]{64})  ([^/\n]+)$", text, re.MULTILINE)}


def is_listed(tar: Path) -> bool:
    """Return whether SHA256SUMS lists a tarball with the checksum of its sidecar."""
    sums, record = tar.parent / layout.SHA256SUMS, find_tarball_record(tar)
    if not (sums.exists() and record):
        return False
    return f"{record.sha256}  {tar.name}" in sums.read_text().splitlines()
