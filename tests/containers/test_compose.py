"""The compose file: luigid and workers on one folder, a worker killed in the middle of a step, and reruns."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from heareval.layout import Places
from heareval.workflow.step_records import StepRecord, read_step_records
from tests.commands import checksums, scratch_left
from tests.containers.conftest import DEMO_WORDS
from tests.containers.engine import ROOT, Engine
from tests.containers.test_image import GROUP, USER
from tests.tasks.own.birds import write_birds, write_task

pytestmark = pytest.mark.containers

FILE, GPU_FILE = ROOT / "docker" / "compose.yaml", ROOT / "docker" / "compose.gpu.yaml"


@dataclass(frozen=True)
class Project:
    """A compose project.

    Args:
        engine: the engine, with the settings of the compose file.
        client: the command of the compose client.
        folder: what is mounted.
        port: luigid's port on this machine.
    """

    engine: Engine
    client: tuple[str, ...]
    folder: Path
    port: int

    def run(
        self, *words: str, files: tuple[Path, ...] = (FILE,), expected: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of compose."""
        named = [word for file in files for word in ("--file", str(file))]
        name = ("--project-name", f"heareval-test-{self.port}")
        return self.engine.run_client(*self.client, *named, *name, *words, expected=expected)

    def containers(self, service: str) -> list[str]:
        """Return the ids of the containers of a service, running or not."""
        words = ("--filter", f"label=com.docker.compose.project=heareval-test-{self.port}")
        words += ("--filter", f"label=com.docker.compose.service={service}")
        return self.engine.run("ps", "--all", "--quiet", "--no-trunc", *words).stdout.split()

    def running_steps(self) -> tuple[StepRecord, ...]:
        """Return the steps that run in any container."""
        return read_step_records(Places(work=str(self.folder / "_workdir")).step_records()).running


@pytest.fixture
def project(engine: Engine, image: str, tmp_path: Path) -> Iterator[Project]:
    """A project that prepares the demo tasks, a core for each worker."""
    os.chown(tmp_path, USER, GROUP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "HEAREVAL_IMAGE": image,
        "HEAREVAL_DATA": str(tmp_path),
        "HEAREVAL_COMMAND": " ".join(DEMO_WORDS),
        "HEAREVAL_USER": f"{USER}:{GROUP}",
        "HEAREVAL_CPUS": "1",
        "HEAREVAL_MEMORY": "2g",
        "HEAREVAL_PORT": str(port),
        "RERUN_EVERY_S": "1",
    }
    project = Project(Engine({**engine.variables, **settings}), _find_client(engine), tmp_path, port)
    yield project
    project.run("--profile", "rerun", "down", "--timeout", "1")


def _find_client(engine: Engine) -> tuple[str, ...]:
    if engine.run("compose", "version", expected=None).returncode == 0:
        return "docker", "compose"
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    pytest.skip("no compose client: apt install docker-compose")


def test_a_killed_worker_is_replaced_by_the_other_one(
    project: Project, demo_checksums: dict[str, str]
) -> None:
    project.run("up", "--detach", "--scale", "worker=2", "luigid", "worker")
    victim = kill_a_worker_in_a_step(project)
    assert project.engine.inspect(victim, "{{.State.ExitCode}}") == "137"
    [survivor] = set(project.containers("worker")) - {victim}
    assert project.engine.run("wait", survivor).stdout == "0\n", project.engine.run("logs", survivor)
    assert checksums(project.folder) == demo_checksums
    # What the killed one left is of another container, and goes with the next run or `heareval clean`.
    assert all(victim[:12] in path.name for path in scratch_left(project.folder))
    # luigid's page can be read from this machine.
    with urllib.request.urlopen(f"http://127.0.0.1:{project.port}/api/is_paused") as answer:
        assert answer.status == 200
    # The same again has nothing to do.
    project.run("up", "--detach", "--scale", "worker=2", "luigid", "worker")
    codes = [project.engine.run("wait", worker).stdout for worker in project.containers("worker")]
    assert codes == ["0\n", "0\n"]


def kill_a_worker_in_a_step(project: Project) -> str:
    """Kill a worker while it runs a step; return its id."""
    workers = project.containers("worker")
    while True:
        for step in project.running_steps():
            [worker] = [each for each in workers if each.startswith(step.host)]
            # Stopped, it cannot finish the step before it is killed.
            if project.engine.run("pause", worker, expected=None).returncode:
                pytest.fail(f"the workers ended before one could be killed: {project.run('logs').stdout}")
            if any(worker.startswith(each.host) for each in project.running_steps()):
                project.engine.run("kill", "--signal", "KILL", worker)
                project.engine.run("wait", worker)
                return worker
            project.engine.run("unpause", worker)


def test_the_rerun_service_repeats_and_its_health_is_that_of_the_last_run(project: Project) -> None:
    project.engine.variables["HEAREVAL_COMMAND"] = "prepare birds.toml"
    project.run("--profile", "rerun", "up", "--detach", "rerun")
    [container] = project.containers("rerun")

    def wait_for(health: str) -> None:
        while project.engine.inspect(container, "{{.State.Health.Status}}") != health:
            assert project.engine.inspect(container, "{{.State.Running}}") == "true"

    # There is no such file yet.
    wait_for("unhealthy")
    write_birds(project.folder)
    write_task(project.folder, 'folder = "recordings"', "folds = 3")
    wait_for("healthy")
    assert list(project.folder.glob("tars/*.tar.gz"))
    project.run("--profile", "rerun", "stop", "--timeout", "600", "rerun")
    # Not 137, and not restarted.
    assert project.engine.inspect(container, "{{.State.ExitCode}} {{.State.Running}}") != "137 false"


def test_gpus_are_in_an_override_file(project: Project) -> None:
    said = project.run("--profile", "rerun", "config", files=(FILE, GPU_FILE)).stdout
    assert said.count("- gpu") == 2
    assert "- gpu" not in project.run("--profile", "rerun", "config").stdout
