"""From a stretch of a source file to 16-bit mono samples of one length at every rate."""

from __future__ import annotations

import atexit
import errno
import functools
import os
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version as version_of
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import IO, cast

import ffmpeg
import numpy as np
import numpy.typing as npt
import soxr

from heareval.errors import HearevalError
from heareval.formats.task_manifest import SkippedClip
from heareval.spec import SAMPLE_RATES, Progress, Recording
from heareval.tasks import decode
from heareval.tasks.decode import BLOCK_FRAMES, BadAudio, Samples, ffmpeg_program

VERSION = 2
ENGINES = ("soxr", "ffmpeg")
QUALITY = "HQ"
# The sizes in a wav file are numbers of 32 bits, and its header counts too.
MAX_BYTES = (1 << 32) - 256
HEADER_BYTES = 44

# What takes a clip's samples, block by block, and hears with the last one that it is the last.
Put = Callable[[Samples, bool], None]


@dataclass(frozen=True)
class AudioSettings:
    """How clips are made.

    Args:
        sample_rates: the rates to write, in Hz.
        duration_s: length of every clip; None keeps each clip's own.
        engine: `soxr` resamples in this process, `ffmpeg` in one process per clip.
        skip_bad: go on without a clip whose source can't be used.
    """

    sample_rates: tuple[int, ...]
    duration_s: float | None
    engine: str = "soxr"
    skip_bad: bool = False


def prepare_clips(
    clips: Sequence[Recording], folder: Path, settings: AudioSettings, progress: Progress
) -> list[SkippedClip]:
    """Write `<rate>/<split>/<clip id>.wav` below `folder` for every clip and rate; returns what was skipped.

    Raises:
        BadAudio: a source file is bad, and `settings` don't tell to skip such.
    """
    for rate in settings.sample_rates:
        for split in {clip.split for clip in clips}:
            (folder / str(rate) / split).mkdir(parents=True, exist_ok=True)
    skipped: list[SkippedClip] = []
    for done, clip in enumerate(clips):
        try:
            prepare_clip(clip, folder, settings)
        except BadAudio as error:
            if not settings.skip_bad:
                error.remedy = f"{error.remedy} Or go on without it: --on-bad-audio skip."
                raise
            skipped.append(SkippedClip(clip.split, clip.clip_id, str(error)))
        progress(done + 1, len(clips))
    return skipped


def prepare_clip(clip: Recording, folder: Path, settings: AudioSettings) -> None:
    """Decode once, trim or pad, write every rate; of a clip that fails nothing stays behind."""
    targets = {r: folder / str(r) / clip.split / f"{clip.clip_id}.wav" for r in settings.sample_rates}
    try:
        sound = decode.read_blocks(
            clip.path, clip.start_frame, _frames_to_read(clip, settings), floor=clip.floor
        )
        with closing(sound):
            first = next(sound)
            samples: Iterator[Samples] = (block.samples for block in chain([first], sound))
            if settings.duration_s is not None:
                samples = fitted(samples, round(settings.duration_s * first.rate))
            bounded = _bounded(samples, first.rate, clip.path)
            _write_rates(bounded, first.rate, targets, settings.engine)
    except BaseException:
        for path in targets.values():
            path.unlink(missing_ok=True)
        raise


def _frames_to_read(clip: Recording, settings: AudioSettings) -> Callable[[int], int]:
    """How many frames of a source at a given rate can matter; -1 for all."""

    def frames(rate: int) -> int:
        known = [clip.frames] if clip.frames is not None else []
        if settings.duration_s is not None:
            known.append(round(settings.duration_s * rate))
        return min(known, default=-1)

    return frames


def read_mono(
    path: Path, start: int, frames_at: Callable[[int], int], *, floor: bool = False
) -> tuple[Samples, int]:
    """16-bit mono samples of a stretch of a file, all at once, and the file's rate."""
    blocks = list(decode.read_blocks(path, start, frames_at, floor=floor))
    return np.concatenate([block.samples for block in blocks]), blocks[0].rate


def trim_pad(samples: Samples, frames: int) -> Samples:
    """The samples cut at the end, or with zeros appended.

    >>> trim_pad(np.array([1, 2, 3], np.int16), 5).tolist()
    [1, 2, 3, 0, 0]
    """
    padding = max(0, frames - len(samples))
    if not padding:
        return samples[:frames]
    return np.concatenate([samples[:frames], np.zeros(padding, np.int16)])


def fitted(blocks: Iterable[Samples], frames: int) -> Iterator[Samples]:
    """`trim_pad` for samples that come in blocks; what fits into one block is one block."""
    for block, is_last in _with_last(blocks):
        part = trim_pad(block, min(frames, BLOCK_FRAMES)) if is_last else block[:frames]
        yield part
        frames -= len(part)
        if not frames:
            return
    while frames:
        part = np.zeros(min(frames, BLOCK_FRAMES), np.int16)
        yield part
        frames -= len(part)


def _with_last(blocks: Iterable[Samples]) -> Iterator[tuple[Samples, bool]]:
    """Every block, and whether it is the last."""
    rest = iter(blocks)
    block = next(rest)
    for following in rest:
        yield block, False
        block = following
    yield block, True


def _bounded(blocks: Iterable[Samples], rate: int, source: Path) -> Iterator[Samples]:
    """The blocks, unless they are more than a wav file can hold at the highest rate that may be asked for."""
    frames, highest_rate = 0, max(rate, *SAMPLE_RATES)
    for block in blocks:
        frames += len(block)
        if 2 * frames * highest_rate > MAX_BYTES * rate:
            hours = MAX_BYTES / 2 / highest_rate / 3600
            raise BadAudio(
                f"audio file {source}",
                got="more sound than a wav file can hold",
                expected=f"up to {hours:.1f} hours, for {highest_rate} Hz",
            )
        yield block


