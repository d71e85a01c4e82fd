"""Sources of submissions: hashes of folders, commits of repositories."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heareval.embeddings.source import copy_tree, hash_tree, list_source_files, pin_commit, resolve_source
from heareval.errors import HearevalError
from tests.packages import commit, write_package, write_wheel


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path / "package")


def put(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_hash_changes_with_names_and_contents_only(package: Path) -> None:
    first = hash_tree(package, ())
    for path in package.iterdir():
        os.utime(path, (0, 0))
    assert hash_tree(package, ()) == first
    seen = {first}
    for number, name in enumerate(("new.py", "data/build/new", "data/dist"), start=2):
        put(package / name)
        seen.add(hash_tree(package, ()))
        assert len(seen) == number
    put(package / "new.py", "y")
    assert hash_tree(package, ()) not in seen


@pytest.mark.parametrize(
    "made",
    [
        "build/lib/m.py",
        "m.egg-info/PKG-INFO",
        "__pycache__/m.pyc",
        "a/__pycache__/m.pyc",
        ".git/HEAD",
        "e/pyvenv.cfg",
    ],
)
def test_generated_files_do_not_belong_to_a_source(package: Path, made: str) -> None:
    before = hash_tree(package, ())
    put(package / made)
    assert hash_tree(package, ()) == before


def test_files_written_by_a_run_do_not_belong_to_a_source(package: Path) -> None:
    before = hash_tree(package, [package / "work"])
    put(package / "work" / "tasks" / "1.wav")
    assert hash_tree(package, [package / "work"]) == before != hash_tree(package, ())


def test_a_copy_contains_the_hashed_files_and_the_history(package: Path, tmp_path: Path) -> None:
    commit(package, "v1")
    put(package / "build" / "old.py")
    put(package / "deep" / "a b" / "x.txt")
    put(tmp_path / "elsewhere" / "data.txt")
    (package / "link.py").symlink_to("their_model.py")
    (package / "linked").symlink_to(tmp_path / "elsewhere")
    (package / "up").symlink_to(package)
    (package / "dead").symlink_to("nowhere")
    copy_tree(package, tmp_path / "copy", ())
    assert hash_tree(tmp_path / "copy", ()) == hash_tree(package, ())
    assert (tmp_path / "copy" / ".git" / "HEAD").is_file()
    inside = [str(name) for name, _ in list_source_files(package, ()) if name.parts[0] != ".git"]
    assert inside == [
        *("backend.py", "deep/a b/x.txt", "link.py", "linked/data.txt", "pyproject.toml", "their_model.py")
    ]
    assert not (tmp_path / "copy" / "link.py").is_symlink()


def test_a_folder_without_a_package(tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match=r"got no pyproject\.toml or setup\.py there, expected a folder"):
        resolve_source(str(tmp_path), ())
    with pytest.raises(HearevalError, match="nowhere: got no such folder"):
        resolve_source(str(tmp_path / "nowhere"), ())


def test_a_file_is_identified_by_its_content(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "m", "1", {"m.py": ""})
    first = resolve_source(str(wheel), ())
    assert not first.is_folder
    write_wheel(tmp_path, "m", "1", {"m.py": "x = 1"})
    assert resolve_source(str(wheel), ()).identity != first.identity


def test_a_tag_or_branch_is_resolved_to_its_commit(package: Path) -> None:
    first = commit(package, "v1")
    url = f"git+{package.as_uri()}"
    assert pin_commit(f"{url}@v1") == f"{url}@{first}"
    put(package / "new.py")
    second = commit(package, "v2")
    assert pin_commit(f"m @ {url}@v2#subdirectory=x") == f"m @ {url}@{second}#subdirectory=x"
    assert resolve_source(f"{url}@v1", ()).identity == f"{url}@{first}"
    package.rename(package.with_name("gone"))
    # A full commit needs no look-up.
    assert pin_commit(f"{url}@{first}") == f"{url}@{first}"
    with pytest.raises(
        HearevalError, match=r"repository .*package: got .*expected a list of its tags.*full commit"
    ):
        pin_commit(f"{url}@v1")


def test_no_such_revision(package: Path) -> None:
    first = commit(package, "v1")
    for revision in ("v9", first[:8], "--upload-pack=true"):
        with pytest.raises(HearevalError, match=r"got no such tag or branch, expected .* a full commit"):
            pin_commit(f"git+{package.as_uri()}@{revision}")


def test_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HearevalError, match=r"^git: got no such program"):
        pin_commit("git+https://localhost/repo@v1")
