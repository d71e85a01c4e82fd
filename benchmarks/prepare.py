"""Preparing clips: ours against one ffmpeg process per clip, and against the bare loop that is the limit.

python -m benchmarks.prepare [--clips 300] [--runs 5]

Every way reads the same one-second 44.1 kHz clips, writes them at four rates and packs a tar.gz per rate, in
one process at a time and in turn (A B C A B C ...), so that a machine whose speed drifts treats all alike.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
from isal import igzip

from heareval.spec import DEFAULT_SAMPLE_RATES, Recording
from heareval.tasks import archive, audio

SOURCE_RATE = 44100


def silent(done: int, total: int) -> None:
    """Progress that nobody watches."""


def make_clips(folder: Path, count: int) -> list[Path]:
    """One-second noises with a decay, 16 bit mono."""
    folder.mkdir()
    draw, decay = np.random.RandomState(0), np.exp(-np.arange(SOURCE_RATE) / 9000)
    paths = [folder / f"{i:05d}.wav" for i in range(count)]
    for path in paths:
        soundfile.write(path, draw.uniform(-0.7, 0.7, SOURCE_RATE) * decay, SOURCE_RATE, subtype="PCM_16")
    return paths


def ours(clips: list[Path], out: Path) -> None:
    """The pipeline's own functions."""
    recordings = [Recording(path, path.stem) for path in clips]
    audio.prepare_clips(recordings, out, audio.AudioSettings(DEFAULT_SAMPLE_RATES, 1.0), silent)
    for rate in DEFAULT_SAMPLE_RATES:
        archive.pack(out, rate, out.parent / "tars" / f"{rate}.tar.gz", silent)


def ffmpeg_per_clip(clips: list[Path], out: Path) -> None:
    """One ffmpeg process per clip with all rates as outputs, then tar and gzip of the standard library."""
    for rate in DEFAULT_SAMPLE_RATES:
        (out / str(rate)).mkdir(parents=True)
    for clip in clips:
        command = [audio.ffmpeg_program(), "-v", "error", "-y", "-nostdin", "-i", str(clip)]
        for rate in DEFAULT_SAMPLE_RATES:
            chain = "aresample=resampler=soxr,apad=whole_dur=1,atrim=end=1"
            command += ["-af", chain, "-ar", str(rate), "-ac", "1", "-acodec", "pcm_s16le"]
            command.append(str(out / str(rate) / clip.name))
        subprocess.run(command, check=True)
    for rate in DEFAULT_SAMPLE_RATES:
        with tarfile.open(out / f"{rate}.tar.gz", "w:gz") as tar:
            tar.add(out / str(rate), arcname=str(rate))


def bare_loop(clips: list[Path], out: Path) -> None:
    """Nothing but read, resample, write and compress; no rounding, no headers, no tar members."""
    out.mkdir()
    streams = {rate: igzip.open(out / f"{rate}.gz", "wb", 1) for rate in DEFAULT_SAMPLE_RATES}
    for clip in clips:
        samples, rate = soundfile.read(clip, dtype="float32")
        for target, stream in streams.items():
            wave = samples if target == rate else soxr.resample(samples, rate, target, quality="HQ")
            data = (wave * 32767).astype("<i2").tobytes()
            (out / f"{target}-{clip.name}").write_bytes(data)
            stream.write(data)
    for stream in streams.values():
        stream.close()


WAYS: dict[str, Callable[[list[Path], Path], None]] = {
    "heareval": ours,
    "one ffmpeg per clip": ffmpeg_per_clip,
    "bare loop": bare_loop,
}


def measure(clips: list[Path], folder: Path, runs: int) -> dict[str, list[float]]:
    """Seconds of each way, `runs` times in turn after one warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for run in range(runs + 1):
        for name, way in WAYS.items():
            started = time.perf_counter()
            way(clips, folder / "out")
            if run:
                seconds[name].append(time.perf_counter() - started)
            for path in (folder / "out", folder / "tars"):
                shutil.rmtree(path, ignore_errors=True)
    return seconds


def main() -> None:
    """Measure and print a table row for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = make_clips(Path(folder) / "clips", given.clips)
        seconds = measure(clips, Path(folder), given.runs)
    for name, measured in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(measured, seconds["heareval"], strict=True))
        per_clip = statistics.median(measured) / given.clips * 1000
        print(f"{name:20s} {per_clip:8.2f} ms a clip   {ratio:6.2f} x heareval's time")  # noqa: T201


if __name__ == "__main__":
    main()
