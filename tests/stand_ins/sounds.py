"""Sounds that depend on their names alone: two integer triangle waves and a little noise a channel."""

from __future__ import annotations

import struct
import zlib

import numpy as np

# What libsndfile calls a sample format: the format tag in a wav header, and the bytes of a sample.
SUBTYPES = {"PCM_16": (1, 2), "PCM_24": (1, 3), "FLOAT": (3, 4)}


def generator(name: str) -> np.random.RandomState:
    """The random numbers that belong to a name."""
    return np.random.RandomState(zlib.crc32(name.encode()))


def tones(name: str, frames: int, rate: int, channels: int = 1) -> np.ndarray:
    """16-bit samples as integers, `(frames, channels)`."""
    draw, columns = generator(name), []
    for _ in range(channels):
        low, high = draw.randint(80, 600), draw.randint(600, 4000)
        column = _triangle(frames, low * 65536 // rate, 12000) + _triangle(frames, high * 65536 // rate, 4000)
        columns.append(column + draw.randint(-200, 201, frames))
    return np.stack(columns, axis=1)


def _triangle(frames: int, increment: int, peak: int) -> np.ndarray:
    # Products of 16-bit integers are the phase: they leave out what exceeds 65536.
    phase = np.arange(frames, dtype=np.int64).astype(np.uint16) * np.uint16(increment % 65536)
    return (2 * np.abs(phase.astype(np.int32) - 32768) - 32768) * peak >> 15


def low_bytes(name: str) -> np.random.RandomState:
    """The random numbers that fill the lowest bytes of the 24-bit file of a name."""
    return generator(f"low byte {name}")


def encoded(samples: np.ndarray, subtype: str, low: np.random.RandomState) -> bytes:
    """16-bit samples as a wav file has them; `low` fills the lowest bytes of a 24-bit one."""
    if subtype == "FLOAT":
        return (samples.astype("<f4") / 32768).tobytes()
    if subtype == "PCM_16":
        return samples.astype("<i2").tobytes()
    # Three quarters of a little-endian 32-bit integer: all but its highest byte.
    whole = (samples.astype("<i4") << 8) + low.randint(0, 256, samples.shape).astype("<i4")
    return whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def wav_header(frames: int, channels: int, rate: int, subtype: str) -> bytes:
    """The 44 bytes in front of the samples."""
    tag, width = SUBTYPES[subtype]
    frame, size = channels * width, frames * channels * width
    riff = struct.pack("<4sI4s", b"RIFF", 36 + size + size % 2, b"WAVE")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate, rate * frame, frame, 8 * width)
    return riff + form + struct.pack("<4sI", b"data", size)


def wav(name: str, samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> bytes:
    """A wav file of 16-bit samples, `(frames, channels)`, in any subtype."""
    content = encoded(samples, subtype, low_bytes(name))
    return wav_header(*samples.shape, rate, subtype) + content + bytes(len(content) % 2)


def sound(
    corpus: str, member: str, seconds: float, rate: int, channels: int = 1, subtype: str = "PCM_16"
) -> bytes:
    """A wav file that depends on the corpus' and the member's name alone."""
    name = f"{corpus}/{member}"
    return wav(name, tones(name, round(seconds * rate), rate, channels), rate, subtype)
