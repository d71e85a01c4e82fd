"""`slurm/workers.sh`: an array of workers that share the steps through a luigid."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from heareval.workflow.configuration import PACKAGED
from tests.commands import MODEL, RESULT, SCORE, checksums
from tests.luigi_daemon import Luigid, running_luigid
from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.jobs import (
    PREPARE,
    WORKERS,
    SlowMirror,
    check_complete,
    find_runner,
    finished_steps,
    read_log,
    wait_for_fetches,
)

pytestmark = pytest.mark.slurm
# With the luigi.cfg that comes with heareval.
TAKEOVER_S = 75


def test_two_nodes_share_the_steps(
    cluster: Cluster, slow_mirror: SlowMirror, alone: dict[str, str], tmp_path: Path
) -> None:
    with running_luigid(tmp_path) as url:
        slow_mirror.hold()
        words = (WORKERS, *PREPARE, *slow_mirror.options)
        job = cluster.submit(tmp_path, "--array=0-1", *words, LUIGI_SCHEDULER=url)
        wait_for_fetches(tmp_path, "n1", "n2")
        slow_mirror.release()
        check_complete(tmp_path, cluster.wait(job))
    assert checksums(tmp_path) == alone
    done = [finished_steps(tmp_path, f"{job}_{element}") for element in (0, 1)]
    assert all(done)
    assert not set(done[0]) & set(done[1])


def test_another_node_takes_over_from_a_dead_one(
    cluster: Cluster, slow_mirror: SlowMirror, alone: dict[str, str], tmp_path: Path
) -> None:
    with running_luigid(tmp_path) as url:
        slow_mirror.hold()
        words = (WORKERS, *PREPARE, *slow_mirror.options)
        job = cluster.submit(tmp_path, "--array=0-1", *words, LUIGI_SCHEDULER=url)
        step = wait_for_fetches(tmp_path, "n1", "n2")["n2"]
        on_n1 = next(each.name for each in cluster.states(job).values() if each.node == "n1")
        try:
            cluster.kill_node("n2")
            died = time.monotonic()
            slow_mirror.release()
            wait_until(lambda: step in finished_steps(tmp_path, on_n1), f"{step} on n1")
            assert time.monotonic() - died < TAKEOVER_S
            # The element of the dead node is put back by Slurm, and has nothing to do.
            ended = cluster.wait(job)
        finally:
            cluster.start_node("n2")
    check_complete(tmp_path, ended)
    assert sorted(each.restarts for each in ended) == [0, 1]
    assert checksums(tmp_path) == alone


def test_a_killed_worker(
    cluster: Cluster, slow_mirror: SlowMirror, alone: dict[str, str], tmp_path: Path
) -> None:
    """Its job is fine if all is there in the end, whoever made it."""
    config = tmp_path / "luigid.cfg"
    config.write_text(PACKAGED.read_text().replace("disconnect_delay = 30", "disconnect_delay = 5"))
    luigid = Luigid(tmp_path, config)
    luigid.start()
    try:
        slow_mirror.hold()
        words = (WORKERS, *PREPARE, *slow_mirror.options)
        job = cluster.submit(tmp_path, "--array=0-1", *words, LUIGI_SCHEDULER=luigid.address)
        wait_for_fetches(tmp_path, "n1", "n2")
        find_runner(cluster, "n2").kill()
        slow_mirror.release()
        ended = cluster.wait(job)
    finally:
        luigid.end()
    check_complete(tmp_path, ended)
    killed = next(each.name for each in ended if each.node == "n2")
    assert "heareval ended with 137; it runs once more" in read_log(tmp_path, killed)
    assert checksums(tmp_path) == alone


def test_luigid_is_restarted_empty(
    cluster: Cluster, slow_mirror: SlowMirror, alone: dict[str, str], tmp_path: Path
) -> None:
    luigid = Luigid(tmp_path)
    luigid.start()
    try:
        slow_mirror.hold()
        words = (WORKERS, *PREPARE, *slow_mirror.options)
        job = cluster.submit(tmp_path, "--array=0-1", *words, LUIGI_SCHEDULER=luigid.address)
        wait_for_fetches(tmp_path, "n1", "n2")
        luigid.end()
        luigid.start()
        slow_mirror.release()
        check_complete(tmp_path, cluster.wait(job))
    finally:
        luigid.end()
    assert checksums(tmp_path) == alone
    assert all("once more" not in read_log(tmp_path, f"{job}_{element}") for element in (0, 1))


def test_a_task_that_fails(cluster: Cluster, tmp_path: Path) -> None:
    with running_luigid(tmp_path) as url:
        empty = tmp_path / "empty"
        empty.mkdir()
        (tmp_path / "luigi.cfg").write_text("[scheduler]\nretry_count = 1\n")
        bad = ("prepare", "spoken_digit", "--from-published", empty)
        job = cluster.submit(tmp_path, "--array=0", WORKERS, *bad, LUIGI_SCHEDULER=url)
        (ended,) = cluster.wait(job)
    assert ended.state == "FAILED"
    assert ended.exit_code not in (0, 45)
    assert "queue" not in read_log(tmp_path, f"{job}_0")


def test_cpu_nodes_prepare_while_a_gpu_node_evaluates(
    cluster: Cluster, slow_mirror: SlowMirror, tmp_path: Path
) -> None:
    """Both jobs ask for the same rate, so the steps of one are those of the other."""
    (tmp_path / "my_model.py").write_text(MODEL)
    with running_luigid(tmp_path) as url:
        slow_mirror.hold()
        prepare = (WORKERS, "prepare", "spoken_digit", "--sample-rate", "16000", *slow_mirror.options)
        cpu = cluster.submit(
            tmp_path, "--partition=cpu", "--nodelist=n1", "--array=0", *prepare, LUIGI_SCHEDULER=url
        )
        wait_for_fetches(tmp_path, "n1")
        evaluate = (
            WORKERS,
            "evaluate",
            "my_model.py",
            "--tasks",
            "spoken_digit",
            "--num-workers",
            "1",
            *SCORE,
        )
        gpu = cluster.submit(
            tmp_path,
            *("--partition=gpu", "--gres=gpu:1", "--array=0"),
            *(*evaluate, *slow_mirror.options),
            LUIGI_SCHEDULER=url,
        )
        find_runner(cluster, "n2")
        slow_mirror.release()
        check_complete(tmp_path, [*cluster.wait(cpu), *cluster.wait(gpu)])
    assert next(tmp_path.glob(f"embeddings/*/spoken_digit-1.0.9-full/{RESULT}")).exists()
    on_cpu, on_gpu = finished_steps(tmp_path, f"{cpu}_0"), finished_steps(tmp_path, f"{gpu}_0")
    assert not set(on_cpu) & set(on_gpu)
    assert any("fetch" in title for title in on_cpu)
    assert any("my_model" in title for title in on_gpu)


@pytest.mark.parametrize(
    ("words", "line"),
    [(PREPARE, "got no luigid; set LUIGI_SCHEDULER=http://HOST:8082"), ((), "usage: sbatch --array=0-7")],
)
def test_a_wrong_command_line(cluster: Cluster, tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    job = cluster.submit(tmp_path, "--array=3", WORKERS, *words)
    (ended,) = cluster.wait(job)
    assert (ended.state, ended.exit_code) == ("FAILED", 2)
    assert line in read_log(tmp_path, f"{job}_3")


def test_the_address_may_be_in_luigi_cfg(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text(
        "[core]\nrpc_retry_attempts = 1\n[heareval]\nscheduler_url = http://127.0.0.1:9\n"
    )
    job = cluster.submit(tmp_path, "--array=0", WORKERS, *PREPARE)
    (ended,) = cluster.wait(job)
    assert (ended.state, ended.exit_code) == ("FAILED", 50)
    assert "error: luigid at http://127.0.0.1:9: got no answer" in read_log(tmp_path, f"{job}_0")


def test_the_scripts_may_lie_anywhere(cluster: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "my scripts"
    shutil.copytree(WORKERS.parent, folder)
    words = ("prepare", "no such task")
    job = cluster.submit(tmp_path, "--array=0", f"my scripts/{WORKERS.name}", *words, LUIGI_SCHEDULER="none")
    (ended,) = cluster.wait(job)
    assert (ended.state, ended.exit_code) == ("FAILED", 2)
    assert "error: unknown task: got 'no such task'" in read_log(tmp_path, f"{job}_0")


def test_heareval_is_not_on_the_path(cluster: Cluster, tmp_path: Path) -> None:
    words = ("--array=0", WORKERS, *PREPARE)
    (ended,) = cluster.wait(cluster.submit(tmp_path, *words, LUIGI_SCHEDULER="none", PATH="/usr/bin:/bin"))
    assert (ended.state, ended.exit_code) == ("FAILED", 127)
    assert "heareval is not on the PATH" in read_log(tmp_path, ended.name)
