"""Find the samples in a wav file, also where its header is not the one that heareval writes."""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from io import FileIO

# Bytes before the samples of a wav file as heareval writes it.
HEADER_BYTES = 44
PCM, EXTENSIBLE = 1, 0xFFFE
# The end of a subformat of WAVE_FORMAT_EXTENSIBLE; the format comes before it.
SUBFORMAT_END = b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
# A program that writes to a pipe can't fill in the size of the samples. It leaves 0, or a number like these.
OPEN_SIZE = 0x7FFF0000


class WavError(Exception):
    """A file is no wav file whose samples can be found."""


@dataclass(frozen=True)
class Samples:
    """Where the samples of a wav file are, and of which kind.

    Args:
        start: bytes before them.
        frames: how many there are in each channel.
        channels: the number of channels.
        sample_bytes: bytes per sample.
        sample_rate: in Hz.
    """

    start: int
    frames: int
    channels: int
    sample_bytes: int
    sample_rate: int


def find_samples(file: FileIO) -> Samples:
    """Return where the samples of a wav file are.

    Accepts WAVE_FORMAT_EXTENSIBLE, RF64, chunks of other kinds, and samples whose size was left open, which
    then go on to the end of the file. libsndfile reads all of these alike, except for an open size of 0: it
    takes that for an empty file. ffmpeg does not.

    Args:
        file: the file, opened at its beginning.

    Raises:
        WavError: the file has no such header, or ends before its samples do.
    """
    facts = os.fstat(file.fileno())
    if not stat.S_ISREG(facts.st_mode):
        raise WavError("not a regular file")
    head = file.read(HEADER_BYTES)
    return _parse_plain_header(head, facts.st_size) or _read_chunks(file, head, facts.st_size)


def _parse_plain_header(head: bytes, file_bytes: int) -> Samples | None:
    """Return the samples after the header that heareval writes; None after any other header."""
    if len(head) < HEADER_BYTES or head[:4] != b"RIFF" or head[8:20] != b"WAVEfmt \x10\0\0\0":
        return None
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", head[20:36])
    (size,) = struct.unpack("<I", head[40:44])
    is_plain = (kind, channels, bits) == (PCM, 1, 16) and head[36:40] == b"data"
    is_there = 0 < size <= file_bytes - HEADER_BYTES
    return Samples(HEADER_BYTES, size // 2, channels, 2, rate) if is_plain and is_there else None


def _read_chunks(file: FileIO, head: bytes, file_bytes: int) -> Samples:
    if head[:4] not in (b"RIFF", b"RF64") or head[8:12] != b"WAVE":
        raise WavError(f"a file that begins with {head[:12]!r}")
    kind, long_size, position = None, 0, 12
    while True:
        file.seek(position)
        name, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        position += 8
        if position > file_bytes:
            raise WavError("a header without a 'data' chunk" if kind else "a header without a 'fmt ' chunk")
        if name == b"ds64":
            _, long_size = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))
        elif name == b"fmt ":
            kind = _parse_format(file.read(40))
        elif name == b"data" and kind:
            break
        # Chunks begin at even places.
        position += size + size % 2
    channels, rate, sample_bytes = kind
    if head[:4] == b"RF64" and size == 0xFFFFFFFF and long_size:
        size = long_size
    frame_bytes, there = channels * sample_bytes, file_bytes - position
    (whole,) = struct.unpack("<I", head[4:8])
    # An empty clip with further chunks has a size of 0, too; there, the size of the whole file covers those.
    if (size == 0 and 8 + whole <= position) or (size >= OPEN_SIZE and size > there):
        size = there
    if size > there:
        raise WavError(f"{there // frame_bytes} samples, where its header says {size // frame_bytes}")
    return Samples(position, size // frame_bytes, channels, sample_bytes, rate)


def _parse_format(content: bytes) -> tuple[int, int, int]:
    """Return channels, rate and bytes per sample from a `fmt ` chunk."""
    if len(content) < 16:
        raise WavError("a 'fmt ' chunk that is cut off")
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if kind == EXTENSIBLE and content[26:40] == SUBFORMAT_END:
        (kind,) = struct.unpack("<H", content[24:26])
    if kind != PCM or not channels or not bits:
        raise WavError(f"samples of format {kind}, with {channels} channels of {bits} bits")
    return channels, rate, (bits + 7) // 8
