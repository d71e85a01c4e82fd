"""The SHA-256 of a submission's weights: a file, or a folder as TensorFlow saves models."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from heareval.embeddings.modules import list_package_sources
from heareval.embeddings.submission import Model
from heareval.embeddings.weights import check_weights
from heareval.errors import HearevalError
from tests.commands import MODEL, command, only_line


def test_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    file.write_bytes(b"weights")
    assert check_weights(str(file), "") == hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(HearevalError, match=r"SHA-256 .*, expected 00"):
        check_weights(str(file), "00")
    with pytest.raises(HearevalError, match="got no such file"):
        check_weights(str(tmp_path / "none.pt"), "")
    assert check_weights("", "") == ""


def test_of_a_folder_changes_with_every_file_and_name(tmp_path: Path) -> None:
    def saved(name: str, files: dict[str, bytes]) -> str:
        for path, content in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_bytes(content)
        return check_weights(str(tmp_path / name), "")

    first = {"saved_model.pb": b"graph", "variables/data": b"numbers"}
    digest = saved("first", first)
    assert saved("copy", first) == digest
    others = (
        {**first, "variables/data": b"others"},
        {**first, "assets/more": b""},
        {"saved_model.pb": b"graph", "variables/other": b"numbers"},
    )
    found = {saved(str(number), other) for number, other in enumerate(others)}
    assert len(found) == 3
    assert digest not in found


def save_folder(folder: Path) -> str:
    """Write a folder of weights, and return the SHA-256 that heareval 0.1.0 computes of it."""
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "data").write_bytes(b"numbers")
    (folder / "variables" / "linked").symlink_to("data")
    graph, numbers = (hashlib.sha256(content).hexdigest() for content in (b"graph", b"numbers"))
    lines = f"{graph}  saved_model.pb\n{numbers}  variables/data\n{numbers}  variables/linked\n"
    return hashlib.sha256(lines.encode()).hexdigest()


def test_of_a_folder_without_linked_folders_never_changes(tmp_path: Path) -> None:
    digest = save_folder(tmp_path / "weights")
    (tmp_path / "linked").symlink_to("weights")
    assert check_weights(str(tmp_path / "weights")) == digest
    assert check_weights(str(tmp_path / "linked")) == digest


def test_of_a_folder_covers_what_its_links_lead_to(tmp_path: Path) -> None:
    save_folder(tmp_path / "weights")
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    part = tmp_path / "elsewhere" / "deep" / "part.bin"
    part.write_bytes(b"one")
    without = check_weights(str(tmp_path / "weights"))
    (tmp_path / "weights" / "parts").symlink_to("../elsewhere")
    first = check_weights(str(tmp_path / "weights"))
    part.write_bytes(b"other")
    assert len({without, first, check_weights(str(tmp_path / "weights"))}) == 3
    # A linked folder counts like a copy of it.
    shutil.copytree(tmp_path / "weights", tmp_path / "copy")
    assert check_weights(str(tmp_path / "copy")) == check_weights(str(tmp_path / "weights"))


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / os.fsdecode(b"\xff.bin")).write_bytes(b"one")
    assert len(check_weights(str(tmp_path / "weights"))) == 64


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as each:
        each.bind(str(path))


def make_link_loop(path: Path) -> None:
    path.with_name("x").symlink_to(path.name)
    path.symlink_to("x")


UNUSUAL: dict[str, Callable[[Path], None]] = {
    "got a FIFO, expected the weights of the model": os.mkfifo,
    "got a socket, expected": make_socket,
    "got a device, expected": lambda path: path.symlink_to("/dev/zero"),
    "got a loop of links, expected": make_link_loop,
    "got a link to nowhere, which does not exist, expected": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("place", ["w.pt", "weights/w.pt", "weights/linked/w.pt"])
@pytest.mark.parametrize("error", UNUSUAL)
def test_what_cannot_be_read_like_a_file(tmp_path: Path, error: str, place: str) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "weights" / "linked").symlink_to("../elsewhere")
    UNUSUAL[error](tmp_path / place)
    with pytest.raises(HearevalError, match=rf"model file .*/w\.pt: {error}"):
        check_weights(str(tmp_path / place.split("/")[0]))


@pytest.mark.parametrize("target", [".", "..", "../../weights/variables"])
def test_links_back_to_their_own_folder(tmp_path: Path, target: str) -> None:
    save_folder(tmp_path / "weights")
    (tmp_path / "weights" / "variables" / "again").symlink_to(target)
    with pytest.raises(HearevalError, match=r"folder .*variables/again.*: got a loop of links.* Remove"):
        check_weights(str(tmp_path / "weights"))


@pytest.mark.parametrize("place", ["w.pt", "weights/w.pt", "weights/closed"])
def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    save_folder(tmp_path / "weights")
    path = tmp_path / place
    path.write_bytes(b"numbers") if path.suffix else path.mkdir()
    path.chmod(0)
    # Root may read everything; a relative path keeps clear of the folders above, which only root may enter.
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    me = os.geteuid()
    try:
        if not me:
            os.seteuid(65534)
        with pytest.raises(PermissionError, match=path.name):
            check_weights(place.split("/")[0])
    finally:
        os.seteuid(me)


def test_validate_refuses_a_fifo_at_once(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    os.mkfifo(tmp_path / "w.pt")
    done = command(tmp_path, "heareval", "validate", "my_model", "--model", "w.pt")
    assert only_line(done) == "error: model file w.pt: got a FIFO, expected the weights of the model"


def test_sources_in_linked_folders_belong_to_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("pack/__init__.py", "pack/main.py", "shared/late.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "pack" / "shared").symlink_to("../shared")
    (tmp_path / "pack" / "loop").symlink_to(".")
    found = list_package_sources(Model("pack.main"))
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        *("pack/main.py", "pack/__init__.py", "pack/main.py", "pack/shared/late.py")
    ]
