"""Read the sounds in class folders."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from heareval.errors import HearevalError
from heareval.folders import FolderContent, describe_unusual_file, walk_folders
from heareval.tasks.own.labelled_sound import SPLITS, LabelledSound, LabelledSounds

SOUND_SUFFIXES = (".wav", ".flac", ".aiff", ".aif", ".mp3", ".ogg", ".opus", ".webm", ".m4a")
# What people call splits, besides the names that are recognised.
OTHER_SPLITS = ("training", "val", "validation", "dev", "development", "eval", "evaluation", "testing")
# What a folder may contain besides sounds: the words for one, and for several.
LEFT_OUT = {
    "other": ("file that is not a sound", "files that are not sounds"),
    "hidden file": ("hidden file", "hidden files"),
    "hidden folder": ("hidden folder", "hidden folders"),
    "empty folder": ("empty folder", "empty folders"),
}


def read_class_folders(folder: Path) -> LabelledSounds:
    """Return the sounds in the class folders, and what else there is.

    The class folders may be in folders `train`, `valid` and `test`, or two of them, which give the splits.
    Links to folders are followed.

    Raises:
        HearevalError: there is no such folder, a sound lies beside the class folders, a link leads nowhere,
            or one leads back to a folder that contains it.
    """
    if not folder.is_dir():
        raise HearevalError(
            f"folder {folder}", got="no such folder", expected="a folder with a sub-folder for each class"
        )
    others: dict[str, list[str]] = defaultdict(list)
    top = _read_top(folder, "", others)
    has_splits = len(top) > 1 and {path.name for path in top} <= set(SPLITS)
    classes = (
        [path for split in top for path in _read_top(split, f"{split.name}/", others)] if has_splits else top
    )
    rows: list[LabelledSound] = []
    for class_folder in classes:
        split = class_folder.parent.name if has_splits else ""
        for content in walk_folders(class_folder, inside=folder, is_entered=_is_visible):
            place = f"{class_folder.relative_to(folder)}/{content.name}"
            _note_others(content, place, others)
            rows += [
                LabelledSound(str(class_folder), f"{place}{name}", class_folder.name, split)
                for name in content.files
                if _is_sound(name)
            ]
    left_out = (_describe_others(words, others[kind]) for kind, words in LEFT_OUT.items() if others[kind])
    return LabelledSounds(rows, tuple(left_out), () if has_splits else _doubt_splits(top))


def _read_top(folder: Path, place: str, others: dict[str, list[str]]) -> list[Path]:
    """Return the folders in a folder without a class, and note what else it contains.

    Args:
        place: the path of the folder in messages, with a `/` at the end; "" for the folder of the task.
    """
    content = next(walk_folders(folder))
    for name in filter(_is_sound, content.files):
        raise HearevalError(
            f"sound {folder / name}", got="no class", remedy="Move the file into the sub-folder of its class."
        )
    _note_others(content, place, others)
    return [folder / name for name in content.folders if _is_visible(name)]


def _note_others(content: FolderContent, place: str, others: dict[str, list[str]]) -> None:
    """Add what a folder contains besides sounds to `others`, by kind.

    Raises:
        HearevalError: a link leads nowhere. It may be to a folder of sounds, on a disk that is not there.
    """
    for name in content.files:
        if not _is_sound(name):
            path = content.path / name
            if _is_visible(name) and path.is_symlink() and (unusual := describe_unusual_file(path)):
                remedy = "Mount the disk that it leads to, or remove the link."
                raise HearevalError(f"link {path}", got=unusual, expected="a file or folder", remedy=remedy)
            others["other" if _is_visible(name) else "hidden file"].append(f"{place}{name}")
    others["hidden folder"] += [f"{place}{name}" for name in content.folders if not _is_visible(name)]
    if place and not content.files and not content.folders:
        others["empty folder"].append(place.rstrip("/"))


def _describe_others(words: tuple[str, str], names: list[str]) -> str:
    """Return how many there are, with an example.

    >>> _describe_others(("hidden file", "hidden files"), ["a/.b", "c/.d"])
    '2 hidden files (such as a/.b)'
    """
    one, several = words
    return f"1 {one} ({names[0]})" if len(names) == 1 else f"{len(names)} {several} (such as {names[0]})"


def _doubt_splits(classes: list[Path]) -> tuple[str, ...]:
    names = [path.name for path in classes if path.name.lower() in (*SPLITS, *OTHER_SPLITS)]
    if len(names) < 2:
        return ()
    return (
        f"{', '.join(names)} are taken for classes; they would be splits if the folder contained nothing but "
        f"folders named {', '.join(SPLITS)}",
    )


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _is_sound(name: str) -> bool:
    return _is_visible(name) and name.lower().endswith(SOUND_SUFFIXES)
