"""Write small task folders of noise, and embed them in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from heareval import files, layout
from heareval.embeddings import embed as embedding
from heareval.embeddings.submission import Submission
from heareval.errors import HearevalError
from heareval.formats.task_folder import fingerprint_task_folder
from heareval.tasks.audio import write_wav
from tests.commands import command

ROOT = str(Path(__file__).parents[2])
RATE = 16000
# Its scene embeddings contain the size of their batch. Each call appends a line to `calls`.
TELLING_MODEL = """
import os, time
import torch

class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 3, 2

def load_model(model_file_path="", fits=10**9, seconds=0.0):
    model = Model()
    model.fits, model.seconds = fits, seconds
    return model

def get_scene_embeddings(audio, model):
    with open("calls", "a") as calls:
        calls.write(f"{audio.shape[0]} {audio.shape[1]}\\n")
    time.sleep(model.seconds)
    mean, size = audio.mean(1), torch.full((len(audio),), float(len(audio)))
    audio.zero_()
    if audio.numel() > model.fits:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 99.00 GiB")
    return torch.stack([mean, size, torch.full_like(size, audio.shape[1])], 1)

def get_timestamp_embeddings(audio, model):
    times = (torch.arange(10) + 0.5) * audio.shape[1] / 160
    return audio[:, :20].reshape(-1, 10, 2), times.expand(len(audio), -1)
"""


def write_task(
    folder: Path, lengths: Mapping[str, Sequence[int]], kind: str = "scene", rate: int = RATE
) -> Path:
    """Write a task folder whose splits have clips of these lengths in samples."""
    draw = np.random.RandomState(0)
    label = "x" if kind == "scene" else {"label": "x", "start": 0, "end": 1}
    for split, frames in lengths.items():
        (folder / str(rate) / split).mkdir(parents=True)
        names = [f"{i}.wav" for i in range(len(frames))]
        (folder / f"{split}.json").write_text(json.dumps({name: [label] for name in names}))
        for name, count in zip(names, frames, strict=True):
            samples = draw.randint(-9999, 9999, count).astype(np.int16)
            write_wav(folder / str(rate) / split / name, samples, rate)
    (folder / layout.VOCABULARY).write_text("idx,label\n0,x\n")
    metadata = {
        "task_name": "task",
        "embedding_type": kind,
        "prediction_type": "multilabel",
        "split_mode": "trainvaltest",
        "splits": list(lengths),
        "evaluation": ["mAP"],
    }
    (folder / layout.TASK_METADATA).write_text(json.dumps(metadata))
    return folder


def start_embedding(folder: Path, task: Path, *, budget: int, **changes: Any) -> subprocess.Popen[bytes]:
    """Start a process that embeds a task with the model in `<folder>/my_model.py`, as a step does.

    Embeddings go to `<folder>/out`, what is said to `<folder>/said`.
    """
    _write_job(folder, task, budget, changes)
    with open(folder / "said", "wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", *_words(folder)],
            cwd=folder,
            env=_environment(),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def embed(folder: Path, task: Path, *, budget: int, **changes: Any) -> str:
    """The same, waited for; what it said: nothing, or the error."""
    _write_job(folder, task, budget, changes)
    done = command(folder, *_words(folder), PYTHONPATH=ROOT)
    return done.stdout + done.stderr


def _write_job(folder: Path, task: Path, budget: int, changes: Mapping[str, Any]) -> None:
    job = {"task": str(task), "budget": budget, "options": {}, "form": {}, "silence_s": 60.0, **changes}
    (folder / "embed.json").write_text(json.dumps(job))


def _words(folder: Path) -> list[str]:
    return ["tests.embeddings.clips", str(folder)]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT}


def manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of the embeddings."""
    return dict(json.loads((folder / "out" / "MANIFEST.json").read_text()))


def main(folder: Path) -> None:
    """Embed the task of the job file, as a step does."""
    job = json.loads((folder / "embed.json").read_text())
    embedding.BATCH_SAMPLES = job["budget"]
    task, embedding_format = Path(job["task"]), embedding.EmbeddingFormat(**job["form"])
    options = json.dumps(job["options"])
    submission = Submission("my_model", options=options, fingerprint="0", sample_rate=RATE)
    embed_job = embedding.EmbedJob(
        submission,
        task,
        task,
        folder / "out",
        fingerprint_task_folder(task, RATE),
        files.fingerprint("test", 1, form=asdict(embedding_format)),
        embedding_format,
        job.get("device", "auto"),
        job["silence_s"],
        folder / "logs" / "embed.log",
        {},
    )
    try:
        embedding.embed_task(embed_job)
    except HearevalError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
