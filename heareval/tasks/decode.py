"""Decode audio files to blocks of 16-bit mono samples, or raise an error that says what is wrong with them.

The samples are those that ffmpeg made for the published benchmark. libsndfile reads the lossless formats for
which this was measured, because that is much faster; ffmpeg decodes every other file.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import ffmpeg
import numpy as np
import numpy.typing as npt
import soundfile

from heareval.errors import HearevalError
from heareval.tasks.ffmpeg_command import (
    build_ffmpeg_command,
    describe_interruption,
    format_file_name,
    read_errors,
)

BLOCK_FRAMES = 1 << 18
# Whales are recorded at 2 kHz, bats at 384 kHz, and converters go up to 768 kHz. Any other rate comes from a
# damaged header, and one second at 4 GHz would fill the disk.
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1000, 768_000

Samples = npt.NDArray[np.int16]
# Maps the sample rate of a file in Hz to the number of frames to read, or to -1 for all of them.
FramesAt = Callable[[int], int]


class BadAudio(HearevalError):  # noqa: N818
    """The error for a source file that holds no usable audio."""


@dataclass(frozen=True)
class AudioBlock:
    """Consecutive samples of a file.

    Args:
        samples: 16-bit mono, shape (frames,); never empty.
        rate: the file's sample rate in Hz.
    """

    samples: Samples
    rate: int


def read_blocks(
    path: Path, start: int, frames_at: FramesAt, *, floor: bool = False
) -> Generator[AudioBlock, None, None]:
    """Yield the 16-bit mono samples of a file in blocks of at most BLOCK_FRAMES frames; at least one block.

    Args:
        path: an audio file of any format that ffmpeg reads.
        start: the first frame to read, at the file's rate.
        frames_at: maps the file's rate to the number of frames to read, -1 for all.
        floor: average the channels and floor to 16 bit, whatever the file's format; lossless files only.

    Raises:
        BadAudio: the file holds no usable audio.
        OSError: the file cannot be read at all.
    """
    _check_is_regular_file(path)
    frames_read = 0
    with _open_lossless(path, floor=floor) as source:
        if source is not None:
            expected = source.count_frames(start, frames_at)
            for block in source.read_blocks(start, expected):
                frames_read += len(block.samples)
                yield block
            # Programs that write to a pipe leave a length of 0 in the header; ffmpeg reads on.
            if 0 < frames_read == expected:
                return
    if floor:
        raise BadAudio(
            f"audio file {path}", got="a file that libsndfile cannot read", expected="a lossless file"
        )
    with closing(_decode_with_ffmpeg(path, start, frames_at, skip=frames_read)) as blocks:
        for block in blocks:
            frames_read += len(block.samples)
            yield block
    if not frames_read:
        raise BadAudio(
            f"audio file {path}",
            got="no samples",
            expected="at least one",
            remedy="The file is empty or damaged: replace it, or fetch its archive again.",
        )


def _check_is_regular_file(path: Path) -> None:
    # Reading a pipe or a device might never end.
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        got = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise BadAudio(f"audio file {path}", got=got, expected="a regular file")


def _check_rate(rate: int, path: Path) -> None:
    if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
        expected = f"{LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz"
        raise BadAudio(f"audio file {path}", got=f"{rate} Hz", expected=expected)


def _check_finite(samples: npt.NDArray[Any], path: Path) -> None:
    if not np.isfinite(samples).all():
        raise BadAudio(f"audio file {path}", got="NaN or infinity", expected="finite samples")


# --------------------------------------------------------------------------- libsndfile


@dataclass(frozen=True)
class Conversion:
    """How samples that libsndfile reads become 16-bit mono.

    Args:
        dtype: the type in which libsndfile is asked for samples.
        to_mono: converts samples of that type, shape (frames,) or (frames, channels), to 16-bit mono.
    """

    dtype: str
    to_mono: Callable[[npt.NDArray[Any]], Samples]


@dataclass(frozen=True)
class LosslessFile:
    """An open file that libsndfile decodes to the same samples as ffmpeg.

    Args:
        path: the file's name, for error messages.
        source: the open file.
        conversion: how its samples become 16-bit mono.
    """

    path: Path
    source: soundfile.SoundFile
    conversion: Conversion

    def count_frames(self, start: int, frames_at: FramesAt) -> int:
        """Return how many frames there are to read from `start` on, according to the header."""
        available = max(0, int(self.source.frames) - start)
        wanted = frames_at(self.source.samplerate)
        return available if wanted < 0 else min(available, wanted)

    def read_blocks(self, start: int, frames: int) -> Iterator[AudioBlock]:
        """Yield up to `frames` frames from `start` on; end early where libsndfile cannot read on."""
        block_frames = BLOCK_FRAMES // self.source.channels
        try:
            self.source.seek(min(start, self.source.frames))
            while frames:
                raw = self.source.read(min(block_frames, frames), dtype=self.conversion.dtype)
                if not len(raw):
                    # libsndfile reports an unreadable disk as the end of the file.
                    _check_disk(self.path)
                    return
                _check_finite(raw, self.path)
                yield AudioBlock(self.conversion.to_mono(raw), self.source.samplerate)
                frames -= len(raw)
        except soundfile.LibsndfileError:
            return


@contextmanager
def _open_lossless(path: Path, *, floor: bool) -> Iterator[LosslessFile | None]:
    """Open a file with libsndfile; yield None if ffmpeg has to decode it."""
    # Opened by descriptor, because libsndfile takes the name `-` for the standard input.
    with open(path, "rb") as file:
        try:
            source = soundfile.SoundFile(file.fileno(), closefd=False)
        except soundfile.LibsndfileError:
            yield None
            return
        with source:
            conversion = _choose_conversion(source, file, floor=floor)
            if conversion is None:
                yield None
                return
            _check_rate(source.samplerate, path)
            yield LosslessFile(path, source, conversion)


LOSSLESS = {"WAV", "WAVEX", "FLAC", "AIFF"}
# Plain: all bits are valid, and the channel mask is empty, left, right, left and right, or center. Other
# extensible headers store fewer bits than they reserve, or place the channels elsewhere around the head.
PLAIN_EXTENSIBLE = re.compile(r"Bit Width +: (\d+)\n.*\n +Valid Bits +: \1\n +Channel Mask +: 0x[0-4] ")
CHANNEL_MASK = b"WAVEFORMATEXTENSIBLE_CHANNEL_MASK"
FLAC_COMMENTS_BYTES = 1 << 16


def _choose_conversion(source: Any, file: IO[bytes], *, floor: bool) -> Conversion | None:
    """Return how a file's samples become 16-bit mono, or None if only ffmpeg knows."""
    if source.format not in LOSSLESS:
        return None
    if floor:
        return Conversion("float32", _floor_to_16_bit)
    if source.format == "WAVEX" and not PLAIN_EXTENSIBLE.search(source.extra_info):
        return None
    # Headers of AIFC, the compressed kind, can contradict themselves; the chunk CHAN places the channels.
    if source.format == "AIFF" and re.search("AIFC|CHAN ", source.extra_info):
        return None
    if source.format == "FLAC" and source.channels == 2 and CHANNEL_MASK in _read_beginning(file):
        return None
    return TO_16_BIT_MONO.get((source.subtype, source.channels))


