"""The ways of preparing clips that are compared, each a command: `python -m benchmarks.ways WAY ...`.

All read the same sounds, write every rate and pack a tar.gz per rate, with as many processes at work.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr
from isal import igzip

from heareval.spec import DEFAULT_SAMPLE_RATES
from heareval.tasks.ffmpeg_command import find_ffmpeg

TASK = "noises"
SUFFIXES = (".wav", ".flac", ".mp3")


def sounds_of(folder: Path, count: int) -> list[Path]:
    """The first sounds of a folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)[:count]


def heareval(folder: Path, out: Path, count: int, workers: int) -> None:
    """The pipeline as its users run it, on a task of one's own."""
    words = ["prepare", str(folder / f"{TASK}.toml"), "--num-workers", str(workers), "--force"]
    subprocess.run([sys.executable, "-m", "heareval.cli", *words], cwd=out, check=True, capture_output=True)


def kit_of_2021(folder: Path, out: Path, count: int, workers: int) -> None:
    """For every file and rate a probe, ffmpeg and a probe again; then the standard library's tar.gz."""
    _convert_and_pack(_probe_convert_probe, sounds_of(folder, count), out, workers)


def _probe_convert_probe(out: Path, sound: Path) -> None:
    for rate in DEFAULT_SAMPLE_RATES:
        target = out / str(rate) / f"{sound.stem}.wav"
        subprocess.run(_probe(sound), check=False, capture_output=True)
        _ffmpeg("-i", str(sound), *_output(rate, target))
        subprocess.run(_probe(target), check=False, capture_output=True)


def _probe(path: Path) -> list[str]:
    """ffprobe, or where there is none ffmpeg told to do nothing, which reads and tells the same."""
    program = shutil.which("ffprobe")
    return [program or find_ffmpeg(), "-hide_banner", "-i", str(path)]


def ffmpeg_per_file(folder: Path, out: Path, count: int, workers: int) -> None:
    """One ffmpeg process per file with all rates as outputs; then the standard library's tar.gz."""
    _convert_and_pack(_convert_at_once, sounds_of(folder, count), out, workers)


def _convert_at_once(out: Path, sound: Path) -> None:
    words = ["-i", str(sound)]
    for rate in DEFAULT_SAMPLE_RATES:
        words += _output(rate, out / str(rate) / f"{sound.stem}.wav")
    _ffmpeg(*words)


def _output(rate: int, target: Path) -> list[str]:
    options = {"-af": "aresample=resampler=soxr", "-ar": str(rate), "-ac": "1", "-acodec": "pcm_s16le"}
    return [*(word for option in options.items() for word in option), str(target)]


def _ffmpeg(*words: str) -> None:
    # A decoder of one thread: as many processes are at work as there are cores.
    subprocess.run([find_ffmpeg(), "-v", "error", "-y", "-nostdin", "-threads", "1", *words], check=True)


def _convert_and_pack(
    convert: Callable[[Path, Path], None], sounds: Sequence[Path], out: Path, workers: int
) -> None:
    for rate in DEFAULT_SAMPLE_RATES:
        (out / str(rate)).mkdir()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(partial(convert, out), sounds))
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(partial(_pack, out), DEFAULT_SAMPLE_RATES))


def _pack(out: Path, rate: int) -> None:
    with tarfile.open(out / f"{rate}.tar.gz", "w:gz") as tar:
        tar.add(out / str(rate), arcname=str(rate))


def bare_loop(folder: Path, out: Path, count: int, workers: int) -> None:
    """Nothing but read, resample, write and compress: no graph, no checks, no names, no tar members."""
    sounds = sounds_of(folder, count)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(partial(_bare, out), (sounds[i::workers] for i in range(workers))))


def _bare(out: Path, sounds: Sequence[Path]) -> None:
    streams = {
        rate: igzip.open(out / f"{sounds[0].stem}-{rate}.gz", "wb", 1) for rate in DEFAULT_SAMPLE_RATES
    }
    for sound in sounds:
        samples, rate = soundfile.read(sound, dtype="float32")
        mono = samples if samples.ndim == 1 else samples.mean(axis=1)
        for target, stream in streams.items():
            wave = mono if target == rate else soxr.resample(mono, rate, target, quality="HQ")
            data = np.clip(wave * 32768, -32768, 32767).astype("<i2").tobytes()
            (out / f"{target}-{sound.stem}.wav").write_bytes(data)
            stream.write(data)
    for stream in streams.values():
        stream.close()


WAYS: dict[str, Callable[[Path, Path, int, int], None]] = {
    "heareval": heareval,
    "2021": kit_of_2021,
    "ffmpeg": ffmpeg_per_file,
    "bare": bare_loop,
}


def main() -> None:
    """Prepare the sounds of a folder in one way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=list(WAYS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("workers", type=int)
    given = parser.parse_args()
    WAYS[given.way](given.folder, given.out, given.count, given.workers)


if __name__ == "__main__":
    main()
