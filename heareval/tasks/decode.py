"""From a file that should be sound to blocks of 16-bit mono samples, or to a line that says what is wrong."""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
import stat
import struct
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import ffmpeg
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import soundfile

from heareval.errors import HearevalError

BLOCK_FRAMES = 1 << 18
# Whales are recorded at 2 kHz, bats at 384 kHz, and converters end at 768 kHz. What is beyond is a damaged
# header: a second at 4 GHz would fill the disk.
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1000, 768_000

Samples = npt.NDArray[np.int16]
Convert = Callable[[npt.NDArray[Any]], Samples]
# The number of frames to read at a file's rate, -1 for all.
FramesAt = Callable[[int], int]


class BadAudio(HearevalError):  # noqa: N818
    """A source file's own fault: it holds no sound, or none that can be used."""


@dataclass(frozen=True)
class Block:
    """Some 16-bit mono samples of a file, never none, and the file's rate in Hz."""

    samples: Samples
    rate: int


def read_blocks(
    path: Path, start: int, frames_at: FramesAt, *, floor: bool = False
) -> Generator[Block, None, None]:
    """16-bit mono samples of a file, at least one.

    Lossless files whose conversion to 16 bit has been measured are read here; what else there is
    goes through ffmpeg, as everything did in 2021.

    Args:
        start: first frame.
        frames_at: the number of frames to read at the file's rate, -1 for all.
        floor: the mean of the channels is cut to 16 bit, whatever the file holds.

    Raises BadAudio for what is the file's own fault, OSError for a file that can't be read at all.
    """
    _check_is_file(path)
    missing_from = yield from _lossless_blocks(path, start, frames_at, floor)
    if missing_from is None:
        return
    if floor:
        raise BadAudio(f"audio file {path}", got="none that libsndfile can read", expected="a lossless one")
    there = yield from _ffmpeg_blocks(path, start, frames_at, missing_from)
    if not there and not missing_from:
        raise BadAudio(
            f"audio file {path}",
            got="no samples",
            expected="at least one",
            remedy="The file is empty or damaged: replace it, or fetch its archive again.",
        )


def _check_is_file(path: Path) -> None:
    """A pipe or a device might never end."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        got = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise BadAudio(f"audio file {path}", got=got, expected="a file with sound")


def _check_rate(rate: int, path: Path) -> None:
    if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
        expected = f"{LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz"
        raise BadAudio(f"audio file {path}", got=f"{rate} Hz", expected=expected)


def _finite(block: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if not np.isfinite(block).all():
        raise BadAudio(f"audio file {path}", got="NaN or infinity", expected="finite samples")
    return block


# --------------------------------------------------------------------------- libsndfile


def _lossless_blocks(
    path: Path, start: int, frames_at: FramesAt, floor: bool
) -> Generator[Block, None, int | None]:
    """What libsndfile reads of a file; at the end the number of these frames if ffmpeg must go on, else None.

    Files are opened by number: libsndfile takes the name `-` for the standard input.
    """
    done = 0
    try:
        with open(path, "rb") as file, soundfile.SoundFile(file.fileno(), closefd=False) as source:
            rule = _rule(source, file, floor)
            if rule is None:
                return 0
            dtype, to_mono = rule
            _check_rate(source.samplerate, path)
            frames = max(0, source.frames - start)
            if (wanted := frames_at(source.samplerate)) >= 0:
                frames = min(frames, wanted)
            source.seek(min(start, source.frames))
            while done < frames:
                raw = source.read(min(BLOCK_FRAMES // source.channels, frames - done), dtype=dtype)
                if not len(raw):
                    # libsndfile takes a disk that can't be read for the end of the file.
                    _read_to_the_end(path)
                    return done
                yield Block(to_mono(_finite(raw, path)), source.samplerate)
                done += len(raw)
    except soundfile.LibsndfileError:
        return done
    # Programs that write to a pipe leave a length of 0 in the header; ffmpeg reads on.
    return None if done else 0


LOSSLESS = {"WAV", "WAVEX", "FLAC", "AIFF"}
# An extensible header may place few bits in many, and two channels anywhere around the head.
PLAIN_EXTENSIBLE = re.compile(r"Bit Width +: (\d+)\n.*\n +Valid Bits +: \1\n +Channel Mask +: 0x[0-4] ")
CHANNEL_MASK = b"WAVEFORMATEXTENSIBLE_CHANNEL_MASK"
COMMENTS_BYTES = 1 << 16


def _rule(source: Any, file: IO[bytes], floor: bool) -> tuple[str, Convert] | None:
    """What to read of a file, and how it becomes 16-bit mono; None where only ffmpeg knows."""
    if source.format not in LOSSLESS:
        return None
    if floor:
        return "float32", _floor_to_16_bit
    if source.format == "WAVEX" and not PLAIN_EXTENSIBLE.search(source.extra_info):
        return None
    # The compressed kind contradicts itself at times; the chunk CHAN places the channels.
    if source.format == "AIFF" and re.search("AIFC|CHAN ", source.extra_info):
        return None
    if source.format == "FLAC" and source.channels == 2 and CHANNEL_MASK in _beginning(file):
        return None
    return TO_16_BIT_MONO.get((source.subtype, source.channels))


def _beginning(file: IO[bytes]) -> bytes:
    """A file's first bytes; its position, which libsndfile shares, stays where it is."""
    return os.pread(file.fileno(), COMMENTS_BYTES, 0)


