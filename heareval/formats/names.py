"""Check the names that files give to splits and clips before a path is made of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from heareval import files, layout
from heareval.errors import HearevalError
from heareval.formats.fields import shorten

# Their JSON files would take the place of the files that describe the whole folder.
RESERVED_SPLITS = tuple(
    name.removesuffix(".json") for name in (layout.TASK_METADATA, layout.RELATIONS, files.MANIFEST)
)


def is_inside(name: str) -> bool:
    """Return whether a relative path stays inside the folder that it is joined to.

    >>> is_inside("clips/a.wav"), is_inside("../a.wav"), is_inside("/a.wav")
    (True, False, False)
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def check_splits(splits: Iterable[str], where: str, remedy: str = "") -> None:
    """Check that every split is the name of one folder, and that no two are equal.

    Args:
        where: name of the list in errors.

    Raises:
        HearevalError: the list is empty, or a name is not usable.
    """
    seen: set[str] = set()
    for split in splits:
        if "/" in split or not is_inside(split) or split in RESERVED_SPLITS:
            expected = "the name of a folder, without '/'"
            raise HearevalError(where, got=shorten(split), expected=expected, remedy=remedy)
        if split in seen:
            raise HearevalError(where, got=f"{shorten(split)} twice", expected="each once", remedy=remedy)
        seen.add(split)
    if not seen:
        raise HearevalError(where, got="no split", expected="at least one", remedy=remedy)


def check_clip(clip: str, where: str, remedy: str = "") -> None:
    """Check that a clip's name leads to a file inside its split's folder.

    Raises:
        HearevalError: it leads elsewhere.
    """
    if not is_inside(clip):
        raise HearevalError(
            where, got=f"clip {shorten(clip)}", expected="a file inside the split's folder", remedy=remedy
        )
