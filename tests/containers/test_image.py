"""The image: its entry point, its users, its versions, and that it writes nothing but the mounted folder."""

from __future__ import annotations

import importlib.metadata
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import heareval
from heareval.layout import Places
from heareval.workflow.step_records import read_step_records
from tests.commands import checksums, scratch_left
from tests.containers.conftest import DEMO_WORDS
from tests.containers.engine import Engine

pytestmark = pytest.mark.containers

# A user and a group that no image knows.
USER, GROUP = 12345, 54321
AS_USER = ("--user", f"{USER}:{GROUP}")
ONE_TASK = ("prepare", "speech_commands", "--mode", "demo", "--num-workers", "1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to mount, of the user that the container runs as."""
    os.chown(tmp_path, USER, GROUP)
    return tmp_path


@pytest.fixture
def container(engine: Engine) -> Iterator[str]:
    """A name for a container, which is removed afterwards."""
    name = f"heareval-test-{os.getpid()}-{time.monotonic_ns()}"
    yield name
    engine.run("rm", "--force", name, expected=None)


def mount(folder: Path) -> tuple[str, ...]:
    return "--volume", f"{folder}:/data"


def test_heareval_is_the_entry_point(engine: Engine, image: str) -> None:
    said = engine.run("run", "--rm", image, "--version").stdout
    assert heareval.__version__ in said
    assert "Usage: heareval" in engine.run("run", "--rm", image).stdout


def test_the_user_is_not_root(engine: Engine, image: str) -> None:
    assert engine.inspect(image, "{{.Config.User}}") == "1000:1000"
    assert engine.run("run", "--rm", "--entrypoint", "id", image, "-u").stdout == "1000\n"


def test_the_labels_say_what_it_is(engine: Engine, image: str) -> None:
    assert engine.inspect(image, '{{index .Config.Labels "org.opencontainers.image.title"}}') == "heareval"


def test_the_versions_are_the_pinned_ones(engine: Engine, image: str) -> None:
    listed = engine.run("run", "--rm", "--entrypoint", "pip", image, "list", "--format", "freeze").stdout
    found = dict(line.split("==") for line in listed.splitlines())
    # Those of our own environment, which `make` installs with the same constraints.
    for name in ("numpy", "scipy", "luigi", "soxr", "soundfile", "isal", "scikit-learn"):
        assert found[name] == importlib.metadata.version(name), name
    assert found["heareval"] == heareval.__version__


def test_any_user_prepares_the_same_bytes_on_a_read_only_root(
    engine: Engine, image: str, folder: Path, demo_checksums: dict[str, str]
) -> None:
    flags = ("--rm", "--network", "none", "--read-only", "--env", "UMASK=002", *AS_USER, *mount(folder))
    engine.run("run", *flags, image, *DEMO_WORDS)
    assert checksums(folder) == demo_checksums
    assert scratch_left(folder) == []
    made = [path for path in folder.rglob("*") if not path.is_symlink()]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(USER, GROUP)}
    # The group may write, as the umask says.
    assert all(path.stat().st_mode & stat.S_IWGRP for path in folder.glob("tasks/*/*.json"))


def test_nothing_is_written_outside_the_mounted_folder(
    engine: Engine, image: str, folder: Path, container: str
) -> None:
    engine.run("run", "--name", container, *AS_USER, *mount(folder), image, *ONE_TASK)
    assert engine.run("diff", container).stdout == ""


def test_a_forgotten_mount_is_one_line(engine: Engine, image: str) -> None:
    done = engine.run("run", "--rm", image, *ONE_TASK, expected=None)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ") and "_workdir" in line]


def test_the_umask_must_be_a_number(engine: Engine, image: str) -> None:
    done = engine.run("run", "--rm", "--env", "UMASK=group", image, "--version", expected=2)
    assert "group" in done.stderr


def test_a_luigi_cfg_in_the_mounted_folder_wins(engine: Engine, image: str, folder: Path) -> None:
    (folder / "luigi.cfg").write_text("[heareval]\nmirror = mine\n")
    flags = ("run", "--rm", *AS_USER, *mount(folder), "--entrypoint", "python", image, "-c")
    read = "from heareval.workflow.configuration import read_value; print(read_value('mirror'))"
    assert engine.run(*flags, read).stdout == "mine\n"
    # What luigid reads; Luigi's own default is far longer.
    read = "import luigi; print(luigi.configuration.get_config().get('scheduler', 'retry_delay'))"
    assert engine.run(*flags, read).stdout == "30\n"


def test_modules_in_the_home_of_the_user_stay_out(engine: Engine, image: str, folder: Path) -> None:
    # Apptainer mounts the home of its user.
    for place in (f"python{major}.{minor}" for major, minor in ((3, 10), (3, 11), (3, 12), (3, 13))):
        packages = folder / ".local" / "lib" / place / "site-packages"
        packages.mkdir(parents=True)
        (packages / "usercustomize.py").write_text("raise SystemExit('of the home')")
        (packages / "click.py").write_text("raise SystemExit('of the home')")
    flags = ("--rm", "--read-only", *AS_USER, "--volume", f"{folder}:/home/me", "--env", "HOME=/home/me")
    assert heareval.__version__ in engine.run("run", *flags, image, "--version").stdout


def test_the_demo_has_its_scores(engine: Engine, image: str, folder: Path) -> None:
    torch = ("--entrypoint", "python", image, "-c", "import torch")
    if engine.run("run", "--rm", *torch, expected=None).returncode:
        pytest.skip("the image is built without torch; HEAREVAL_TEST_IMAGE names one with torch")
    flags = ("--rm", "--network", "none", "--read-only", *AS_USER, *mount(folder))
    said = engine.run("run", *flags, image, "demo").stdout
    assert "top1_acc" in said
    assert list(folder.glob("demo/embeddings/*/*/test.probe-linear.predicted-scores.json"))


def wait_for_a_step(engine: Engine, container: str, folder: Path) -> None:
    """Return when the container runs a step."""
    while not read_step_records(Places(work=str(folder / "_workdir")).step_records()).running:
        assert engine.inspect(container, "{{.State.Running}}") == "true", engine.run("logs", container)


def test_stop_ends_a_run_and_the_next_one_completes_it(
    engine: Engine, image: str, folder: Path, container: str, demo_checksums: dict[str, str]
) -> None:
    flags = ("--detach", "--name", container, *AS_USER, *mount(folder))
    engine.run("run", *flags, image, *ONE_TASK)
    wait_for_a_step(engine, container, folder)
    engine.run("stop", "--time", "600", container)
    # Not 137, which it would be if the signal had not reached heareval.
    assert engine.inspect(container, "{{.State.ExitCode}}") == "130"
    assert not (folder / "tars" / "SHA256SUMS").exists()
    engine.run("run", "--rm", *AS_USER, *mount(folder), image, *ONE_TASK)
    assert checksums(folder).items() <= demo_checksums.items()
    assert scratch_left(folder) == []
