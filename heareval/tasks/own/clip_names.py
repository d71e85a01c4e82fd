"""The names of clips, made from the paths of sounds."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

from heareval.errors import HearevalError

# File systems allow 255 bytes; this leaves room for the suffixes of clips and of scratch files.
MAX_NAME_BYTES = 240
SURROGATE = re.compile("[\ud800-\udfff]")


def make_clip_id(path: str) -> str:
    """Return the name of the clip of a sound: the parts of its path, joined, without the suffix.

    >>> make_clip_id("owls/tawny/night 1.flac")
    'owls_tawny_night 1'
    """
    stem, _ = posixpath.splitext(path)
    return "_".join(part for part in stem.split("/") if part not in ("", ".."))


def check_clip_names(names: Iterable[tuple[str, Path]]) -> None:
    """Raise HearevalError if two sounds have one clip name, or a name that no file can have.

    Args:
        names: the clip name and the path of each sound.
    """
    path_of: dict[str, Path] = {}
    for clip_id, path in names:
        if clip_id in path_of:
            got = f"{path_of[clip_id]} and {path}"
            raise HearevalError(
                f"clip name {clip_id!r}", got=got, expected="one sound", remedy="Rename one of them."
            )
        path_of[clip_id] = path
        # Python decodes bytes that are not UTF-8 to surrogates, which a UTF-8 table cannot hold.
        if len(os.fsencode(clip_id)) > MAX_NAME_BYTES or SURROGATE.search(clip_id):
            expected = f"UTF-8 with at most {MAX_NAME_BYTES} bytes"
            got = "a longer name, or bytes that are not UTF-8"
            raise HearevalError(f"clip name {clip_id!r}", got=got, expected=expected)
