"""Decide which members of an archive may be written, and where, by their names, kinds and sizes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from heareval.errors import HearevalError

# Audio compresses to a third at best and tables to a twentieth; only a malicious archive expands more.
MAX_EXPANSION = 100
# Silence compresses much better, so every archive may expand to this size.
MAX_EXPANSION_BYTES_FREE = 1 << 30
# An empty file occupies space too.
MIN_MEMBER_BYTES = 512
FILE, FOLDER, SYMBOLIC_LINK, HARD_LINK = "a file", "a folder", "a symbolic link", "a hard link"
LINKS = (SYMBOLIC_LINK, HARD_LINK)
SHOWN_CHARACTERS = 100


@dataclass(frozen=True)
class Member:
    """The header of a member of an archive.

    Args:
        name: its path in the archive.
        kind: FILE, FOLDER, one of LINKS, or a description of what else it is.
        size: its uncompressed size in bytes, according to the archive.
        link: the target of a link; a link without a target is refused.
    """

    name: str
    kind: str
    size: int = 0
    link: str = ""


class Gate:
    """Admits members of one archive to one folder, or refuses them; remembers what it has admitted."""

    def __init__(self, archive: Path, folder: Path, archive_bytes: int) -> None:
        self.archive, self.folder = archive, folder
        self.allowed_bytes = MAX_EXPANSION * archive_bytes + MAX_EXPANSION_BYTES_FREE
        self.bytes = 0
        # -1 if the file system has no limit.
        self.max_name, self.max_path = (os.pathconf(folder, f"PC_{what}_MAX") for what in ("NAME", "PATH"))
        self.kinds: dict[str, str] = {}

    @property
    def files(self) -> int:
        """The number of files among the admitted members."""
        return sum(kind != FOLDER for kind in self.kinds.values())

    def admit(self, member: Member) -> Path:
        """Admit a member and return the path to write it to; it replaces an earlier one of the same name.

        Raises:
            HearevalError: the path is outside the folder or not valid, or the archive expands too much.
        """
        parts = self._split_name(member)
        if member.kind in LINKS and member.link:
            self.linked_file(member)
        elif member.kind not in (FILE, FOLDER):
            raise self.refusal(member.name, f", {member.kind}", "files and folders only")
        if member.size < 0:
            raise self.refusal(member.name, f" of {member.size} bytes", "a size of 0 or more")
        self._remember(member, parts)
        self.grow(member.name, max(member.size, MIN_MEMBER_BYTES))
        return self.folder.joinpath(*parts)

    def path_of(self, name: str) -> Path:
        """Return the path of an admitted member."""
        return self.folder.joinpath(*_split_path(name))

    def name_of(self, path: Path) -> str:
        """Return the name of an admitted file: its path relative to the folder."""
        return path.relative_to(self.folder).as_posix()

    def linked_file(self, member: Member) -> Path:
        """Return the file that a link points to, which must have been admitted before.

        Links are written as copies or hard links of that file, so no later member can follow one out of the
        folder.

        Raises:
            HearevalError: there is no such file.
        """
        # The target of a hard link is relative to the archive, that of a symbolic link to its own folder.
        parts = _split_path(member.name)[:-1] if member.kind == SYMBOLIC_LINK else []
        for part in _split_path(member.link):
            if part != "..":
                parts.append(part)
            else:
                # A target outside the folder keeps its leading "..", so it matches no admitted file.
                parts = parts[:-1] if parts and parts[-1] != ".." else [*parts, ".."]
        path = "/".join(parts)
        is_known = self.kinds.get(path) == FILE and path != "/".join(_split_path(member.name))
        if not is_known or member.link.startswith("/"):
            got = f", {member.kind} to {_shorten(member.link)}"
            raise self.refusal(member.name, got, "links to earlier files of the archive")
        return self.folder.joinpath(*parts)

    def grow(self, name: str, size: int) -> None:
        """Count bytes of a member, declared or written; raise HearevalError if there are too many."""
        self.bytes += size
        if self.bytes > self.allowed_bytes:
            raise self.refusal(
                name,
                f", with which it expands to {self.bytes} bytes",
                f"at most {self.allowed_bytes} for an archive of this size",
            )

    def refusal(self, name: str, got: str, expected: str) -> HearevalError:
        """Return the error for a member that is refused."""
        return HearevalError(
            f"archive {self.archive}",
            got=f"member {_shorten(name)}{got}",
            expected=expected,
            remedy="It is not the published corpus, or malicious: remove it, and get it from another source.",
        )

    def _split_name(self, member: Member) -> list[str]:
        """Return the parts of a member's path; raise HearevalError if it is unsafe or cannot be written."""
        name, parts = member.name, _split_path(member.name)
        if name.startswith("/") or ".." in parts or "\\" in name or re.match("[A-Za-z]:", name):
            raise self.refusal(name, "", "names inside the archive's folder")
        if not parts and member.kind != FOLDER:
            raise self.refusal(name, ", which is not a file name", "file names")
        try:
            raw = [os.fsencode(part) for part in parts]
            length = len(os.fsencode(self.folder)) + len(raw) + sum(map(len, raw))
        except UnicodeEncodeError:
            raise self.refusal(name, "", "names that the file system can write") from None
        if "\0" in name or _exceeds(length + 1, self.max_path):
            raise self.refusal(name, "", "names that the file system can write")
        if any(_exceeds(len(part), self.max_name) for part in raw):
            raise self.refusal(name, "", f"names of at most {self.max_name} bytes")
        return parts

    def _remember(self, member: Member, parts: list[str]) -> None:
        """Remember a member and the folders above it; refuse paths that are both file and folder."""
        for depth in range(1, len(parts)):
            if self.kinds.setdefault("/".join(parts[:depth]), FOLDER) != FOLDER:
                raise self.refusal(
                    member.name, f" below {'/'.join(parts[:depth])!r}, a file", "a folder above it"
                )
        path = "/".join(parts)
        if (self.kinds.get(path, member.kind) == FOLDER) != (member.kind == FOLDER):
            raise self.refusal(member.name, " both as a file and as a folder", "one of them")
        self.kinds[path] = FOLDER if member.kind == FOLDER else FILE


def create(path: Path) -> BinaryIO:
    """Return a new file, open for writing; an existing file of its name is removed."""
    clear(path)
    # "x" neither follows a link nor writes to a file that has other names.
    return open(path, "xb")


def clear(path: Path) -> None:
    """Create the folders above a file, and remove an existing file of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


def _split_path(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _exceeds(length: int, limit: int) -> bool:
    return 0 <= limit < length


def _shorten(name: str) -> str:
    return repr(name if len(name) <= SHOWN_CHARACTERS else f"{name[:SHOWN_CHARACTERS]}...")
