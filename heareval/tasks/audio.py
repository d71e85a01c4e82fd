"""Turn stretches of source files into clips: 16-bit mono wav files of one length, at every sample rate."""

from __future__ import annotations

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

from heareval.errors import HearevalError
from heareval.formats.task_manifest import SkippedClip
from heareval.resampling import ResamplerPool
from heareval.spec import SAMPLE_RATES, Progress, Recording, ignore_progress
from heareval.tasks import decode
from heareval.tasks.decode import BLOCK_FRAMES, BadAudio, FramesAt, Samples
from heareval.tasks.ffmpeg_command import (
    build_ffmpeg_command,
    describe_interruption,
    find_ffmpeg,
    format_file_name,
    read_errors,
)

VERSION = 2
# Wav files store their sizes as 32-bit numbers, which include the header.
MAX_BYTES = (1 << 32) - 256
HEADER_BYTES = 44

# Takes the next block of a clip's samples, and whether it is the last one.
WriteBlock = Callable[[Samples, bool], None]


@dataclass(frozen=True)
class AudioSettings:
    """How clips are made.

    Args:
        sample_rates: the rates to write, in Hz.
        duration_s: the length of every clip in seconds; None keeps each clip's own length.
        engine: `soxr` resamples in this process, `ffmpeg` in one process per clip.
        skip_bad: skip clips whose source has no usable audio, instead of raising BadAudio.
    """

    sample_rates: tuple[int, ...]
    duration_s: float | None
    engine: str = "soxr"
    skip_bad: bool = False


def prepare_clips(
    clips: Sequence[Recording],
    folder: Path,
    settings: AudioSettings,
    progress: Progress = ignore_progress,
) -> list[SkippedClip]:
    """Write `<rate>/<split>/<clip id>.wav` below `folder` for every clip and rate; return the skipped clips.

    Example: `prepare_clips([Recording(Path("a.mp3"), "a")], Path("out"), AudioSettings((16000,), 4.0))`
    writes `out/16000/train/a.wav` with 64,000 frames.

    Raises:
        BadAudio: a source has no usable audio, and `settings.skip_bad` is false.
        OSError: a file cannot be read or written.
    """
    for rate in settings.sample_rates:
        for split in {clip.split for clip in clips}:
            (folder / str(rate) / split).mkdir(parents=True, exist_ok=True)
    resamplers = ResamplerPool()
    skipped: list[SkippedClip] = []
    for done, clip in enumerate(clips, start=1):
        try:
            prepare_clip(clip, folder, settings, resamplers)
        except BadAudio as error:
            if not settings.skip_bad:
                error.remedy = f"{error.remedy} Or skip such clips: --on-bad-audio skip."
                raise
            skipped.append(SkippedClip(clip.split, clip.clip_id, str(error)))
        progress(done, len(clips))
    return skipped


def prepare_clip(
    clip: Recording, folder: Path, settings: AudioSettings, resamplers: ResamplerPool | None = None
) -> None:
    """Decode a clip once, trim or pad it, and write it at every rate; if that fails, remove what was written.

    Args:
        clip: the stretch of the source file.
        folder: has the folders `<rate>/<split>` already.
        settings: rates, length and engine.
        resamplers: reused from clip to clip; None makes new ones.
    """
    targets = {r: folder / str(r) / clip.split / f"{clip.clip_id}.wav" for r in settings.sample_rates}
    try:
        frames_at = _limit_frames(clip, settings)
        with closing(decode.read_blocks(clip.path, clip.start_frame, frames_at, floor=clip.floor)) as blocks:
            first = next(blocks)
            samples: Iterator[Samples] = (block.samples for block in chain([first], blocks))
            if settings.duration_s is not None:
                samples = trim_pad_blocks(samples, round(settings.duration_s * first.rate))
            samples = _check_size(samples, first.rate, clip.path)
            _write_rates(samples, first.rate, targets, settings.engine, resamplers or ResamplerPool())
    except BaseException:
        for path in targets.values():
            path.unlink(missing_ok=True)
        raise


def _limit_frames(clip: Recording, settings: AudioSettings) -> FramesAt:
    """Return the function that maps a source's rate to the number of frames to read; -1 for all."""

    def frames_at(rate: int) -> int:
        limits = [clip.frames] if clip.frames is not None else []
        if settings.duration_s is not None:
            limits.append(round(settings.duration_s * rate))
        return min(limits, default=-1)

    return frames_at


