"""What lies in a folder, links followed, and which files cannot be read like files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from heareval.errors import HearevalError

# Opening a FIFO waits for a writer, a socket cannot be opened, and some devices never end.
SPECIAL_FILES = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def walk_files(folder: Path, *, inside: Collection[Path] = ()) -> Iterator[tuple[str, Path]]:
    """Yield everything in a folder that is no folder itself, at any depth, and follow links to folders.

    Yields the path inside the folder and the whole path, in the order of the names in each folder.

    Args:
        folder: the folder.
        inside: folders that contain it; a link to one of them is a loop, too.

    Raises:
        HearevalError: a link leads back to a folder that contains it.
        OSError: a folder cannot be read.
    """
    parents = {_identify(each): each for each in (*inside, folder)}
    return _walk(folder, "", parents)


def _walk(folder: Path, name: str, parents: dict[tuple[int, int], Path]) -> Iterator[tuple[str, Path]]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = folder / entry.name
        if not _is_folder(entry):
            yield f"{name}{entry.name}", path
            continue
        identity = _identify(path)
        if identity in parents:
            raise HearevalError(
                f"link {path}",
                got=f"a loop: it leads back to {parents[identity]}",
                expected="links to other folders",
                remedy="Remove the link.",
            )
        yield from _walk(path, f"{name}{entry.name}/", {**parents, identity: path})


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # Links that lead to each other are no folder. Whoever reads them gets the error.
        if error.errno == errno.ELOOP:
            return False
        raise


def _identify(folder: Path) -> tuple[int, int]:
    facts = folder.stat()
    return facts.st_dev, facts.st_ino


def describe_unusual_file(path: Path) -> str:
    """Return why a path cannot be read like a file, without opening it; "" if it is a regular file.

    >>> describe_unusual_file(Path("/dev/null")), describe_unusual_file(Path("/none"))
    ('a device', 'no such file')
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"a link to {path.readlink()}, which does not exist" if path.is_symlink() else "no such file"
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return "a loop of links"
    return "" if stat.S_ISREG(mode) else SPECIAL_FILES.get(stat.S_IFMT(mode), "no regular file")
