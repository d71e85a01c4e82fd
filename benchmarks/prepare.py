"""Compare ways of preparing clips: heareval, the 2021 kit, one ffmpeg process per file, and a bare loop.

python -m benchmarks.prepare                  # short and long clips, every way
python -m benchmarks.prepare --scaling        # heareval on 500, 2,000 and 8,000 clips with 1 and 2 workers

Whole processes are measured. The ways (benchmarks/ways.py) alternate (A B C D A B C D ...), so that a drift
in the machine's speed affects all of them equally. A ratio compares times of the same turn; the median over
all turns is printed. The slow ways get fewer files of the same kind, and their times are scaled to the
number of files.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.ways import TASK

SHORT_RATE, LONG_RATE, LONG_S = 44100, 48000, 30
# Number of files for the ways that take seconds per file.
FEW_SHORT, FEW_LONG = {"2021": 40, "ffmpeg": 200}, {"2021": 4, "ffmpeg": 20}


@dataclass(frozen=True)
class Times:
    """Seconds of each turn for all files of a kind, and the peak memory of the largest process in MB."""

    seconds: list[float]
    peak_mb: list[float]


def make_short(folder: Path, count: int) -> Path:
    """Write one-second clips of decaying noise, 16-bit mono, as a task with two classes."""
    rng, decay = np.random.RandomState(0), np.exp(-np.arange(SHORT_RATE) / 9000)
    for i in range(count):
        path = _sound_path(folder, i, "wav")
        soundfile.write(path, rng.uniform(-0.7, 0.7, SHORT_RATE) * decay, SHORT_RATE, subtype="PCM_16")
    return _add_task(folder)


def make_long(folder: Path, count: int) -> Path:
    """Write stereo clips of thirty seconds, mp3 and flac, as a task with two classes."""
    rng, times = np.random.RandomState(0), np.arange(LONG_RATE * LONG_S) / LONG_RATE
    for i in range(count):
        tone = np.sin(2 * np.pi * rng.uniform(100, 4000) * times)
        wave = 0.3 * tone[:, None] + rng.uniform(-0.1, 0.1, (len(times), 2))
        soundfile.write(_sound_path(folder, i, "mp3" if i % 4 < 2 else "flac"), wave, LONG_RATE)
    return _add_task(folder)


def _sound_path(folder: Path, number: int, suffix: str) -> Path:
    path = folder / "sounds" / "ab"[number % 2] / f"{number:05d}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _add_task(folder: Path) -> Path:
    words = [sys.executable, "-m", "heareval", "tasks", "new", TASK, "--folder", "sounds"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return folder


def run_once(way: str, folder: Path, count: int, workers: int) -> tuple[float, float]:
    """Run a way as a whole process; return its seconds and the peak memory of its largest process in MB.

    The output is kept until the end: for some minutes, ext4 skips the inodes of deleted files one by one, so
    that the next process that creates many files would be slower.
    """
    out = tempfile.mkdtemp(dir=folder.parent)
    words = [sys.executable, "-m", "benchmarks.ways", way, str(folder), out, str(count), str(workers)]
    started = time.perf_counter()
    process = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{way} failed")
    return time.perf_counter() - started, usage.ru_maxrss / 1000


def measure(
    folder: Path, count: int, few: Mapping[str, int], ways: Sequence[str], given: argparse.Namespace
) -> dict[str, Times]:
    """Measure all ways in turn, `--runs` times, after one warm-up of all but the slow ones."""
    times = {way: Times([], []) for way in ways}
    for turn in range(given.runs + 1):
        for way in ways:
            files = min(few.get(way, count), count)
            if turn or way not in few:
                seconds, peak_mb = run_once(way, folder, files, given.workers)
            if turn:
                times[way].seconds.append(seconds * count / files)
                times[way].peak_mb.append(peak_mb)
    return times


def show(title: str, count: int, times: Mapping[str, Times]) -> None:
    """Print one line for each way."""
    print(title)  # noqa: T201
    for way, measured in times.items():
        ratios = [a / b for a, b in zip(measured.seconds, times["heareval"].seconds, strict=True)]
        seconds = statistics.median(measured.seconds)
        print(  # noqa: T201
            f"  {way:10s} {seconds:8.2f} s, {seconds / count * 1000:8.2f} ms per file, "
            f"{statistics.median(ratios):7.2f} x heareval's time ({min(ratios):.2f} to {max(ratios):.2f}), "
            f"largest process {max(measured.peak_mb):.0f} MB"
        )


def show_scaling(folder: Path, runs: int) -> None:
    """Print the times of heareval for increasing numbers of clips, with one worker and with two."""
    counts, workers = (500, 2000, 8000), (1, 2)
    folders = {count: make_short(folder / str(count), count) for count in counts}
    seconds: dict[tuple[int, int], list[float]] = {(c, w): [] for c in counts for w in workers}
    for _ in range(runs):
        for (count, several), measured in seconds.items():
            measured.append(run_once("heareval", folders[count], count, several)[0])
    for (count, several), measured in seconds.items():
        median = statistics.median(measured)
        per_clip = median / count * 1000
        print(f"{count:6d} clips, {several} workers: {median:7.2f} s, {per_clip:6.2f} ms per clip")  # noqa: T201


def main() -> None:
    """Measure and print the times of all ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", type=int, default=2000, help="number of one-second clips; 0 skips them")
    parser.add_argument("--long", type=int, default=60, help="number of 30 s clips; 0 skips them")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ways", default="heareval,bare,ffmpeg,2021")
    parser.add_argument("--scaling", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, ways = Path(name), given.ways.split(",")
        if given.scaling:
            show_scaling(folder, given.runs)
            return
        if given.short:
            made = make_short(folder / "short", given.short)
            show(
                f"{given.short} one-second clips",
                given.short,
                measure(made, given.short, FEW_SHORT, ways, given),
            )
        if given.long:
            made = make_long(folder / "long", given.long)
            show(f"{given.long} clips of 30 s", given.long, measure(made, given.long, FEW_LONG, ways, given))


if __name__ == "__main__":
    main()
