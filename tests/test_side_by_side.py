"""Embeddings side by side on CPUs, as far as there is memory: what runs is seen in states, not seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from heareval.workflow.machine import has_gpu
from tests.commands import MODEL, command
from tests.embeddings.clips import write_task
from tests.luigi_daemon import running_luigid

pytestmark = pytest.mark.skipif(has_gpu(), reason="a GPU takes one model at a time")
SPLITS = {"train": [8000] * 3, "valid": [8000] * 2, "test": [8000] * 2}
# Embeddings of a batch begin when `meet` returns; a single clip is only being described.
MEETING = (
    MODEL
    + """
import fcntl, os, time
scene, here = get_scene_embeddings, os.path.dirname(__file__)

def get_scene_embeddings(audio, model):
    if len(audio) > 1:
        meet()
    return scene(audio, model)
"""
)
# Each process waits until the other one has begun, too.
TOGETHER = """
def meet():
    open(os.path.join(here, f"began-{os.getpid()}"), "w").close()
    for _ in range(6000):
        if sum(name.startswith("began-") for name in os.listdir(here)) == 2:
            return
        time.sleep(0.01)
    raise RuntimeError("nobody else has begun")
"""
# A process keeps the lock until it ends, and notes if it met another one.
ALONE = """
def meet():
    global lock
    lock = open(os.path.join(here, "lock"), "a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        open(os.path.join(here, "met"), "w").close()
    open(os.path.join(here, f"began-{os.getpid()}"), "w").close()
"""


def write_tasks(folder: Path, source: str) -> tuple[str, ...]:
    """Write a model and two tasks, and return the command that embeds them in two processes."""
    (folder / "my_model.py").write_text(MEETING + source)
    for name in ("one", "two"):
        write_task(folder / "tasks" / name, SPLITS)
    return ("heareval", "embed", "my_model", "--num-workers", "2")


def began(folder: Path) -> int:
    """How many processes have embedded something."""
    return len(list(folder.glob("began-*")))


def test_a_cpu_embeds_two_tasks_at_once(tmp_path: Path) -> None:
    done = command(tmp_path, *write_tasks(tmp_path, TOGETHER), TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert began(tmp_path) == 2


@pytest.mark.slow
def test_two_machines_without_gpus_embed_at_once(tmp_path: Path) -> None:
    """Each takes one step of a luigid that allows one step with a GPU."""
    words = write_tasks(tmp_path, TOGETHER)[:-1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    with running_luigid(tmp_path) as address:
        runners = [
            subprocess.Popen(
                [sys.executable, "-m", *words, "1", "--scheduler-url", address],
                cwd=tmp_path,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        told = [runner.communicate()[1] for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], told
    assert began(tmp_path) == 2


def test_without_memory_for_two_they_run_one_after_the_other(tmp_path: Path) -> None:
    job = {"SLURM_JOB_ID": "1", "SLURM_MEM_PER_NODE": "100"}
    done = command(tmp_path, *write_tasks(tmp_path, ALONE), TMPDIR=str(tmp_path), **job)
    assert done.returncode == 0, done.stderr
    assert began(tmp_path) == 2
    assert not (tmp_path / "met").exists()
    waits = [line for line in done.stderr.splitlines() if "waits for" in line]
    assert len(waits) == 1
    assert " embeddings: waits for 2.1 GB of memory: 0.0 GB is free beside other steps" in waits[0]
    # It is the same for predictors.
    folders = (f"embeddings/my_model/{name}" for name in ("one", "two"))
    words = ("heareval", "predict", *folders, "--probe", "linear", "--num-workers", "2")
    done = command(tmp_path, *words, TMPDIR=str(tmp_path), **job)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("waits for 2.1 GB of memory") == 1