def _round_to_16_bit(wave: npt.NDArray[np.float64]) -> Samples:
    return np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)


def _floor_to_16_bit(wave: npt.NDArray[np.float32]) -> Samples:
    mono = wave.mean(axis=1) if wave.ndim > 1 else wave
    return np.clip(np.floor(mono * 32768), -32768, 32767).astype(np.int16)


# (subtype, channels) -> what to read and how it becomes 16-bit mono; all measured on ffmpeg.
TO_16_BIT_MONO: dict[tuple[str, int], tuple[str, Convert]] = {
    ("PCM_16", 1): ("int16", lambda x: x),
    ("PCM_16", 2): ("int16", lambda x: ((x[:, 0].astype(np.int32) + x[:, 1] + 1) >> 1).astype(np.int16)),
    ("PCM_U8", 1): ("int16", lambda x: x),
    # Truncated, not rounded: the file's three bytes fill the upper part of the integer.
    ("PCM_24", 1): ("int32", lambda x: (x >> 16).astype(np.int16)),
    ("PCM_24", 2): ("float64", lambda x: _round_to_16_bit(x.mean(axis=1))),
    ("FLOAT", 1): ("float64", _round_to_16_bit),
}

# --------------------------------------------------------------------------- ffmpeg

# Containers that hold their sound themselves. A playlist names other files, and module music need not end.
CONTAINERS = (
    "3gp,aa,aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,iff,ircam,loas,"
    "m4a,matroska,mlp,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,oga,ogg,oma,paf,pvf,rm,sds,shn,"
    "sln,sox,spdif,svx,tak,truehd,tta,voc,w64,wav,webm,wsd,wv"
)
# Decoders of numbers that need not be finite, as the lossy ones are.
MAY_BE_INFINITE = re.compile(rb"Audio: (pcm_f\w+|wavpack|mp4als)")
ERROR = re.compile(rb"\[(error|fatal|panic)\] ")
ADDRESS = re.compile(rb" @ 0x[0-9a-f]+")
# What ffmpeg says where the machine gives it no more: a signal, or no thread or memory for its own parts.
STOPPED = (b"received signal", os.strerror(errno.EAGAIN).encode(), b"Could not open encoder")
# These only say again which file it was.
REPEATED = b"Error opening input file"
# What a shell and a loader answer in place of a program.
NOT_STARTED = (126, 127)


def _ffmpeg_blocks(path: Path, start: int, frames_at: FramesAt, done: int) -> Generator[Block, None, bool]:
    """What ffmpeg decodes from a frame on, without the first `done`; at the end whether there was any."""
    is_any, is_doubtful = False, False
    with _decoder(path, "pcm_s16be") as (sound, log):
        if rate := _rate_of_au(sound):
            _check_rate(rate, path)
            wanted = frames_at(rate)
            frames = wanted if wanted < 0 else max(0, wanted - done)
            for data in _stretch(sound, 2, start + done, frames):
                is_any = True
                yield Block(np.frombuffer(data, ">i2").astype(np.int16), rate)
            is_doubtful = is_any and _may_be_infinite(log)
    if is_doubtful:
        _check_finite(path, start + done, frames)
    return is_any


def _check_finite(path: Path, start: int, frames: int) -> None:
    """Decode once more, to the numbers from which the 16 bits were made: these hide what was infinite."""
    with _decoder(path, "pcm_f64be") as (sound, _):
        _rate_of_au(sound)
        for data in _stretch(sound, 8, start, frames):
            _finite(np.frombuffer(data, ">f8"), path)


