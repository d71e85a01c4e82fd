"""`heareval status`: what is complete, missing, failed, killed and running, as real runs leave it."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests import stand_ins
from tests.commands import MODEL, SPOKEN, command, only_line, prepare
from tests.luigi_daemon import running_luigid
from tests.test_unfinished import write_task

AT_16_KHZ = ("--sample-rate", "16000")


def read_status(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the JSON of `heareval status`."""
    done = command(folder, "heareval", "status", "--json", *words)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def states(status: dict[str, Any]) -> dict[str, list[str]]:
    """The states of the rows of each kind, in their order."""
    found: dict[str, list[str]] = {}
    for row in status["rows"]:
        found.setdefault(row["kind"], []).append(row["state"])
    return found


@pytest.fixture
def copied(tmp_path: Path, prepared: Path) -> Path:
    """A copy of spoken_digit, prepared at four rates, to change."""
    for name in ("tasks", "tars"):
        shutil.copytree(prepared / name, tmp_path / name)
    return tmp_path


# --------------------------------------------------------------------------- complete and missing


def test_what_was_prepared_is_complete_and_what_is_asked_beyond_is_missing(
    prepared: Path, mirror: Path
) -> None:
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    code, status = read_status(prepared, "--tasks", "spoken_digit", *sums)
    assert (code, status["complete"], status["counts"]) == (0, True, {"complete": 8})
    code, status = read_status(prepared, "--tasks", "spoken_digit", "--sample-rate", "32000", *sums)
    assert (code, states(status)) == (25, {"task folder": ["missing"], "tarball": ["missing"]})
    assert status["rows"][0]["next_step"] == "spoken_digit full: clips, part 1 of 4"
    assert [row["steps_left"] for row in status["rows"]] == [5, 6]
    code, status = read_status(prepared)
    assert (code, states(status)) == (0, {"task folder": ["complete"] * 4, "tarball": ["complete"] * 4})


def test_a_model_is_not_loaded(prepared: Path, mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text("raise SystemExit('loaded')")
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    words = ("my_model", "--tasks", "spoken_digit,dcase2016_task2", "--tasks-dir", str(prepared / "tasks"))
    code, status = read_status(tmp_path, *words, *sums)
    assert (code, states(status)) == (25, {"scores": ["missing"] * 2})
    assert {row["next_step"] for row in status["rows"]} == {
        "my_model: description for scene embeddings",
        "my_model: description for timestamp embeddings",
    }
    lines = command(tmp_path, "heareval", "status", *words).stdout.splitlines()
    assert len(lines) == 3
    assert all(": next: description for " in line for line in lines[:-1])
    assert not (tmp_path / "_workdir").exists()


def test_removed_parts_are_missing(copied: Path) -> None:
    shutil.rmtree(copied / "tasks" / SPOKEN / "44100")
    (copied / "tars" / f"hear-LATEST-{SPOKEN}-16000.tar.gz").unlink()
    done = command(copied, "heareval", "status")
    assert done.returncode == 25
    assert (
        f"task folder {SPOKEN} at 44100 Hz: next: prepare it again: its folder 44100 was removed"
        in done.stdout
    )
    assert f"tarball {SPOKEN} at 16000 Hz: next: pack it again: hear-LATEST-" in done.stdout
    assert done.stdout.splitlines()[-1] == "2 missing, 6 complete"


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    line = only_line(command(tmp_path, "heareval", "status"))
    assert line.startswith("error: folders tasks, tars, embeddings, _workdir: got none of them")


# --------------------------------------------------------------------------- damaged

DAMAGES = ("", "[]", "{}", '{"fingerprint": 3}', "\xff\xfe", "[" * 100_000)


@pytest.mark.parametrize("content", DAMAGES)
def test_damaged_manifests_are_one_line_each(copied: Path, content: str) -> None:
    paths = [copied / "tasks" / SPOKEN / "MANIFEST.json"]
    paths += sorted((copied / "tars" / ".manifests").glob("*.json"))[:1]
    paths.append(copied / "embeddings" / "my_model" / SPOKEN / "MANIFEST.json")
    paths[-1].parent.mkdir(parents=True)
    for path in paths:
        path.write_text(content, encoding="latin-1")
    done = command(copied, "heareval", "status")
    assert done.returncode == 30
    assert "Traceback" not in done.stderr
    for path in paths:
        (line,) = (line for line in done.stdout.splitlines() if str(path) in line)
        assert line.startswith("damaged ")
    assert "3 damaged, 3 complete" in done.stdout


def test_a_damaged_task_folder_hides_no_other_state(copied: Path, mirror: Path) -> None:
    (copied / "tasks" / SPOKEN / "MANIFEST.json").write_text("{}")
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    code, status = read_status(copied, "--tasks", "spoken_digit,speech_commands", *AT_16_KHZ, *sums)
    assert code == 30
    by_task = {(row["task"], row["kind"]): row["state"] for row in status["rows"]}
    assert by_task["spoken_digit", "task folder"] == "damaged"
    assert by_task["speech_commands", "task folder"] == "missing"


def test_a_submission_that_cannot_be_opened_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "bad.toml").write_text("modul = 'm'")
    code, status = read_status(tmp_path, "my_model", "bad.toml", "--tasks", "spoken_digit")
    assert code == 30
    by_name = {row["submission"]: row for row in status["rows"]}
    assert by_name["my_model"]["state"] == "missing"
    assert by_name["bad.toml"]["state"] == "damaged"
    assert "modul" in by_name["bad.toml"]["error"]


