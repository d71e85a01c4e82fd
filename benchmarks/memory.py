"""Compare training on embeddings on disk with training on embeddings in memory: speed and private memory.

python -m benchmarks.memory --where /tmp/embeddings
python -m benchmarks.memory --where /tmp/embeddings --gb 1 --whole

The benchmark creates a folder with five folds of the size of maestro (noise in which the notes are audible)
and removes it at the end. One grid point is trained for some epochs on three folds, from disk and in memory.
Each runs in a separate process; the two alternate, epoch by epoch. The benchmark prints the seconds of
training per epoch, without reading, validation and the first epoch. With --cold, the page cache holds
nothing of the arrays when an epoch from disk begins, as on a machine with little memory. Memory is the peak
of the process's private memory (RssAnon in /proc/self/status, Python and torch included). Pages of the
arrays do not count, because the kernel can reclaim them at any time. --whole runs the whole evaluation from
disk, from reading to results.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional

from benchmarks import events
from heareval import files, layout
from heareval.predictions.data import read_task
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.kinds import find_kind, read_splits
from heareval.predictions.kinds.event import label_frames
from heareval.predictions.learners.learner import Criterion
from heareval.predictions.learners.training import Objective, Training, fit_stack
from heareval.predictions.metrics.event import EventTable
from heareval.predictions.protocol import Protocol, Settings
from heareval.predictions.results import Validation
from heareval.predictions.rows import StoredRows
from heareval.predictions.writing import write_results

CPU = torch.device("cpu")
MAESTRO = events.CASES["maestro"]
FOLDS = tuple(f"fold{number:02}" for number in range(5))
LABELS = {str(label): label for label in range(MAESTRO.labels)}
FINGERPRINT = "0123456789abcdef"


def make_folder(folder: Path, gigabytes: float, dim: int) -> None:
    """Write an embeddings folder of about this size, one clip at a time."""
    clips = max(1, round(gigabytes * 1e9 / (4 * dim * MAESTRO.frames * len(FOLDS))))
    folder.mkdir(parents=True)
    metadata = {
        "task_name": "maestro",
        "embedding_type": "event",
        "prediction_type": "multilabel",
        "split_mode": "presplit_kfold",
        "splits": FOLDS,
        "evaluation": ["event_onset_50ms_fms", "event_onset_offset_50ms_20perc_fms"],
        "use_scoring_for_early_stopping": False,
        "evaluation_params": {
            "event_postprocessing_grid": {"median_filter_ms": [150], "min_duration": [50]},
            "task_specific_param_grid": {"hidden_layers": [1], "max_epochs": [1]},
        },
    }
    files.write_json(folder / layout.TASK_METADATA, metadata)
    files.write_json(folder / files.MANIFEST, {"fingerprint": FINGERPRINT, "arrays": []})
    rows = "".join(f"{index},{label}\n" for label, index in LABELS.items())
    (folder / layout.VOCABULARY).write_text("idx,label\n" + rows)
    rng = np.random.default_rng(0)
    for fold in FOLDS:
        make_fold(folder, fold, dataclasses.replace(MAESTRO, clips=clips), dim, rng)
    os.sync()


def make_fold(
    folder: Path, fold: str, case: events.Case, dim: int, rng: np.random.Generator, strength: float = 4
) -> None:
    """Write the files of one fold; a label that sounds adds its strength to the noise of its dimension."""
    times_ms = ((np.arange(case.frames) + 0.5) * events.HOP_MS).astype(np.float32)
    np.save(folder / layout.split_timestamps(fold), np.tile(times_ms, (case.clips, 1)))
    notes = events.draw_events(case, rng)
    labels = {f"{fold}_{clip}.wav": list_events(notes, clip) for clip in range(case.clips)}
    files.write_json(folder / layout.split_json(fold), labels)
    shape = (case.clips, case.frames, dim)
    array = np.lib.format.open_memmap(folder / layout.split_array(fold), "w+", np.float32, shape)
    active = label_frames(notes, np.tile(times_ms.astype(np.float64), (case.clips, 1)), case.labels)
    for clip in range(case.clips):
        array[clip] = rng.standard_normal((case.frames, dim), dtype=np.float32)
        array[clip, :, : case.labels] += strength * active[clip, :, :dim]
    array.flush()


def list_events(notes: EventTable, clip: int) -> list[dict[str, Any]]:
    """Return the events of a clip in the form of a split's JSON file."""
    events_of_clip = notes.select(notes.clip == clip)
    return [
        {"label": str(label), "start": start, "end": end}
        for label, start, end in zip(
            events_of_clip.label,
            events_of_clip.onset_ms.tolist(),
            events_of_clip.offset_ms.tolist(),
            strict=True,
        )
    ]


