"""Archives: good ones, damaged ones, and members that would leave their folder."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from heareval.errors import HearevalError
from heareval.tasks.extract import extract
from tests.stand_ins import pack

TREE = {"a/b.txt": b"hello", "ü.wav": bytes(100_000), "-dash": b"x"}


def unpack(archive: Path, folder: Path) -> dict[str, bytes]:
    count = extract(archive, folder, lambda done, total: None)
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert count == len(found)
    return found


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_members(tmp_path: Path, name: str) -> None:
    assert unpack(pack(TREE, tmp_path / name), tmp_path / "out") == TREE


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_cut_off_archives(tmp_path: Path, name: str, part: float) -> None:
    content = pack({**TREE, "more": bytes(range(256)) * 4000}, tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * part)])
    with pytest.raises(HearevalError, match=rf"{name}: got .*expected a readable archive"):
        unpack(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("member", ["../evil", "/tmp/evil", "a/../../evil"])
def test_members_that_leave_the_folder(tmp_path: Path, member: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, b"evil")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(member), io.BytesIO())
    for name in ("a.zip", "a.tar.gz"):
        with pytest.raises(HearevalError, match="expected names inside the archive's folder"):
            unpack(tmp_path / name, tmp_path / "out")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("innocent")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(info)
    with pytest.raises(HearevalError, match=r"a\.tar\.gz: got "):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(HearevalError, match=r"a\.rar: got an unknown kind, expected \.zip"):
        unpack(tmp_path / "a.rar", tmp_path / "out")
