"""Factors of float32 products are rounded only if heareval's user asks for it, not if a model does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.embeddings.clips import ROOT, embed, write_task

# What a model's code, or a container, may have asked for.
REQUESTS = """
torch.set_float32_matmul_precision("high")
torch.set_float32_matmul_precision("medium")
torch.backends.cuda.matmul.allow_tf32 = True
torch.backends.cuda.matmul.fp32_precision = "tf32"
torch.backends.cudnn.conv.fp32_precision = "tf32"
torch.backends.cudnn.fp32_precision = "tf32"
torch.backends.mkldnn.matmul.fp32_precision = "bf16"
torch.backends.mkldnn.conv.fp32_precision = "bf16"
torch.backends.mkldnn.allow_tf32 = True
torch.backends.fp32_precision = "tf32"
"""
ON_GPU = (
    "torch.backends.cuda.matmul.fp32_precision",
    "torch.backends.cudnn.fp32_precision",
    "torch.backends.cudnn.conv.fp32_precision",
    "torch.backends.cudnn.rnn.fp32_precision",
)
ON_CPU = (
    "torch.backends.fp32_precision",
    "torch.backends.mkldnn.fp32_precision",
    "torch.backends.mkldnn.matmul.fp32_precision",
    "torch.backends.mkldnn.conv.fp32_precision",
    "torch.backends.mkldnn.rnn.fp32_precision",
)
OLD = (
    "torch.get_float32_matmul_precision()",
    "torch.backends.cuda.matmul.allow_tf32",
    "torch.backends.cudnn.allow_tf32",
)
# Each request comes in a process of its own, because most cannot be taken back.
REPORT = """
import json, os, sys
import torch
from heareval.embeddings.inside.rounding import keep_rounding, set_rounding

def read(text):
    try:
        return str(eval(text))
    except RuntimeError:
        return "disagrees"

settings = json.loads(sys.argv[1])
for request in json.loads(sys.argv[2]):
    if os.fork() == 0:
        exec(request)
        before = [read(text) for text in settings]
        with keep_rounding(torch):
            set_rounding(torch, to_tf32=False)
            exact = [read(text) for text in settings]
            set_rounding(torch, to_tf32=True)
            rounded = [read(text) for text in settings]
            set_rounding(torch, to_tf32=False)
            assert exact == [read(text) for text in settings]
        after = [read(text) for text in settings]
        print(json.dumps([before, exact, rounded, after]), flush=True)
        os._exit(0)
    os.wait()
"""
# Other instructions sum up its products in another order: where they do not round, the last digits differ.
MODEL = """
import torch
REQUEST
WEIGHTS = torch.randn(800, 3, generator=torch.Generator().manual_seed(0))

class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 3, 3

def load_model(model_file_path=""):
    return Model()

def get_scene_embeddings(audio, model):
    return torch.nn.functional.pad(audio, (0, 800))[:, :800] @ WEIGHTS

def get_timestamp_embeddings(audio, model):
    raise NotImplementedError
"""


def test_every_interface_says_what_was_set_and_afterwards_what_it_said() -> None:
    requests = ["pass", *REQUESTS.split("\n")[1:-1]]
    settings = [*OLD, *ON_GPU, *ON_CPU]
    words = [sys.executable, "-W", "ignore", "-c", REPORT, json.dumps(settings), json.dumps(requests)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(reports) == len(requests)
    assert len({tuple(before) for before, *_ in reports}) >= 8
    for request, (before, exact, rounded, after) in zip(requests, reports, strict=True):
        assert exact == ["highest", "False", "False", *["ieee"] * 9], request
        assert rounded == ["high", "True", "True", *["tf32"] * 4, *["ieee"] * 5], request
        assert after == before, request


def test_what_a_model_asks_for_does_not_change_its_embeddings(tmp_path: Path) -> None:
    """On CPUs with AVX512-BF16 or AMX, what it asks for takes other instructions, which may round to bf16."""
    embedded = []
    for number, request in enumerate(("", 'torch.set_float32_matmul_precision("medium")')):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "my_model.py").write_text(MODEL.replace("REQUEST", request))
        task = write_task(folder / "task", {"a": [800] * 40})
        assert not embed(folder, task, budget=32000)
        (array,) = (np.load(path) for path in (folder / "out").glob("*.npy"))
        embedded.append(array)
    assert len(embedded[0]) == 40
    np.testing.assert_array_equal(*embedded)
