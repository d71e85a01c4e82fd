"""`slurm/one_job.sh`: one job on several nodes that brings its own luigid."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import psutil
import pytest

from tests.commands import checksums
from tests.luigi_daemon import running_luigid
from tests.slurm.cluster import NODES, Cluster, wait_until
from tests.slurm.jobs import (
    ONE_JOB,
    PREPARE,
    SlowMirror,
    check_complete,
    find_runner,
    read_log,
    wait_for_fetches,
)

pytestmark = pytest.mark.slurm


def luigids(cluster: Cluster) -> list[psutil.Process]:
    """The luigids of jobs."""
    found = []
    for node in NODES:
        for process in cluster.processes(node):
            with contextlib.suppress(psutil.Error):
                if "--state-path" in process.cmdline():
                    found.append(process)
    return found


def submit(cluster: Cluster, folder: Path, slow_mirror: SlowMirror, *options: str) -> str:
    return cluster.submit(folder, *options, ONE_JOB, *PREPARE, *slow_mirror.options)


def test_two_nodes_share_the_steps(
    cluster: Cluster, slow_mirror: SlowMirror, alone: dict[str, str], tmp_path: Path
) -> None:
    slow_mirror.hold()
    job = submit(cluster, tmp_path, slow_mirror)
    wait_for_fetches(tmp_path, "n1", "n2")
    slow_mirror.release()
    check_complete(tmp_path, cluster.wait(job))
    assert checksums(tmp_path) == alone
    assert not luigids(cluster)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"_workdir", "tasks", "tars", f"heareval-{job}.log"}


def test_jobs_do_not_share_a_luigid(
    cluster: Cluster, slow_mirror: SlowMirror, alone: dict[str, str], tmp_path: Path
) -> None:
    """Neither two jobs at once, nor a job and the luigid that one before it has left."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    with running_luigid(tmp_path):
        slow_mirror.hold()
        jobs = [submit(cluster, folder, slow_mirror, "--nodes=1") for folder in folders]
        wait_until(lambda: len(luigids(cluster)) == 2, "two luigids")
        slow_mirror.release()
        for folder, job in zip(folders, jobs, strict=True):
            check_complete(folder, cluster.wait(job))
            assert checksums(folder) == alone
    logs = [read_log(folder, job) for folder, job in zip(folders, jobs, strict=True)]
    addresses = [re.search(r"luigid answers at (\S+)", log) for log in logs]
    assert None not in addresses
    assert len({found[1] for found in addresses if found}) == 2


def test_a_cancelled_job_leaves_no_luigid(cluster: Cluster, slow_mirror: SlowMirror, tmp_path: Path) -> None:
    slow_mirror.hold()
    job = submit(cluster, tmp_path, slow_mirror, "--nodes=1")
    wait_until(lambda: luigids(cluster), "a luigid")
    cluster.ask("scancel", job)
    (ended,) = cluster.wait(job)
    assert (ended.state, ended.restarts) == ("CANCELLED", 0)
    wait_until(lambda: not luigids(cluster), "no luigid")


def test_a_killed_runner(
    cluster: Cluster, slow_mirror: SlowMirror, alone: dict[str, str], tmp_path: Path
) -> None:
    """`srun` exits with the highest code, 137; the last run knows that everything is there."""
    (tmp_path / "luigi.cfg").write_text("[scheduler]\nworker_disconnect_delay = 5\n")
    slow_mirror.hold()
    job = submit(cluster, tmp_path, slow_mirror)
    wait_for_fetches(tmp_path, "n1", "n2")
    find_runner(cluster, "n2").kill()
    slow_mirror.release()
    check_complete(tmp_path, cluster.wait(job))
    assert "heareval ended with 137; it runs once more" in read_log(tmp_path, job)
    assert checksums(tmp_path) == alone


def test_a_dead_node(
    cluster: Cluster, slow_mirror: SlowMirror, alone: dict[str, str], tmp_path: Path
) -> None:
    slow_mirror.hold()
    job = submit(cluster, tmp_path, slow_mirror)
    wait_for_fetches(tmp_path, "n1", "n2")
    try:
        cluster.kill_node("n2")
        slow_mirror.release()
        (ended,) = cluster.wait(job)
    finally:
        cluster.start_node("n2")
    check_complete(tmp_path, [ended])
    assert ended.restarts == 0
    assert checksums(tmp_path) == alone


def test_the_node_of_luigid_dies(
    cluster: Cluster, slow_mirror: SlowMirror, alone: dict[str, str], tmp_path: Path
) -> None:
    """Slurm puts the job back into the queue, and it goes on where it was."""
    slow_mirror.hold()
    job = submit(cluster, tmp_path, slow_mirror, "--nodes=1", "--nodelist=n1")
    wait_for_fetches(tmp_path, "n1")
    try:
        cluster.kill_node("n1")
        slow_mirror.release()
        wait_until(lambda: cluster.states(job)[job].restarts, "the job is put back into the queue")
    finally:
        cluster.start_node("n1")
    ended = cluster.wait(job)
    check_complete(tmp_path, ended)
    assert checksums(tmp_path) == alone


def test_luigid_is_killed(
    cluster: Cluster, slow_mirror: SlowMirror, alone: dict[str, str], tmp_path: Path
) -> None:
    slow_mirror.hold()
    job = submit(cluster, tmp_path, slow_mirror)
    wait_for_fetches(tmp_path, "n1", "n2")
    (killed,) = luigids(cluster)
    killed.kill()
    wait_until(lambda: [each for each in luigids(cluster) if each.pid != killed.pid], "another luigid")
    slow_mirror.release()
    check_complete(tmp_path, cluster.wait(job))
    assert "luigid ended with 137; it is started again" in read_log(tmp_path, job)
    assert checksums(tmp_path) == alone
