"""The SHA-256 of a submission's weights."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from heareval import files
from heareval.errors import HearevalError
from heareval.folders import describe_unusual_file, walk_files


def check_weights(weights_path: str, expected: str = "") -> str:
    """Return the SHA-256 of weights; "" if there are none.

    The SHA-256 of a folder, as TensorFlow saves models, is that of the names and SHA-256 of all its files.
    Links are followed, to files and to folders.

    Args:
        weights_path: file or folder, or "".
        expected: the SHA-256 that the weights must have; "" = any.

    Raises:
        HearevalError: the weights, or something in their folder, cannot be read like a file; a link leads
            back to a folder that contains it; or the SHA-256 differs.
    """
    if not weights_path:
        return ""
    path = Path(weights_path)
    if path.is_dir():
        lines = "".join(f"{_file_sha256(file)}  {name}\n" for name, file in sorted(walk_files(path)))
        found = hashlib.sha256(os.fsencode(lines)).hexdigest()
    else:
        found = _file_sha256(path)
    if expected not in ("", found):
        remedy = "These are other weights, or the file is damaged: replace it, or correct sha256."
        raise HearevalError(f"model file {path}", got=f"SHA-256 {found}", expected=expected, remedy=remedy)
    return found


def _file_sha256(file: Path) -> str:
    if unusual := describe_unusual_file(file):
        raise HearevalError(f"model file {file}", got=unusual, expected="the weights of the model")
    state = file.stat()
    return _sha256_at(file, state.st_size, state.st_mtime_ns)


@functools.cache
def _sha256_at(file: Path, size: int, modified_ns: int) -> str:
    """Return the SHA-256 of a file; it is computed again when size or modification time have changed."""
    return files.file_checksum(file, "sha256")
