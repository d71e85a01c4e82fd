"""What a submission is installed from: a folder, a file, a commit of a repository, or words for pip."""

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
# What pip takes: perhaps a name with extras and an @, then a place; else no more than the place.
NAMED = re.compile(r"(?s)(?:\s*([\w.-]+\s*(?:\[[^]]*\])?)\s*@)?\s*(.*)")
# What pip looks for on the disk without being told that it lies there.
ARCHIVES = (
    *(".whl", ".zip", ".tar", ".gz", ".tgz"),
    *(".bz2", ".tbz", ".xz", ".txz", ".lzma", ".lz", ".tlz"),
)
# What a folder holds that is no source; at its top only, as a package may be called `build`.
MADE_HERE = (
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
VERSIONED = (".git", ".hg", ".svn")
BUILDABLE = ("pyproject.toml", "setup.py")
ASK_S = 60.0


@dataclass(frozen=True)
class Source:
    """Something to install, as it is now.

    Args:
        text: what pip takes; for a folder its path.
        identity: what tells it from any other: a digest, else the text with the full commit.
        is_folder: whether a copy of it is installed.
    """

    text: str
    identity: str
    is_folder: bool = False


def look_at(text: str, apart: Collection[Path]) -> Source:
    """The source that a path, or the words for pip, mean now.

    Args:
        text: absolute path of a folder or file, or what pip takes.
        apart: folders that are no part of a source which they lie in: those that a run writes.
    """
    if is_git(text):
        text = with_commit(text)
    path = Path(text)
    if not path.is_absolute():
        return Source(text, text)
    if path.is_file():
        return Source(text, f"file {path.name} {files.file_checksum(path, 'sha256')}")
    if not any((path / name).is_file() for name in BUILDABLE):
        got = f"no {' or '.join(BUILDABLE)} there" if path.is_dir() else "no such folder"
        raise HearevalError(f"source {path}", got=got, expected="a folder that `pip install` takes")
    return Source(text, f"tree {tree_digest(path, apart)}", is_folder=True)


# --------------------------------------------------------------------------- folders


def tree_digest(folder: Path, apart: Collection[Path]) -> str:
    """Digest of the names and contents of all files of a source folder."""
    digest = hashlib.sha256()
    for inside, path in source_files(folder, apart):
        if inside.parts[0] not in VERSIONED:
            digest.update(os.fsencode(inside) + b"\0" + files.file_checksum(path, "sha256").encode() + b"\n")
    return digest.hexdigest()


def copy_tree(folder: Path, target: Path, apart: Collection[Path]) -> None:
    """Copy a source folder without what was made in it, but with its history: versions may come from it."""
    for inside, path in source_files(folder, apart):
        copy = target / inside
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def source_files(folder: Path, apart: Collection[Path]) -> Iterator[tuple[Path, Path]]:
    """(path inside, path) of each file in the order of their names; links are what they lead to."""
    yield from _below(folder, Path(), {folder.resolve()}, {path.resolve() for path in apart})


def _below(folder: Path, inside: Path, above: set[Path], apart: set[Path]) -> Iterator[tuple[Path, Path]]:
    for path in sorted(folder.iterdir()):
        name, real = inside / path.name, path.resolve()
        if real in apart or _is_made(path, at_top=not inside.parts):
            continue
        if path.is_file():
            yield name, path
        # A link to a folder that it lies in has no end.
        elif path.is_dir() and real not in above:
            yield from _below(path, name, above | {real}, apart)


def _is_made(path: Path, *, at_top: bool) -> bool:
    name = path.name
    return (
        name == "__pycache__"
        or name.endswith((".pyc", ".egg-info"))
        or (at_top and name in MADE_HERE)
        or (path / "pyvenv.cfg").is_file()
    )


# --------------------------------------------------------------------------- words for pip


def is_on_disk(text: str) -> bool:
    """Whether pip would read from a disk what it takes this for; repositories of git have commits.

    >>> is_on_disk("wheels/m.whl"), is_on_disk("m @ file:m.whl"), is_on_disk("m @ git+file://host/m@v1")
    (True, True, False)
    """
    name, place = NAMED.fullmatch(text).groups()  # type: ignore[union-attr]
    if is_git(text):
        return False
    if re.match(r"[a-z][a-z0-9.-]*(\+[a-z]+)?:", place, re.IGNORECASE):
        return bool(re.match(r"([^:/]+\+)?file:", place, re.IGNORECASE))
    wanted, _, _ = place.partition(";")
    is_archive = wanted.partition("[")[0].strip().lower().endswith(ARCHIVES)
    return bool(name) or "/" in wanted or is_archive


def is_git(text: str) -> bool:
    """Whether a text for pip names a repository of git: `git+https://...`, also after `NAME @ `."""
    place = NAMED.fullmatch(text).group(2)  # type: ignore[union-attr]
    return bool(re.match(r"git\+[a-z]+://", place))


def git_revision(text: str) -> str:
    """The revision that a text for pip names, or "", also if it has no URL.

    >>> git_revision("git+ssh://git@host/repo.git@v1.2#subdirectory=python")
    'v1.2'
    """
    try:
        return _split(text)[2]
    except ValueError:
        return ""


def _split(text: str) -> tuple[str, str, str, str]:
    """What stands before the URL, the URL, the revision, and what follows."""
    before, _, url = text.partition("git+")
    parts = urlsplit(url)
    path, at, revision = parts.path.rpartition("@")
    if not at:
        path, revision = parts.path, ""
    bare = urlunsplit(parts._replace(path=path, fragment=""))
    return f"{before}git+", bare, revision, f"#{parts.fragment}" if parts.fragment else ""


def with_commit(text: str) -> str:
    """The same with the full commit in place of a tag or branch, which may be another one tomorrow."""
    before, url, revision, after = _split(text)
    return f"{before}{url}@{_commit_of(url, revision)}{after}"


def _commit_of(url: str, revision: str) -> str:
    if COMMIT.fullmatch(revision):
        return revision
    # Of an annotated tag the commit that it is on comes under its name and ^{}.
    names = [f"refs/tags/{revision}^{{}}", f"refs/tags/{revision}", f"refs/heads/{revision}", revision]
    answers = (line.partition("\t") for line in _ask_git(url, names))
    found = {name: commit for commit, _, name in answers}
    commit = next((found[name] for name in names if name in found), "")
    if not commit:
        raise HearevalError(
            f"revision {revision!r} of {url}",
            got="no such tag or branch",
            expected="a tag, a branch or a full commit, of 40 hex digits",
        )
    return commit


def _ask_git(url: str, names: list[str]) -> list[str]:
    """What `git ls-remote` says: lines of a commit, a tab and a name."""
    remedy = "Name the full commit, for which nobody is asked, or try again."
    try:
        done = subprocess.run(
            ["git", "ls-remote", "--", url, *names],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            text=True,
            timeout=ASK_S,
            check=False,
        )
    except FileNotFoundError:
        raise HearevalError("git", got="no such program", expected="one that fetches " + url) from None
    except subprocess.TimeoutExpired:
        raise HearevalError(
            url, got=f"no answer in {ASK_S:g} s", expected="its tags", remedy=remedy
        ) from None
    if done.returncode:
        words = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise HearevalError(f"repository {url}", got=words, expected="its tags and branches", remedy=remedy)
    return done.stdout.splitlines()