def _rate_of_au(sound: IO[bytes]) -> int:
    """The rate in the header of an AU stream, which is read to its end; 0 if there is none.

    AU has a header of plain numbers at the front, which a pipe can carry, unlike wav's sizes.
    """
    header = sound.read(24)
    if len(header) < 24:
        return 0
    offset, _, _, rate, _ = struct.unpack(">5I", header[4:])
    sound.read(offset - 24)
    return int(rate)


def _stretch(sound: IO[bytes], width: int, start: int, frames: int) -> Iterator[bytes]:
    """The bytes of some frames from `start` on, -1 for all, in pieces of whole frames."""
    while start:
        passed = len(sound.read(width * min(start, BLOCK_FRAMES))) // width
        if not passed:
            return
        start -= passed
    while frames:
        data = sound.read(width * (BLOCK_FRAMES if frames < 0 else min(frames, BLOCK_FRAMES)))
        # An ffmpeg that is killed may leave half a frame.
        there = len(data) // width
        if not there:
            return
        yield data[: there * width]
        if frames > 0:
            frames -= there


@contextmanager
def _decoder(path: Path, codec: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """An ffmpeg at work: the mono sound that it makes of a file, as AU, and what it says about it.

    Whoever leaves before the end of the sound has enough of it; else it counts how ffmpeg ended.
    """
    source = ffmpeg.input(named(path), format_whitelist=CONTAINERS)
    stream = source.output("pipe:", map="0:a:0", format="au", acodec=codec, ac=1)
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            ffmpeg_command(stream), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        sound, is_over = cast("IO[bytes]", process.stdout), False
        try:
            yield sound, log
            is_over = not sound.read(1)
        finally:
            if not is_over:
                process.kill()
        if is_over and (process.wait() or complaints(log)):
            # Where a disk can't be read ffmpeg ends early, with a complaint and exit code 0.
            _read_to_the_end(path)
        if is_over and process.returncode:
            raise _failure(path, log, process.returncode)


def _may_be_infinite(log: IO[bytes]) -> bool:
    """Whether ffmpeg names a decoder whose numbers need not be finite, or none at all."""
    log.seek(0)
    decoders = [line for line in log if b"Audio: " in line]
    return not decoders or any(MAY_BE_INFINITE.search(line) for line in decoders)


def _failure(path: Path, log: IO[bytes], code: int) -> HearevalError:
    """Why ffmpeg could not decode a file: whatever is not the file's own fault is no `BadAudio`."""
    if why := how_it_was_stopped(log, code):
        return HearevalError(f"ffmpeg on {path}", got=why, expected="to end by itself", remedy="Run again.")
    return BadAudio(
        f"audio file {path}",
        got=f"ffmpeg: {complaints(log) or f'exit code {code}'}",
        expected="sound that ffmpeg can decode",
        remedy="The file is damaged or not audio: replace it, or fetch its archive again.",
    )


def how_it_was_stopped(log: IO[bytes], code: int) -> str:
    """What kept ffmpeg from its work, or from starting; "" if it came to its own end."""
    log.seek(0)
    last = deque((line for line in log if code in NOT_STARTED or any(s in line for s in STOPPED)), maxlen=1)
    if last:
        return last[0].decode(errors="replace").strip()
    if code < 0:
        return f"killed by signal {-code}"
    return f"exit code {code}" if code in NOT_STARTED else ""


def _read_to_the_end(path: Path) -> None:
    """Raise OSError if the disk is to blame, not the file."""
    with open(path, "rb") as file:
        try:
            while file.read(BLOCK_FRAMES):
                pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


def complaints(log: IO[bytes]) -> str:
    """The last errors that ffmpeg told; all of them may be many, and some say where in memory it was."""
    log.seek(0)
    last = deque((line for line in log if ERROR.search(line) and REPEATED not in line), maxlen=3)
    told = (ERROR.sub(b"", ADDRESS.sub(b"", line)).decode(errors="replace").strip() for line in last)
    return " / ".join(dict.fromkeys(told))


def named(path: Path) -> str:
    """A file's name for ffmpeg, to which `-x`, `pipe:0` or `concat:a|b` would mean something else."""
    # A name may be bytes that are no text, and ffmpeg-python takes text.
    return "file:" + os.fsencode(path.absolute()).decode("latin-1")


def ffmpeg_command(stream: object) -> list[str | bytes]:
    """The words of a command that tells on its standard error what it finds, each line with its level."""
    program = ffmpeg_program()
    words: list[str] = ffmpeg.compile(stream, cmd=program, overwrite_output=True)[1:]
    manners = ("-v", "level+info", "-hide_banner", "-nostats")
    return [program, *manners, *(word.encode("latin-1") for word in words)]


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
