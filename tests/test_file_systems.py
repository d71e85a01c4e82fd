"""File systems that lack what others have, as NFS does: nothing is lost, or one line says what is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heareval import files
from heareval.errors import file_error
from heareval.workflow.file_systems import check_file_systems, find_local_locks
from tests.commands import command, only_line

# Replaces a folder where the system cannot exchange two; ends at the renaming whose number is given.
REPLACE = """
import os, sys
from pathlib import Path
from heareval import files

renamings = 0

def hook(event, arguments):
    global renamings
    if event == "ctypes.dlsym" and arguments[1] == "renameat2":
        raise OSError("a file system without it")
    if event == "os.rename":
        renamings += 1
        if renamings == int(sys.argv[2]):
            os._exit(9)

sys.addaudithook(hook)
target, number = Path(sys.argv[1]), 0
while sys.argv[2] == "0" or not number:
    number += 1
    with files.building_folder(target, replace=True) as scratch:
        (scratch / files.MANIFEST).touch()
        (scratch / "number").write_text(sys.argv[3])
"""


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / files.MANIFEST).touch()
    (folder / "number").write_text("one")
    return folder


def replace_by(published: Path, text: str, last_renaming: int) -> int:
    words = [sys.executable, "-c", REPLACE, str(published), str(last_renaming), text]
    return subprocess.run(words, check=False).returncode


@pytest.mark.parametrize("last_renaming", [1, 2, 3, 4])
def test_a_kill_while_a_folder_is_replaced_loses_none(published: Path, last_renaming: int) -> None:
    ended = replace_by(published, "two", last_renaming)
    assert ended == (0 if last_renaming == 4 else 9)
    assert published.exists() == (last_renaming != 3)
    # Whoever reads it next puts it back.
    assert files.has_file(published, "number")
    assert (published / "number").read_text() == ("one" if last_renaming < 3 else "two")
    assert replace_by(published, "three", 9) == 0
    assert (published / "number").read_text() == "three"
    files.remove_leftovers(published.parent)
    left = {path.name for path in published.parent.iterdir()}
    assert left == {"published", ".published.lock"}


def test_the_next_run_finishes_what_a_killed_one_began(published: Path) -> None:
    assert replace_by(published, "two", 3) == 9
    files.remove_leftovers(published.parent)
    assert (published / "number").read_text() == "two"


def test_a_folder_that_is_being_replaced_is_never_missed(published: Path) -> None:
    words = [sys.executable, "-c", REPLACE, str(published), "0", "two"]
    with subprocess.Popen(words) as replacing:
        missed = 0
        while missed < 3 and replacing.poll() is None:
            missed += not published.exists()
            assert files.has_file(published, "number")
        replacing.kill()
    assert missed == 3


# --------------------------------------------------------------------------- locks and renaming

# A library that makes the system refuse locks, as NFS without a lock daemon does.
WITHOUT_LOCKS = """
#include <errno.h>
int flock(int file, int operation) { errno = ENOLCK; return -1; }
"""
# Makes every lock succeed, and renaming replace whatever is there.
HEEDLESS = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int flock(int file, int operation) { return getenv("LOCKS_OF_ALL") ? 0 : -1; }
int rename(const char *from, const char *to) { return 0; }
"""


def compile_library(folder: Path, source: str) -> Path:
    if shutil.which("gcc") is None or not sys.platform.startswith("linux"):
        pytest.skip("no gcc, or not on Linux")
    (folder / "system.c").write_text(source)
    library = folder / "system.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, folder / "system.c"], check=True)
    return library


def test_a_file_system_without_locks_is_one_line(tmp_path: Path) -> None:
    library = compile_library(tmp_path, WITHOUT_LOCKS)
    words = ("heareval.tasks.runner", "spoken_digit", "--tmp-dir", "there")
    line = only_line(command(tmp_path, *words, LD_PRELOAD=str(library)))
    assert line.startswith(
        f"error: {tmp_path}/there/.run.lock: got No locks available, expected a file system"
    )
    assert line.endswith("Mount NFS with version 4 and Lustre with -o flock, or choose other folders.")
    assert not (tmp_path / "tasks").exists()