def read_mono(path: Path, start: int, frames_at: FramesAt, *, floor: bool = False) -> tuple[Samples, int]:
    """Return the 16-bit mono samples of a stretch of a file, shape (frames,), and the file's rate in Hz.

    Example: `read_mono(Path("a.flac"), 0, lambda rate: 2 * rate)` reads the first two seconds.

    Args:
        path: an audio file of any format that ffmpeg reads.
        start: the first frame to read, at the file's rate.
        frames_at: maps the file's rate to the number of frames to read, -1 for all.
        floor: average the channels and floor to 16 bit, whatever the file's format.

    Raises:
        BadAudio: the file has no usable audio.
    """
    with closing(decode.read_blocks(path, start, frames_at, floor=floor)) as blocks:
        found = list(blocks)
    return np.concatenate([block.samples for block in found]), found[0].rate


def trim_pad(samples: Samples, frames: int) -> Samples:
    """Return exactly `frames` samples: cut at the end, or padded there with zeros.

    >>> trim_pad(np.array([1, 2, 3], np.int16), 5).tolist()
    [1, 2, 3, 0, 0]
    >>> trim_pad(np.array([1, 2, 3], np.int16), 2).tolist()
    [1, 2]
    """
    padding = max(0, frames - len(samples))
    if not padding:
        return samples[:frames]
    return np.concatenate([samples[:frames], np.zeros(padding, np.int16)])


def trim_pad_blocks(blocks: Iterable[Samples], frames: int) -> Iterator[Samples]:
    """Yield exactly `frames` samples: `trim_pad` for audio in blocks. What fits one block comes as one block.

    >>> [block.tolist() for block in trim_pad_blocks([np.array([1, 2], np.int16)], 3)]
    [[1, 2, 0]]
    """
    for block, is_last in _mark_last(blocks):
        part = trim_pad(block, min(frames, BLOCK_FRAMES)) if is_last else block[:frames]
        yield part
        frames -= len(part)
        if not frames:
            return
    while frames:
        part = np.zeros(min(frames, BLOCK_FRAMES), np.int16)
        yield part
        frames -= len(part)


def _mark_last(blocks: Iterable[Samples]) -> Iterator[tuple[Samples, bool]]:
    """Yield every block, and whether it is the last one."""
    remaining = iter(blocks)
    block = next(remaining)
    for following in remaining:
        yield block, False
        block = following
    yield block, True


def _check_size(blocks: Iterable[Samples], rate: int, source: Path) -> Iterator[Samples]:
    """Pass the blocks on; raise BadAudio if a wav file cannot hold them at the highest rate of the tasks."""
    frames, highest_rate = 0, max(rate, *SAMPLE_RATES)
    for block in blocks:
        frames += len(block)
        if 2 * frames * highest_rate > MAX_BYTES * rate:
            hours = MAX_BYTES / 2 / highest_rate / 3600
            raise BadAudio(
                f"audio file {source}",
                got="more audio than a wav file can hold",
                expected=f"up to {hours:.1f} hours, for {highest_rate} Hz",
            )
        yield block


# --------------------------------------------------------------------------- writing


def _write_rates(
    blocks: Iterable[Samples], rate: int, targets: dict[int, Path], engine: str, resamplers: ResamplerPool
) -> None:
    """Write the samples at every rate, block by block, because a long clip would fill the memory."""
    by_ffmpeg = {r: path for r, path in targets.items() if r != rate and engine == "ffmpeg"}
    with ExitStack() as stack:
        writers = []
        for target_rate, path in targets.items():
            if target_rate == rate:
                writers.append(stack.enter_context(_open_wav(path, rate)))
            elif target_rate not in by_ffmpeg:
                resampler = stack.enter_context(resamplers.borrow(rate, target_rate))
                writers.append(stack.enter_context(_open_wav(path, target_rate, resampler.convert)))
        if by_ffmpeg:
            writers.append(stack.enter_context(_open_ffmpeg(rate, by_ffmpeg)))
        for block, is_last in _mark_last(blocks):
            for write_block in writers:
                write_block(block, is_last)


def _pass_on(block: Samples, is_last: bool) -> Samples:
    return block


