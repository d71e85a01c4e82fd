"""From a stretch of a source file to 16-bit mono samples of one length at every rate."""

from __future__ import annotations

import functools
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version as version_of
from io import FileIO
from pathlib import Path
from typing import IO, Any, cast

import ffmpeg
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from heareval.errors import HearevalError
from heareval.spec import Progress, Recording

VERSION = 1
ENGINES = ("soxr", "ffmpeg")
QUALITY = "HQ"
# Longer recordings are read, resampled and written in pieces of so many frames.
BLOCK_FRAMES = 1 << 20

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True)
class AudioSettings:
    """How clips are made.

    Args:
        sample_rates: the rates to write, in Hz.
        duration_s: length of every clip; None keeps each clip's own.
        engine: `soxr` resamples in this process, `ffmpeg` in one process per clip.
    """

    sample_rates: tuple[int, ...]
    duration_s: float | None
    engine: str = "soxr"


def prepare_clips(
    clips: Sequence[Recording], folder: Path, settings: AudioSettings, progress: Progress
) -> None:
    """Write `<rate>/<split>/<clip id>.wav` below `folder` for every clip and rate."""
    for rate in settings.sample_rates:
        for split in {clip.split for clip in clips}:
            (folder / str(rate) / split).mkdir(parents=True, exist_ok=True)
    for done, clip in enumerate(clips):
        prepare_clip(clip, folder, settings)
        progress(done + 1, len(clips))


def prepare_clip(clip: Recording, folder: Path, settings: AudioSettings) -> None:
    """Decode once, trim or pad, write every rate."""
    samples, rate = read_mono(clip.path, clip.start_frame, _frames_to_read(clip, settings), floor=clip.floor)
    if settings.duration_s is not None:
        samples = trim_pad(samples, round(settings.duration_s * rate))
    targets = {r: folder / str(r) / clip.split / f"{clip.clip_id}.wav" for r in settings.sample_rates}
    if rate in targets:
        write_wav(targets.pop(rate), samples, rate)
    if settings.engine == "ffmpeg" and targets:
        _resample_with_ffmpeg(samples, rate, targets)
        return
    for target_rate, path in targets.items():
        if len(samples) <= BLOCK_FRAMES:
            write_wav(path, resample(samples, rate, target_rate), target_rate)
        else:
            _write_blocks(path, _resampled_blocks(samples, rate, target_rate), target_rate)


def _frames_to_read(clip: Recording, settings: AudioSettings) -> Callable[[int], int]:
    """How many frames of a source at a given rate can matter; -1 for all."""

    def frames(rate: int) -> int:
        known = [clip.frames] if clip.frames is not None else []
        if settings.duration_s is not None:
            known.append(round(settings.duration_s * rate))
        return min(known, default=-1)

    return frames


def trim_pad(samples: Samples, frames: int) -> Samples:
    """The samples cut at the end, or with zeros appended.

    >>> trim_pad(np.array([1, 2, 3], np.int16), 5).tolist()
    [1, 2, 3, 0, 0]
    """
    padding = max(0, frames - len(samples))
    if not padding:
        return samples[:frames]
    return np.concatenate([samples[:frames], np.zeros(padding, np.int16)])


def resample(samples: Samples, rate: int, target_rate: int) -> Samples:
    """Samples at another rate: libsoxr "HQ", rounded without dither, so the same input gives the same bytes.

    The result has floor(n * target_rate / rate + 0.5) frames.
    """
    return _rounded(soxr.resample(samples.astype(np.float32), rate, target_rate, quality=QUALITY))


def _resampled_blocks(samples: Samples, rate: int, target_rate: int) -> Iterator[Samples]:
    """The same samples as `resample` gives, piece by piece: a long clip in float would fill the memory."""
    stream = soxr.ResampleStream(rate, target_rate, 1, dtype="float32", quality=QUALITY)
    for start in range(0, len(samples), BLOCK_FRAMES):
        end = start + BLOCK_FRAMES
        block = samples[start:end].astype(np.float32)
        yield _rounded(stream.resample_chunk(block, last=end >= len(samples)))


def _rounded(wave: npt.NDArray[np.float32]) -> Samples:
    return np.clip(np.rint(wave), -32768, 32767).astype(np.int16)


