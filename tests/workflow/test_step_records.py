"""Records of steps: what runs, what was killed and what failed, as real processes leave them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from heareval.workflow.step_records import (
    begin_record,
    forget_failure,
    make_key,
    read_step_records,
    record_failure,
    recording_run,
)

RUNNING_STEP = """if True:
    import os, sys
    from pathlib import Path
    from heareval.workflow.step_records import begin_record, make_key, recording_run
    with recording_run(Path(sys.argv[1]), begin_record(make_key("step"), "a step", "[]")):
        print("runs", flush=True)
        sys.stdin.readline()
"""


def start_step(folder: Path) -> subprocess.Popen[str]:
    """Start a process that records a running step, and return when it has."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNING_STEP, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "runs\n"
    return process


def test_a_step_of_another_process_runs_until_it_ends(tmp_path: Path) -> None:
    process = start_step(tmp_path)
    records = read_step_records(tmp_path)
    assert [(each.title, each.pid) for each in records.running] == [("a step", process.pid)]
    assert records.running[0].host == os.uname().nodename
    assert (records.interrupted, records.failed, records.damaged) == ((), (), ())
    process.communicate("end\n")
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_killed_step_is_interrupted_until_it_runs_again(tmp_path: Path) -> None:
    process = start_step(tmp_path)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    records = read_step_records(tmp_path)
    assert [each.pid for each in records.interrupted] == [process.pid]
    assert records.running == ()
    with recording_run(tmp_path, begin_record(make_key("step"), "a step", "[]")):
        records = read_step_records(tmp_path)
        assert [each.pid for each in records.running] == [os.getpid()]
        assert records.interrupted == ()


def test_two_processes_may_do_the_same_step(tmp_path: Path) -> None:
    process = start_step(tmp_path)
    with recording_run(tmp_path, begin_record(make_key("step"), "a step", "[]")):
        assert {each.pid for each in read_step_records(tmp_path).running} == {os.getpid(), process.pid}
    assert [each.pid for each in read_step_records(tmp_path).running] == [process.pid]
    process.communicate("end\n")


def test_a_failure_keeps_the_time_of_the_first_one(tmp_path: Path) -> None:
    record = begin_record(make_key("step"), "a step", "[]")
    record_failure(tmp_path, record, "one")
    path = tmp_path / f"{record.key}.failed.json"
    path.write_text(path.read_text().replace(record.since, "2026-01-01T00:00:00+00:00"))
    record_failure(tmp_path, record, "another")
    (failed,) = read_step_records(tmp_path).failed
    assert (failed.error, failed.failures) == ("another", 2)
    assert (failed.since, failed.last) == ("2026-01-01T00:00:00+00:00", record.since)
    forget_failure(tmp_path, record)
    assert read_step_records(tmp_path).failed == ()


WITHOUT_TIME = '{"key": "0", "title": "a", "upstream": "[]", "host": "a", "pid": 1, "since": "soon"}'


@pytest.mark.parametrize(
    "content",
    [
        WITHOUT_TIME,
        WITHOUT_TIME.replace("soon", "2026-01-01"),
        "",
        "[]",
        '{"key": 1}',
        '{"key": "a"}',
        "\xff",
        "[" * 100_000,
    ],
)
def test_a_damaged_record_is_one_line_and_hides_no_other(tmp_path: Path, content: str) -> None:
    record_failure(tmp_path, begin_record(make_key("step"), "a step", "[]"), "one")
    for ending in ("failed", "running"):
        (tmp_path / f"0.{ending}.json").write_text(content, encoding="latin-1")
    records = read_step_records(tmp_path)
    assert [each.title for each in records.failed] == ["a step"]
    assert len(records.damaged) == 2
    assert all(str(tmp_path) in line and "\n" not in line for line in records.damaged)


def test_a_folder_in_place_of_a_record_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "0.failed.json").mkdir()
    (tmp_path / "0.running.json").mkdir()
    assert len(read_step_records(tmp_path).damaged) == 2


def test_a_step_goes_on_where_nothing_can_be_recorded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    record = begin_record(make_key("step"), "a step", "[]")
    with recording_run(tmp_path / "file", record):
        pass
    record_failure(tmp_path / "file", record, "one")
    forget_failure(tmp_path / "file", record)
    with pytest.raises(ValueError, match="its own"), recording_run(tmp_path, record):
        raise ValueError("its own")
    assert not list(tmp_path.glob("*.json"))
