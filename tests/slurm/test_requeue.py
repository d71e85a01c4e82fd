"""Which jobs of the batch scripts are put back into the queue."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.commands import checksums
from tests.luigi_daemon import running_luigid
from tests.slurm.cluster import Cluster, JobState, wait_until
from tests.slurm.jobs import (
    ONE_JOB,
    PREPARE,
    WORKERS,
    SlowMirror,
    check_complete,
    finished_steps,
    read_log,
    wait_for_fetches,
)

pytestmark = pytest.mark.slurm
# In place of heareval, because the rules depend on nothing but its exit code and its lines. It finishes as
# many steps as the word before the last says, waits for a signal, and exits with the code in the last word.
STAND_IN = """#!/usr/bin/env python3
import signal, sys
wanted = int(sys.argv[-2]), int(sys.argv[-1])
signal.signal(signal.SIGUSR1, lambda *_: None)
for step in range(wanted[0]):
    print(f"[step {step + 1} of 9] a step: 0.1 s", file=sys.stderr, flush=True)
print("waits", file=sys.stderr, flush=True)
signal.pause()
sys.exit(wanted[1])
"""


def submit(cluster: Cluster, folder: Path, *, steps: int, code: int) -> str:
    """Submit an array of two, whose second element has the number of the array; return it."""
    program = folder / "bin" / "heareval"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    path = f"{program.parent}:{cluster.environment['PATH']}"
    words = (WORKERS, "prepare", "--scheduler-url", "none", str(steps), str(code))
    return cluster.submit(folder, "--array=0-1", *words, PATH=path)


def waits(folder: Path, element: str) -> int:
    """How often the stand-in has begun to wait."""
    return read_log(folder, element).splitlines().count("waits")


def states_after_drain(cluster: Cluster, job: str, element: str, folder: Path) -> JobState:
    """Tell an element that its time is over, as Slurm does; return its state when that has had an effect."""
    before = cluster.states(job)[element]
    cluster.ask("scancel", "--batch", "--signal=USR1", element)

    def follows() -> bool:
        state = cluster.states(job)[element]
        return state.has_ended or (state.restarts > before.restarts and state.state == "PENDING")

    wait_until(follows, f"{element} is drained")
    return cluster.states(job)[element]


def test_at_most_three_times(cluster: Cluster, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path, steps=1, code=45)
    # Element 1 has the number of the array, which must not put element 0 back as well.
    element, other = f"{job}_1", f"{job}_0"
    for restart in range(4):
        wait_until(lambda: waits(tmp_path, element) == restart + 1, f"start {restart}")  # noqa: B023
        state = states_after_drain(cluster, job, element, tmp_path)
        expected = ("PENDING", restart + 1) if restart < 3 else ("FAILED", 3)
        assert (state.state, state.restarts) == expected
    assert state.exit_code == 45
    log = read_log(tmp_path, element)
    for restart in (1, 2, 3):
        assert f"put back into the queue ({restart} of at most 3 times)" in log
    assert "not put back into the queue again after 3 times; submit it again to go on" in log
    assert waits(tmp_path, other) == 1
    assert cluster.states(job)[other].restarts == 0
    cluster.ask("scancel", job)
    cluster.wait(job)


def test_only_with_progress(cluster: Cluster, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path, steps=0, code=45)
    element = f"{job}_0"
    wait_until(lambda: waits(tmp_path, element), "the first start")
    state = states_after_drain(cluster, job, element, tmp_path)
    assert (state.state, state.exit_code, state.restarts) == ("FAILED", 45, 0)
    assert "not put back into the queue, as it has finished no step" in read_log(tmp_path, element)
    cluster.ask("scancel", job)
    cluster.wait(job)


def test_only_if_drained(cluster: Cluster, tmp_path: Path) -> None:
    """Nor is there time for a second run."""
    job = submit(cluster, tmp_path, steps=1, code=30)
    element = f"{job}_0"
    wait_until(lambda: waits(tmp_path, element), "the first start")
    state = states_after_drain(cluster, job, element, tmp_path)
    assert (state.state, state.exit_code, state.restarts) == ("FAILED", 30, 0)
    assert waits(tmp_path, element) == 1
    cluster.ask("scancel", job)
    cluster.wait(job)


def test_not_if_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path, steps=1, code=45)
    elements = [f"{job}_0", f"{job}_1"]
    wait_until(lambda: all(waits(tmp_path, each) for each in elements), "both start")
    cluster.ask("scancel", job)
    assert {(each.state, each.restarts) for each in cluster.wait(job)} == {("CANCELLED", 0)}


def test_the_time_limit_of_workers(
    cluster: Cluster, slow_mirror: SlowMirror, alone: dict[str, str], tmp_path: Path
) -> None:
    """heareval drains, Slurm puts the job back into the queue, and it goes on where it was."""
    with running_luigid(tmp_path) as url:
        slow_mirror.hold()
        words = (WORKERS, *PREPARE, *slow_mirror.options)
        job = cluster.submit(tmp_path, "--array=0", "--time=60", *words, LUIGI_SCHEDULER=url)
        hold_after_a_step(tmp_path, f"{job}_0", slow_mirror)
        # The warning comes five minutes before the end.
        cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=4")
        wait_until(lambda: "told to end" in read_log(tmp_path, f"{job}_0"), "the warning")
        slow_mirror.release()
        wait_until(lambda: cluster.states(job)[f"{job}_0"].restarts, "the job is put back")
        cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=60")
        ended = cluster.wait(job)
    check_complete(tmp_path, ended)
    log = read_log(tmp_path, f"{job}_0")
    assert re.search(r"drained, \d+ steps left", log)
    assert "put back into the queue (1 of at most 3 times)" in log
    assert len(finished_steps(tmp_path, f"{job}_0")) == len(set(finished_steps(tmp_path, f"{job}_0")))
    assert checksums(tmp_path) == alone


def test_the_time_limit_of_one_job(
    cluster: Cluster, slow_mirror: SlowMirror, alone: dict[str, str], tmp_path: Path
) -> None:
    """The steps that are not done a minute before the end are stopped."""
    slow_mirror.hold()
    words = (ONE_JOB, *PREPARE, *slow_mirror.options)
    job = cluster.submit(tmp_path, "--time=60", *words)
    hold_after_a_step(tmp_path, job, slow_mirror)
    cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=2")
    wait_until(lambda: cluster.states(job)[job].restarts, "the job is put back")
    cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    slow_mirror.release()
    check_complete(tmp_path, cluster.wait(job))
    log = read_log(tmp_path, job)
    assert "the time is over; the current steps are stopped" in log
    assert "put back into the queue (1 of at most 3 times)" in log
    assert checksums(tmp_path) == alone


def hold_after_a_step(folder: Path, job: str, slow_mirror: SlowMirror) -> None:
    """Let a job finish a step, and then have it wait for an archive."""
    wait_for_fetches(folder, "n1")
    slow_mirror.release()
    wait_until(lambda: finished_steps(folder, job), "a finished step")
    slow_mirror.hold()
    wait_for_fetches(folder, "n1")