def write_wav(path: Path, samples: Samples, rate: int) -> None:
    """Write 16-bit mono samples with the plain 44-byte header."""
    data = _bytes_of(samples)
    with open(path, "wb", buffering=0) as stream:
        if len(data) <= 2 * BLOCK_FRAMES:
            _write_all(stream, _wav_header(len(data), rate) + data)
        else:
            _write_all(stream, _wav_header(len(data), rate))
            _write_all(stream, data)


def _write_blocks(path: Path, blocks: Iterable[Samples], rate: int) -> None:
    """`write_wav` for samples that come piece by piece."""
    with open(path, "wb", buffering=0) as stream:
        _write_all(stream, _wav_header(0, rate))
        size = 0
        for block in blocks:
            data = _bytes_of(block)
            _write_all(stream, data)
            size += len(data)
        stream.seek(0)
        _write_all(stream, _wav_header(size, rate))


def _wav_header(size: int, rate: int) -> bytes:
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16, b"data", size),
    )


def _bytes_of(samples: Samples) -> memoryview:
    return np.ascontiguousarray(samples, dtype="<i2").view(np.uint8).data


def _write_all(stream: FileIO, data: bytes | memoryview) -> None:
    """Write to the end: on a disk that fills up, a single write takes a part and says nothing."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


# --------------------------------------------------------------------------- decoding


def read_mono(
    path: Path, start: int, frames_at: Callable[[int], int], *, floor: bool = False
) -> tuple[Samples, int]:
    """16-bit mono samples of a file and its rate.

    Lossless files whose conversion to 16 bit has been measured are read here; what else there is
    goes through ffmpeg, as everything did in 2021.

    Args:
        start: first frame.
        frames_at: the number of frames to read at the file's rate, -1 for all.
        floor: the mean of the channels is cut to 16 bit, whatever the file holds.
    """
    samples, rate = _read_lossless(path, start, frames_at, floor) or _read_with_ffmpeg(path, start, frames_at)
    if not len(samples):
        raise HearevalError(
            f"audio file {path}",
            got="no samples",
            expected="at least one",
            remedy="The file is empty or damaged: replace it, or fetch its archive again.",
        )
    return samples, rate


def _read_lossless(
    path: Path, start: int, frames_at: Callable[[int], int], floor: bool
) -> tuple[Samples, int] | None:
    try:
        with soundfile.SoundFile(path) as source:
            convert = TO_16_BIT_MONO.get((source.subtype, source.channels))
            if floor:
                convert = "float32", _floor_to_16_bit
            if source.format not in LOSSLESS or convert is None:
                return None
            dtype, to_mono = convert
            if start:
                source.seek(min(start, source.frames))
            frames = frames_at(source.samplerate)
            sizes = _block_sizes(frames if frames >= 0 else source.frames)
            raw = (source.read(size, dtype=dtype) for size in sizes)
            return _gathered(to_mono(_finite(block, path)) for block in raw), source.samplerate
    except soundfile.LibsndfileError:
        return None


def _block_sizes(frames: int) -> Iterator[int]:
    for start in range(0, frames, BLOCK_FRAMES):
        yield min(BLOCK_FRAMES, frames - start)


def _finite(block: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if not np.isfinite(block).all():
        raise HearevalError(f"audio file {path}", got="NaN or infinity", expected="finite samples")
    return block


def _gathered(blocks: Iterator[Samples]) -> Samples:
    """All blocks as one; a buffer that grows takes no second copy of a long recording."""
    first = next(blocks, np.zeros(0, np.int16))
    if len(first) < BLOCK_FRAMES:
        return first
    buffer = bytearray(first.tobytes())
    for block in blocks:
        buffer += _bytes_of(block)
        if len(block) < BLOCK_FRAMES:
            break
    return np.frombuffer(buffer, "<i2")


LOSSLESS = {"WAV", "WAVEX", "FLAC", "AIFF"}


def _round_to_16_bit(wave: npt.NDArray[np.float64]) -> Samples:
    return np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)


def _floor_to_16_bit(wave: npt.NDArray[np.float32]) -> Samples:
    mono = wave.mean(axis=1) if wave.ndim > 1 else wave
    return np.clip(np.floor(mono * 32768), -32768, 32767).astype(np.int16)


# (subtype, channels) -> what to read and how it becomes 16-bit mono; all measured on ffmpeg.
TO_16_BIT_MONO: dict[tuple[str, int], tuple[str, Callable[[npt.NDArray[Any]], Samples]]] = {
    ("PCM_16", 1): ("int16", lambda x: x),
    ("PCM_16", 2): ("int16", lambda x: ((x[:, 0].astype(np.int32) + x[:, 1] + 1) >> 1).astype(np.int16)),
    ("PCM_U8", 1): ("int16", lambda x: x),
    # Truncated, not rounded: the file's three bytes fill the upper part of the integer.
    ("PCM_24", 1): ("int32", lambda x: (x >> 16).astype(np.int16)),
    ("PCM_24", 2): ("float64", lambda x: _round_to_16_bit(x.mean(axis=1))),
    ("FLOAT", 1): ("float64", _round_to_16_bit),
}


def _read_with_ffmpeg(path: Path, start: int, frames_at: Callable[[int], int]) -> tuple[Samples, int]:
    # "au" has a header of plain numbers at the front, which a pipe can carry, unlike wav's sizes.
    stream = ffmpeg.input(str(path)).output("pipe:", map="0:a:0", format="au", acodec="pcm_s16be", ac=1)
    command = [*_ffmpeg_command(stream), "-nostdin"]
    with (
        tempfile.TemporaryFile() as complaint,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaint) as process,
    ):
        stdout = cast("IO[bytes]", process.stdout)
        header = stdout.read(24)
        offset, _, _, rate, _ = struct.unpack(">5I", header[4:]) if len(header) == 24 else (24, 0, 0, 0, 0)
        stdout.read(offset - 24)
        samples = _gathered(_decoded_blocks(stdout))
        if process.wait():
            complaint.seek(0)
            raise _undecodable(path, complaint.read(), process.returncode)
    frames = frames_at(rate)
    return samples[start : None if frames < 0 else start + frames], rate


def _decoded_blocks(stream: IO[bytes]) -> Iterator[Samples]:
    while block := stream.read(2 * BLOCK_FRAMES):
        yield np.frombuffer(block, ">i2").astype(np.int16)


def _resample_with_ffmpeg(samples: Samples, rate: int, targets: dict[int, Path]) -> None:
    """Write the samples at other rates with ffmpeg's soxr, all in one process."""
    copies = ffmpeg.input("pipe:", format="s16le", ar=rate, ac=1).filter_multi_output("asplit", len(targets))
    outputs = [
        copies[i]
        .filter("aresample", resampler="soxr")
        .output(str(path), ar=target_rate, acodec="pcm_s16le", fflags="+bitexact", map_metadata=-1)
        for i, (target_rate, path) in enumerate(targets.items())
    ]
    sound = samples.astype("<i2").tobytes()
    command = _ffmpeg_command(ffmpeg.merge_outputs(*outputs))
    result = subprocess.run(command, input=sound, capture_output=True, check=False)
    if result.returncode:
        raise _undecodable(next(iter(targets.values())), result.stderr, result.returncode)


