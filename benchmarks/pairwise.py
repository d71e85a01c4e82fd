"""Compare distances in blocks with scipy.spatial.distance.cdist, and measure whole pairwise tasks.

python -m benchmarks.pairwise --scale 0.1 --turns 3
python -m benchmarks.pairwise --case "large gallery" --scale 1 --turns 1 --no-cdist
python -m benchmarks.pairwise --tasks

The cases are whole at --scale 1; smaller scales take this share of the queries, and of the clips of all
pairs. cdist gets float64 arrays in memory; heareval reads its gallery from a memory-mapped file of float32.
--tasks evaluates embeddings folders of the size of real tasks, from reading to results with intervals.

Each case runs in a separate process. Memory is the peak before cdist runs, Python and torch included: the
resident memory (VmHWM), which counts mapped pages of the page cache, and the anonymous memory (RssAnon,
looked at every few milliseconds), which the kernel can't reclaim.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.distance import cdist

from heareval import files, layout
from heareval.formats.relations import write_relation
from heareval.predictions.distances import (
    SCIPY_NAMES,
    ClipEmbeddings,
    iterate_distances,
    iterate_pairs,
)
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.protocol import DISTANCES, Distance, Protocol
from heareval.predictions.ranking import rank_queries
from heareval.predictions.worker import ENVIRONMENT
from heareval.predictions.writing import write_results
from heareval.spec import Abx, Relation, Retrieval, SameDifferent

# Name -> queries, gallery, dimensions; no queries: all pairs of the gallery.
CASES = {
    "large gallery": (2000, 40_000, 4096),
    "all pairs": (0, 7438, 1024),
    "square": (2500, 2500, 1024),
}
FINGERPRINT = "0123456789abcdef"


@dataclass(frozen=True)
class TaskSize:
    """A pairwise task of the size of a real one.

    Args:
        relation: its relation, made of the attributes "label", "group" and "role".
        labels: number of labels; clip i has label i % labels.
        groups: number of groups, such as speakers; clip i has group i // labels % groups.
        gallery: number of clips that are only searched; 0 means that every clip is both.
    """

    relation: Relation
    metrics: tuple[str, ...]
    clips: int
    labels: int
    groups: int
    gallery: int = 0


TASKS = {
    "vocal_imitation_retrieval": TaskSize(
        Retrieval("label", role="role", unit="group"),
        ("mrr", "recall_at_1", "recall_at_10"),
        clips=5601 + 302,
        labels=302,
        groups=248,
        gallery=302,
    ),
    "mridangam_stroke_retrieval": TaskSize(
        Retrieval("label", differ=("group",)), ("map_at_r", "precision_at_1"), clips=6977, labels=10, groups=5
    ),
    "tfds_crema_d_same_emotion": TaskSize(
        SameDifferent("label", ("group",), "group"),
        ("pair_auc", "pair_eer", "pair_ap"),
        clips=7438,
        labels=6,
        groups=91,
    ),
    "spoken_digit_abx": TaskSize(Abx("label", "group"), ("abx_error",), clips=2500, labels=10, groups=5),
}


@dataclass
class PeakMemory:
    """Peaks of this process's memory in MB."""

    anonymous: int = 0
    resident: int = 0


@contextmanager
def watch_memory() -> Iterator[PeakMemory]:
    """Yield the peaks of this process, which are known when the block ends."""
    peak, is_over = PeakMemory(), threading.Event()

    def watch() -> None:
        while not is_over.wait(0.003):
            peak.anonymous = max(peak.anonymous, read_memory_mb("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        is_over.set()
        watcher.join()
        peak.resident = read_memory_mb("VmHWM")


def read_memory_mb(field: str) -> int:
    """Return a field of /proc/self/status."""
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) // 1024 for line in stream if line.startswith(field))


@dataclass(frozen=True)
class Took:
    """What work takes: seconds, and seconds of all cores together, which other processes hardly change."""

    seconds: float
    core_seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s ({self.core_seconds:.2f} core-seconds)"

    def compare(self, other: Took) -> str:
        """Return how many times as much this takes."""
        in_core_seconds = self.core_seconds / other.core_seconds
        return f"{self.seconds / other.seconds:.2f} x ({in_core_seconds:.2f} x the core-seconds)"


def time_work(work: Callable[[], object], turns: int = 1) -> Took:
    """Return the median of what the work takes."""
    took = []
    for _ in range(turns):
        began = time.perf_counter(), time.process_time()
        work()
        took.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return Took(*(statistics.median(each) for each in zip(*took, strict=True)))


def open_clips(path: Path, count: int, dim: int) -> ClipEmbeddings:
    """Write random embeddings, a few at a time, and return them memory-mapped."""
    rng = np.random.default_rng(0)
    with path.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, dim)}
        np.lib.format.write_array_header_1_0(stream, header)
        # Not through a memory map: its pages would count towards the peak.
        for start in range(0, count, 1000):
            rng.standard_normal((min(1000, count - start), dim), np.float32).tofile(stream)
    names = tuple(f"{number:06}.wav" for number in range(count))
    return ClipEmbeddings(np.load(path, mmap_mode="r"), np.arange(count), names)


