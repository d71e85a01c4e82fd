"""Embedding clips, against the bare model, the naive loop, and merely reading the clips.

python -m benchmarks.embed --clips 60 --model crepe-tiny
python -m benchmarks.embed --clips 4000 --model trivial

All are measured in turn in one process, on the GPU if there is one. The bare loop has all audio in memory,
in the batches that heareval makes, and throws the answers away. The naive loop reads clip by clip, embeds
batches of one, writes a .npy and a .json for each clip, and merges them. Reading is one clip after another.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch

from benchmarks import models
from benchmarks.models import RATE
from heareval.embeddings.embed import BATCH_SAMPLES
from heareval.embeddings.inside.batches import plan_blocks
from heareval.embeddings.inside.embed import embed
from heareval.embeddings.inside.reading import read_block
from heareval.tasks.audio import write_wav

Way = Callable[[Path], object]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_task(folder: Path, clips: int, seconds: float) -> Path:
    """A task folder with one split of noise."""
    (folder / str(RATE) / "a").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for i in range(clips):
        samples = draw.integers(-9999, 9999, round(RATE * seconds), np.int16)
        write_wav(folder / str(RATE) / "a" / f"{i:06}.wav", samples, RATE)
    (folder / "a.json").write_text(json.dumps({f"{i:06}.wav": [] for i in range(clips)}))
    return folder


def paths_of(task: Path) -> list[Path]:
    """The clips, in order."""
    return sorted((task / str(RATE) / "a").iterdir())


def heareval(task: Path, kind: str, out: Path) -> None:
    """The worker as the pipeline calls it."""
    job = {"module": models.__name__, "weights_path": "", "options": {"kind": kind}, "device": "auto"}
    job |= {"task": str(task), "splits": ["a"], "embedding_type": "scene", "out": str(out)}
    job |= {"dtype": "float32", "precision": "float32", "chunk_s": 0.0, "done": 0, "history": []}
    embed({**job, "batch_samples": BATCH_SAMPLES})


def bare(task: Path, kind: str) -> Way:
    """The model on batches that are where it is."""
    names = [path.name for path in paths_of(task)]
    plan = plan_blocks(task, {"a": names}, RATE, BATCH_SAMPLES)
    batches = [torch.from_numpy(read_block(block)).to(DEVICE) for block in plan]
    model = models.load_model(kind=kind).to(DEVICE)

    def loop(out: Path) -> None:
        for audio in batches:
            models.get_scene_embeddings(audio, model).cpu()

    return loop


def naive(task: Path, kind: str, out: Path) -> None:
    """Clip by clip, a .npy and a .json each, merged at the end."""
    model = models.load_model(kind=kind).to(DEVICE)
    for path in paths_of(task):
        with wave.open(str(path)) as sound:
            samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16)
        audio = torch.from_numpy(samples.astype(np.float32) / 32768)[None].to(DEVICE)
        np.save(out / f"{path.name}.npy", models.get_scene_embeddings(audio, model).cpu().numpy())
        (out / f"{path.name}.json").write_text(json.dumps({"timestamps": None}))
    rows = [np.load(out / f"{path.name}.npy") for path in paths_of(task)]
    np.save(out / "a.npy", np.concatenate(rows))


def read_float32(task: Path) -> None:
    """Every clip as the float32 samples that a model wants, by libsndfile."""
    for path in paths_of(task):
        soundfile.read(path, dtype="float32")


def read_int16(task: Path) -> None:
    """Every clip as the 16-bit samples that it holds, which nobody uses."""
    for path in paths_of(task):
        with wave.open(str(path)) as sound:
            np.frombuffer(sound.readframes(sound.getnframes()), np.int16)


def seconds(way: Way) -> float:
    """How long a way takes, with an empty folder for what it writes."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        way(Path(out))
        return time.perf_counter() - started


def main() -> None:
    """Print medians of the times, and of the ratios in the same turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--model", choices=list(models.KINDS), default="crepe-tiny")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        task, kind = make_task(Path(folder) / "task", given.clips, given.seconds), given.model
        ways: dict[str, Way] = {
            "heareval": lambda out: heareval(task, kind, out),
            "bare model": bare(task, kind),
            "naive loop": lambda out: naive(task, kind, out),
            "reading, float32": lambda out: read_float32(task),
            "reading, 16 bits": lambda out: read_int16(task),
        }
        # The first turn warms everything up.
        turns = [{name: seconds(way) for name, way in ways.items()} for _ in range(given.turns + 1)][1:]
    print(f"{kind}, {given.clips} clips of {given.seconds:g} s on {DEVICE}")  # noqa: T201
    for name in ways:
        median = statistics.median(turn[name] for turn in turns)
        ratio = statistics.median(turn[name] / turn["heareval"] for turn in turns)
        print(f"{name:18} {median:8.3f} s   {ratio:6.2f} x our time")  # noqa: T201


if __name__ == "__main__":
    main()
