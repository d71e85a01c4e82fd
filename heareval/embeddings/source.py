"""Sources of submissions: a folder, a file, a commit of a git repository, or a requirement for pip."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from heareval import files
from heareval.errors import HearevalError

COMMIT = re.compile("[0-9a-f]{40}")
# A requirement for pip: an optional name with extras and an @, then a location.
REQUIREMENT = re.compile(r"(?s)(?:\s*([\w.-]+\s*(?:\[[^]]*\])?)\s*@)?\s*(.*)")
# Suffixes that pip takes for a local file, even without a path.
ARCHIVES = (
    *(".whl", ".zip", ".tar", ".gz", ".tgz"),
    *(".bz2", ".tbz", ".xz", ".txz", ".lzma", ".lz", ".tlz"),
)
# Generated files and folders; only at the top of a source, since a package may be called `build`.
GENERATED = (
    "build",
    "dist",
    ".venv",
    "venv",
    ".tox",
    ".nox",
    ".eggs",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
)
VERSION_CONTROL = (".git", ".hg", ".svn")
BUILDABLE = ("pyproject.toml", "setup.py")
GIT_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Source:
    """A source in its present state.

    Args:
        text: what is passed to pip; the path of a folder.
        identity: changes with the content: a SHA-256, or the requirement with a full commit.
        is_folder: whether it is a folder, of which a copy is installed.
    """

    text: str
    identity: str
    is_folder: bool = False


def resolve_source(text: str, excluded: Collection[Path]) -> Source:
    """Return the source that a path or a requirement refers to now.

    Args:
        text: absolute path of a folder or file, or a requirement for pip.
        excluded: folders inside the source that do not belong to it, because runs write there.

    Raises:
        HearevalError: there is no such folder or revision, or pip cannot install the folder.
    """
    if is_git(text):
        text = pin_commit(text)
    path = Path(text)
    if not path.is_absolute():
        return Source(text, text)
    if path.is_file():
        return Source(text, f"file {path.name} {files.file_checksum(path, 'sha256')}")
    if not any((path / name).is_file() for name in BUILDABLE):
        got = f"no {' or '.join(BUILDABLE)} there" if path.is_dir() else "no such folder"
        raise HearevalError(f"source {path}", got=got, expected="a folder that `pip install` takes")
    return Source(text, f"tree {hash_tree(path, excluded)}", is_folder=True)


# --------------------------------------------------------------------------- folders


def hash_tree(folder: Path, excluded: Collection[Path]) -> str:
    """Return the SHA-256 of the names and contents of all files of a source folder."""
    digest = hashlib.sha256()
    for inside, path in list_source_files(folder, excluded):
        if inside.parts[0] not in VERSION_CONTROL:
            digest.update(os.fsencode(inside) + b"\0" + files.file_checksum(path, "sha256").encode() + b"\n")
    return digest.hexdigest()


def copy_tree(folder: Path, target: Path, excluded: Collection[Path]) -> None:
    """Copy a source folder without generated files, but with .git: versions may be derived from it."""
    for inside, path in list_source_files(folder, excluded):
        copy = target / inside
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def list_source_files(folder: Path, excluded: Collection[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield (path inside, path) of each file in the order of their names; links are followed."""
    excluded = {path.resolve() for path in excluded}
    yield from _walk(folder, Path(), {folder.resolve()}, excluded)


def _walk(folder: Path, inside: Path, parents: set[Path], excluded: set[Path]) -> Iterator[tuple[Path, Path]]:
    for path in sorted(folder.iterdir()):
        name, real = inside / path.name, path.resolve()
        if real in excluded or _is_generated(path, at_top=not inside.parts):
            continue
        if path.is_file():
            yield name, path
        # A link to one of its parents would never end.
        elif path.is_dir() and real not in parents:
            yield from _walk(path, name, parents | {real}, excluded)


