"""Describing a model is a step: one machine loads it, failures are told, and nothing loads it to plan."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from heareval.embeddings.describe import _list_installed
from tests.commands import MODEL, command, only_line
from tests.embeddings.clips import write_task
from tests.luigi_daemon import running_luigid

SPLITS = {"train": [8000], "valid": [8000], "test": [8000, 8000]}
# A module that notes each time it is imported.
COUNTING = (
    "import os\n"
    "with open(os.path.join(os.path.dirname(__file__), 'loads'), 'a') as loads:\n"
    "    loads.write(f'{os.getpid()}\\n')\n"
)
SIZES = "scene_embedding_size, timestamp_embedding_size = 16000, 8, 8"
ONLY_SCENES = MODEL.replace("get_timestamp_embeddings(", "frames_of(").replace(
    SIZES, "scene_embedding_size = 16000, 8"
)
EMBED = ("heareval", "embed")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a scene task and a model that counts how often it is imported."""
    write_task(tmp_path / "tasks" / "scene", SPLITS, "scene")
    (tmp_path / "my_model.py").write_text(COUNTING + MODEL)
    return tmp_path


def test_what_a_library_puts_on_the_path_and_a_second_copy_change_no_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _list_installed()
    vendored = Path(sysconfig.get_path("purelib")) / "setuptools" / "_vendor"
    assert list(vendored.glob("*.dist-info"))
    info = tmp_path / "heareval.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: heareval\nVersion: {version('heareval')}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path, str(vendored)])
    assert _list_installed() == before
    # What is installed while the process runs counts.
    (tmp_path / "new-1.0.dist-info").mkdir()
    (tmp_path / "new-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: new\nVersion: 1.0\n"
    )
    assert {*_list_installed()} == {*before, "new==1.0"}


def loads(folder: Path) -> int:
    """How often the model has been imported."""
    path = folder / "loads"
    return len(path.read_text().splitlines()) if path.exists() else 0


def read_rows(folder: Path, *words: str) -> list[dict[str, Any]]:
    """The rows of `heareval status`."""
    done = command(folder, "heareval", "status", "--json", *words)
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return rows


@pytest.mark.slow
def test_two_machines_load_a_new_model_once(here: Path) -> None:
    """Describing it takes one import, and embedding the task another one, wherever they are done."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here)}
    with running_luigid(here) as address:
        words = [sys.executable, "-m", *EMBED, "my_model", "--scheduler-url", address, "--num-workers", "2"]
        runners = [
            subprocess.Popen(
                words, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        told = [runner.communicate() for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], told
    assert loads(here) == 2
    described = [line for _, errors in told for line in errors.splitlines() if "description" in line]
    assert len(described) == 1
    assert described[0].startswith("[step 1 of 1] my_model: description for scene embeddings: ")


def test_what_is_known_is_neither_loaded_nor_planned_again(here: Path) -> None:
    assert command(here, *EMBED, "my_model").returncode == 0
    done = command(here, *EMBED, "my_model")
    assert "nothing to do" in done.stdout
    assert (loads(here), done.stderr) == (2, "")


def test_what_a_model_lacks_is_known_as_well(here: Path) -> None:
    write_task(here / "tasks" / "event", SPLITS, "event")
    (here / "my_model.py").write_text(COUNTING + ONLY_SCENES)
    lines = []
    for _ in range(2):
        done = command(here, *EMBED, "my_model")
        assert done.returncode == 2
        lines.append(only_line(done))
        assert loads(here) == 3, "described twice and embedded once"
    assert lines[0] == lines[1]
    assert "got no function get_timestamp_embeddings" in lines[0]
    (row,) = read_rows(here, "my_model", "--tasks", "dcase2016_task2")
    assert row["state"] == "damaged"
    assert "got no function get_timestamp_embeddings" in row["error"]
    # Another edition of the model may have it.
    (here / "my_model.py").write_text(COUNTING + MODEL)
    assert command(here, *EMBED, "my_model").returncode == 0
    assert loads(here) == 7


@pytest.mark.parametrize(
    ("message", "loads_of_two_runs"),
    [("events only", 1), ("'aten::fft' is not implemented on this device", 2)],
)
def test_an_operator_that_a_device_lacks_is_no_property_of_the_model(
    here: Path, message: str, loads_of_two_runs: int
) -> None:
    """PyTorch raises the same exception for both; another machine may have the operator."""
    raised = f'raise NotImplementedError("{message}")'
    text = MODEL.replace("    return get_timestamp", f"    {raised}\n    return get_timestamp")
    (here / "my_model.py").write_text(COUNTING + text)
    for _ in range(2):
        assert message in only_line(command(here, *EMBED, "my_model"))
    assert loads(here) == loads_of_two_runs


def test_a_failure_is_told_by_status_until_it_is_described(here: Path) -> None:
    (here / "my_model.py").write_text(COUNTING + "raise OSError('no cloud')\n" + MODEL)
    line = only_line(command(here, *EMBED, "my_model"))
    assert line.startswith("error: import of my_model: got OSError: no cloud")
    (row,) = read_rows(here, "my_model", "--tasks", "spoken_digit")
    step = "my_model: description for scene embeddings"
    assert (row["state"], row["next_step"]) == ("failed", step)
    (failed,) = row["failed"]
    assert (failed["step"], failed["failures"]) == (step, 1)
    assert "no cloud" in failed["error"]
    (here / "my_model.py").write_text(COUNTING + MODEL)
    assert command(here, *EMBED, "my_model").returncode == 0
    (row,) = read_rows(here, "my_model", "--tasks", "spoken_digit")
    assert row["state"] == "missing"
    assert "description" not in row["next_step"]


def test_a_run_that_is_asked_to_end_while_it_describes_does_nothing_else(here: Path) -> None:
    write_task(here / "tasks" / "event", SPLITS, "event")
    waiting = "import time\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
    (here / "my_model.py").write_text(COUNTING + waiting + MODEL)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here)}
    runner = subprocess.Popen(
        [sys.executable, "-m", *EMBED, "my_model", "--num-workers", "1"],
        cwd=here,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not loads(here) and runner.poll() is None:
        time.sleep(0.01)
    runner.send_signal(signal.SIGUSR1)
    (here / "go").touch()
    _, errors = runner.communicate()
    assert runner.returncode == 45, errors
    assert loads(here) == 1
    assert errors.startswith("[step 1 of 2] my_model: description for ")
    assert not (here / "embeddings").exists()
    # The same command goes on where it ended.
    assert command(here, *EMBED, "my_model").returncode == 0
    assert loads(here) == 4


@pytest.mark.slow
def test_a_failure_on_another_machine_is_told(here: Path) -> None:
    """Two runs that share a luigid: the one that did not load the model tells its error as well."""
    (here / "my_model.py").write_text(COUNTING + "raise OSError('no cloud')\n" + MODEL)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here)}
    with running_luigid(here) as address:
        words = [sys.executable, "-m", *EMBED, "my_model", "--scheduler-url", address]
        runners = [
            subprocess.Popen(
                words, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        told = [runner.communicate() for runner in runners]
    assert [runner.returncode for runner in runners] == [2, 2], told
    assert all("no cloud" in errors for _, errors in told), told
    assert not any("Traceback" in errors for _, errors in told)
