"""Compare distances in blocks with scipy.spatial.distance.cdist, and measure what ranking adds.

python -m benchmarks.pairwise --scale 0.1 --turns 3

The cases are whole at --scale 1; smaller scales take this share of the queries, and of the clips of all
pairs. cdist gets arrays in memory; heareval reads its gallery from a memory-mapped file. Memory is the peak
of the process before cdist runs, mapped pages included.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.distance import cdist

from heareval.predictions.distances import ClipEmbeddings, iterate_distances, iterate_pairs
from heareval.predictions.ranking import rank_queries

# Name -> queries, gallery, dimensions; no queries: all pairs of the gallery.
CASES = {
    "large gallery": (2000, 40_000, 4096),
    "all pairs": (0, 7438, 1024),
    "ABX": (2500, 2500, 1024),
}


def time_work(work: Callable[[], object]) -> float:
    """Return the seconds that the work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


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


def read_peak_mb() -> int:
    """Return the peak resident memory of this process."""
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) // 1024 for line in stream if line.startswith("VmHWM"))


def exhaust(blocks: object) -> None:
    """Compute all blocks, one after the other."""
    for _ in blocks:  # type: ignore[attr-defined]
        pass


def compare(name: str, scale: float, turns: int, folder: Path, device: torch.device) -> None:
    """Print the seconds of heareval, and how much longer cdist and the ranking take."""
    queries, gallery, dim = CASES[name]
    clips = open_clips(folder / f"{dim}-{gallery}.npy", gallery if queries else int(gallery * scale), dim)
    chosen = clips.select(np.arange(max(1, int(queries * scale)))) if queries else clips
    labels = np.arange(len(clips)) % 50

    def measure() -> None:
        if queries:
            exhaust(iterate_distances(chosen, clips, "l1", device=device))
        else:
            exhaust(iterate_pairs(clips, "l1", device=device))

    def rank() -> None:
        rank_queries(
            chosen,
            clips,
            "l1",
            lambda rows: np.arange(rows.start, rows.stop)[:, None] != np.arange(len(clips)),
            lambda rows: labels[rows, None] == labels,
            device=device,
        )

    ours = [time_work(measure) for _ in range(turns)]
    ranked = [time_work(rank) for _ in range(turns)] if queries else []
    peak_mb = read_peak_mb()
    line = f"{name} on {device}: {statistics.median(ours):.2f} s, peak {peak_mb:.0f} MB"
    if ranked:
        line += f"; with ranking {statistics.median(ranked) / statistics.median(ours):.2f} x"
    first, second = np.array(chosen.array[: len(chosen)]), np.array(clips.array)
    scipys = [time_work(lambda: cdist(first, second, "cityblock")) for _ in range(turns)]
    print(f"{line}; cdist takes {statistics.median(scipys) / statistics.median(ours):.2f} x")  # noqa: T201


def main() -> None:
    """Print one line for each case and device; run one case per process for its own peak memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--where", type=Path, help="An existing folder for files of up to 655 MB.")
    given = parser.parse_args()
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    with tempfile.TemporaryDirectory(dir=given.where) as folder:
        for name in given.case or CASES:
            for device in devices:
                compare(name, given.scale, given.turns, Path(folder), torch.device(device))


if __name__ == "__main__":
    main()
