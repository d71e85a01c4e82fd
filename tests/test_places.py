"""Folders, disks and names that are not as a run wants them: one clear line, or it works."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heareval import files, layout
from heareval.errors import file_error
from tests.commands import SPOKEN, checksums, command, only_line, prepare, scratch_left
from tests.disks import enlarge, small_disk
from tests.tasks.own.birds import write_sound

WORDS = ("spoken_digit", "--sample-rate", "16000")
TARBALL = f"hear-2021.1.1-{SPOKEN}-16000.tar.gz"
MANIFEST = f"tasks/{SPOKEN}/MANIFEST.json"


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Path:
    """What a run leaves where nothing is in its way."""
    folder = tmp_path_factory.mktemp("usual")
    assert prepare(folder, mirror, *WORDS).returncode == 0
    return folder


def task_files(folder: Path) -> set[Path]:
    """The paths of all files of the task but its digests, which hold the times at which clips were made."""
    found = [path for path in (folder / "tasks" / SPOKEN).rglob("*.*") if path.is_file()]
    return {path.relative_to(folder) for path in found if path.name != layout.CLIP_DIGESTS}


def is_part_of(folder: Path, usual: Path) -> bool:
    """Whether everything published is whole, and just as it should be."""
    tars = folder / "tars"
    listed = checksums(folder) if (tars / "SHA256SUMS").is_file() else {}
    names = task_files(folder)
    same = [(folder / name).read_bytes() == (usual / name).read_bytes() for name in names]
    is_whole = not names or names == task_files(usual)
    # A tarball is there from when it is whole, and listed a moment later.
    found = [path.read_bytes() == (usual / "tars" / path.name).read_bytes() for path in tars.glob("hear-*")]
    return is_whole and all([*same, *found]) and listed.items() <= checksums(usual).items()


# --------------------------------------------------------------------------- something in the way

IN_THE_WAY: dict[str, tuple[str, str]] = {
    "file for a task folder": (f"mkdir tasks; echo mine > tasks/{SPOKEN}", f"tasks/{SPOKEN}: got Not a dir"),
    "dangling link for a task folder": (f"mkdir tasks; ln -s gone tasks/{SPOKEN}", f"tasks/{SPOKEN}: got "),
    "dangling link for all tarballs": ("ln -s gone tars", "tars: got File exists, expected no existing file"),
    "dangling link for the work": (
        "ln -s gone _workdir",
        "_workdir: got File exists, expected no existing file",
    ),
    "link to itself": ("ln -s tars tars", "got Too many levels of symbolic links, expected no existing file"),
    "file for the logs": ("mkdir _workdir; echo mine > _workdir/logs", "_workdir/logs: got File exists"),
    "file for downloads": ("mkdir _workdir; echo mine > _workdir/downloads", "got Not a directory"),
    "folder for SHA256SUMS": ("mkdir -p tars/SHA256SUMS", "tars/SHA256SUMS: got Is a directory"),
    "folder for a tarball": (f"mkdir -p tars/{TARBALL}", f"tars/{TARBALL}: got Is a directory"),
    "unpacked tarball for a task folder": (
        f"mkdir -p tasks/{SPOKEN}/48000; echo mine > tasks/{SPOKEN}/task_metadata.json",
        f"tasks/{SPOKEN}: got files that heareval did not make (no MANIFEST.json), expected no existing",
    ),
    "downloaded tarball": (
        f"mkdir tars; echo mine > tars/{TARBALL}",
        f"tars/{TARBALL}: got a tarball that heareval did not pack, expected no existing",
    ),
    "folder for a manifest": (f"mkdir -p {MANIFEST}", f"{MANIFEST}: got Is a directory"),
    "empty manifest": (
        f"mkdir -p tasks/{SPOKEN}; : > {MANIFEST}",
        f"{MANIFEST}: got Expecting value: line 1 column 1 (char 0), expected JSON. Remove the task folder",
    ),
    "manifest without text": (f"mkdir -p tasks/{SPOKEN}; printf '\\377' > {MANIFEST}", f"{MANIFEST}: got "),
    "empty sidecar of another": (
        "mkdir -p tars/.manifests; : > tars/.manifests/x.json",
        "x.json: got Expect",
    ),
}
CASES = [
    pytest.param(case, marks=() if case == "empty manifest" else pytest.mark.slow) for case in IN_THE_WAY
]


@pytest.mark.parametrize("case", CASES)
def test_something_else_in_its_place(usual: Path, mirror: Path, tmp_path: Path, case: str) -> None:
    script, told = IN_THE_WAY[case]
    subprocess.run(script, shell=True, cwd=tmp_path, check=True)
    before = {path: os.lstat(path).st_ino for path in tmp_path.rglob("*")}
    assert told in only_line(prepare(tmp_path, mirror, *WORDS))
    assert {path: os.lstat(path).st_ino for path in before} == before
    assert not scratch_left(tmp_path)
    for gone in ("tasks", "tars", "_workdir"):
        files.remove_tree(tmp_path / gone)
    assert prepare(tmp_path, mirror, *WORDS).returncode == 0
    assert is_part_of(tmp_path, usual)


def test_a_copy_never_goes_into_another_file(tmp_path: Path) -> None:
    """As it would where upper and lower case are one name."""
    for name in ("dog", "Dog"):
        (tmp_path / name).write_text(name)
    files.link_or_copy(tmp_path / "dog", tmp_path / "published")
    with pytest.raises(FileExistsError) as caught:
        files.link_or_copy(tmp_path / "Dog", tmp_path / "published")
    assert (tmp_path / "dog").read_text() == "dog"
    assert str(file_error(caught.value)).startswith(
        f"{tmp_path}/published: got File exists, expected no existing file"
    )


# --------------------------------------------------------------------------- what may not be read or written


def bound_by_permissions() -> list[str]:
    """Words before a command to which permissions matter, also where the tests run as root."""
    if os.geteuid():
        return []
    words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if not shutil.which("setpriv") or subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("root can't be bound by permissions here")
    return words


@pytest.mark.slow
def test_archive_that_may_not_be_read(usual: Path, mirror: Path, tmp_path: Path) -> None:
    other = shutil.copytree(mirror, tmp_path / "mirror")
    (other / "v1.0.9.tar.gz").chmod(0)
    done = command(tmp_path, "heareval.tasks.runner", *WORDS, *sums(other), before=bound_by_permissions())
    assert "v1.0.9.tar.gz: got Permission denied" in only_line(done)
    (other / "v1.0.9.tar.gz").chmod(0o644)
    assert prepare(tmp_path, other, *WORDS).returncode == 0
    assert is_part_of(tmp_path, usual)


def sums(mirror: Path) -> tuple[str, ...]:
    return "--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS")


READ_ONLY = ("_workdir", "tasks", "tars", "_workdir/logs", "_workdir/corpora", "tars/.manifests")


@pytest.mark.slow
@pytest.mark.parametrize("place", READ_ONLY)
def test_folder_that_may_not_be_written(usual: Path, mirror: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place).chmod(0o555)
    done = command(tmp_path, "heareval.tasks.runner", *WORDS, *sums(mirror), before=bound_by_permissions())
    line = only_line(done)
    assert f"{tmp_path}/{place}" in line
    assert "got Permission denied, expected read and write access. Check its permissions" in line
    assert is_part_of(tmp_path, usual)
    (tmp_path / place).chmod(0o755)
    assert prepare(tmp_path, mirror, *WORDS).returncode == 0
    assert checksums(tmp_path) == checksums(usual)


# --------------------------------------------------------------------------- small disks

# Puts a file system of so many bytes at a folder; what it gives enlarges it.
Disk = Callable[[str, int], Callable[[], None]]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Makes a folder of the run a small disk; returns what gives it room."""
    with contextlib.ExitStack() as stack:

        def mount(place: str, size: int) -> Callable[[], None]:
            folder = stack.enter_context(small_disk(tmp_path / place, size))
            return functools.partial(enlarge, folder, 100 << 20)

        yield mount


