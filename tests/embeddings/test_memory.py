"""A model that runs out of memory gets smaller batches; a clip that does not fit alone is an error."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from heareval.embeddings import baseline  # noqa: E402
from heareval.embeddings.inside import embed as inside_embed  # noqa: E402
from heareval.embeddings.inside.batches import GROW_AFTER, BatchSize, plan_blocks  # noqa: E402
from heareval.embeddings.inside.errors import is_out_of_memory  # noqa: E402
from heareval.embeddings.inside.reading import read_block  # noqa: E402
from heareval.embeddings.inside.writing import Writer  # noqa: E402
from tests.embeddings.clips import TELLING_MODEL, embed, manifest, write_task  # noqa: E402


def sizes_of_calls(folder: Path) -> list[tuple[int, ...]]:
    return [tuple(map(int, line.split())) for line in (folder / "calls").read_text().splitlines()]


def test_a_batch_too_large_is_halved_and_grown_again(tmp_path: Path) -> None:
    task = write_task(tmp_path / "task", {"a": [800] * 300})
    (tmp_path / "my_model.py").write_text(TELLING_MODEL)
    assert not embed(tmp_path, task, budget=16000, options={"fits": 6400})
    tried = [clips for clips, _ in sizes_of_calls(tmp_path)]
    assert tried[:3] == [20, 10, 5]
    failed = [clips for clips in tried if clips > 8]
    assert len(failed) <= 4, "growing again costs little"
    assert max(clips for clips in tried if clips <= 8) > 5, "but it pays"
    stored = np.load(tmp_path / "out" / "a.npy")
    sounds = plan_blocks(task, {"a": [f"{i}.wav" for i in range(300)]}, 16000, 10**9)
    expected = read_block(sounds[0]).mean(1)
    # The model overwrites its input before memory runs out, so the clips are read again.
    np.testing.assert_allclose(stored[:, 0], expected, atol=1e-6)


def test_messages_about_batches_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if a thread writes in the background: a resumed run depends on this order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    task = write_task(tmp_path / "task", {"a": [800] * 300})
    (tmp_path / "my_model.py").write_text(TELLING_MODEL)
    monkeypatch.setattr(inside_embed, "Writer", lambda in_background: SlowWriter(in_background=True))
    said: list[dict[str, Any]] = []
    (tmp_path / "out").mkdir()
    job = {
        "module": "my_model",
        "weights_path": "",
        "options": {"fits": 6400},
        "task": str(task),
        "splits": ["a"],
    }
    job |= {
        "device": "auto",
        "precision": "float32",
        "dtype": "float32",
        "chunk_s": 0.0,
        "done": 0,
        "history": [],
    }
    job |= {"embedding_type": "scene", "out": str(tmp_path / "out"), "batch_samples": 16000}
    inside_embed.embed(job, said.append)
    begun = [message["begun"] for message in said if "begun" in message]
    happened = [next(iter(message.items())) for message in said if {"fitted", "too_large"} & set(message)]
    assert [samples for _, samples in happened] == begun


class SlowWriter(Writer):
    """A slow writer."""

    def run(self, write: Callable[..., None], *arguments: Any) -> None:
        super().run(lambda: (time.sleep(0.002), write(*arguments)))  # type: ignore[func-returns-value]


def test_the_error_for_a_clip_too_large_has_its_length_and_the_memory(tmp_path: Path) -> None:
    task = write_task(tmp_path / "task", {"a": [800] * 5 + [32000] + [800]})
    (tmp_path / "my_model.py").write_text(TELLING_MODEL)
    error = embed(tmp_path, task, budget=16000, options={"fits": 6400})
    assert "16000/a/5.wav: got OutOfMemoryError: CUDA out of memory" in error
    assert "this clip of 2 s alone" in error
    assert re.search(r"expected a clip that fits into the memory of the CPU, .* of .* GiB free", error)
    assert sizes_of_calls(tmp_path) == [(1, 32000)], "the longest clip came first"


def test_memory_that_really_runs_out(tmp_path: Path) -> None:
    """PyTorch's own error on a CPU, from an allocation that no machine can give."""
    source = TELLING_MODEL.replace(
        'raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 99.00 GiB")',
        "torch.empty(10**15)",
    )
    assert source != TELLING_MODEL
    task = write_task(tmp_path / "task", {"a": [800] * 20})
    (tmp_path / "my_model.py").write_text(source)
    assert not embed(tmp_path, task, budget=16000, options={"fits": 6400})
    assert [clips for clips, _ in sizes_of_calls(tmp_path)][:3] == [20, 10, 5]


class ResourceExhaustedError(Exception):
    """An error with the name that TensorFlow uses."""


def raised(function: Callable[[int], object], size: int) -> Exception | None:
    """Return the exception that a call raises."""
    try:
        function(size)
    except Exception as error:
        return error
    return None