def write_wav(path: Path, samples: Samples, rate: int) -> None:
    """Write 16-bit mono samples, shape (frames,), as a wav file with the plain 44-byte header.

    Example: `write_wav(Path("a.wav"), np.zeros(16000, np.int16), 16000)` writes one second of silence.

    Args:
        path: the file to write; an existing one is replaced.
        samples: the audio.
        rate: its sample rate in Hz.
    """
    path.unlink(missing_ok=True)
    with _open_wav(path, rate) as write_block:
        write_block(samples, True)


@contextmanager
def _open_wav(
    path: Path, rate: int, convert: Callable[[Samples, bool], Samples] = _pass_on
) -> Iterator[WriteBlock]:
    """Open a new wav file; yield the function that converts blocks to the file's rate and writes them."""
    size, is_complete = 0, False
    # "x": where `Dog.wav` and `dog.wav` name the same file, one clip must not overwrite the other.
    with open(path, "xb", buffering=0) as stream:

        def write_block(block: Samples, is_last: bool) -> None:
            nonlocal size, is_complete
            data = _to_bytes(convert(block, is_last))
            # The header of a clip of one block is right at once.
            is_complete = is_last and not size
            if not size:
                data = memoryview(_pack_wav_header(len(data), rate) + data)
            _write_all(stream, data)
            size += len(data)

        yield write_block
        if not is_complete:
            stream.seek(0)
            _write_all(stream, _pack_wav_header(size - HEADER_BYTES, rate))


def _pack_wav_header(size: int, rate: int) -> bytes:
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16, b"data", size),
    )


def _to_bytes(samples: Samples) -> memoryview:
    return np.ascontiguousarray(samples, dtype="<i2").view(np.uint8).data


def _write_all(stream: FileIO, data: bytes | memoryview) -> None:
    """Write all the data; on a disk that fills up, a single write writes a part and raises nothing."""
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[stream.write(remaining) :]


@contextmanager
def _open_ffmpeg(rate: int, targets: dict[int, Path]) -> Iterator[WriteBlock]:
    """Run one ffmpeg that resamples with libsoxr to all targets; yield the function that feeds it."""
    command = build_ffmpeg_command(_resample_to_files(rate, targets))
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log
        ) as process,
    ):
        stream, is_complete = cast(FileIO, process.stdin), False

        def write_block(block: Samples, is_last: bool) -> None:
            nonlocal is_complete
            _write_all(stream, _to_bytes(block))
            is_complete = is_last

        try:
            yield write_block
        except BrokenPipeError:
            # ffmpeg ended too early; its exit code and log, which are read below, say why.
            pass
        except BaseException:
            process.kill()
            raise
        stream.close()
        if process.wait() or not is_complete:
            raise _describe_failure(next(iter(targets.values())), log, process.returncode)


def _resample_to_files(rate: int, targets: dict[int, Path]) -> object:
    copies = ffmpeg.input("pipe:", format="s16le", ar=rate, ac=1).filter_multi_output("asplit", len(targets))
    options = {"acodec": "pcm_s16le", "fflags": "+bitexact", "map_metadata": -1}
    outputs = [
        copies[i]
        .filter("aresample", resampler="soxr")
        .output(format_file_name(path), ar=target_rate, **options)
        for i, (target_rate, path) in enumerate(targets.items())
    ]
    return ffmpeg.merge_outputs(*outputs)


def _describe_failure(path: Path, log: IO[bytes], code: int) -> Exception:
    """Return the error for an ffmpeg that could not write clips; their source is never to blame.

    Args:
        path: one of the clips.
    """
    errors = read_errors(log)
    for full in (errno.ENOSPC, errno.EDQUOT):
        if os.strerror(full) in errors:
            return OSError(full, os.strerror(full), str(path))
    got = describe_interruption(log, code) or errors or f"exit code {code}"
    return HearevalError(f"ffmpeg on {path}", got=got, expected="clips at other rates", remedy="Run again.")


@functools.cache
def engine_version(engine: str) -> str:
    """Return the version of the library or program that resamples; another one may give other samples."""
    if engine == "soxr":
        return version_of("soxr")
    shown = subprocess.run([find_ffmpeg(), "-version"], capture_output=True, text=True, check=True)
    return shown.stdout.split()[2]
