"""Folders that several machines and several users share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heareval import files
from tests.commands import MODEL, RESULT, SCORE, SPOKEN, checksums, command, only_line
from tests.luigi_daemon import running_luigid
from tests.predictions.conftest import write_scene_task

# --------------------------------------------------------------------------- other paths


def folders_at(path: Path) -> tuple[str, ...]:
    """The options for folders that lie together at a path."""
    names = {"tmp": "_workdir", "tasks": "tasks", "tar": "tars", "embeddings": "embeddings"}
    return tuple(f"--{option}-dir={path / name}" for option, name in names.items())


def sums(mirror: Path) -> tuple[str, ...]:
    return "--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS")


def ask(luigid: str, what: str, **about: Any) -> Any:
    data = urllib.parse.urlencode({"data": json.dumps(about)})
    with urllib.request.urlopen(f"{luigid}/api/{what}?{data}") as answer:
        return json.loads(answer.read())["response"]


@pytest.mark.slow
def test_machines_with_other_paths_share_the_steps(tmp_path: Path, mirror: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "my_model.py").write_text(MODEL)
    words = ("heareval", "evaluate", "my_model", "--tasks", "spoken_digit", *sums(mirror), *SCORE)
    with running_luigid(tmp_path) as luigid:
        runners = []
        for name in ("mnt", "data"):
            (tmp_path / name).symlink_to("server")
            places = [each for each in folders_at(tmp_path / name) if not each.startswith("--tar")]
            settings = (*places, "--scheduler-url", luigid, "--num-workers", "1")
            runners.append(
                subprocess.Popen(
                    [sys.executable, "-m", *words, *settings],
                    cwd=tmp_path,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        complaints = [runner.communicate()[1] for runner in runners]
        assert [runner.returncode for runner in runners] == [0, 0], complaints
        done = Counter(
            each["name"] for each in ask(luigid, "task_list", status="DONE", upstream_status="").values()
        )
    # Had they not shared them, luigid would know two of each.
    assert done["FetchArchive"] == done["PublishTask"] == done["Predict"] == 1
    assert (tmp_path / "server" / "embeddings" / "my_model" / SPOKEN / RESULT).exists()
    for name in ("mnt", "data"):
        state = command(tmp_path, "heareval", "status", *folders_at(tmp_path / name))
        assert state.returncode == 0, state.stdout


# --------------------------------------------------------------------------- users of a group

ALICE, BOB, GROUP = 61001, 61002, 61000


def as_user(number: int, umask: str) -> tuple[str, ...]:
    """Words before a command that another user of the group runs.

    That user may read everything, as this Python may lie in the home of root, but write only what is theirs.
    """
    rights = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    who = (f"--reuid={number}", f"--regid={GROUP}", "--clear-groups", *rights)
    return ("setpriv", *who, "env", "HOME=/nonexistent", "sh", "-c", f'umask {umask} && exec "$@"', "sh")


@pytest.fixture
def shared(mirror: Path) -> Iterator[Path]:
    """A folder that a group may write to, beside a copy of the mirror.

    It is outside of the folders of pytest, which only root may enter.
    """
    able = not os.geteuid() and shutil.which("setpriv")
    if not able or subprocess.run([*as_user(ALICE, "002"), "true"], check=False).returncode:
        pytest.skip("needs root, and setpriv with ambient capabilities")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "shared"
        place.mkdir()
        os.chown(place, 0, GROUP)
        place.chmod(0o2775)
        (place / "my_model.py").write_text(MODEL)
        shutil.copytree(mirror, place.with_name("mirror")).chmod(0o755)
        yield place


def closed(folder: Path) -> list[str]:
    """What not everybody of the group may write to, without the clips, which nobody should edit."""
    found = []
    for path in folder.rglob("*"):
        facts = path.stat()
        wanted = 0o2070 if path.is_dir() else 0o040 if path.suffix == ".wav" else 0o060
        if facts.st_uid and (facts.st_gid != GROUP or stat.S_IMODE(facts.st_mode) & wanted != wanted):
            found.append(f"{path} {stat.filemode(facts.st_mode)} {facts.st_gid}")
    return found


@pytest.mark.slow
def test_a_second_user_continues_cleans_and_takes_over(shared: Path, prepared: Path) -> None:
    def run(user: int, *words: str) -> subprocess.CompletedProcess[str]:
        return command(shared, *words, before=as_user(user, "002"))

    prepare = (
        "heareval",
        "prepare",
        "spoken_digit",
        "--sample-rate",
        "16000",
        *sums(shared.with_name("mirror")),
    )
    evaluate = (
        "heareval",
        "evaluate",
        "my_model",
        "--tasks",
        "spoken_digit",
        *sums(shared.with_name("mirror")),
        *SCORE,
    )
    assert run(ALICE, *prepare).returncode == 0
    assert closed(shared) == []
    done = run(BOB, *prepare, "--sample-rate", "22050")
    assert done.returncode == 0, done.stderr
    assert closed(shared) == []
    # Those of Alice, too, which Bob's run may not have been allowed to link.
    assert {path.stat().st_mode & 0o777 for path in (shared / "tasks").rglob("*.wav")} == {0o444}
    assert checksums(shared).items() <= checksums(prepared).items()
    done = run(BOB, "heareval", "clean", "--delete")
    assert done.returncode == 0, done.stderr
    first = subprocess.Popen(
        [*as_user(ALICE, "002"), sys.executable, "-m", *evaluate], cwd=shared, stderr=subprocess.DEVNULL
    )
    while not list(shared.glob("embeddings/my_model/.*.unfinished/*.npy")) and first.poll() is None:
        time.sleep(0.001)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = run(BOB, *evaluate)
    assert done.returncode == 0, done.stderr
    assert (shared / "embeddings" / "my_model" / SPOKEN / RESULT).exists()
    assert closed(shared) == []


@pytest.mark.slow
def test_a_folder_of_another_user_is_one_line(shared: Path) -> None:
    prepare = ("heareval", "prepare", "spoken_digit", *sums(shared.with_name("mirror")), "--sample-rate")
    assert command(shared, *prepare, "16000", before=as_user(ALICE, "022")).returncode == 0
    # What is complete is for everybody to use.
    assert command(shared, *prepare, "16000", before=as_user(BOB, "002")).returncode == 0
    line = only_line(command(shared, *prepare, "22050", before=as_user(BOB, "002")))
    assert (
        "got Permission denied, expected read and write access. It belongs to user 61001: ask them to open it"
        in line
    )
    assert line.endswith("to your group (chmod -R g+rwX on all shared folders) and to work with umask 002.")


# --------------------------------------------------------------------------- scratch of a machine

ASKS_WHERE = """
import tempfile
from pathlib import Path
# When it is loaded, in a process of its own.
with tempfile.NamedTemporaryFile(dir=None) as file, open("found.txt", "a") as found:
    print(file.name, file=found)
