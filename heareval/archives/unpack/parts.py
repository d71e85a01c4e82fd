"""Parts of an archive: what a reader of labels needs of it, and then the sounds that were drawn."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from heareval import files
from heareval.archives.unpack.extract import Portion, extract
from heareval.errors import HearevalError
from heareval.spec import Progress

SOUNDS = (".wav", ".flac", ".aif", ".aiff", ".mp3", ".ogg", ".opus", ".m4a", ".webm")
# Another list, or more bytes of a head, is another edition of what is unpacked: raise `extract.VERSION` then.
# Beside the folder of an archive whose sounds are not unpacked: their names.
NAMES = "sounds.json"


def scan(
    archive: Path, folder: Path, progress: Progress, *, headers: bool, volumes: Sequence[Path] = ()
) -> int:
    """Unpack all but the sounds into `files/`, and list these; returns how many files there are.

    Args:
        headers: sounds are there as files of their size, of which only the first bytes are true.
    """
    names: list[str] = []

    def portion_of(member: str) -> Portion:
        if not is_sound(member):
            return Portion.WHOLE
        names.append(member)
        return Portion.HEAD if headers else Portion.NOTHING

    count = extract(archive, folder / "files", progress, volumes=volumes, portion_of=portion_of)
    files.write_json(folder / NAMES, names)
    return count


def is_sound(member: str) -> bool:
    """Whether a member of this name is taken for a sound."""
    return PurePosixPath(member).suffix.lower() in SOUNDS


def listed_sounds(folder: Path) -> set[Path]:
    """Where the sounds of a scanned archive would be, were they unpacked."""
    return {folder / "files" / name for name in json.loads((folder / NAMES).read_text(encoding="utf-8"))}


def extract_some(
    archive: Path,
    folder: Path,
    members: Collection[str],
    progress: Progress,
    *,
    volumes: Sequence[Path] = (),
) -> None:
    """Unpack some members of an archive into `files/`; raises HearevalError if one is not there."""
    missing = set(members)

    def portion_of(member: str) -> Portion:
        missing.discard(member)
        return Portion.WHOLE if member in members else Portion.NOTHING

    extract(archive, folder / "files", progress, volumes=volumes, portion_of=portion_of)
    # What rar archives hold is unpacked whole, without a question.
    missing = {member for member in missing if not (folder / "files" / member).exists()}
    if missing:
        raise HearevalError(
            f"archive {archive}", got=f"no member {min(missing)!r}", expected="one that its scan told of"
        )
