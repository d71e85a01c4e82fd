"""Which GPU a model gets, and models that run in parallel. Needs no GPU."""

from __future__ import annotations

import fcntl
import itertools
import multiprocessing
import re
import shutil
import time
from pathlib import Path

import pytest

from heareval import files
from heareval.errors import HearevalError
from heareval.workflow.machine import Machine, claim_gpu, parse_gpus
from tests.commands import MODEL, SPOKEN, command

# A model that records when it computes embeddings.
NOTING = (
    MODEL
    + """
import os, time
scene = get_scene_embeddings

def get_scene_embeddings(audio, model):
    if len(audio) == 1:
        return scene(audio, model)  # it is only being described
    began = time.time()
    time.sleep(1.0)
    with open(os.path.join(os.path.dirname(__file__), "noted"), "a") as noted:
        noted.write(f"{began} {time.time()} {os.getpid()}\\n")
    return scene(audio, model)
"""
)


@pytest.mark.parametrize(
    "text", ["0,0", "00,0", "a", "1,-1", "1.5", "", ",", "[]", "[0", "[0,0]", "\u0663,", "99999"]
)
def test_invalid_gpus_are_refused(text: str) -> None:
    with pytest.raises(HearevalError, match="--gpus"):
        parse_gpus(text)


def test_the_cpu_is_no_fallback_for_named_gpus() -> None:
    assert [Machine(parse_gpus(text)).device for text in (None, "0", "1", "0,1")] == [
        "auto",
        "cpu",
        "cuda",
        "cuda",
    ]


def hold(gpus: tuple[str, ...], seconds: float, said: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    with claim_gpu(gpus) as environment:
        began = time.monotonic()
        time.sleep(seconds)
        said.put((environment["CUDA_VISIBLE_DEVICES"], began, time.monotonic()))


def test_a_gpu_runs_one_model_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    workers = [context.Process(target=hold, args=(("0", "1"), 0.3, said)) for _ in range(5)]
    for worker in workers:
        worker.start()
    told = [said.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    assert {device for device, _, _ in told} == {"4", "7"}, "as this process counts them"
    for device in ("4", "7"):
        times = sorted((began, ended) for which, began, ended in told if which == device)
        assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(times))


def test_numbers_are_indices_into_the_visible_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,MIG-GPU-1/2/0")
    with claim_gpu(("1",)) as variables:
        assert variables == {"CUDA_VISIBLE_DEVICES": "MIG-GPU-1/2/0"}
    with pytest.raises(HearevalError, match="numbers below 2"), claim_gpu(("0", "2")):
        pass
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(HearevalError, match="numbers below 0"), claim_gpu(("0",)):
        pass


def test_without_gpus_none_is_claimed() -> None:
    with claim_gpu(()) as environment, claim_gpu(("",)) as no_gpu:
        assert (environment, no_gpu) == ({}, {"CUDA_VISIBLE_DEVICES": ""})


def test_missing_gpus_are_reported(prepared: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "my_model.py").write_text(MODEL)
    words = ("heareval.embeddings.runner", "my_model", "--tasks-dir", str(prepared / "tasks"))
    done = command(tmp_path, *words, "--gpus", "90,91", TMPDIR=str(tmp_path))
    assert done.returncode != 0
    assert re.search(r"error: .*device cuda: got no GPU that torch .* can use, expected a GPU\.", done.stderr)


@pytest.mark.parametrize(("gpus", "given"), [("0", ""), ("1,", "7"), (None, "4,7")])
def test_a_model_is_described_where_it_runs(
    prepared: Path, tmp_path: Path, gpus: str | None, given: str
) -> None:
    """Already its first import must not use a GPU that the user has not named."""
    pytest.importorskip("torch")
    noting = "import os\nopen('given', 'a').write(os.environ.get('CUDA_VISIBLE_DEVICES', 'all') + '\\n')\n"
    (tmp_path / "my_model.py").write_text(noting + MODEL)
    words = ("heareval.embeddings.runner", "my_model", "--tasks-dir", str(prepared / "tasks"))
    words = (*words, *(("--gpus", gpus) if gpus else ()))
    done = command(tmp_path, *words, TMPDIR=str(tmp_path), CUDA_VISIBLE_DEVICES="4,7")
    # A missing GPU is reported after the import.
    assert ("got no GPU" in done.stderr) == (given == "7"), done.stderr
    assert set((tmp_path / "given").read_text().splitlines()) == {given}


def test_a_known_description_does_not_wait_for_a_gpu(prepared: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "my_model.py").write_text(MODEL)
    words = ("heareval.embeddings.runner", "my_model", "--tasks-dir", str(prepared / "tasks"))
    words = (*words, "--device", "cpu", "--gpus", "5,")
    assert "1 step done" in command(tmp_path, *words, TMPDIR=str(tmp_path)).stdout
    with open(next(tmp_path.glob("heareval-*gpu-5.lock"))) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "nothing to do" in command(tmp_path, *words, TMPDIR=str(tmp_path)).stdout


@pytest.mark.slow
def test_models_run_in_parallel_on_two_gpus(prepared: Path, tmp_path: Path) -> None:
    """Two tasks run at once; without --gpus one waits for the other."""
    pytest.importorskip("torch")
    (tmp_path / "my_model.py").write_text(NOTING)
    for copy in ("one", "two"):
        shutil.copytree(prepared / "tasks" / SPOKEN, tmp_path / "tasks" / copy)
    for gpus in ((), ("--gpus", "0,1")):
        for left in ("noted", "embeddings"):
            files.remove_tree(tmp_path / left)
        words = ("heareval.embeddings.runner", "my_model", "--device", "cpu", *gpus)
        done = command(tmp_path, *words, TMPDIR=str(tmp_path))
        assert done.returncode == 0, done.stderr
        spans: dict[str, list[float]] = {}
        for line in (tmp_path / "noted").read_text().splitlines():
            began, ended, worker = line.split()
            spans.setdefault(worker, []).extend([float(began), float(ended)])
        first, second = sorted((min(times), max(times)) for times in spans.values())
        assert (second[0] < first[1]) == bool(gpus)