def test_a_file_system_that_replaces_folders_is_refused(tmp_path: Path) -> None:
    library = compile_library(tmp_path, HEEDLESS)
    words = ("heareval.tasks.runner", "spoken_digit", "--tmp-dir", "there")
    line = only_line(command(tmp_path, *words, LD_PRELOAD=str(library), LOCKS_OF_ALL="1"))
    assert (
        f"folder {tmp_path}/there: got a file system that replaces folders, expected one that never" in line
    )


def test_usual_file_systems_pass(tmp_path: Path) -> None:
    lines: list[str] = []
    check_file_systems([tmp_path, tmp_path / "missing", Path("/proc")], lines.append, is_shared=True)
    if os.access("/dev/shm", os.W_OK):
        check_file_systems([Path("/dev/shm")], lines.append, is_shared=True)
    assert lines == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("system", "found"),
    [
        ("nfs4 server:/x rw,vers=4.2,local_lock=none", ""),
        ("nfs server:/x rw,vers=3,nolock,local_lock=all", "nfs, local_lock=all"),
        ("nfs server:/x rw,vers=3,nolock", "nfs, nolock"),
        ("lustre 10.0.0.1@tcp:/x rw,flock", ""),
        ("lustre 10.0.0.1@tcp:/x rw,localflock", "lustre, localflock"),
        ("fuse.sshfs user@server:/x rw,user_id=0", "fuse.sshfs"),
        ("ext4 /dev/sda1 rw", ""),
    ],
)
def test_mounts_whose_locks_hold_on_one_machine(system: str, found: str) -> None:
    mounts = (
        "20 1 8:1 / / rw - ext4 /dev/sda2 rw\n"
        f"40 20 0:9 / /mnt/two\\040words rw,relatime shared:9 - {system}\n"
        "41 40 8:3 / /mnt/two\\040words/local rw - ext4 /dev/sda3 rw\n"
    )
    assert find_local_locks(mounts, Path("/mnt/two words/tasks")) == found
    assert find_local_locks(mounts, Path("/mnt/two words/local/tasks")) == ""
    assert find_local_locks(mounts, Path("/mnt/two")) == ""


# --------------------------------------------------------------------------- clocks


# Makes the clock of a process three days fast, but not that of the file system.
FAST_CLOCK = """
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += 3 * 86400;
    return result;
}
"""
SHOW_CLOCKS = """
import sys, time
from pathlib import Path
from heareval import files
scratch = Path(sys.argv[1])
print(time.time() - files.read_clock(scratch.parent), files.has_living_owner(scratch))
"""


def test_scratch_is_judged_by_the_clock_that_dates_it(tmp_path: Path) -> None:
    library = compile_library(tmp_path, FAST_CLOCK)
    (tmp_path / "published").mkdir()
    scratch = tmp_path / "published" / f".shard.another-host.7{files.SCRATCH}"
    scratch.touch()
    words = [sys.executable, "-c", SHOW_CLOCKS, str(scratch)]
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    ahead_s, is_living = done.stdout.split()
    assert float(ahead_s) == pytest.approx(3 * 86400, abs=60)
    assert is_living == "True"
    assert list((tmp_path / "published").iterdir()) == [scratch]
    # Nobody can write there; then this machine's clock has to do.
    assert abs(files.read_clock(Path("/proc")) - time.time()) < 60


def test_an_error_names_the_owner_of_a_file(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    error = PermissionError(13, "Permission denied", str(tmp_path / "theirs" / "none"))
    owner = (tmp_path / "theirs").owner()
    line = str(file_error(error))
    assert (
        f"theirs/none: got Permission denied, expected read and write access. It belongs to {owner}:" in line
    )
