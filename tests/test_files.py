"""Files and folders appear completely or not at all, despite races, errors and kills."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heareval import files
from heareval.errors import HearevalError


def test_a_folder_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "x" / "folder"
    with files.building_folder(target) as scratch:
        (scratch / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match="no"), files.building_folder(tmp_path / "folder") as scratch:  # noqa: PT012
        (scratch / "a").write_text("1")
        raise HearevalError("no")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_names_the_file(tmp_path: Path) -> None:
    target = tmp_path / "table.json"
    with pytest.raises(OSError, match="No space") as caught, files.building_file(target) as scratch:  # noqa: PT012
        scratch.symlink_to("/dev/full")
        with open(scratch, "wb", buffering=0) as stream:
            stream.write(b"more")
    assert caught.value.filename == str(target)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="Input") as caught, files.building_file(target):
        raise OSError(errno.EIO, "Input/output error")  # of a source that is read meanwhile
    assert caught.value.filename is None


def test_the_first_of_two_processes_wins(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with files.building_folder(target) as scratch:
        (scratch / "a").write_text("mine")
        target.mkdir()
        (target / "a").write_text("theirs")
    assert (target / "a").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_an_older_folder_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for content in ("old", "new"):
        with files.building_folder(target, replace=True) as scratch:
            (scratch / files.MANIFEST).write_text(content)
    assert (target / files.MANIFEST).read_text() == "new"
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == ["folder"]


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with files.building_folder(target, replace=True):
        pass  # an empty folder may go
    (target / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="did not make"), files.building_folder(target, replace=True):
        pytest.fail("the folder is built before anybody looks")
    target.rename(tmp_path / "elsewhere")
    with (  # noqa: PT012
        pytest.raises(FileExistsError, match="did not make"),
        files.building_folder(target, replace=True) as scratch,
    ):
        (scratch / files.MANIFEST).write_text("ours")
        (tmp_path / "elsewhere").rename(target)  # while ours is built
    assert (target / "thesis.txt").read_text() == "mine"
    assert not list(tmp_path.glob("*.partial"))


def test_only_scratch_of_killed_processes_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "folder[1]"
    code = "import sys; from pathlib import Path; from heareval import files"
    code += "; s = files.scratch_path(Path(sys.argv[1])); s.mkdir(); print(s, flush=True); input()"
    living = subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    scratch = Path(living.stdout.readline().strip())
    files.remove_dead_scratch(target)
    assert scratch.exists()
    living.kill()
    # Killed but not yet waited for, the process is a zombie.
    os.waitid(os.P_PID, living.pid, os.WEXITED | os.WNOWAIT)
    files.remove_dead_scratch(target)
    assert not scratch.exists()
    living.communicate()


def test_a_killed_process_releases_its_lock(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from heareval import files"
    code += "\nwith files.locked(Path(sys.argv[1])): print('mine', flush=True); time.sleep(600)"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "mine\n"
    holder.kill()
    with files.locked(tmp_path / "lock"):
        pass
    holder.communicate()


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="only Linux opens a file without any access")
def test_whoever_waits_for_a_lock_may_say_so(tmp_path: Path) -> None:
    told = []

    def release() -> None:
        told.append("waiting")
        other.close()

    with files.open_lock(tmp_path / "lock") as other:
        files.lock(other, fcntl.LOCK_EX)
        with files.locked(tmp_path / "lock", release):
            assert told == ["waiting"]
    with files.locked(tmp_path / "lock", release):
        assert told == ["waiting"]


def test_a_lock_that_needs_write_access_is_refused_in_these_words(tmp_path: Path) -> None:
    """NFS fails in this way for a file that may only be read."""
    path = tmp_path / "lock"
    path.touch()

    def open_without_access(name: str, _: int) -> int:
        return os.open(name, os.O_PATH)

    with (
        open(path, "rb", buffering=0, opener=open_without_access) as stream,
        pytest.raises(PermissionError, match="Permission denied") as caught,
    ):
        files.lock(stream, fcntl.LOCK_EX)
    assert caught.value.filename == str(path)


def test_errors_are_one_line() -> None:
    error = HearevalError("clip a.wav", got="3\nchannels", expected="one", remedy="Mix it down.")
    assert str(error) == "clip a.wav: got 3 channels, expected one. Mix it down."
    assert str(HearevalError("nothing to say")) == "nothing to say"


@pytest.mark.skipif(not shutil.which("bindfs") or os.geteuid() != 0, reason="needs bindfs and root")
def test_leftovers_are_removed_beside_a_folder_that_this_machine_does_not_see_yet(tmp_path: Path) -> None:
    """As through NFS, the new folder is listed, but for a while not found: it was asked for before."""
    folder, mount = tmp_path / "folder", tmp_path / "mount"
    (folder / "old" / ".a.node1-1-1.tmp").mkdir(parents=True)
    mount.mkdir()
    script = (
        'bindfs -o negative_timeout=60 "$0" "$1" && trap \'cd / && umount "$1"\' EXIT\n'
        '! ls "$1/new" && mkdir "$0/new" && ls "$1" && ! ls "$1/new" || exit 9\n'
        '"$2" -c "import sys; from pathlib import Path; from heareval.files import remove_leftovers; '
        'remove_leftovers(Path(sys.argv[1]))" "$1"'
    )
    words = ["unshare", "-m", "bash", "-c", script, str(folder), str(mount), sys.executable]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
