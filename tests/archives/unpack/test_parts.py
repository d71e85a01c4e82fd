"""Unpacking parts of archives, compared with unpacking them whole."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from heareval.archives.unpack import parts
from heareval.archives.unpack.extract import HEAD_BYTES, extract
from heareval.errors import HearevalError
from heareval.spec import TaskSpec
from heareval.tasks import metadata
from heareval.tasks.registry import all_tasks
from tests import stand_ins
from tests.archives.unpack.test_extract import header, packed, write_tar

TREE = {
    "a/labels.csv": b"x,1",
    "a/one.wav": os.urandom(10_000),
    "a/two.WAV": os.urandom(100),
    "three.flac": b"",
}
KINDS = ["a.zip", "a.tar.gz", "a.tar"]
# The modes that use only some of the sounds in their archives.
SPARING = [(task, name) for task in all_tasks().values() for name, mode in task.modes.items() if mode.sounds]


def tree_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", KINDS)
def test_scanned_without_sounds(tmp_path: Path, name: str) -> None:
    count = parts.scan(packed(tmp_path / name, TREE), tmp_path / "out", headers=False)
    assert count == len(TREE)
    assert tree_of(tmp_path / "out" / "files") == {"a/labels.csv": b"x,1"}
    sounds = {tmp_path / "out" / "files" / member for member in TREE if member != "a/labels.csv"}
    assert parts.list_sounds(tmp_path / "out") == sounds


@pytest.mark.parametrize("name", KINDS)
def test_scanned_with_the_headers_of_sounds(tmp_path: Path, name: str) -> None:
    parts.scan(packed(tmp_path / name, TREE), tmp_path / "out", headers=True)
    found = tree_of(tmp_path / "out" / "files")
    head = TREE["a/one.wav"][:HEAD_BYTES]
    assert found == {**TREE, "a/one.wav": head + bytes(len(TREE["a/one.wav"]) - len(head))}


@pytest.mark.parametrize("name", KINDS)
def test_some_members(tmp_path: Path, name: str) -> None:
    wanted = {"a/one.wav", "three.flac"}
    parts.extract_some(packed(tmp_path / name, TREE), tmp_path / "out", wanted)
    assert tree_of(tmp_path / "out" / "files") == {member: TREE[member] for member in wanted}


@pytest.mark.parametrize("name", KINDS)
def test_a_wanted_member_that_is_not_there(tmp_path: Path, name: str) -> None:
    archive = packed(tmp_path / name, TREE)
    with pytest.raises(
        HearevalError, match=rf"{name}: got no member 'b\.wav', expected a member that its scan listed"
    ):
        parts.extract_some(archive, tmp_path / "out", {"a/one.wav", "b.wav"})


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_label_must_not_be_the_head_of_a_sound(tmp_path: Path, kind: bytes) -> None:
    archive = write_tar(tmp_path / "a.tar", header("a.wav"), header("label.txt", kind, "a.wav"))
    with pytest.raises(HearevalError, match="link to a file of which another portion is unpacked"):
        parts.scan(archive, tmp_path / "out", headers=True)


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_sound_must_not_be_a_link_to_one_that_is_not_wanted(tmp_path: Path, kind: bytes) -> None:
    archive = write_tar(tmp_path / "a.tar", header("a.wav"), header("b.wav", kind, "a.wav"))
    with pytest.raises(HearevalError, match="link to a file of which another portion is unpacked"):
        parts.extract_some(archive, tmp_path / "out", {"b.wav"})


@pytest.mark.parametrize(("task", "mode"), SPARING, ids=lambda value: getattr(value, "name", value))
def test_the_same_clips_as_from_whole_archives(tmp_path: Path, task: TaskSpec, mode: str) -> None:
    """Labels, splits and the bytes of the selected clips are equal; only the sounds in use are unpacked."""
    spec = task.modes[mode]
    trees = stand_ins.CORPORA[stand_ins.corpus_of(task.name)]()
    whole, scanned = {}, {}
    for download in spec.downloads:
        archive = stand_ins.pack(trees[download.file_name], tmp_path / "archives" / download.file_name)
        whole[download.folder] = tmp_path / "whole" / "files" / download.folder
        extract(archive, whole[download.folder])
        folder = tmp_path / "scanned" / download.folder
        parts.scan(archive, folder, headers=spec.headers)
        scanned[download.folder] = folder / "files"
    sounds = set().union(*(parts.list_sounds(path.parent) for path in scanned.values()))
    expected = metadata.select_clips(task, mode, task.read_recordings(whole, mode))
    found = metadata.select_clips(task, mode, task.read_recordings(scanned, mode), sounds.__contains__)
    assert len(found.clips) == len(expected.clips) > 10
    for clip, same in zip(found.clips, expected.clips, strict=True):
        assert (clip.clip_id, clip.split, clip.labels, clip.events) == (
            *(same.clip_id, same.split, same.labels, same.events),
        )
    for download in spec.downloads:
        here = {clip.path for clip in found.clips if clip.path.is_relative_to(scanned[download.folder])}
        wanted = {path.relative_to(scanned[download.folder]).as_posix() for path in here}
        out = tmp_path / "some" / download.folder
        parts.extract_some(tmp_path / "archives" / download.file_name, out, wanted)
        assert tree_of(out / "files") == {
            name: (whole[download.folder] / name).read_bytes() for name in wanted
        }


MEASURED = """
import sys
from pathlib import Path
from heareval.archives.unpack import parts
from heareval.archives.unpack.extract import extract
archive = Path(sys.argv[1])
parts.scan(archive, Path("scanned"), headers=True)
parts.extract_some(archive, Path("some"), {"last.wav"})
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("name", ["large.tar", "large.zip"])
def test_memory_of_an_archive_of_ten_gigabytes(tmp_path: Path, name: str) -> None:
    """A member of 10 GB, which is not wanted, and a hundred thousand small files."""
    archive, hole = tmp_path / name, 10 << 30
    if archive.suffix == ".tar":
        with tarfile.open(archive, "w") as out:
            for i in range(100_000):
                out.addfile(tarfile.TarInfo(f"sounds/{i:06d}.wav"))
            info = tarfile.TarInfo("large.wav")
            info.size = hole
            out.addfile(info)
            out.fileobj.seek(hole, os.SEEK_CUR)
            out.offset += hole
            out.addfile(tarfile.TarInfo("last.wav"))
    else:
        with zipfile.ZipFile(archive, "w") as out:
            for i in range(100_000):
                out.writestr(f"sounds/{i:06d}.wav", b"")
            with out.open("large.wav", "w", force_zip64=True) as member:
                for _ in range(10 << 6):
                    member.write(bytes(1 << 24))
            out.writestr("last.wav", b"")
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, name], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 300_000  # kB
    assert tree_of(tmp_path / "some" / "files") == {"last.wav": b""}