def _ffmpeg_command(stream: object) -> list[str]:
    command: list[str] = ffmpeg.compile(stream, cmd=ffmpeg_program(), overwrite_output=True)
    return [command[0], "-v", "error", *command[1:]]


def _undecodable(path: Path, complaint: bytes, code: int) -> HearevalError:
    lines = complaint.decode(errors="replace").strip().splitlines()
    return HearevalError(
        f"audio file {path}",
        got=f"ffmpeg: {' / '.join(lines) or f'exit code {code}'}",
        expected="sound that ffmpeg can decode",
        remedy="The file is damaged or not audio: replace it, or fetch its archive again.",
    )


@functools.cache
def ffmpeg_program() -> str:
    """The ffmpeg on PATH if it can resample with libsoxr, else the one that imageio-ffmpeg brings."""
    candidates: list[str | None] = [shutil.which("ffmpeg"), imageio_ffmpeg.get_ffmpeg_exe()]
    for program in filter(None, candidates):
        shown = subprocess.run(
            [program, "-hide_banner", "-buildconf"], capture_output=True, text=True, check=False
        )
        if "--enable-libsoxr" in shown.stdout:
            return program
    raise HearevalError(
        "ffmpeg",
        got="none with libsoxr on PATH or in imageio-ffmpeg",
        expected="one built with --enable-libsoxr",
        remedy="Install imageio-ffmpeg again, or put such an ffmpeg on PATH.",
    )


@functools.cache
def engine_version(engine: str) -> str:
    """The release of what resamples; another one may give other samples."""
    if engine == "soxr":
        return version_of("soxr")
    shown = subprocess.run([ffmpeg_program(), "-version"], capture_output=True, text=True, check=True)
    return shown.stdout.split()[2]
