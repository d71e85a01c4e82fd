"""The ways of preparing clips that benchmarks.prepare compares: `python -m benchmarks.ways WAY ...`.

All of them read the same audio files, write every sample rate and pack one tar.gz per rate, with the same
number of processes.
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


def list_sounds(folder: Path, count: int) -> list[Path]:
    """Return the first audio files of a folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)[:count]


def run_heareval(folder: Path, out: Path, count: int, workers: int) -> None:
    """Run `heareval prepare` on a task defined by a TOML file."""
    words = ["prepare", str(folder / f"{TASK}.toml"), "--num-workers", str(workers), "--force"]
    subprocess.run([sys.executable, "-m", "heareval", *words], cwd=out, check=True, capture_output=True)


def run_2021_kit(folder: Path, out: Path, count: int, workers: int) -> None:
    """Run a probe, ffmpeg and a second probe for every file and rate; pack with the standard library."""
    _convert_and_pack(_probe_convert_probe, list_sounds(folder, count), out, workers)


def _probe_convert_probe(out: Path, sound: Path) -> None:
    for rate in DEFAULT_SAMPLE_RATES:
        target = out / str(rate) / f"{sound.stem}.wav"
        subprocess.run(_probe_words(sound), check=False, capture_output=True)
        _run_ffmpeg("-i", str(sound), *_output_words(rate, target))
        subprocess.run(_probe_words(target), check=False, capture_output=True)


def _probe_words(path: Path) -> list[str]:
    """Return the command of ffprobe or, without one, of `ffmpeg -i`, which reads and prints the same."""
    program = shutil.which("ffprobe")
    return [program or find_ffmpeg(), "-hide_banner", "-i", str(path)]


def run_ffmpeg_per_file(folder: Path, out: Path, count: int, workers: int) -> None:
    """Run one ffmpeg process per file with all rates as outputs; pack with the standard library."""
    _convert_and_pack(_convert_at_once, list_sounds(folder, count), out, workers)


def _convert_at_once(out: Path, sound: Path) -> None:
    words = ["-i", str(sound)]
    for rate in DEFAULT_SAMPLE_RATES:
        words += _output_words(rate, out / str(rate) / f"{sound.stem}.wav")
    _run_ffmpeg(*words)


def _output_words(rate: int, target: Path) -> list[str]:
    options = {"-af": "aresample=resampler=soxr", "-ar": str(rate), "-ac": "1", "-acodec": "pcm_s16le"}
    return [*(word for option in options.items() for word in option), str(target)]


def _run_ffmpeg(*words: str) -> None:
    # One thread per decoder, because there are as many processes as cores.
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


def run_bare_loop(folder: Path, out: Path, count: int, workers: int) -> None:
    """Only read, resample, write and compress: no graph, no checks, no clip names, no tar members."""
    sounds = list_sounds(folder, count)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(partial(_convert_bare, out), (sounds[i::workers] for i in range(workers))))


def _convert_bare(out: Path, sounds: Sequence[Path]) -> None:
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
    "heareval": run_heareval,
    "2021": run_2021_kit,
    "ffmpeg": run_ffmpeg_per_file,
    "bare": run_bare_loop,
}


def main() -> None:
    """Prepare the audio files of a folder in one way."""
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
