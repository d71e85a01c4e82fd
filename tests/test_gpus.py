"""Which GPU a model gets, and models that run in parallel. Needs no GPU."""

from __future__ import annotations

import fcntl
import itertools
import multiprocessing
import re
import time
from pathlib import Path

import pytest

from heareval.embeddings.submission import Model, Submission
from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.predictions.protocol import Protocol
from heareval.workflow.describe import Describe
from heareval.workflow.evaluate import Embed, Predict
from heareval.workflow.machine import Device, Machine, claim_device, claim_gpu, has_gpu, parse_gpus, uses_gpu
from tests.commands import MODEL, command


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


GPU_FILES = ["dev/nvidia0", "dev/kfd", "proc/driver/nvidia/gpus/0000:01:00.0"]


@pytest.mark.parametrize(
    ("visible", "made", "there"),
    [
        *((None, name, True) for name in GPU_FILES),
        (None, "dev/nvidiactl", False),
        ("", GPU_FILES[0], False),
        ("-1", GPU_FILES[0], False),
        ("NoDevFiles", GPU_FILES[0], False),
        ("GPU-8932f937", GPU_FILES[0], True),
        ("MIG-GPU-1/2/0,1", GPU_FILES[0], True),
        ("0", "dev/null", False),
    ],
)
def test_a_gpu_is_found_without_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, made: str, there: bool
) -> None:
    (tmp_path / made).parent.mkdir(parents=True)
    (tmp_path / made).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert has_gpu(tmp_path) == there


@pytest.mark.parametrize(
    ("wish", "gpus", "device", "claims"),
    [
        ("auto", None, "auto", None),
        ("cpu", None, "cpu", False),
        ("cpu", "0,1", "cpu", False),
        ("cuda", "0", "cpu", False),
        ("auto", "2", "cuda", True),
        ("cuda", None, "cuda", True),
    ],
)
def test_a_gpu_is_claimed_only_where_one_is_used(
    wish: str, gpus: str | None, device: str, claims: bool | None
) -> None:
    machine, model = Machine(parse_gpus(gpus)), Model("my_model", device=wish)
    assert machine.choose_device(model) == device
    expected = {"gpu": 1} if (has_gpu() if claims is None else claims) else {}
    embed = Embed(
        Places(),
        task_folder="esc50",
        task_fingerprint="0",
        submission=Submission("my_model", device=wish),
        machine=machine,
    )
    describe = Describe(
        Places(),
        key="0",
        embedding_type="scene",
        submission_name="mine",
        model=model,
        weights_sha256="",
        machine=machine,
    )
    assert (embed.resources, describe.resources) == (expected, expected)
    predict = Predict(Places(), path="a/b", embeddings_fingerprint="0", protocol=Protocol(), machine=machine)
    assert predict.resources == ({"gpu": 1} if uses_gpu(machine.device) else {})


@pytest.mark.skipif(has_gpu(), reason="there is a GPU here")
@pytest.mark.parametrize(
    ("device", "variables"), [("auto", {}), ("cuda", {}), ("cpu", {"CUDA_VISIBLE_DEVICES": ""})]
)
def test_without_gpus_none_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Device, variables: dict[str, str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with claim_device(device, Machine()) as given:
        assert given == variables
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_may_choose_waits_for_the_first_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A luigid whose last runner has no GPU would let another one start several models on its GPU."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # There is such a file on every machine with Linux.
    monkeypatch.setattr("heareval.workflow.machine.GPU_FILES", ("proc/version",))
    for visible, first in ((None, "0"), ("3,1", "3")):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with claim_device("auto", Machine()) as variables:
            assert variables == {}
            (lock,) = tmp_path.glob(f"*gpu-{first}.lock")
            with open(lock) as stream, pytest.raises(BlockingIOError):
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


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


def test_a_known_description_does_not_wait_for_a_gpu(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "my_model.py").write_text(MODEL)
    words = ("heareval.embeddings.runner", "my_model", "--tasks-dir", str(prepared / "tasks"))
    assert "1 step done" in command(tmp_path, *words, TMPDIR=str(tmp_path)).stdout
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with claim_gpu(("5",)):
        done = command(tmp_path, *words, "--gpus", "5,", TMPDIR=str(tmp_path))
    assert "nothing to do" in done.stdout, done.stderr
