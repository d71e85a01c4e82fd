"""Read and write the sidecars of published tarballs: what they were packed from, and their SHA-256."""

from __future__ import annotations

import errno
from dataclasses import asdict, dataclass
from pathlib import Path

from heareval import files, layout
from heareval.formats.fields import read_fields

REMEDY = "Remove it and its tarball, and prepare the task again."


@dataclass(frozen=True)
class TarballRecord:
    """What a tarball was packed from, and its SHA-256.

    The attributes have the names of the keys on disk.

    Args:
        sha256: hex digest of the tarball; "" while heareval packs it for the first time.
        bytes: size of the tarball.
        names: the file names that it has.
        fingerprint: changes with the task's clips and the rate.
        seconds: duration of packing.
    """

    sha256: str
    bytes: int
    names: tuple[str, ...]
    fingerprint: str
    seconds: float = 0.0


def find_tarball_record(tarball: Path) -> TarballRecord | None:
    """Return the record of a tarball; None if it has none.

    Raises:
        HearevalError: the record can't be read, or is not one of a tarball.
    """
    sidecar = layout.tar_manifest(tarball)
    return read_tarball_record(sidecar) if sidecar.exists() else None


def read_tarball_record(sidecar: Path) -> TarballRecord:
    """Return the record of a tarball from its file.

    Raises:
        HearevalError: the file is missing, can't be read, or is not a tarball's record.
    """
    record = read_fields(sidecar, remedy=REMEDY)
    return TarballRecord(
        sha256=record.text("sha256"),
        bytes=record.integer("bytes", 0),
        names=record.texts("names"),
        fingerprint=record.text("fingerprint"),
        seconds=record.number("seconds", 0.0),
    )


def check_tarballs_are_ours(tarball: Path, latest: Path) -> None:
    """Raise FileExistsError if a tarball exists that heareval did not pack, which nobody may replace.

    Args:
        tarball: the path that the record belongs to.
        latest: the other name of the same tarball.
    """
    for path in (tarball, latest):
        if path.is_file() and not layout.tar_manifest(tarball).exists():
            raise FileExistsError(errno.EEXIST, "a tarball that heareval did not pack", str(path))


def begin_tarball_record(tarball: Path, names: tuple[str, ...]) -> None:
    """Write a record before the tarball exists, unless there is one.

    If heareval is killed while it packs, the record says that the tarball is its own and may be replaced.
    """
    if not layout.tar_manifest(tarball).exists():
        write_tarball_record(tarball, TarballRecord("", 0, names, ""))


def write_tarball_record(tarball: Path, record: TarballRecord) -> None:
    """Write the record of a tarball into its sidecar."""
    files.write_json(layout.tar_manifest(tarball), asdict(record))