def wrapped() -> Exception:
    try:
        try:
            raise MemoryError
        except MemoryError as error:
            raise ValueError("this model failed") from error
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (raised(np.empty, 10**18), True),
        (raised(torch.empty, 10**15), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (ResourceExhaustedError("OOM when allocating tensor"), True),
        (wrapped(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory, says the user's own check"), False),
        (None, False),
    ],
    ids=repr,
)
def test_which_errors_mean_out_of_memory(error: Exception | None, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory


def test_a_size_that_fitted_is_remembered_and_forgotten_when_memory_shrinks() -> None:
    batch = BatchSize(1000)
    batch.note_too_large(1000)
    assert batch.limit == 500
    for _ in range(GROW_AFTER * 2):
        batch.note_fitted(batch.limit)
    assert 500 < batch.limit < 1000
    grown = batch.limit
    batch.note_fitted(grown)
    batch.note_too_large(grown + 100)
    assert batch.limit == grown
    batch.note_too_large(grown)
    assert batch.limit == grown // 2


@pytest.mark.parametrize("kind", ["scene", "event"])
def test_the_baseline_embeds_a_clip_equally_in_every_batch(tmp_path: Path, kind: str) -> None:
    task = write_task(tmp_path / "task", {"a": [12000] * 7}, kind)
    stored = []
    for budget in (1, 3 * 12000, 10**9):
        folder = tmp_path / str(budget)
        folder.mkdir()
        (folder / "my_model.py").write_text(f"from {baseline.__name__} import *\n")
        assert not embed(folder, task, budget=budget, options={"embedding_size": 64})
        stored.append({path.name: np.load(path) for path in (folder / "out").glob("*.npy")})
    assert len(stored[0]) == (1 if kind == "scene" else 2)
    for name, alone in stored[0].items():
        for others in stored[1:]:
            np.testing.assert_allclose(others[name], alone, rtol=1e-4, atol=1e-4)


def memory_group() -> Path | None:
    """Create a control group of Linux with 1 GB of memory, if this user may do that."""
    group = Path("/sys/fs/cgroup/memory") / f"heareval-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(10**9))
    except OSError:
        return None
    return group


@pytest.fixture
def small_memory() -> Iterator[Path]:
    group = memory_group()
    if group is None:
        pytest.skip("needs a control group for memory, of the first version, and to be root")
    yield group
    for _ in range(100):
        with contextlib.suppress(OSError):
            return group.rmdir()
        time.sleep(0.05)


def test_a_worker_killed_for_memory_resumes_with_smaller_batches(tmp_path: Path, small_memory: Path) -> None:
    """Linux kills the process; no exception is raised."""
    taking = "    take = bytearray(audio.numel() * model.fits)\n    time.sleep(model.seconds)\n"
    source = TELLING_MODEL.replace("    time.sleep(model.seconds)\n", taking, 1)
    source = source.replace("if audio.numel() > model.fits", "if False")
    assert source.count("bytearray") == 1
    entering = f"import os\nopen({str(small_memory / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
    (tmp_path / "my_model.py").write_text(entering + source)
    task = write_task(tmp_path / "task", {"a": [800] * 40})
    assert not embed(tmp_path, task, budget=16000, options={"fits": 70000})
    assert [clips for clips, _ in sizes_of_calls(tmp_path)][:2] == [20, 10]
    assert len(np.load(tmp_path / "out" / "a.npy")) == 40


def test_a_clip_that_kills_the_worker_is_named(tmp_path: Path, small_memory: Path) -> None:
    source = TELLING_MODEL.replace("    time.sleep", "    take = bytearray(2 * 10**9)\n    time.sleep", 1)
    entering = f"import os\nopen({str(small_memory / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
    (tmp_path / "my_model.py").write_text(entering + source)
    task = write_task(tmp_path / "task", {"a": [800] * 2})
    error = embed(tmp_path, task, budget=16000)
    assert "a/0.wav: got signal SIGKILL, killed because memory ran out" in error
    assert "on this clip alone" in error


def test_a_worker_killed_for_another_reason_is_an_error(tmp_path: Path) -> None:
    """In this file, so that it never runs in parallel with the tests above: Linux counts all kills."""
    source = TELLING_MODEL.replace("    time.sleep(model.seconds)", "    os.kill(os.getpid(), 9)")
    (tmp_path / "my_model.py").write_text(source)
    told = embed(tmp_path, write_task(tmp_path / "task", {"a": [800] * 2}), budget=16000)
    assert "the worker process: got signal SIGKILL, expected a result. Its log is" in told
    assert "memory" not in told


def test_the_largest_memory_is_recorded(tmp_path: Path) -> None:
    """Also of memory that was freed before the end."""
    task = write_task(tmp_path / "task", {"a": [800] * 3})
    taken = []
    for megabytes in (0, 400):
        folder = tmp_path / str(megabytes)
        folder.mkdir()
        wasteful = f"model.fits, model.seconds = fits, [len(b'x' * ({megabytes} << 20)), seconds][1]"
        model = TELLING_MODEL.replace("model.fits, model.seconds = fits, seconds", wasteful)
        (folder / "my_model.py").write_text(model)
        assert not embed(folder, task, budget=16000)
        taken.append(manifest(folder)["memory_bytes"])
    assert taken[1] - taken[0] > 300 << 20