def _is_generated(path: Path, *, at_top: bool) -> bool:
    name = path.name
    return (
        name == "__pycache__"
        or name.endswith((".pyc", ".egg-info"))
        or (at_top and name in GENERATED)
        or (path / "pyvenv.cfg").is_file()
    )


# --------------------------------------------------------------------------- requirements for pip


def is_on_disk(text: str) -> bool:
    """Return whether pip would read this requirement from a local file or folder.

    A local git repository does not count: its commits have identities.

    >>> is_on_disk("wheels/m.whl"), is_on_disk("m @ file:m.whl"), is_on_disk("m @ git+file://host/m@v1")
    (True, True, False)
    """
    name, place = REQUIREMENT.fullmatch(text).groups()  # type: ignore[union-attr]
    if is_git(text):
        return False
    if re.match(r"[a-z][a-z0-9.-]*(\+[a-z]+)?:", place, re.IGNORECASE):
        return bool(re.match(r"([^:/]+\+)?file:", place, re.IGNORECASE))
    wanted, _, _ = place.partition(";")
    is_archive = wanted.partition("[")[0].strip().lower().endswith(ARCHIVES)
    return bool(name) or "/" in wanted or is_archive


def is_git(text: str) -> bool:
    """Return whether a requirement refers to a git repository: `git+https://...`, also after `NAME @ `."""
    place = REQUIREMENT.fullmatch(text).group(2)  # type: ignore[union-attr]
    return bool(re.match(r"git\+[a-z]+://", place))


def find_revision(text: str) -> str:
    """Return the revision in a requirement; "" if there is none, or no valid URL.

    >>> find_revision("git+ssh://git@host/repo.git@v1.2#subdirectory=python")
    'v1.2'
    """
    try:
        return _split(text)[2]
    except ValueError:
        return ""


def _split(text: str) -> tuple[str, str, str, str]:
    """Return what precedes the URL, the URL, the revision, and what follows."""
    before, _, url = text.partition("git+")
    parts = urlsplit(url)
    path, at, revision = parts.path.rpartition("@")
    if not at:
        path, revision = parts.path, ""
    bare = urlunsplit(parts._replace(path=path, fragment=""))
    return f"{before}git+", bare, revision, f"#{parts.fragment}" if parts.fragment else ""


def pin_commit(text: str) -> str:
    """Return a requirement with the full commit in place of a tag or branch, which may move."""
    before, url, revision, after = _split(text)
    return f"{before}{url}@{_find_commit(url, revision)}{after}"


def _find_commit(url: str, revision: str) -> str:
    if COMMIT.fullmatch(revision):
        return revision
    # git lists the commit of an annotated tag under the name of the tag and ^{}.
    names = [f"refs/tags/{revision}^{{}}", f"refs/tags/{revision}", f"refs/heads/{revision}", revision]
    answers = (line.partition("\t") for line in _list_remote_refs(url, names))
    found = {name: commit for commit, _, name in answers}
    commit = next((found[name] for name in names if name in found), "")
    if not commit:
        raise HearevalError(
            f"revision {revision!r} of {url}",
            got="no such tag or branch",
            expected="a tag, a branch or a full commit, of 40 hex digits",
        )
    return commit


def _list_remote_refs(url: str, names: list[str]) -> list[str]:
    """Return the output of `git ls-remote`: lines of a commit, a tab and a name."""
    remedy = "Give the full commit, which needs no look-up, or try again."
    try:
        done = subprocess.run(
            ["git", "ls-remote", "--", url, *names],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            text=True,
            errors="replace",
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise HearevalError("git", got="no such program", expected="one to fetch " + url) from None
    except subprocess.TimeoutExpired:
        raise HearevalError(
            url, got=f"no answer in {GIT_TIMEOUT_S:g} s", expected="a list of its tags", remedy=remedy
        ) from None
    if done.returncode:
        words = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise HearevalError(
            f"repository {url}", got=words, expected="a list of its tags and branches", remedy=remedy
        )
    return done.stdout.splitlines()
