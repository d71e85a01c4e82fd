"""Runs through a real luigid that is killed, forgets its steps or is gone; runs that are drained."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from luigi.scheduler import Scheduler

from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.workflow import run as run_module
from heareval.workflow.configuration import PACKAGED
from heareval.workflow.runner import Goal, Runner
from tests.errands import Errand
from tests.luigi_daemon import Luigid

# Of what takes a minute or more in practice.
SHORT = {
    "rpc_retry_attempts = 20": "rpc_retry_attempts = 4",
    "rpc_retry_wait = 3": "rpc_retry_wait = 1",
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
def running(
    folder: Path, *words: str, workers: int = 2, before: Sequence[str] = (), **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Start a run and leave it to the test; what still runs at the end is killed."""
    command = [*before, sys.executable, "-m", "tests.errands", "--workers", str(workers), *words]
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


def wait_until(is_true: Callable[[], bool]) -> None:
    """Return as soon as something is true."""
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_until_begun(folder: Path, count: int) -> list[str]:
    """Return the steps that have begun as soon as there are so many."""
    wait_until(lambda: len(begun(folder)) >= count)
    return begun(folder)


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
        assert runner.stderr is not None
        assert runner.stderr.readline().startswith("[step 1 of 5] a: ")
        note = "draining: this run ends when the 2 steps that run are done"
        assert runner.stderr.readline() == f"{note}\n"
        allow(folder, *names)
        code, said = finish(runner)
    assert (code, begun(folder)) == (45, names)
    assert said.splitlines()[-2] == "drained, 2 steps left"
    assert "error" not in said
    assert {path.name for path in (folder / "made").iterdir()} == set(names)


def test_runs_that_follow_a_drained_one_do_nothing_and_name_its_log(folder: Path) -> None:
    with running(folder, "a", "b", "--one-by-one") as runner:
        wait_until_begun(folder, 1)
        runner.send_signal(signal.SIGUSR1)
        allow(folder, "a")
        code, said = finish(runner)
    (log,) = folder.glob("_workdir/logs/*.log")
    assert (code, begun(folder)) == (45, ["a"])
    assert said.splitlines()[-2:] == ["drained, 1 step left", f"log: {log}"]


@pytest.mark.slow
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


@pytest.mark.parametrize("left_s", [30, pytest.param(None, marks=pytest.mark.slow)])
def test_sigterm_ends_other_runs_at_once(folder: Path, left_s: int | None) -> None:
    end = {} if left_s is None else {"SLURM_JOB_END_TIME": str(int(time.time()) + left_s)}
    with running(folder, "a", SLURM_JOB_ID="7", **end) as runner:
        wait_until_begun(folder, 1)
        runner.send_signal(signal.SIGTERM)
        code, said = finish(runner)
    assert (code, said.splitlines()[-1]) == (130, "stopped; run the same command again to resume")


# --------------------------------------------------------------------------- luigid


def count_messages(folder: Path, method: str) -> int:
    """How often luigid was sent this message."""
    return (folder / "luigid.log").read_text().count(f"POST /api/{method} ")