def _read_beginning(file: IO[bytes]) -> bytes:
    # pread leaves the file position, which libsndfile shares, where it is.
    return os.pread(file.fileno(), FLAC_COMMENTS_BYTES, 0)


def _average_16_bit_stereo(wave: npt.NDArray[np.int16]) -> Samples:
    return ((wave[:, 0].astype(np.int32) + wave[:, 1] + 1) >> 1).astype(np.int16)


def _truncate_24_bit(wave: npt.NDArray[np.int32]) -> Samples:
    # The three bytes of a sample fill the upper part of the 32-bit integer.
    return (wave >> 16).astype(np.int16)


def _average_24_bit_stereo(wave: npt.NDArray[np.float64]) -> Samples:
    return _round_to_16_bit(wave.mean(axis=1))


def _round_to_16_bit(wave: npt.NDArray[np.float64]) -> Samples:
    return np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)


def _floor_to_16_bit(wave: npt.NDArray[np.float32]) -> Samples:
    mono = wave.mean(axis=1) if wave.ndim > 1 else wave
    return np.clip(np.floor(mono * 32768), -32768, 32767).astype(np.int16)


def _keep(wave: Samples) -> Samples:
    return wave


# (subtype, channels) -> the conversion that ffmpeg applies; each was measured.
TO_16_BIT_MONO: dict[tuple[str, int], Conversion] = {
    ("PCM_16", 1): Conversion("int16", _keep),
    ("PCM_16", 2): Conversion("int16", _average_16_bit_stereo),
    ("PCM_U8", 1): Conversion("int16", _keep),
    ("PCM_24", 1): Conversion("int32", _truncate_24_bit),
    ("PCM_24", 2): Conversion("float64", _average_24_bit_stereo),
    ("FLOAT", 1): Conversion("float64", _round_to_16_bit),
}

# --------------------------------------------------------------------------- ffmpeg

# Containers that hold their own audio. Playlists, which name other files, and module music, which may never
# end, are left out.
CONTAINERS = (
    "3gp,aa,aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,iff,ircam,loas,"
    "m4a,matroska,mlp,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,oga,ogg,oma,paf,pvf,rm,sds,shn,"
    "sln,sox,spdif,svx,tak,truehd,tta,voc,w64,wav,webm,wsd,wv"
)
# Decoders whose output may contain NaN or infinity; that of the lossy decoders never does.
MAY_BE_INFINITE = re.compile(rb"Audio: (pcm_f\w+|wavpack|mp4als)")


