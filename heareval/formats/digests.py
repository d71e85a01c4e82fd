"""Digests of the files that heareval wrote, by which it notices that another program has changed them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heareval import files
from heareval.errors import HearevalError
from heareval.formats.fields import Fields


@dataclass(frozen=True)
class FileDigest:
    """What a file was when heareval wrote it.

    Args:
        sha256: 64 hex digits.
        bytes: size of the file.
        mtime_ns: time of its last change, in nanoseconds since 1970; None if only the content counts.
    """

    sha256: str
    bytes: int
    mtime_ns: int | None


def digest_file(path: Path, sha256: str = "") -> FileDigest:
    """Return the digest of a file.

    Args:
        sha256: its SHA-256 if that is known; "" computes it.

    Example: `digest_file(Path("train.npy")).bytes`
    """
    # The size first: a change during the computation then shows as another time.
    stat = path.stat()
    return FileDigest(sha256 or files.file_checksum(path, "sha256"), stat.st_size, stat.st_mtime_ns)


def find_changes(
    folder: Path, digests: Mapping[str, FileDigest], *, is_thorough: bool = False
) -> Iterator[str]:
    """Yield a phrase for every file that is no longer what heareval wrote, such as `a.wav: no such file`.

    A file of the recorded size and time counts as unchanged. If its time differs, as after copying, its
    content decides.

    Args:
        folder: where the files are.
        digests: their digests by name, relative to the folder.
        is_thorough: read every file, whatever its size and time.

    Example: `list(find_changes(Path("tasks/esc50-v2.0.0-full/16000"), digests))`
    """
    for name, digest in digests.items():
        path = folder / name
        try:
            stat = path.stat()
            if stat.st_size != digest.bytes:
                yield f"{name}: {stat.st_size} bytes instead of {digest.bytes}"
            elif not is_thorough and stat.st_mtime_ns == digest.mtime_ns:
                continue
            elif files.file_checksum(path, "sha256") != digest.sha256:
                yield f"{name}: other content"
        except FileNotFoundError:
            yield f"{name}: no such file"
        except OSError as error:
            yield f"{name}: {error.strerror}"


def check_unchanged(folder: Path, digests: Mapping[str, FileDigest], remedy: str) -> None:
    """Raise HearevalError if a file in a folder is no longer what heareval wrote.

    Args:
        folder: where the files are.
        digests: their digests by name, relative to the folder.
        remedy: advice for the user.
    """
    changes = list(find_changes(folder, digests))
    if changes:
        others = f", and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise HearevalError(
            f"{folder}",
            got=f"files that another program has changed ({changes[0]}{others})",
            expected="the files that heareval wrote",
            remedy=remedy,
        )


def parse_digests(fields: Fields) -> dict[str, FileDigest]:
    """Return the digests in a JSON object.

    Raises:
        HearevalError: a value is missing or wrong.
    """
    return {name: parse_digest(fields.object(name)) for name in fields}


def parse_digest(fields: Fields) -> FileDigest:
    """Return the digest of one file in a JSON object.

    Raises:
        HearevalError: a value is missing or wrong.
    """
    return FileDigest(fields.text("sha256"), fields.integer("bytes"), fields.integer("mtime_ns", None))


def digests_to_json(digests: Mapping[str, FileDigest]) -> dict[str, Any]:
    """Return digests as JSON values."""
    return {name: asdict(digest) for name, digest in digests.items()}