def test_luigid_is_told_of_each_step_once(folder: Path, luigid: Luigid) -> None:
    roots = [f"root{number}:a,b,c" for number in range(20)]
    allow(folder, "a", "b", "c", *(root.partition(":")[0] for root in roots))
    with running(folder, "a", "b", "c", *roots, "--url", luigid.address) as runner:
        code, said = finish(runner)
    assert (code, said.splitlines()[-1][:15]) == (0, "[step 23 of 23]")
    # Each step once, what becomes of it once, and the same of the goal.
    assert count_messages(folder, "add_task") == 2 * (23 + 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_runners_go_on_when_luigid_is_restarted(folder: Path, luigid: Luigid, number: int) -> None:
    """After SIGKILL it knows nothing, after SIGTERM what it knew before."""
    words = ("a", "b", "c:a,b", "d:c", "--url", luigid.address)
    with running(folder, *words) as first:
        wait_until_begun(folder, 2)
        with running(folder, *words) as second:
            told = count_messages(folder, "add_task")
            wait_until(lambda: count_messages(folder, "add_task") >= told + 5)
            luigid.end(number)
            luigid.start()
            # Two running steps, and all of them from both runners. Nobody begins a step again.
            wait_until(lambda: count_messages(folder, "add_task") >= told + 5 + 2 + 2 * 5)
            allow(folder, "a", "b", "c", "d")
            codes = [finish(runner)[0] for runner in (first, second)]
    assert codes == [0, 0]
    assert sorted(begun(folder)) == ["a", "b", "c", "d"]


@pytest.mark.slow
def test_a_run_finishes_its_steps_and_says_so_if_luigid_is_gone(folder: Path, luigid: Luigid) -> None:
    with running(folder, "a", "b", "c:a,b", "--url", luigid.address) as runner:
        wait_until_begun(folder, 2)
        luigid.end()
        (log,) = folder.glob("_workdir/logs/*.log")
        wait_until(lambda: "luigid does not answer" in log.read_text())
        allow(folder, "a", "b", "c")
        code, said = finish(runner)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert (code, len(errors)) == (50, 1)
    assert errors[0].startswith(f"error: luigid at {luigid.address}: got no answer for ")
    assert errors[0].endswith("Start luigid and run again, or run without --scheduler-url.")
    assert sorted(path.name for path in (folder / "made").iterdir()) == ["a", "b"]


@pytest.mark.slow
def test_a_run_without_luigid_from_the_start_ends_with_the_same_line(folder: Path) -> None:
    with running(folder, "a", "--url", "http://127.0.0.1:9") as runner:
        code, said = finish(runner)
    assert (code, begun(folder)) == (50, [])
    assert said.startswith("error: luigid at http://127.0.0.1:9: got no answer for ")


@pytest.mark.slow
def test_a_failed_step_is_tried_again_and_its_error_told_once(folder: Path, luigid: Luigid) -> None:
    (folder / "go" / "a").write_text("no good")
    with running(folder, "a", "b:a", "--url", luigid.address) as runner:
        code, said = finish(runner)
    assert (code, begun(folder)) == (30, ["a", "a", "a"])
    assert said.splitlines()[:-1] == [
        "a: failed, tried again in 0 s (try 1 of 3)",
        "a: failed, tried again in 0 s (try 2 of 3)",
        "error: a: no good",
    ]
    # The same command tries again at once, although luigid has given the step up.
    allow(folder, "b")
    (folder / "go" / "a").write_text("")
    with running(folder, "a", "b:a", "--url", luigid.address) as runner:
        code, said = finish(runner)
    assert (code, begun(folder)) == (0, ["a", "a", "a", "a", "b"])


def test_a_step_whose_process_is_killed_says_so(folder: Path) -> None:
    with running(folder, "a", "b:a") as runner:
        wait_until_begun(folder, 1)
        os.kill(int((folder / "begun").read_text().split()[1]), signal.SIGKILL)
        code, said = finish(runner)
    killed = "error: a: it was killed by signal 9, as the system does if memory is short"
    assert (code, said.splitlines()[:-1]) == (30, [killed])


@pytest.mark.slow
def test_a_step_that_fails_elsewhere_is_the_reason_of_all(folder: Path, luigid: Luigid) -> None:
    words = ("a", "b:a", "--url", luigid.address)
    with running(folder, *words, workers=1) as first:
        wait_until_begun(folder, 1)
        with running(folder, *words, workers=1) as second:
            (folder / "go" / "a").write_text("no good")
            codes_and_lines = [finish(runner) for runner in (first, second)]
    assert {code for code, _ in codes_and_lines} <= {25, 30}
    for _, said in codes_and_lines:
        (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
        assert error.startswith(("error: a: no good", "error: a failed on "))
        assert error.endswith("no good")


@pytest.mark.slow
def test_another_runner_takes_over_the_steps_of_a_killed_one(folder: Path, luigid: Luigid) -> None:
    words = ("a", "b:a", "--url", luigid.address)
    with running(folder, *words, workers=1) as first:
        wait_until_begun(folder, 1)
        with running(folder, *words, workers=1) as second:
            os.killpg(first.pid, signal.SIGKILL)
            allow(folder, "a", "b")
            code, _ = finish(second)
    assert (code, begun(folder)) == (0, ["a", "a", "b"])


# --------------------------------------------------------------------------- a file system that keeps names


def late_names(folder: Path) -> tuple[str, ...]:
    """Words before a command that sees a folder as through NFS: it looks for names again only after 10 s."""
    kept = "attr_timeout=10,entry_timeout=10,negative_timeout=10"
    mounted = f'bindfs -o nonempty,{kept} "$0" "$0" && cd "$0" && ls made/a; exec "$@"'
    (folder / "made").mkdir()
    return ("unshare", "-m", "bash", "-c", mounted, str(folder))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bindfs") or os.geteuid() != 0, reason="needs bindfs and root")
def test_a_step_waits_until_its_machine_sees_its_inputs(folder: Path, luigid: Luigid) -> None:
    with running(folder, "a", "--url", luigid.address) as first:
        wait_until_begun(folder, 1)
        told = count_messages(folder, "add_task")
        with running(folder, "a", "b:a", "--url", luigid.address, before=late_names(folder)) as second:
            wait_until(lambda: count_messages(folder, "add_task") >= told + 3)
            allow(folder, "a", "b")
            ends = [finish(runner) for runner in (first, second)]
    assert [code for code, _ in ends] == [0, 0]
    assert begun(folder) == ["a", "b"]
    assert not any("failed" in said for _, said in ends)
    logs = [path.read_text() for path in folder.glob("_workdir/logs/*.log")]
    assert any("b waits for the output of a\n" in log for log in logs)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bindfs") or os.geteuid() != 0, reason="needs bindfs and root")
def test_a_run_waits_until_its_machine_sees_what_others_made(folder: Path, luigid: Luigid) -> None:
    """Another runner does the last step, so that only the goal is left."""
    allow(folder, "b")
    with running(folder, "a", "--url", luigid.address) as first:
        wait_until_begun(folder, 1)
        with running(folder, "a", "b", "--url", luigid.address, before=late_names(folder)) as second:
            wait_until(lambda: (folder / "made" / "b").exists())
            allow(folder, "a")
            ends = [finish(runner) for runner in (first, second)]
    assert [code for code, _ in ends] == [0, 0]
    assert sorted(begun(folder)) == ["a", "b"]
    assert not any("failed" in said for _, said in ends)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bindfs") or os.geteuid() != 0, reason="needs bindfs and root")
def test_a_run_does_nothing_again_that_its_machine_does_not_see_yet(folder: Path, luigid: Luigid) -> None:
    """Another runner does the last step and the goal, so that luigid has nothing left."""
    words = ("a", "--url", luigid.address)
    with running(folder, *words) as first:
        wait_until_begun(folder, 1)
        with running(folder, *words, before=late_names(folder)) as second:
            assert second.stderr is not None
            wait_until(lambda: "waiting: " in second.stderr.readline())
            allow(folder, "a")
            ends = [finish(runner) for runner in (first, second)]
    assert [code for code, _ in ends] == [0, 0]
    assert begun(folder) == ["a"]


# --------------------------------------------------------------------------- idle runners


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (("a",), "waiting: the last step runs on HOST"),
        (("a", "b:a", "c:b"), "waiting: 2 steps need others that run on HOST"),
        (("gpu-a", "gpu-b"), "waiting: gpu is in use by host HOST"),
    ],
)
def test_an_idle_runner_says_why(folder: Path, luigid: Luigid, steps: tuple[str, ...], reason: str) -> None:
    words = (*steps, "--url", luigid.address)
    with running(folder, *words) as first:
        wait_until_begun(folder, 1)
        with running(folder, *words) as second:
            assert second.stderr is not None
            assert second.stderr.readline() == f"{reason.replace('HOST', socket.gethostname())}\n"
            allow(folder, *(step.partition(":")[0] for step in steps))
            ends = [finish(runner) for runner in (first, second)]
    assert [code for code, _ in ends] == [0, 0]
    assert "waiting" not in ends[1][1]