"""


def test_models_find_the_scratch_folder(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL + ASKS_WHERE)
    scratch = tmp_path / "local"
    # What a killed run left, and what one on another machine is using.
    killed = scratch / f".run.{files.name_process().rpartition('-')[0]}.99999999{files.SCRATCH}"
    other = scratch / f".run.another-host.7{files.SCRATCH}"
    for folder in (killed, other):
        (folder / "deep").mkdir(parents=True)
    (tmp_path / "luigi.cfg").write_text("[heareval]\nscratch_dir = local\n")
    tasks = ("--tasks-dir", str(prepared / "tasks"))
    words = ("heareval.embeddings.runner", "my_model", *tasks, "--gpus", "0")
    done = command(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    found = (tmp_path / "found.txt").read_text().splitlines()
    assert found
    assert all(Path(path).parent.parent == scratch for path in found)
    assert list(scratch.iterdir()) == [other]


@pytest.mark.slow
def test_predictors_are_trained_on_copies(tmp_path: Path) -> None:
    folder = write_scene_task(tmp_path)
    words = ("heareval", "predict", str(folder), *SCORE, "--no-in-memory")
    assert command(tmp_path, *words).returncode == 0
    scores = json.loads((folder / RESULT).read_text())["scores"]
    (folder / RESULT).unlink()
    done = command(tmp_path, *words, "--scratch-dir", str(tmp_path / "local"))
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / RESULT).read_text())["scores"] == scores
    assert list((tmp_path / "local").iterdir()) == []