def train(folder: Path, epochs: int, *, in_memory: bool, cold: bool = False) -> None:
    """Train one grid point on three folds; wait for an input line before each epoch and print its seconds."""
    task = read_task(folder)
    splits = read_splits(find_kind(task), CPU, in_memory=in_memory)
    loss = functional.binary_cross_entropy_with_logits
    objective = Objective(loss, lambda logits: Validation(0.0), Criterion("loss", maximise=False))
    settings = Settings(1, 1e-3, "xavier_uniform", max_epochs=epochs, check_val_every_n_epoch=epochs)

    def begin() -> float:
        if cold:
            drop_from_page_cache([split.x for split in splits.values()])
        if not sys.stdin.readline():
            raise SystemExit("standard input was closed before the epoch")
        return time.perf_counter()

    began = begin()

    def progress(done: int, total: int) -> None:
        nonlocal began
        report_number(time.perf_counter() - began)
        began = begin() if done < total else math.nan

    parts, valid_x = [splits[fold] for fold in FOLDS[:3]], splits[FOLDS[3]].x[:1]
    training = Training(tuple(parts), valid_x, settings, objective, seed=0)
    fit_stack([training], len(task.labels), order="fixed", progress=progress)


def drop_from_page_cache(rows: list[Any]) -> None:
    """Remove the pages of arrays on disk from the page cache."""
    for stored in rows:
        if isinstance(stored, StoredRows) and isinstance(stored.array, np.memmap):
            mapped: Any = stored.array
            mapped._mmap.madvise(mmap.MADV_DONTNEED)
            with open(mapped.filename, "rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def evaluate(folder: Path) -> None:
    """Run a whole evaluation from disk, one grid point and five rounds of one epoch; print its seconds."""
    began = time.perf_counter()
    result = evaluate_folder(folder, Protocol(grid_points=1, device="cpu"), in_memory=False)
    write_results(folder, result, FINGERPRINT, FINGERPRINT)
    report_number(time.perf_counter() - began)


def report_number(number: float) -> None:
    """Print a number on a line for the parent process."""
    print(number, flush=True)  # noqa: T201


def report_peak(work: Callable[[], None]) -> None:
    """Do the work, then print the peak private memory of this process in bytes."""
    peak, is_done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_done.wait(0.01):
            peak = max(peak, read_private_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        is_done.set()
        watcher.join()
    report_number(peak)


def read_private_bytes() -> int:
    """Return the memory of this process that is not backed by a file, in bytes."""
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) << 10 for line in stream if line.startswith("RssAnon"))


WAYS: dict[str, Callable[[Path, int], None]] = {
    "disk": lambda folder, epochs: train(folder, epochs, in_memory=False),
    "cold disk": lambda folder, epochs: train(folder, epochs, in_memory=False, cold=True),
    "memory": lambda folder, epochs: train(folder, epochs, in_memory=True),
    "whole": lambda folder, epochs: evaluate(folder),
}


class Child:
    """A separate process that runs one of the ways."""

    def __init__(self, way: str, folder: Path, epochs: int) -> None:
        words = ["--where", str(folder), "--epochs", str(epochs), "--way", way]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.memory", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read_number(self, line: str = "") -> float:
        """Send a line that the process may be waiting for, and return the next number that it prints."""
        if self.process.stdin is None or self.process.stdout is None:
            raise SystemExit("the process has no pipes")
        self.process.stdin.write(line)
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def compare(folder: Path, epochs: int, disk: str) -> None:
    """Print median epoch, private memory, and ratio of speeds of training from disk and in memory."""
    children = {way: Child(way, folder, epochs) for way in (disk, "memory")}
    turns = [{way: each.read_number("\n") for way, each in children.items()} for _ in range(epochs)][1:]
    for way, each in children.items():
        seconds = statistics.median(turn[way] for turn in turns)
        print(f"{way:10} {seconds:8.2f} s per epoch, {each.read_number() / 1e6:6.0f} MB private memory")  # noqa: T201
    ratios = sorted(turn["memory"] / turn[disk] for turn in turns)
    spread = f"turns from {ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(f"from {disk}: {statistics.median(ratios):.2f} of the speed in memory; {spread}")  # noqa: T201


def main() -> None:
    """Create the folder, print the measurements, and remove the folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--where", type=Path, required=True, help="A folder that does not exist yet.")
    parser.add_argument("--gb", type=float, default=7.3)
    parser.add_argument("--dim", type=int, default=4096)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--way", choices=list(WAYS), help="Run only this way, in an existing folder.")
    given = parser.parse_args()
    if given.way:
        report_peak(lambda: WAYS[given.way](given.where, given.epochs))
        return
    make_folder(given.where, given.gb, given.dim)
    try:
        if given.whole:
            whole = Child("whole", given.where, given.epochs)
            seconds, peak_mb = whole.read_number(), whole.read_number() / 1e6
            print(f"evaluated in {seconds:.0f} s, {peak_mb:.0f} MB private memory")  # noqa: T201
        else:
            compare(given.where, given.epochs, "cold disk" if given.cold else "disk")
    finally:
        shutil.rmtree(given.where)


if __name__ == "__main__":
    main()
