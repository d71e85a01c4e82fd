"""The worker as a process: its progress, its errors, its death."""

import io
import json
import os
import subprocess
import sys
import time

import pytest

from heareval import api, layout, progress
from heareval.api import RunSettings
from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.predictions.protocol import Protocol
from heareval.predictions.worker import read_job
from heareval.worker_process import run_worker
from heareval.workflow.evaluate import Predict
from tests.commands import command
from tests.test_places import bound_by_permissions

CHILD = """
import os, time
from heareval.worker_process import die_with_parent
die_with_parent()
print(os.getpid(), flush=True)
time.sleep(900)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, sys.argv[1]], stdout=subprocess.PIPE, text=True)
print(child.stdout.readline(), flush=True)
"""
# Importing the compiler takes longer than most trainings.
TRAIN = """
import sys
from heareval.predictions.worker import main
assert main(["job.json"]) == 0
print()
import torch
print(torch.backends.cuda.matmul.allow_tf32)
print(*sys.modules)
"""


def _job(folder, **protocol):
    settings = {"grid_points": 1, "device": "cpu", **protocol}
    return {
        "folder": str(folder),
        "embeddings": "0123456789abcdef",
        "protocol": settings,
        "fingerprint": "beef",
    }


def _work(tmp_path, job, before=()):
    """Run the worker on a job; return its result, and the progress that it reported."""
    done = []
    command = [*before, sys.executable, "-m", "heareval.predictions.worker"]
    return run_worker(command, job, tmp_path / "log", lambda *numbers: done.append(numbers)), done


def test_it_reports_progress_and_the_path_of_the_scores(tmp_path, event_folder):
    folder = event_folder()
    result, done = _work(tmp_path, _job(folder))
    scores = folder / "test.hear2021-1points.predicted-scores.json"
    assert result == {"scores": str(scores)}
    assert done[-1] == (100, 100)
    assert json.loads(scores.read_text())["fingerprint"] == "beef"


def test_training_does_not_import_the_compiler_of_torch_or_round_to_tf32(tmp_path, scene_folder):
    (tmp_path / "job.json").write_text(json.dumps({**_job(scene_folder()), "channel": 1, "token": ""}))
    (tmp_path / "train.py").write_text(TRAIN)
    # As NVIDIA's containers have it, where scores in float32 must not be those of TF32.
    done = command(tmp_path, "train", TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="1")
    assert done.returncode == 0, done.stderr
    *_, rounds_to_tf32, modules = done.stdout.splitlines()
    assert rounds_to_tf32 == "False"
    imported = modules.split()
    assert "torch.optim.adam" in imported
    assert not {"torch._dynamo", "torch._inductor"} & set(imported)


def test_errors_are_told_in_a_line(tmp_path, scene_folder):
    folder = scene_folder()
    with pytest.raises(HearevalError, match=r"unknown grid: got 'fastest'.*Did you mean fast") as caught:
        _work(tmp_path, _job(folder, grid="fastest"))
    assert "\n" not in str(caught.value)
    assert not (folder / layout.scores("hear2021")).exists()


@pytest.mark.slow
def test_results_that_cannot_be_written_are_told_in_a_line(tmp_path, scene_folder):
    folder = scene_folder()
    target = folder / layout.predictions("probe-linear")
    (target / "inside").mkdir(parents=True)
    with pytest.raises(
        HearevalError, match="got Is a directory, expected no existing file or folder"
    ) as caught:
        _work(tmp_path, {**_job(folder), "protocol": {"probe": "linear", "device": "cpu"}})
    assert caught.value.what == str(target)


def test_a_folder_that_may_not_be_written_is_told_before_training(tmp_path, scene_folder):
    folder = scene_folder()
    # A bad array would be the error if anything were read.
    (folder / "train.npy").write_text("bad")
    folder.chmod(0o555)
    try:
        with pytest.raises(HearevalError, match="got Permission denied, expected read and write") as caught:
            _work(tmp_path, _job(folder), bound_by_permissions())
    finally:
        folder.chmod(0o755)
    assert caught.value.what == str(folder)


def test_unknown_protocol_setting(tmp_path):
    job = tmp_path / "job.json"
    job.write_text(json.dumps(_job(tmp_path, grid_point=3)))
    with pytest.raises(HearevalError, match="Did you mean grid_points"):
        read_job(job)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells a process of its parent's end"
)
def test_dies_with_its_parent(tmp_path):
    (tmp_path / "child.py").write_text(CHILD)
    (tmp_path / "parent.py").write_text(PARENT)
    parent = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "child.py")]
    told = subprocess.run(parent, capture_output=True, text=True, check=True, timeout=600)
    assert _ends(int(told.stdout))


def _ends(pid, patience_s=120):
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_a_run_counts_trainings(scene_folder, tmp_path, monkeypatch):
    """Two networks, each of up to 30 epochs."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    # Show every message instead of one in a while.
    monkeypatch.setattr(progress, "LINE_EVERY_S", -1.0)
    monkeypatch.setattr(progress, "REPORT_EVERY_S", -1.0)
    places = Places(*(str(tmp_path / name) for name in ("work", "tasks", "tars", "embeddings")))
    folder = scene_folder()
    api.predict([folder], Protocol(grid_points=2, device="cpu"), places, settings=RunSettings(num_workers=1))
    lines = [line for line in stream.getvalue().splitlines() if not line.startswith("[")]
    title = f"{folder.parent.name} on {folder.name}: predictor: "
    told = list(dict.fromkeys(line.removeprefix(title) for line in lines if line.startswith(title)))
    assert set(told) <= {"training 1 of 2", "training 2 of 2", "testing and resampling"}
    assert told == sorted(told, reverse=True, key=lambda each: "training" in each)
    assert told[-1] == "testing and resampling"


def test_probes_count_shares(scene_folder):
    step = Predict(
        Places(), path=str(scene_folder()), embeddings_fingerprint="", protocol=Protocol(probe="linear")
    )
    assert step.unit == "hundredths"
