"""Commands as users type them, run in separate processes on the stand-in archives."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from heareval.archives import fetch
from tests import fork_server

SPOKEN = "spoken_digit-1.0.9-full"


def command(
    folder: Path, *words: str, before: Sequence[str] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m` with these words in a folder, and other words before them all.

    It is a process, forked from one that has imported heareval where that makes no difference.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder), **variables}
    if not before and fork_server.can_fork(variables):
        return subprocess.CompletedProcess(words, *fork_server.run(folder, words, environment))
    return subprocess.run(
        [*before, sys.executable, "-m", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def prepare(folder: Path, mirror: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Prepare tasks from the stand-in archives."""
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    return command(folder, "heareval.tasks.runner", *words, *sums)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every tarball, as its SHA256SUMS says and as it is."""
    sums = fetch.read_accepted_checksums(folder / "tars" / "SHA256SUMS")
    for name, checksum in sums.items():
        assert hashlib.sha256((folder / "tars" / name).read_bytes()).hexdigest() == checksum
    return sums


def scratch_left(folder: Path) -> list[Path]:
    return list(folder.rglob("*.partial"))


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one error line; there is no traceback and the exit code tells of the failure."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


MODEL = """
import torch

class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 8, 8

def load_model(model_file_path="", size=8):
    return Model()

def get_timestamp_embeddings(audio, model):
    frames = audio.unfold(1, 800, 800)
    spectrum = torch.fft.rfft(frames).abs()[..., 1:129].reshape(*frames.shape[:2], 8, 16).mean(-1)
    times = (torch.arange(frames.shape[1]) * 50.0 + 25.0).expand(len(audio), -1)
    return torch.log1p(spectrum), times.float()

def get_scene_embeddings(audio, model):
    return get_timestamp_embeddings(audio, model)[0].mean(1)
"""
RESULT = "test.hear2021-faster-2points.predicted-scores.json"
SCORE = ("--grid", "faster", "--grid-points", "2")


def evaluate(folder: Path, mirror: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Evaluate `my_model` on spoken_digit."""
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    return command(
        folder, "heareval", "evaluate", "my_model", "--tasks", "spoken_digit", *sums, *SCORE, *words
    )
