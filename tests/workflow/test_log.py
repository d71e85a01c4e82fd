"""The log of a run: named after its process, and of limited length although several processes write it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
from pathlib import Path

from heareval import files
from heareval.workflow.run import LogFile

RECORDS = 500


def write_records(handler: LogFile, who: str, count: int = RECORDS) -> None:
    for number in range(count):
        handler.emit(logging.LogRecord("luigi", logging.INFO, "", 0, f"{who} {number:04d}", (), None))


def test_a_long_log_begins_anew_and_no_process_loses_a_line(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    handler = LogFile(log, max_bytes=RECORDS * 4 * 7)
    steps = [
        multiprocessing.get_context("fork").Process(target=write_records, args=(handler, f"s{number}"))
        for number in range(3)
    ]
    for step in steps:
        step.start()
    for step in steps:
        step.join()
    assert not log.with_name("run.log.1").exists(), "only the runner renames it"
    write_records(handler, "r0")
    write_records(handler, "r1", 100)
    older, newer = (path.read_text().split("\n") for path in (log.with_name("run.log.1"), log))
    expected = [f"{who} {n:04d}" for who in ("r0", "s0", "s1", "s2") for n in range(RECORDS)]
    expected += [f"r1 {number:04d}" for number in range(100)]
    assert sorted(filter(None, older + newer)) == sorted(expected)
    assert all(path.stat().st_size <= RECORDS * 4 * 7 + 100 for path in (log, log.with_name("run.log.1")))


def test_a_step_goes_on_in_the_new_log(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    handler = LogFile(log, max_bytes=10)
    receiver, sender = multiprocessing.get_context("fork").Pipe()

    def work() -> None:
        write_records(handler, "before", 1)
        sender.send("written")
        receiver_of_step.recv()
        write_records(handler, "after", 1)

    receiver_of_step, teller = multiprocessing.get_context("fork").Pipe()
    step = multiprocessing.get_context("fork").Process(target=work)
    step.start()
    receiver.recv()
    write_records(handler, "runner", 1)
    teller.send("renamed")
    step.join()
    assert log.with_name("run.log.1").read_text() == "before 0000\n"
    assert log.read_text() == "runner 0000\nafter 0000\n"


def test_logs_that_are_removed_do_not_stop_a_run(tmp_path: Path) -> None:
    handler = LogFile(tmp_path / "logs.log")
    (tmp_path / "logs.log").unlink()
    write_records(handler, "again", 1)
    assert (tmp_path / "logs.log").read_text() == "again 0000\n"
    folder = tmp_path / "logs"
    folder.mkdir()
    handler = LogFile(folder / "run.log")
    shutil.rmtree(folder)
    write_records(handler, "lost", 1)
    assert not folder.exists()


def test_a_process_is_named_with_its_host() -> None:
    node, pid = os.uname().nodename, os.getpid()
    assert files.name_process().startswith(f"{node}-")
    assert files.name_process().endswith(f"-{pid}")
