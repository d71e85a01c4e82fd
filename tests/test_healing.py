"""Runs through a real luigid that is killed, forgets its steps or is gone; runs that are drained."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from heareval.workflow.configuration import PACKAGED
from tests.luigi_daemon import Luigid

# Of what takes a minute or more in practice.
SHORT = {
    "rpc_retry_attempts = 20": "rpc_retry_attempts = 4",
    "rpc_retry_wait = 3": "rpc_retry_wait = 0.5",
    "ping_interval = 2": "ping_interval = 0.2",
    "wait_interval = 1": "wait_interval = 0.1",
    "wait_jitter = 1": "wait_jitter = 0",
    "worker_disconnect_delay = 30": "worker_disconnect_delay = 2",
    "retry_delay = 30": "retry_delay = 0.5",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to work in, with a luigi.cfg that has short delays."""
    text = PACKAGED.read_text(encoding="utf-8")
    for usual, short in SHORT.items():
        assert usual in text
        text = text.replace(usual, short)
    (tmp_path / "luigi.cfg").write_text(text)
    (tmp_path / "go").mkdir()
    return tmp_path


@pytest.fixture
def luigid(folder: Path) -> Iterator[Luigid]:
    """A luigid with short delays."""
    daemon = Luigid(folder, folder / "luigi.cfg")
    daemon.start()
    yield daemon
    daemon.end()


@contextlib.contextmanager
def running(folder: Path, *words: str, workers: int = 2, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run and leave it to the test; what still runs at the end is killed."""
    command = [sys.executable, "-m", "tests.errands", "--workers", str(workers), *words]
    root = Path(__file__).parent.parent
    runner = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        yield runner
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(runner.pid, signal.SIGKILL)
        runner.communicate()


def wait_until_begun(folder: Path, count: int) -> list[str]:
    """Return the steps that have begun as soon as there are so many."""
    while len(names := begun(folder)) < count:
        time.sleep(0.01)
    return names


def begun(folder: Path) -> list[str]:
    """The steps that have begun, in order, each as often as that was."""
    path = folder / "begun"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def allow(folder: Path, *names: str) -> None:
    """Let steps end."""
    for name in names:
        (folder / "go" / name).touch()


def finish(runner: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the exit code of a run, and what it said on standard error."""
    _, said = runner.communicate(timeout=120)
    assert "Traceback" not in said
    return runner.returncode, said


# --------------------------------------------------------------------------- drained


def test_a_drained_run_finishes_what_runs_and_says_what_is_left(folder: Path) -> None:
    with running(folder, "a", "b:a", "c:a", "d:a", "e:a") as runner:
        allow(folder, "a")
        names = wait_until_begun(folder, 3)
        runner.send_signal(signal.SIGUSR1)
        allow(folder, *names)
        code, said = finish(runner)
    assert (code, begun(folder)) == (45, names)
    assert said.splitlines()[-2] == "drained, 2 steps left"
    assert "error" not in said
    assert {path.name for path in (folder / "made").iterdir()} == set(names)


def test_a_signal_to_all_processes_of_a_job_drains_only_the_runner(folder: Path) -> None:
    with running(folder, "a", "b", "c") as runner:
        names = wait_until_begun(folder, 2)
        os.killpg(runner.pid, signal.SIGUSR1)
        allow(folder, *names)
        code, said = finish(runner)
    assert (code, said.splitlines()[-2]) == (45, "drained, 1 step left")


def test_sigterm_drains_a_slurm_job_that_has_time_left(folder: Path) -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(time.time()) + 300)}
    with running(folder, "a", "b", "c", **job) as runner:
        names = wait_until_begun(folder, 2)
        runner.send_signal(signal.SIGTERM)
        allow(folder, *names)
        code, said = finish(runner)
    assert (code, said.splitlines()[-2]) == (45, "drained, 1 step left")


@pytest.mark.parametrize("left_s", [30, None])
def test_sigterm_ends_other_runs_at_once(folder: Path, left_s: int | None) -> None:
    end = {} if left_s is None else {"SLURM_JOB_END_TIME": str(int(time.time()) + left_s)}
    with running(folder, "a", SLURM_JOB_ID="7", **end) as runner:
        wait_until_begun(folder, 1)
        runner.send_signal(signal.SIGTERM)
        code, said = finish(runner)
    assert (code, said.splitlines()[-1]) == (130, "stopped; run the same command again to resume")