def exhaust(blocks: object) -> None:
    """Compute all blocks, one after the other."""
    for _ in blocks:  # type: ignore[attr-defined]
        pass


def compare(
    name: str,
    distance: Distance,
    scale: float,
    turns: int,
    folder: Path,
    device: torch.device,
    has_cdist: bool,
) -> None:
    """Print the seconds of heareval, and how much longer cdist and the ranking take."""
    queries, gallery, dim = CASES[name]
    clips = open_clips(folder / f"{dim}-{gallery}.npy", gallery if queries else int(gallery * scale), dim)
    chosen = clips.select(np.arange(max(1, int(queries * scale)))) if queries else clips
    labels = np.arange(len(clips)) % 50

    def measure() -> None:
        if queries:
            exhaust(iterate_distances(chosen, clips, distance, device=device))
        else:
            exhaust(iterate_pairs(clips, distance, device=device))

    def rank() -> None:
        rank_queries(
            chosen,
            clips,
            distance,
            lambda rows: np.arange(rows.start, rows.stop)[:, None] != np.arange(len(clips)),
            lambda rows: labels[rows, None] == labels,
            device=device,
        )

    with watch_memory() as peak:
        ours = time_work(measure, turns)
        ranked = time_work(rank, turns) if queries else None
    line = f"{name}, {distance}, {device}: {ours}, {describe_peak(peak)}"
    line += f"; with ranking {ranked.compare(ours)}" if ranked else ""
    if has_cdist:
        # Converted beforehand: cdist is a third slower if it has to convert float32.
        first, second = np.array(chosen.array[: len(chosen)], float), np.array(clips.array, float)
        scipy_name = "cosine" if distance == "cosine" else SCIPY_NAMES[distance]
        line += f"; cdist takes {time_work(lambda: cdist(first, second, scipy_name), turns).compare(ours)}"
    print(line)  # noqa: T201


def make_task(name: str, dim: int, folder: Path) -> None:
    """Write an embeddings folder of noise that is of the size of a task."""
    size, rng = TASKS[name], np.random.default_rng(0)
    metadata = {
        "task_name": name,
        "version": "v1",
        "mode": "full",
        "embedding_type": "scene",
        "prediction_type": "pairwise",
        "split_mode": "test_only",
        "splits": ["test"],
        "evaluation": size.metrics,
    }
    attributes = {
        f"{clip:06}.wav": {
            "label": str(clip % size.labels),
            "group": str(clip // size.labels % size.groups),
            "role": "gallery" if clip < size.gallery else "query",
        }
        for clip in range(size.clips)
    }
    folder.mkdir()
    files.write_json(folder / layout.TASK_METADATA, metadata)
    files.write_json(folder / files.MANIFEST, {"fingerprint": FINGERPRINT, "arrays": []})
    files.write_json(folder / layout.split_json("test"), attributes)
    write_relation(folder, size.relation)
    np.save(folder / layout.split_array("test"), rng.standard_normal((size.clips, dim), np.float32))


def evaluate_task(name: str, dim: int, folder: Path) -> None:
    """Print the seconds and the memory of a whole evaluation."""

    def evaluate() -> None:
        result = evaluate_folder(folder, Protocol(name="pairwise"))
        write_results(folder, result, "fingerprint", FINGERPRINT)

    with watch_memory() as peak:
        took = time_work(evaluate)
    print(f"{name}, {dim} dimensions: {took}, {describe_peak(peak)}")  # noqa: T201


def describe_peak(peak: PeakMemory) -> str:
    """Return peaks in words."""
    return f"peak {peak.anonymous} MB anonymous, {peak.resident} MB resident"


def run_alone(work: Callable[..., None], *arguments: object) -> None:
    """Do the work in a new process, whose memory is its own and which allocates like the real worker."""
    os.environ.update(ENVIRONMENT)
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def main() -> None:
    """Print one line for each case and distance, or each task, measured in a separate process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--distance", choices=DISTANCES, action="append")
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--no-cdist", action="store_true")
    parser.add_argument("--tasks", action="store_true", help="Evaluate tasks instead of cases.")
    parser.add_argument("--task", choices=list(TASKS), action="append", help="One of --tasks.")
    parser.add_argument("--dim", type=int, action="append", help="Dimensions of --tasks; 1024 by default.")
    parser.add_argument("--where", type=Path, help="An existing folder for files of up to 655 MB.")
    given = parser.parse_args()
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    with tempfile.TemporaryDirectory(dir=given.where) as made:
        folder = Path(made)
        if given.tasks or given.task:
            for name, dim in itertools.product(given.task or TASKS, given.dim or (1024,)):
                run_alone(make_task, name, dim, folder / f"{name}-{dim}")
                run_alone(evaluate_task, name, dim, folder / f"{name}-{dim}")
            return
        for name, distance, device in itertools.product(
            given.case or CASES, given.distance or ("l1",), devices
        ):
            run_alone(
                compare,
                name,
                distance,
                given.scale,
                given.turns,
                folder,
                torch.device(device),
                not given.no_cdist,
            )


if __name__ == "__main__":
    main()
