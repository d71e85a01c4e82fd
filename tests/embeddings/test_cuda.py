"""Embedding on a GPU; run with `pytest -m gpu` where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from heareval.embeddings import baseline  # noqa: E402
from heareval.embeddings.inside.frameworks import Torch  # noqa: E402
from heareval.embeddings.inside.reading import BufferPool  # noqa: E402
from tests.embeddings.clips import RATE, TELLING_MODEL, embed, manifest, write_task  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use"),
]


@pytest.mark.parametrize("kind", ["scene", "event"])
def test_the_gpu_gives_what_the_cpu_gives(tmp_path: Path, kind: str) -> None:
    (tmp_path / "my_model.py").write_text(f"from {baseline.__name__} import *\n")
    # All clips of a split have one length where embeddings have timestamps.
    lengths = [RATE, RATE * 2] if kind == "scene" else [RATE]
    task = write_task(tmp_path / "task", {"a": [RATE * 2] * 40, "b": lengths * 9}, kind)
    made = {}
    for device in ("cpu", "cuda"):
        assert not embed(tmp_path, task, budget=10 * RATE, device=device, form={})
        made[device] = {path.name: np.load(path) for path in (tmp_path / "out").glob("*.npy")}
        assert manifest(tmp_path)["device"] == device
        (tmp_path / "out").rename(tmp_path / device)
    for name, array in made["cpu"].items():
        np.testing.assert_allclose(made["cuda"][name], array, rtol=1e-3, atol=1e-3)


def test_memory_of_the_gpu_that_really_runs_out(tmp_path: Path) -> None:
    source = TELLING_MODEL.replace(
        "raise torch.cuda.OutOfMemoryError(", "torch.empty(10**14, device='cuda'); ("
    )
    (tmp_path / "my_model.py").write_text(source)
    task = write_task(tmp_path / "task", {"a": [800] * 40})
    assert not embed(tmp_path, task, budget=16000, device="cuda", options={"fits": 6400})
    calls = [int(line.split()[0]) for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls[:3] == [20, 10, 5]


def test_tf32_is_off_unless_asked_for() -> None:
    for precision, is_on in (("float32", False), ("tf32", True)):
        framework = Torch("cuda", precision)
        framework.prepare(torch.nn.Identity())
        assert torch.backends.cuda.matmul.allow_tf32 is is_on
        assert torch.backends.cudnn.allow_tf32 is is_on


def test_audio_arrives_whole_while_the_model_is_at_work() -> None:
    """Blocks are copied ahead in a second stream, and their buffers are reused."""
    framework = Torch("cuda", "float32")
    framework.prepare(torch.nn.Identity())
    assert framework.copies_sent_audio
    pool, sent = BufferPool(), []
    for number in range(20):
        with pool.lend(8, 10**6) as buffer:
            buffer[:] = number
            sent.append(framework.send_to_device(buffer))
    busy = torch.randn(4000, 4000, device="cuda")
    for number, block in enumerate(sent):
        busy = torch.nn.functional.normalize(busy @ busy)
        assert bool((framework.wait_for(block) == number).all())
