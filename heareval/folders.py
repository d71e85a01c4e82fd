"""What lies in a folder, links followed, and which files cannot be read like files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class FolderContent:
    """What lies directly in a folder.

    Args:
        path: the folder.
        name: its path inside the folder where the walk began, with a `/` at the end; "" for that folder.
        files: names of everything that is no folder, sorted.
        folders: names of its folders and of links to folders, sorted; also of those that are not entered.
    """

    path: Path
    name: str
    files: tuple[str, ...]
    folders: tuple[str, ...]


def walk_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield everything in a folder that is no folder itself, at any depth, and follow links to folders.

    Yields the path inside the folder and the whole path.

    Raises:
        HearevalError: a link leads back to a folder that contains it.
        OSError: a folder cannot be read.
    """
    for content in walk_folders(folder):
        yield from ((f"{content.name}{name}", content.path / name) for name in content.files)


def walk_folders(
    folder: Path, *, inside: Path | None = None, is_entered: Callable[[str], bool] = lambda name: True
) -> Iterator[FolderContent]:
    """Yield the content of a folder and of all folders below it, and follow links to folders.

    Args:
        folder: the folder.
        inside: a folder that contains it; a link to that one is a loop, too.
        is_entered: says by its name whether a folder is entered.

    Raises:
        HearevalError: a link leads back to a folder that contains it.
        OSError: a folder cannot be read.
    """
    parents = {_identify(each): each for each in (inside or folder, folder)}
    return _walk(folder, "", parents, is_entered)


def _walk(
    folder: Path, name: str, parents: dict[tuple[int, int], Path], is_entered: Callable[[str], bool]
) -> Iterator[FolderContent]:
    with os.scandir(folder) as entries:
        is_folder = {entry.name: _is_folder(entry) for entry in sorted(entries, key=lambda entry: entry.name)}
    folders = tuple(each for each in is_folder if is_folder[each])
    yield FolderContent(folder, name, tuple(each for each in is_folder if not is_folder[each]), folders)
    for each in filter(is_entered, folders):
        path = folder / each
        identity = _identify(path)
        if identity in parents:
            raise HearevalError(
                f"folder {path}",
                got=f"a loop of links, which leads back to {parents[identity]}",
                expected="links to other folders",
                remedy="Remove the link.",
            )
        yield from _walk(path, f"{name}{each}/", {**parents, identity: path}, is_entered)


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
