"""What the commits of a git repository hold."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from heareval.errors import HearevalError

# Modes of what git stores.
FILE, PROGRAM, LINK, SUBMODULE, NOTHING = "100644", "100755", "120000", "160000", "000000"
HEAD = "HEAD"


@dataclass(frozen=True)
class StoredFile:
    """A file as a commit holds it.

    Args:
        path: its path in the repository.
        mode: git's mode of it; `NOTHING` if the commit has no such file.
        blob: name of its content in git.
        size: bytes; 0 for a submodule, and for a file that is not there.
    """

    path: str
    mode: str
    blob: str
    size: int


def find_top(folder: Path) -> Path:
    """Return the top folder of the repository that a folder lies in.

    Raises:
        HearevalError: it lies in none, or git is not installed.
    """
    return Path(os.fsdecode(_git(folder, "rev-parse", "--show-toplevel").rstrip(b"\n")))


def find_merge_base(repository: Path, base: str) -> str:
    """Return the commit from which HEAD left another branch.

    Args:
        base: name of the branch, or any other name of a commit.

    Raises:
        HearevalError: there is no such commit, or the histories have none in common.
    """
    commit = _git_text(
        repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}"
    )
    if not commit:
        raise HearevalError(
            "--base", got=repr(base), expected="a branch or a commit", remedy="Fetch it with `git fetch`."
        )
    found = _git_text(repository, "merge-base", commit, HEAD)
    if not found:
        raise HearevalError(
            f"--base {base}",
            got=f"no commit that it shares with {HEAD}",
            expected="a branch that this one was made from",
            remedy="Fetch more of the history: `git fetch --unshallow`.",
        )
    return found


def list_changed(repository: Path, before: str) -> list[StoredFile]:
    """Return the files that HEAD has otherwise than an earlier commit, as HEAD has them.

    A renamed file is one that is gone and one that is new: whether git takes a pair of files for a renaming
    depends on how similar and how many they are.
    """
    words = _git(repository, "diff-tree", "-r", "-z", "--no-renames", before, HEAD).split(b"\0")
    found = []
    for facts, path in zip(words[0:-1:2], words[1::2], strict=True):
        _, mode, _, blob, _ = facts.decode().lstrip(":").split(" ")
        found.append((os.fsdecode(path), mode, blob))
    sizes = _measure(repository, [blob for _, mode, blob in found if mode not in (NOTHING, SUBMODULE)])
    return [StoredFile(path, mode, blob, sizes.get(blob, 0)) for path, mode, blob in found]


def list_files(repository: Path, commit: str, *folders: str) -> list[StoredFile]:
    """Return the files of a commit that lie in some folders, at any depth."""
    words = ("ls-tree", "-r", "-z", "--long", "--full-tree", commit, "--", *folders)
    return list(_parse_tree(_git(repository, *words)))


def _parse_tree(lines: bytes) -> Iterator[StoredFile]:
    for line in filter(None, lines.split(b"\0")):
        facts, _, path = line.partition(b"\t")
        mode, _, blob, size = facts.decode().split()
        yield StoredFile(os.fsdecode(path), mode, blob, int(size) if size.isdecimal() else 0)


def read_file(repository: Path, commit: str, path: str) -> bytes:
    """Return the content of a file in a commit; b"" if there is none."""
    found = [each for each in list_files(repository, commit, path) if each.path == path]
    return _git(repository, "cat-file", "blob", found[0].blob) if found else b""


def write_folder(repository: Path, commit: str, folder: str, target: Path) -> None:
    """Write the files that a commit has in a folder below another one, with their paths in the repository."""
    for each in list_files(repository, commit, folder):
        path = target / each.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_git(repository, "cat-file", "blob", each.blob))


def check_is_committed(repository: Path, *folders: str) -> None:
    """Raise HearevalError if the working tree has other files in some folders than HEAD."""
    words = ("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", *folders)
    changed = [each for each in _git(repository, *words).split(b"\0") if each]
    if changed:
        raise HearevalError(
            f"{repository}",
            got=f"{len(changed)} files that are not committed, such as {os.fsdecode(changed[0][3:])!a}",
            expected="commits, because these are compared",
            remedy="Commit or remove them.",
        )


def _measure(repository: Path, blobs: list[str]) -> dict[str, int]:
    lines = _git(
        repository,
        "cat-file",
        "--batch-check=%(objectname) %(objectsize)",
        given="".join(f"{each}\n" for each in blobs),
    )
    pairs = (line.split() for line in lines.decode().splitlines())
    return {blob: int(size) for blob, size in pairs}


def _git_text(repository: Path, *words: str) -> str:
    """Return what git prints, "" if it finds nothing."""
    return _git(repository, *words, may_find_nothing=True).decode().strip()


def _git(repository: Path, *words: str, given: str = "", may_find_nothing: bool = False) -> bytes:
    # Messages in English, and none of the user's programs for differences and pages.
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1"}
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=repository,
            env=environment,
            input=given.encode(),
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise HearevalError("git", got="no such program", expected="git", remedy="Install it.") from None
    # With 1, git says that it found nothing; other codes mean that it failed.
    if done.returncode and not (may_find_nothing and done.returncode == 1):
        told = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise HearevalError(f"git {words[0]} in {repository}", got=told, expected="a git repository")
    return done.stdout
