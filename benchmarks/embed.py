"""Compare embedding clips with the bare model, with a naive loop, and with only reading the clips.

python -m benchmarks.embed --clips 60 --model crepe-tiny
python -m benchmarks.embed --clips 4000 --model trivial

All are measured in turn in one process, on the GPU if there is one. The bare loop has all audio in memory,
in the same batches as heareval, and discards the embeddings. The naive loop reads one clip at a time, embeds
it as a batch of one, writes a .npy and a .json for each clip, and merges them. Reading takes one clip after
another.
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
    """Write a task folder with one split of noise clips, and return it."""
    (folder / str(RATE) / "a").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(clips):
        samples = rng.integers(-9999, 9999, round(RATE * seconds), np.int16)
        write_wav(folder / str(RATE) / "a" / f"{i:06}.wav", samples, RATE)
    (folder / "a.json").write_text(json.dumps({f"{i:06}.wav": [] for i in range(clips)}))
    return folder


def list_clips(task: Path) -> list[Path]:
    """Return the paths of the clips, in order."""
    return sorted((task / str(RATE) / "a").iterdir())


def run_heareval(task: Path, kind: str, out: Path) -> None:
    """Embed the clips with the worker, called as the pipeline calls it."""
    job = {"module": models.__name__, "weights_path": "", "options": {"kind": kind}, "device": "auto"}
    job |= {"task": str(task), "splits": ["a"], "embedding_type": "scene", "out": str(out)}
    job |= {"dtype": "float32", "precision": "float32", "chunk_s": 0.0, "done": 0, "history": []}
    embed({**job, "batch_samples": BATCH_SAMPLES})


def make_bare_loop(task: Path, kind: str) -> Way:
    """Return a loop that runs the model on batches which are already on its device."""
    names = [path.name for path in list_clips(task)]
    plan = plan_blocks(task, {"a": names}, RATE, BATCH_SAMPLES)
    batches = [torch.from_numpy(read_block(block)).to(DEVICE) for block in plan]
    model = models.load_model(kind=kind).to(DEVICE)

    def loop(out: Path) -> None:
        for audio in batches:
            models.get_scene_embeddings(audio, model).cpu()

    return loop


def run_naive_loop(task: Path, kind: str, out: Path) -> None:
    """Embed one clip at a time, with a .npy and a .json for each, and merge them at the end."""
    model = models.load_model(kind=kind).to(DEVICE)
    for path in list_clips(task):
        with wave.open(str(path)) as sound:
            samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16)
        audio = torch.from_numpy(samples.astype(np.float32) / 32768)[None].to(DEVICE)
        np.save(out / f"{path.name}.npy", models.get_scene_embeddings(audio, model).cpu().numpy())
        (out / f"{path.name}.json").write_text(json.dumps({"timestamps": None}))
    rows = [np.load(out / f"{path.name}.npy") for path in list_clips(task)]
    np.save(out / "a.npy", np.concatenate(rows))


def read_float32(task: Path) -> None:
    """Read every clip with libsndfile, as the float32 samples that a model needs."""
    for path in list_clips(task):
        soundfile.read(path, dtype="float32")


def read_int16(task: Path) -> None:
    """Read every clip as the 16-bit samples that it contains, without using them."""
    for path in list_clips(task):
        with wave.open(str(path)) as sound:
            np.frombuffer(sound.readframes(sound.getnframes()), np.int16)


def measure_seconds(way: Way) -> float:
    """Return the seconds that a way takes; its output goes to an empty folder."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        way(Path(out))
        return time.perf_counter() - started


def main() -> None:
    """Print the median time of each way and the median ratio of times in the same turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--model", choices=list(models.KINDS), default="crepe-tiny")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        task, kind = make_task(Path(folder) / "task", given.clips, given.seconds), given.model
        ways: dict[str, Way] = {
            "heareval": lambda out: run_heareval(task, kind, out),
            "bare model": make_bare_loop(task, kind),
            "naive loop": lambda out: run_naive_loop(task, kind, out),
            "reading, float32": lambda out: read_float32(task),
            "reading, 16 bits": lambda out: read_int16(task),
        }
        # Discard the first turn: it warms up caches and imports.
        all_turns = [
            {name: measure_seconds(way) for name, way in ways.items()} for _ in range(given.turns + 1)
        ]
        turns = all_turns[1:]
    print(f"{kind}, {given.clips} clips of {given.seconds:g} s on {DEVICE}")  # noqa: T201
    for name in ways:
        median = statistics.median(turn[name] for turn in turns)
        ratio = statistics.median(turn[name] / turn["heareval"] for turn in turns)
        print(f"{name:18} {median:8.3f} s   {ratio:6.2f} x heareval's time")  # noqa: T201


if __name__ == "__main__":
    main()
