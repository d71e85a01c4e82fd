"""Compare unpacking a whole archive with scanning it and unpacking only the audio files that are used.

python -m benchmarks.unpack [--sounds 30000] [--wanted 500] [--runs 3]

The archive resembles a tenth of nsynth: notes of four seconds at 16 kHz in folders with a JSON file, of
which a mode uses one in sixty. The two ways alternate.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from isal import igzip

from heareval.archives.unpack import parts
from heareval.archives.unpack.extract import extract

NOTE_BYTES = 128_044
NOTES = 500  # how many notes differ


def make_members(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each member; the notes decay, so that they compress to two thirds."""
    rng, decay = np.random.RandomState(0), np.exp(-np.arange(NOTE_BYTES // 2) / 16000)
    wave = rng.uniform(-20000, 20000, (NOTES, NOTE_BYTES // 2)) * decay
    notes = [note.astype("<i2").tobytes() for note in wave]
    yield "notes/examples.json", b"{}" * (count * 300)
    for i in range(count):
        yield f"notes/audio/{i:06d}.wav", notes[i % NOTES]


def make_archives(folder: Path, count: int) -> list[Path]:
    """Write the same notes as .tar.gz and as .zip, and return the paths of both."""
    packed, zipped = folder / "notes.tar.gz", folder / "notes.zip"
    with igzip.open(packed, "wb", 1) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in make_members(count):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        for name, content in make_members(count):
            out.writestr(name, content)
    return [packed, zipped]


def ignore_progress(done: int, total: int) -> None:
    """Ignore progress."""


def whole(archive: Path, out: Path, wanted: set[str]) -> None:
    """Unpack everything."""
    extract(archive, out, ignore_progress)


def some(archive: Path, out: Path, wanted: set[str]) -> None:
    """Unpack everything except audio files, then the audio files that are wanted."""
    parts.scan(archive, out / "scanned", ignore_progress, headers=False)
    parts.extract_some(archive, out / "some", wanted, ignore_progress)


def disk_bytes(folder: Path) -> int:
    """Return the disk space that a folder takes."""
    return 1024 * int(
        subprocess.run(["du", "-sk", folder], capture_output=True, check=True).stdout.split()[0]
    )


def main() -> None:
    """Print the median times, the disk space and the ratio of times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sounds", type=int, default=30_000)
    parser.add_argument("--wanted", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    step = given.sounds // given.wanted
    wanted = {f"notes/audio/{i:06d}.wav" for i in range(0, given.sounds, step)}
    with tempfile.TemporaryDirectory() as name:
        for archive in make_archives(Path(name), given.sounds):
            seconds: dict[str, list[float]] = {"whole": [], "some": []}
            size = {}
            for _ in range(given.runs):
                for way in (whole, some):
                    out = Path(name) / "out"
                    started = time.perf_counter()
                    way(archive, out, wanted)
                    seconds[way.__name__].append(time.perf_counter() - started)
                    size[way.__name__] = disk_bytes(out)
                    shutil.rmtree(out)
            ratio = statistics.median(a / b for a, b in zip(seconds["whole"], seconds["some"], strict=True))
            results = (f"{w} {statistics.median(seconds[w]):.1f} s, {size[w] / 1e9:.2f} GB" for w in seconds)
            sys.stdout.write(f"{archive.name}: {'; '.join(results)}; whole takes {ratio:.1f} x the time\n")


if __name__ == "__main__":
    main()
