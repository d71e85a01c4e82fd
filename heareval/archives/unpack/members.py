"""Which members of an archive may be written, and where: names, kinds, sizes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from heareval.errors import HearevalError

# Sounds pack to a third at best and tables to a twentieth; only a trap unfolds to more than this.
MAX_EXPANSION = 100
# Silence does better, so small archives have this for nothing.
MAX_EXPANSION_BYTES_FREE = 1 << 30
# An empty file takes room too.
MIN_MEMBER_BYTES = 512
FILE, FOLDER, SYMBOLIC_LINK, HARD_LINK = "a file", "a folder", "a symbolic link", "a hard link"
LINKS = (SYMBOLIC_LINK, HARD_LINK)
SHOWN_LETTERS = 100


@dataclass(frozen=True)
class Member:
    """What an archive says of one of its members.

    Args:
        name: its path as the archive has it.
        kind: FILE, FOLDER, one of LINKS, or in words what else it is.
        size: bytes that it says it will unfold to.
        link: where a link leads; without it no link is let in.
    """

    name: str
    kind: str
    size: int = 0
    link: str = ""


class Gate:
    """Lets members of one archive into one folder, or refuses them; knows all that it has let in."""

    def __init__(self, archive: Path, folder: Path, archive_bytes: int) -> None:
        self.archive, self.folder = archive, folder
        self.allowed_bytes = MAX_EXPANSION * archive_bytes + MAX_EXPANSION_BYTES_FREE
        self.bytes = 0
        # -1 where the file system has no bound.
        self.max_name, self.max_path = (os.pathconf(folder, f"PC_{what}_MAX") for what in ("NAME", "PATH"))
        self.kinds: dict[str, str] = {}

    @property
    def files(self) -> int:
        """How many files there are once all that was let in is written."""
        return sum(kind != FOLDER for kind in self.kinds.values())

    def admit(self, member: Member) -> Path:
        """Where to write a member; a later one of the same name takes an earlier one's place.

        Raises:
            HearevalError: it would leave the folder, can't be there, or is more than the archive may hold.
        """
        parts = self._parts(member)
        if member.kind in LINKS and member.link:
            self.linked_file(member)
        elif member.kind not in (FILE, FOLDER):
            raise self.refusal(member.name, f", {member.kind}", "files and folders only")
        if member.size < 0:
            raise self.refusal(member.name, f" of {member.size} bytes", "a size")
        self._claim(member, parts)
        self.grow(member.name, max(member.size, MIN_MEMBER_BYTES))
        return self.folder.joinpath(*parts)

    def path_of(self, name: str) -> Path:
        """Where a member is that was let in."""
        return self.folder.joinpath(*_normal(name))

    def name_of(self, path: Path) -> str:
        """The path below the folder of a file that was let in."""
        return path.relative_to(self.folder).as_posix()

    def linked_file(self, member: Member) -> Path:
        """The file that a link is another name of; it must have been let in before.

        No link is ever written as one, so none can lead the members after it out of the folder.
        """
        # A hard link names its file as the archive does, a symbolic one as seen from its own folder.
        parts = _normal(member.name)[:-1] if member.kind == SYMBOLIC_LINK else []
        for part in _normal(member.link):
            if part != "..":
                parts.append(part)
            else:
                # Beyond the folder nothing is known, so a link that climbs out finds no file.
                parts = parts[:-1] if parts and parts[-1] != ".." else [*parts, ".."]
        path = "/".join(parts)
        is_known = self.kinds.get(path) == FILE and path != "/".join(_normal(member.name))
        if not is_known or member.link.startswith("/"):
            got = f", {member.kind} to {_shown(member.link)}"
            raise self.refusal(member.name, got, "links to files of the archive that came before")
        return self.folder.joinpath(*parts)

    def grow(self, name: str, size: int) -> None:
        """Count the bytes of a member, declared or written."""
        self.bytes += size
        if self.bytes > self.allowed_bytes:
            raise self.refusal(
                name,
                f", which brings it to {self.bytes} bytes unpacked",
                f"at most {self.allowed_bytes} from an archive of its size",
            )

    def refusal(self, name: str, got: str, expected: str) -> HearevalError:
        """The error that tells which member is not let in, and why."""
        return HearevalError(
            f"archive {self.archive}",
            got=f"member {_shown(name)}{got}",
            expected=expected,
            remedy="It is not the corpus as published, or a trap: remove it, and get it elsewhere.",
        )

    def _parts(self, member: Member) -> list[str]:
        """The names on the way to a member, checked."""
        name, parts = member.name, _normal(member.name)
        if name.startswith("/") or ".." in parts or "\\" in name or re.match("[A-Za-z]:", name):
            raise self.refusal(name, "", "names inside the archive's folder")
        if not parts and member.kind != FOLDER:
            raise self.refusal(name, ", which is no name", "names of files")
        try:
            raw = [os.fsencode(part) for part in parts]
            length = len(os.fsencode(self.folder)) + len(raw) + sum(map(len, raw))
        except UnicodeEncodeError:
            raise self.refusal(name, "", "names that the file system can write") from None
        if "\0" in name or _is_beyond(length + 1, self.max_path):
            raise self.refusal(name, "", "names that the file system can write")
        if any(_is_beyond(len(part), self.max_name) for part in raw):
            raise self.refusal(name, "", f"names of at most {self.max_name} bytes")
        return parts

    def _claim(self, member: Member, parts: list[str]) -> None:
        """Remember a member and the folders above it; a path is a folder or not, and remains so."""
        for depth in range(1, len(parts)):
            if self.kinds.setdefault("/".join(parts[:depth]), FOLDER) != FOLDER:
                raise self.refusal(
                    member.name, f" below {'/'.join(parts[:depth])!r}, a file", "a folder there"
                )
        path = "/".join(parts)
        if (self.kinds.get(path, member.kind) == FOLDER) != (member.kind == FOLDER):
            raise self.refusal(member.name, " as a file and as a folder", "one of them")
        self.kinds[path] = FOLDER if member.kind == FOLDER else FILE


def create(path: Path) -> BinaryIO:
    """A new file, open for writing, in place of what had its name."""
    clear(path)
    # "x" neither follows a link nor writes into a file that has a second name.
    return open(path, "xb")


def clear(path: Path) -> None:
    """Make room for a file: the folders above it are there, and nothing has its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


def _normal(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _is_beyond(length: int, bound: int) -> bool:
    return 0 <= bound < length


def _shown(name: str) -> str:
    return repr(name if len(name) <= SHOWN_LETTERS else f"{name[:SHOWN_LETTERS]}...")
