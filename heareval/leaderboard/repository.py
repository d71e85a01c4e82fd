"""A new results repository: its folders, and the workflows that check cards and publish the site."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path

from heareval import files
from heareval.errors import CONTROLS, HearevalError

# Where the files of `repository/` go.
TEMPLATES: Mapping[str, str] = {
    "README.md": "README.md",
    "cards.md": "cards/README.md",
    "REMOVED.txt": "cards/REMOVED.txt",
    "references.md": "references/README.md",
    "gitattributes": ".gitattributes",
    "gitignore": ".gitignore",
    "pull_request_template.md": ".github/pull_request_template.md",
    "check.yml": ".github/workflows/check.yml",
    "comment.yml": ".github/workflows/comment.yml",
    "publish.yml": ".github/workflows/publish.yml",
}
REQUIREMENTS = "requirements.txt"


def write_repository(folder: Path, requirement: str) -> None:
    """Write a results repository into a new or empty folder, whole or not at all.

    Args:
        requirement: what pip is told to install in the workflows, such as `heareval==0.1.0`.

    Raises:
        HearevalError: the folder is not empty or is the working folder, or the requirement is no single line.

    Example: `write_repository(Path("results"), "heareval==0.1.0")`
    """
    if not requirement.strip() or CONTROLS.search(requirement) or "\n" in requirement:
        raise HearevalError("--requirement", got=repr(requirement), expected="one line for pip")
    folder = folder.absolute()
    _check_is_empty(folder)
    with files.building_folder(folder) as scratch:
        for name, target in TEMPLATES.items():
            path = scratch / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read_template(name))
        (scratch / REQUIREMENTS).write_text(f"{requirement.strip()}\n", encoding="utf-8")
        # Somebody may have written into it in the meantime, and then it would silently stay as it is.
        _check_is_empty(folder)


def read_template(name: str) -> bytes:
    """Return the content of a file that every results repository has."""
    return importlib.resources.files(__package__).joinpath("repository", name).read_bytes()


def _check_is_empty(folder: Path) -> None:
    if folder == Path.cwd():
        # Its place is taken by another folder, and the shell of the user would stay in the old one.
        got, remedy = "the working folder", "Change to the folder above it."
    elif folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        got, remedy = "a link" if folder.is_symlink() else "a file", "Choose another."
    elif folder.is_dir() and any(folder.iterdir()):
        got, remedy = f"{min(each.name for each in folder.iterdir())} in it", "Choose another."
    else:
        return
    raise HearevalError(f"{folder}", got=got, expected="a new or empty folder", remedy=remedy)