# --------------------------------------------------------------------------- writing


def _write_rates(blocks: Iterable[Samples], rate: int, targets: dict[int, Path], engine: str) -> None:
    """Write the samples at every rate, as they come: a long clip would fill the memory."""
    theirs = {r: path for r, path in targets.items() if r != rate and engine == "ffmpeg"}
    with ExitStack() as stack:
        sinks = [stack.enter_context(_sink(path, rate, r)) for r, path in targets.items() if r not in theirs]
        if theirs:
            sinks.append(stack.enter_context(_ffmpeg_sink(rate, theirs)))
        for block, is_last in _with_last(blocks):
            for put in sinks:
                put(block, is_last)


def write_wav(path: Path, samples: Samples, rate: int) -> None:
    """Write 16-bit mono samples with the plain 44-byte header."""
    path.unlink(missing_ok=True)
    with _sink(path, rate, rate) as put:
        put(samples, True)


@contextmanager
def _sink(path: Path, rate: int, target_rate: int) -> Iterator[Put]:
    """What writes samples to a wav file of another rate."""
    convert, size, is_whole = _resampler(rate, target_rate), 0, False
    # "x": on a disk that takes `Dog.wav` for `dog.wav`, one clip must not become the other.
    with open(path, "xb", buffering=0) as stream:

        def put(block: Samples, is_last: bool) -> None:
            nonlocal size, is_whole
            data = _bytes_of(convert(block, is_last))
            # The header of a clip that is one block is right at once.
            is_whole = is_last and not size
            if not size:
                data = memoryview(_wav_header(len(data), target_rate) + data)
            _write_all(stream, data)
            size += len(data)

        yield put
        if not is_whole:
            stream.seek(0)
            _write_all(stream, _wav_header(size - HEADER_BYTES, target_rate))


def resample(samples: Samples, rate: int, target_rate: int) -> Samples:
    """Samples at another rate: libsoxr "HQ", rounded without dither, so the same input gives the same bytes.

    The result has floor(n * target_rate / rate + 0.5) frames.
    """
    return _resampler(rate, target_rate)(samples, True)


def _resampler(rate: int, target_rate: int) -> Callable[[Samples, bool], Samples]:
    """What turns the blocks of a sound, of which the last one is told, into those at another rate.

    One sound at a time: the next resampler of the same two rates ends this one.
    """
    if rate == target_rate:
        return lambda block, is_last: block
    stream = _stream(rate, target_rate)
    stream.clear()

    def converted(block: Samples, is_last: bool) -> Samples:
        return _rounded(stream.resample_chunk(block.astype(np.float32), last=is_last))

    return converted


@functools.lru_cache(maxsize=16)
def _stream(rate: int, target_rate: int) -> soxr.ResampleStream:
    """libsoxr for one ratio; to design its filter takes as long as to resample a second of sound."""
    # Left to the end of Python, its binding would complain of leaks.
    atexit.register(_stream.cache_clear)
    return soxr.ResampleStream(rate, target_rate, 1, dtype="float32", quality=QUALITY)


def _rounded(wave: npt.NDArray[np.float32]) -> Samples:
    return np.clip(np.rint(wave, out=wave), -32768, 32767, out=wave).astype(np.int16)


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


@contextmanager
def _ffmpeg_sink(rate: int, targets: dict[int, Path]) -> Iterator[Put]:
    """What gives samples to ffmpeg's soxr, which writes them at other rates, all in one process."""
    command = decode.ffmpeg_command(_all_rates(rate, targets))
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log
        ) as process,
    ):
        stream, is_whole = cast(FileIO, process.stdin), False

        def put(block: Samples, is_last: bool) -> None:
            nonlocal is_whole
            _write_all(stream, _bytes_of(block))
            is_whole = is_last

        try:
            yield put
        except BrokenPipeError:
            # An ffmpeg that ends too early tells why when it is asked how it ended.
            pass
        except BaseException:
            process.kill()
            raise
        stream.close()
        if process.wait() or not is_whole:
            raise _unwritten(next(iter(targets.values())), log, process.returncode)


def _all_rates(rate: int, targets: dict[int, Path]) -> object:
    copies = ffmpeg.input("pipe:", format="s16le", ar=rate, ac=1).filter_multi_output("asplit", len(targets))
    outputs = [
        copies[i]
        .filter("aresample", resampler="soxr")
        .output(decode.named(path), ar=target_rate, acodec="pcm_s16le", fflags="+bitexact", map_metadata=-1)
        for i, (target_rate, path) in enumerate(targets.items())
    ]
    return ffmpeg.merge_outputs(*outputs)


def _unwritten(path: Path, log: IO[bytes], code: int) -> Exception:
    """Why ffmpeg could not write clips, of which this is one: never the fault of their source."""
    told = decode.complaints(log)
    for full in (errno.ENOSPC, errno.EDQUOT):
        if os.strerror(full) in told:
            return OSError(full, os.strerror(full), str(path))
    got = decode.how_it_was_stopped(log, code) or told or f"exit code {code}"
    return HearevalError(f"ffmpeg on {path}", got=got, expected="clips at other rates", remedy="Run again.")


@functools.cache
def engine_version(engine: str) -> str:
    """The release of what resamples; another one may give other samples."""
    if engine == "soxr":
        return version_of("soxr")
    shown = subprocess.run([ffmpeg_program(), "-version"], capture_output=True, text=True, check=True)
    return shown.stdout.split()[2]