def test_no_room_for_the_log(mirror: Path, tmp_path: Path, disk: Disk) -> None:
    disk("_workdir", 4096)
    done = prepare(tmp_path, mirror, *WORDS, "--force")
    assert "got No space left on device, expected room to write" in only_line(done)
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "log"]


@pytest.mark.slow
@pytest.mark.parametrize("share", [(0.0, 0.3), (0.3, 0.6), (0.6, 0.9)])
@pytest.mark.parametrize("place", ["_workdir", "tasks", "tars"])
def test_disk_full_at_any_stage(
    usual: Path, mirror: Path, tmp_path: Path, disk: Disk, place: str, share: tuple[float, float]
) -> None:
    # By number, since a tarball and a clip have two names each.
    sizes = {path.stat().st_ino: path.stat().st_size for path in (usual / place).rglob("*") if path.is_file()}
    size = max(4096, int(sum(sizes.values()) * random.Random(f"{place} {share}").uniform(*share)))
    make_room = disk(place, size)
    done = prepare(tmp_path, mirror, *WORDS, "--force")
    # A line for every step that had no room.
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("[", "log: "))]
    assert lines
    assert all("got No space left on device, expected room to write" in line for line in lines)
    assert is_part_of(tmp_path, usual)
    assert not scratch_left(tmp_path)
    make_room()
    assert prepare(tmp_path, mirror, *WORDS).returncode == 0
    assert is_part_of(tmp_path, usual)
    assert checksums(tmp_path) == checksums(usual)