def _decode_with_ffmpeg(
    path: Path, start: int, frames_at: FramesAt, *, skip: int
) -> Generator[AudioBlock, None, None]:
    """Yield the blocks that ffmpeg decodes of a stretch, without its first `skip` frames."""
    needs_check = False
    with _run_decoder(path, "pcm_s16be") as (audio, log):
        rate = _read_au_header(audio)
        if not rate:
            return
        _check_rate(rate, path)
        wanted = frames_at(rate)
        frames = wanted if wanted < 0 else max(0, wanted - skip)
        for data in _read_frames(audio, 2, start + skip, frames):
            needs_check = True
            yield AudioBlock(np.frombuffer(data, ">i2").astype(np.int16), rate)
        needs_check = needs_check and _may_be_infinite(log)
    if needs_check:
        _check_finite_source(path, start + skip, frames)


def _check_finite_source(path: Path, start: int, frames: int) -> None:
    """Raise BadAudio if a stretch holds NaN or infinity, which its conversion to 16 bit hides."""
    with _run_decoder(path, "pcm_f64be") as (audio, _):
        _read_au_header(audio)
        for data in _read_frames(audio, 8, start, frames):
            _check_finite(np.frombuffer(data, ">f8"), path)


def _read_au_header(audio: IO[bytes]) -> int:
    """Read the header of an AU stream; return its sample rate, or 0 if there is no header.

    Unlike that of wav, the header of AU needs no sizes that are known only at the end, so it suits a pipe.
    """
    header = audio.read(24)
    if len(header) < 24:
        return 0
    offset, _, _, rate, _ = struct.unpack(">5I", header[4:])
    audio.read(offset - 24)
    return int(rate)


def _read_frames(audio: IO[bytes], frame_bytes: int, start: int, frames: int) -> Iterator[bytes]:
    """Skip `start` frames of a stream, then yield `frames` frames (-1 for all) in pieces of whole frames."""
    while start:
        skipped = len(audio.read(frame_bytes * min(start, BLOCK_FRAMES))) // frame_bytes
        if not skipped:
            return
        start -= skipped
    while frames:
        data = audio.read(frame_bytes * (BLOCK_FRAMES if frames < 0 else min(frames, BLOCK_FRAMES)))
        # A killed ffmpeg may leave half a frame.
        received = len(data) // frame_bytes
        if not received:
            return
        yield data[: received * frame_bytes]
        if frames > 0:
            frames -= received


@contextmanager
def _run_decoder(path: Path, codec: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Run ffmpeg on a file; yield its mono output, an AU stream, and its log.

    If the caller reads the output to the end, errors of ffmpeg are raised. If it stops earlier, ffmpeg is
    killed.
    """
    source = ffmpeg.input(format_file_name(path), format_whitelist=CONTAINERS)
    stream = source.output("pipe:", map="0:a:0", format="au", acodec=codec, ac=1)
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            build_ffmpeg_command(stream), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        audio, is_at_end = cast("IO[bytes]", process.stdout), False
        try:
            yield audio, log
            is_at_end = not audio.read(1)
        finally:
            if not is_at_end:
                process.kill()
        if is_at_end and (process.wait() or read_errors(log)):
            # If the disk cannot be read, ffmpeg logs an error and ends early with exit code 0.
            _check_disk(path)
        if is_at_end and process.returncode:
            raise _describe_failure(path, log, process.returncode)


def _may_be_infinite(log: IO[bytes]) -> bool:
    """Return whether the log names a decoder that can produce NaN or infinity, or no decoder at all."""
    log.seek(0)
    decoders = [line for line in log if b"Audio: " in line]
    return not decoders or any(MAY_BE_INFINITE.search(line) for line in decoders)


def _describe_failure(path: Path, log: IO[bytes], code: int) -> HearevalError:
    """Return the error for a failed ffmpeg: BadAudio only if the file is to blame."""
    if reason := describe_interruption(log, code):
        return HearevalError(f"ffmpeg on {path}", got=reason, expected="a complete run", remedy="Run again.")
    return BadAudio(
        f"audio file {path}",
        got=f"ffmpeg: {read_errors(log) or f'exit code {code}'}",
        expected="audio that ffmpeg can decode",
        remedy="The file is damaged or not audio: replace it, or fetch its archive again.",
    )


def _check_disk(path: Path) -> None:
    """Raise OSError if the disk cannot read a file to its end, so that the file is not blamed."""
    with open(path, "rb") as file:
        try:
            while file.read(BLOCK_FRAMES):
                pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
