"""Unpack parts of an archive: first what reading the labels needs, later the sounds of selected clips."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from heareval import files
from heareval.archives.unpack.extract import Portion, extract
from heareval.errors import HearevalError
from heareval.spec import Progress, ignore_progress

# If these suffixes or extract.HEAD_BYTES change, raise extract.VERSION: other files are unpacked then.
SOUND_SUFFIXES = (".wav", ".flac", ".aif", ".aiff", ".mp3", ".ogg", ".opus", ".m4a", ".webm")
# The file that lists the sounds of a scanned archive, beside its folder `files`.
SOUND_LIST = "sounds.json"


def scan(
    archive: Path,
    folder: Path,
    progress: Progress = ignore_progress,
    *,
    headers: bool,
    volumes: Sequence[Path] = (),
) -> int:
    """Unpack everything but the sounds to `files/`, and list the sounds; return the number of files.

    Args:
        archive: the file; the last volume if it is a zip in volumes.
        folder: where to write `files/` and the list.
        progress: called with the work done and all the work.
        headers: write the first bytes of every sound, in a file of the full size.
        volumes: the earlier volumes of a zip.
    """
    names: list[str] = []

    def portion_of(member: str) -> Portion:
        if not is_sound(member):
            return Portion.WHOLE
        names.append(member)
        return Portion.HEAD if headers else Portion.NOTHING

    count = extract(archive, folder / "files", progress, volumes=volumes, portion_of=portion_of)
    files.write_json(folder / SOUND_LIST, names)
    return count


def is_sound(member: str) -> bool:
    """Return whether the name of a member is that of a sound.

    >>> is_sound("audio/a.WAV"), is_sound("labels.csv")
    (True, False)
    """
    return PurePosixPath(member).suffix.lower() in SOUND_SUFFIXES


def list_sounds(folder: Path) -> set[Path]:
    """Return the paths that the sounds of a scanned archive would have, were they unpacked."""
    return {folder / "files" / name for name in json.loads((folder / SOUND_LIST).read_text(encoding="utf-8"))}


def extract_some(
    archive: Path,
    folder: Path,
    members: Collection[str],
    progress: Progress = ignore_progress,
    *,
    volumes: Sequence[Path] = (),
) -> None:
    """Unpack some members of an archive to `files/`; raise HearevalError if one is missing."""
    missing = set(members)

    def portion_of(member: str) -> Portion:
        missing.discard(member)
        return Portion.WHOLE if member in members else Portion.NOTHING

    extract(archive, folder / "files", progress, volumes=volumes, portion_of=portion_of)
    # Rar archives are unpacked whole, without asking portion_of.
    missing = {member for member in missing if not (folder / "files" / member).exists()}
    if missing:
        raise HearevalError(
            f"archive {archive}", got=f"no member {min(missing)!r}", expected="a member that its scan listed"
        )