@pytest.mark.slow
def test_folders_that_are_links(usual: Path, mirror: Path, tmp_path: Path, disk: Disk) -> None:
    """One by a relative path, one to another file system, one to a link."""
    disk("other", 100 << 20)
    (tmp_path / "other" / "tasks").mkdir()
    (tmp_path / "near").mkdir()
    (tmp_path / "_workdir").symlink_to("near")
    (tmp_path / "tasks").symlink_to(tmp_path / "other" / "tasks")
    (tmp_path / "link").symlink_to("near")
    (tmp_path / "tars").symlink_to("link")
    assert prepare(tmp_path, mirror, *WORDS).returncode == 0
    assert is_part_of(tmp_path, usual)
    assert checksums(tmp_path) == checksums(usual)
    assert all((tmp_path / name).is_symlink() for name in ("_workdir", "tasks", "tars"))


# --------------------------------------------------------------------------- names

# Of sounds; the first two are one name to people, in two spellings.
NAMES = (
    *(
        "caf\u00e9",
        "cafe\u0301",
        "-dash",
        "--help",
        "two words",
        "new\nline",
        "a\rb",
        "%d %05d",
        "q\"uo'te",
        "*?[a]",
    ),
    *("$(date)", "\U0001f426", "back\\slash", "right\u202eleft", "Ein", "ein", "a.b", "x" * 236, "é" * 114),
)
CLASSES = ("Dog", "dog", "kö\nter")


def test_names_of_sounds(tmp_path: Path) -> None:
    for name in NAMES:
        for label in CLASSES:
            write_sound(tmp_path / "sounds" / label / f"{name[: 236 - len(label)]}.wav", seconds=0.05)
    made = command(tmp_path, "heareval", "tasks", "new", "odd", "--folder", "sounds", "--folds", "3")
    assert made.returncode == 0, made.stderr
    done = command(tmp_path, "heareval.tasks.runner", "odd.toml", *WORDS[1:])
    assert done.returncode == 0, done.stderr
    clips = {f"{label}_{name[: 236 - len(label)]}.wav" for name in NAMES for label in CLASSES}
    with tarfile.open(tmp_path / "tars" / "hear-LATEST-odd-v1-full-16000.tar.gz") as tar:
        assert {Path(name).name for name in tar.getnames() if name.endswith(".wav")} == clips
    listed = [files.read_json(path) for path in (tmp_path / "tasks" / "odd-v1-full").glob("fold*.json")]
    assert {clip for each in listed for clip in each} == clips
    assert {label for each in listed for labels in each.values() for label in labels} == {*CLASSES}


FOLDERS = ("-dash", "two words", "new\nline", "%d", 'q"uote', "é\u0301", "x" * 255, "[a]*", "~", "a\\b")


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_names_of_folders(usual: Path, mirror: Path, tmp_path: Path, name: str) -> None:
    within = tmp_path / name
    within.mkdir()
    places = [f"--{place}-dir={name}/{place}" for place in ("tmp", "tasks", "tar")]
    done = prepare(within, mirror, *WORDS, *places)
    assert done.returncode == 0, done.stderr
    (within / name / "tar").rename(within / "tars")
    assert checksums(within) == checksums(usual)


def test_folder_whose_name_is_no_text(mirror: Path, tmp_path: Path) -> None:
    within = tmp_path / os.fsdecode(b"\xff")
    within.mkdir()
    line = only_line(prepare(within, mirror, *WORDS))
    assert "\\udcff/_workdir': got a name that is not UTF-8, expected UTF-8. Rename it" in line
    assert list(within.iterdir()) == []


def test_names_are_utf_8_or_nothing_begins(mirror: Path, tmp_path: Path) -> None:
    """In another encoding the names of clips would be read as others, and tarballs would differ."""
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = command(tmp_path, "heareval.tasks.runner", *WORDS, *sums(mirror), **variables)
    assert only_line(done) == "error: encoding of file names: got ascii, expected utf-8. Set PYTHONUTF8=1."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_stdout_without_letters_for_a_name(mirror: Path, tmp_path: Path) -> None:
    words = (*WORDS, *sums(mirror), "--tasks-dir", "日")
    done = command(tmp_path, "heareval.tasks.runner", *words, PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"\\u65e5/{SPOKEN}: ")