# --------------------------------------------------------------------------- failed


def test_a_failure_is_told_until_the_step_succeeds(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    files = [write_task(tmp_path, name, is_damaged=name == "owls") for name in ("crows", "owls")]
    words = ("my_model", "--tasks", ",".join(files), "--probe", "linear")
    assert command(tmp_path, "heareval", "evaluate", *words).returncode == 30
    code, status = read_status(tmp_path, *words)
    by_task = {row["task"]: row for row in status["rows"]}
    assert (code, by_task["crows"]["state"], by_task["owls"]["state"]) == (30, "complete", "failed")
    (failed,) = by_task["owls"]["failed"]
    (line,) = (
        line
        for line in command(tmp_path, "heareval", "status", *words).stdout.splitlines()
        if line.startswith("failed")
    )
    # The row names the model and the task already.
    assert line.startswith("failed       my_model (probe-linear) on owls-v1-full: clips, part ")
    assert failed["step"].startswith("owls full: clips, part ")
    assert "3.wav" in failed["error"]
    assert failed["failures"] == 1
    done = command(tmp_path, "heareval", "status", "--since", "last")
    assert done.returncode == 0
    first, *lines = done.stdout.splitlines()
    assert first.endswith(": 1 run, 2 changed, 1 failed")
    assert lines[0] == "new      task folder crows-v1-full: at 16000 Hz"
    assert lines[1].startswith("new      my_model (probe-linear) on crows-v1-full: top1_acc ")
    assert lines[2].startswith(f"failed   {failed['step']}: ")
    assert failed["host"] == socket.gethostname()
    code, status = read_status(tmp_path)
    assert (code, states(status)["step"]) == (30, ["failed"])
    assert command(tmp_path, "heareval", "evaluate", *words).returncode == 30
    code, status = read_status(tmp_path)
    assert [row["failed"][0]["failures"] for row in status["rows"] if row["kind"] == "step"] == [2]
    shutil.copy(tmp_path / "owls" / "low" / "4.wav", tmp_path / "owls" / "low" / "3.wav")
    assert command(tmp_path, "heareval", "evaluate", *words).returncode == 0
    assert read_status(tmp_path, *words)[0] == 0
    code, status = read_status(tmp_path)
    assert (code, states(status)) == (0, {"task folder": ["complete"] * 2, "scores": ["complete"] * 2})


# --------------------------------------------------------------------------- running and killed


@pytest.fixture
def silent_mirror() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def fetching(folder: Path, mirror: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a run whose first step does not end; yield it when that step runs."""
    command = [sys.executable, "-m", "heareval", "prepare", "spoken_digit", *AT_16_KHZ, "--force"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    runner = subprocess.Popen(
        [*command, "--mirror", mirror, "--num-workers", "2", *words],
        cwd=folder,
        start_new_session=True,
        **silent,
    )
    try:
        while not list(folder.glob("_workdir/step-records/*.running.json")):
            assert runner.poll() is None
            time.sleep(0.01)
        yield runner
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()


def wait_for_end_of_steps(folder: Path) -> None:
    """Return when no process holds the lock of a record."""
    while read_status(folder)[1]["counts"].get("running"):
        time.sleep(0.01)


def test_a_step_of_another_process_runs_and_after_a_kill_it_does_not(
    tmp_path: Path, silent_mirror: str
) -> None:
    words = ("--tasks", "spoken_digit", *AT_16_KHZ)
    with fetching(tmp_path, silent_mirror) as runner:
        code, status = read_status(tmp_path, *words)
        assert (code, states(status)) == (25, {"task folder": ["running"], "tarball": ["running"]})
        (running,) = status["rows"][0]["running"]
        assert running["step"] == "fetch v1.0.9.tar.gz"
        assert running["host"] == socket.gethostname()
        assert os.getsid(running["pid"]) == runner.pid
        assert states(read_status(tmp_path)[1]) == {"step": ["running"]}
        os.killpg(runner.pid, signal.SIGKILL)
        wait_for_end_of_steps(tmp_path)
    code, status = read_status(tmp_path, *words)
    assert (code, states(status)) == (25, {"task folder": ["interrupted"], "tarball": ["interrupted"]})
    done = command(tmp_path, "heareval", "status")
    assert done.returncode == 25
    place = f"{running['host']}, process {running['pid']}, begun {running['since']}"
    assert done.stdout.startswith(f"interrupted  step fetch v1.0.9.tar.gz: interrupted on {place}\n")
    done = command(tmp_path, "heareval", "status", *words)
    assert f": fetch v1.0.9.tar.gz was interrupted on {place}; " in done.stdout


def test_luigid_says_what_runs(tmp_path: Path, silent_mirror: str) -> None:
    words = ("--tasks", "spoken_digit", *AT_16_KHZ)
    with (
        running_luigid(tmp_path) as address,
        fetching(tmp_path, silent_mirror, "--scheduler-url", address) as runner,
    ):
        # Without it, the record on the disk would say the same.
        shutil.rmtree(tmp_path / "_workdir" / "step-records")
        code, status = read_status(tmp_path, *words, "--scheduler-url", address)
        assert (code, status["scheduler_url"], status["notes"]) == (25, address, [])
        (running,) = status["rows"][0]["running"]
        assert running["step"] == "fetch v1.0.9.tar.gz"
        assert (running["host"], running["pid"]) == (socket.gethostname(), runner.pid)
        # Steps in another work folder are those of somebody else.
        other = (*words, "--scheduler-url", address, "--tmp-dir", str(tmp_path / "other"))
        assert states(read_status(tmp_path, *other)[1])["tarball"] == ["missing"]


def test_without_an_answer_of_luigid_the_disk_says_what_runs(tmp_path: Path, silent_mirror: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    with fetching(tmp_path, silent_mirror):
        status = read_status(tmp_path, "--scheduler-url", address)[1]
    assert (status["scheduler_url"], states(status)) == (None, {"step": ["running"]})
    assert len(status["notes"]) == 1
    assert status["notes"][0].startswith(f"luigid at {address} does not answer")


def test_another_server_is_no_luigid(tmp_path: Path, silent_mirror: str) -> None:
    (tmp_path / "_workdir").mkdir()
    done = command(tmp_path, "heareval", "status", "--scheduler-url", silent_mirror)
    assert (done.returncode, done.stdout) == (0, "nothing has been made yet\n")
    assert done.stderr.startswith(f"note: luigid at {silent_mirror} does not answer")


# --------------------------------------------------------------------------- what has changed


def read_changes(folder: Path, since: str) -> dict[str, Any]:
    """Return the JSON of `heareval status --since`."""
    done = command(folder, "heareval", "status", "--json", "--since", since)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_changed_archive_and_tarball_are_told(tmp_path: Path, mirror: Path) -> None:
    ours, name = tmp_path / "mirror", "v1.0.9.tar.gz"
    ours.mkdir()
    shutil.copy(mirror / name, ours)
    stand_ins.md5sums(ours)
    began = datetime.now(timezone.utc).isoformat()
    words = ("spoken_digit", *AT_16_KHZ)
    assert prepare(tmp_path, ours, *words).returncode == 0
    changes = read_changes(tmp_path, "last")["changes"]
    assert [(each["kind"], each["change"]) for each in changes] == [
        ("task folder", "new"),
        ("tarball", "new"),
    ]
    assert prepare(tmp_path, ours, *words).returncode == 0
    found = read_changes(tmp_path, "last")
    assert (found["runs"], found["changes"], found["failed"]) == (1, changes, [])
    assert found["idle_at"] >= found["since"], "a run with nothing to do hides nothing"
    assert prepare(tmp_path, ours, *words).returncode == 0
    assert len(list((tmp_path / "_workdir" / "run-records").iterdir())) == 2, "one of idle runs is kept"
    with gzip.open(ours / name, "ab") as archive:
        archive.write(bytes(10240))  # further empty blocks of a tar
    stand_ins.md5sums(ours)
    assert prepare(tmp_path, ours, *words).returncode == 0
    folder, tarball = read_changes(tmp_path, "last")["changes"]
    assert (folder["change"], tarball["change"]) == ("changed", "changed")
    assert folder["details"][0].startswith(f"archive {name} has changed: MD5 ")
    found = read_changes(tmp_path, began)
    assert (found["runs"], [each["change"] for each in found["changes"]]) == (2, ["new", "new"])
    assert found["idle_at"] is None
    assert read_changes(tmp_path, "2100-01-01")["runs"] == 0
    assert "the first run that is recorded began at" in read_changes(tmp_path, "2000-01-01")["notes"][0]


def test_damaged_records_of_runs_are_one_line_each(copied: Path, mirror: Path) -> None:
    records = copied / "_workdir" / "run-records"
    assert prepare(copied, mirror, "spoken_digit").returncode == 0
    for number, content in enumerate(DAMAGES):
        (records / f"{number}.json").write_text(content, encoding="latin-1")
    found = read_changes(copied, "last")
    assert (found["runs"], found["changes"], len(found["notes"])) == (0, [], len(DAMAGES))


@pytest.mark.parametrize("words", [("--since", "yesterday"), ("--since", "last"), ("--since", "last", "m")])
def test_a_question_without_an_answer_is_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    only_line(command(tmp_path, "heareval", "status", *words))


def test_a_changed_score_is_told_with_the_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    words = ("my_model", "--tasks", write_task(tmp_path, "crows", is_damaged=False), "--probe", "linear")
    assert command(tmp_path, "heareval", "evaluate", *words).returncode == 0
    (score,) = (tmp_path / "embeddings" / "my_model" / "crows-v1-full").glob("test.*-scores.json")
    score.unlink()
    before = {"fingerprint": "0" * 16, "scores": {"top1_acc": 0.25}}
    assert command(tmp_path, "heareval", "evaluate", *words).returncode == 0
    (*_, path) = sorted((tmp_path / "_workdir" / "run-records").iterdir())
    record = json.loads(path.read_text())
    assert [each["before"] for each in record["outputs"]] == [{}]
    record["outputs"][0]["before"] = before
    path.write_text(json.dumps(record))
    (change,) = read_changes(tmp_path, "last")["changes"]
    assert change["change"] == "changed"
    assert change["details"][0].endswith(", was 0.2500")