@pytest.mark.slow
def test_an_idle_runner_does_not_promise_to_try_a_step_that_was_given_up(
    folder: Path, luigid: Luigid
) -> None:
    (folder / "go" / "b").write_text("no good")
    with running(folder, "a", "--url", luigid.address) as first:
        wait_until_begun(folder, 1)
        with running(folder, "a", "b", "c:b", "d:a", "--url", luigid.address) as second:
            assert second.stderr is not None
            said = [second.stderr.readline() for _ in range(3)]
            allow(folder, "a", "d")
            ends = [finish(runner) for runner in (first, second)]
    assert [code for code, _ in ends] == [0, 30]
    assert said[-1] == f"waiting: 1 step needs others that run on {socket.gethostname()}\n"


def test_steps_that_are_complete_by_now_are_no_reason_to_wait(tmp_path: Path) -> None:
    places = Places(*(str(tmp_path / name) for name in ("work", "tasks", "tars", "embeddings")))
    first, second = (Errand(places, name=name) for name in ("first", "second"))
    goal = Goal(roots=(first, second))
    runner = Runner(goal, Scheduler(), 1)
    runner.add(goal)
    elsewhere = {first.task_id: "n1", second.task_id: "n2"}
    assert runner.explain_idleness(elsewhere)[1] == "the 2 remaining steps run on n1, n2"
    first.path.parent.mkdir()
    first.path.touch()
    assert runner.explain_idleness(elsewhere)[1] == "the last step runs on n2"
    second.path.touch()
    assert runner.explain_idleness(elsewhere)[1] == ""


def test_a_run_with_too_many_steps_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "MAX_STEPS", 2)
    places = Places(*(str(folder / name) for name in ("work", "tasks", "tars", "embeddings")))
    roots = [Errand(places, name=f"step{number}") for number in range(3)]
    with pytest.raises(HearevalError, match="this run: got 3 steps, expected at most 2"):
        run_module.run(roots, workers=1, scheduler_url="", log_folder=folder / "logs")
    assert not (folder / "logs").exists()
