"""Byte for byte the same tarballs, whoever makes them, where and however."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands import checksums, command, prepare
from tests.tasks.own.birds import write_sound

WORDS = ("spoken_digit", "speech_commands", "odd.toml", "--sample-rate", "16000", "--sample-rate", "44100")
# One name in two spellings, and others that a locale could sort or read in its own way.
NAMES = ("caf\u00e9", "cafe\u0301", "Z", "a", "_", "-1", "\u00df", "\u0131", "I", "\U0001f426", "\uff5e")
NOBODY = 65534


@dataclass(frozen=True)
class Machine:
    """What tells one machine and user from another.

    Args:
        before: words before the command, for example of another user.
    """

    umask: int
    workers: str
    before: tuple[str, ...]
    variables: dict[str, str]


def sounds(folder: Path, names: Iterable[str]) -> None:
    """Sounds of two classes, put into the folder in this order, and the task of them."""
    for name in names:
        for label in ("caw", "\u00fc"):
            write_sound(folder / "sounds" / label / f"{name}.wav", hertz=300.0 + ord(name[-1]) % 97)
    lines = ('name = "odd"', 'folder = "sounds"', "folds = 3")
    (folder / "odd.toml").write_text("\n".join(lines), encoding="utf-8")


def archives(mirror: Path, folder: Path, *, reverse: bool) -> Path:
    """A copy of the archives; some file systems list the names as they came."""
    folder.mkdir()
    for path in sorted(mirror.iterdir(), reverse=reverse):
        shutil.copyfile(path, folder / path.name)
    return folder


def made_on(machine: Machine, folder: Path, mirror: Path) -> dict[str, str]:
    """The checksums of what a machine makes in a folder."""
    words = (*WORDS, "--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    before = os.umask(machine.umask)
    try:
        words = ("heareval.tasks.runner", *words, "--num-workers", machine.workers)
        done = command(folder, *words, before=machine.before, **machine.variables)
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    return checksums(folder)


def as_nobody() -> tuple[str, ...]:
    """Words before a command of another user, who may read the interpreter; none where that can't be."""
    ids = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    words = ("setpriv", *ids, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    if os.geteuid() or not shutil.which("setpriv"):
        return ()
    return words if subprocess.run([*words, "true"], check=False).returncode == 0 else ()


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder that another user may reach, in memory if it can be, where names are listed otherwise."""
    disk = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=disk if os.access(disk, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


def test_same_bytes_elsewhere(prepared: Path, mirror: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "another folder ö"
    elsewhere.mkdir()
    old = os.umask(0o077)
    try:
        done = prepare(elsewhere, mirror, "spoken_digit", "--num-workers", "1")
    finally:
        os.umask(old)
    assert done.returncode == 0, done.stderr
    assert checksums(elsewhere) == checksums(prepared)


@pytest.mark.slow
def test_same_bytes_from_two_machines(mirror: Path, tmp_path: Path, memory: Path) -> None:
    """All that is different between them is different at once."""
    one = Machine(
        umask=0o022,
        workers="1",
        before=(),
        variables={"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0", "COLUMNS": "80"},
    )
    theirs = {"LC_ALL": "C", "LANG": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "4711"}
    theirs |= {"SOURCE_DATE_EPOCH": "1", "PYTHONUTF8": "1", "PYTHONIOENCODING": "ascii"}
    theirs |= {"HOME": "/nonexistent", "USER": "nobody", "OMP_NUM_THREADS": "2"}
    files_open = ("bash", "-c", 'ulimit -n 128; exec "$@"', "bash")
    other = Machine(umask=0o077, workers="2", before=(*as_nobody(), *files_open), variables=theirs)
    here, there = tmp_path / "here", memory / "a folder elsewhere \u00f6"
    for folder, names in ((here, NAMES), (there, reversed(NAMES))):
        folder.mkdir(parents=True)
        sounds(folder, names)
    ours = archives(mirror, tmp_path / "mirror", reverse=False)
    theirs_too = archives(mirror, memory / "mirror", reverse=True)
    if other.before[0] == "setpriv":
        subprocess.run(["chown", "-R", str(NOBODY), str(memory)], check=True)
    first = made_on(one, here, ours)
    assert len(first) == 2 * 2 * 3
    assert made_on(other, there, theirs_too) == first


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["soxr", "ffmpeg"])
def test_same_bytes_where_nothing_can_be_linked(
    mirror: Path, tmp_path: Path, memory: Path, engine: str
) -> None:
    if memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no other file system here")
    words = ("spoken_digit", "--sample-rate", "22050", "--engine", engine)
    assert prepare(tmp_path, mirror, *words).returncode == 0
    places = ("--tmp-dir", str(memory / "w"), "--tasks-dir", "other/tasks", "--tar-dir", "other/tars")
    done = prepare(tmp_path, mirror, *words, *places)
    assert done.returncode == 0, done.stderr
    places = ("--tmp-dir", "third/w", "--tasks-dir", str(memory / "tasks"), "--tar-dir", "third/tars")
    done = prepare(tmp_path, mirror, *words, *places)
    assert done.returncode == 0, done.stderr
    assert checksums(tmp_path / "other") == checksums(tmp_path / "third") == checksums(tmp_path)
