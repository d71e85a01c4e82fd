"""Which jobs of the batch scripts are put back into the queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, JobState, wait_until
from tests.slurm.jobs import WORKERS, read_log

pytestmark = pytest.mark.slurm
# In place of heareval, because the rules depend on nothing but its exit code and its lines. It finishes as many
# steps as the word before the last says, waits for a signal, and exits with the code in the last word.
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
