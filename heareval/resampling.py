"""Resample audio with libsoxr: one sound at once, or block by block with resamplers that are used again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import soxr

Samples = npt.NDArray[np.int16]

QUALITY = "HQ"
# The sources of most tasks have a single rate. This bounds the memory for a task whose sources have many.
MAX_IDLE_RESAMPLERS = 16


class Resampler:
    """Converts sounds from one sample rate to another, block by block, one sound at a time.

    libsoxr "HQ", rounded to 16 bit without dither, so the same input always gives the same bytes.
    """

    def __init__(self, rate: int, target_rate: int) -> None:
        self.rate, self.target_rate = rate, target_rate
        self._stream = soxr.ResampleStream(rate, target_rate, 1, dtype="float32", quality=QUALITY)

    def convert(self, block: Samples, is_last: bool) -> Samples:
        """Return the next samples at the target rate; those of the last block complete the sound."""
        wave: npt.NDArray[np.float32] = self._stream.resample_chunk(block.astype(np.float32), last=is_last)
        return np.clip(np.rint(wave, out=wave), -32768, 32767, out=wave).astype(np.int16)

    def reset(self) -> None:
        """Forget the current sound; the next block begins another one."""
        self._stream.clear()


class ResamplerPool:
    """Lends resamplers and keeps them for the next clip.

    Designing the filter of a new resampler takes as long as resampling one second of audio.
    """

    def __init__(self) -> None:
        self._idle: list[Resampler] = []

    @contextmanager
    def borrow(self, rate: int, target_rate: int) -> Iterator[Resampler]:
        """Lend a resampler that nobody else uses at the same time."""
        resampler = self._take(rate, target_rate) or Resampler(rate, target_rate)
        try:
            yield resampler
        finally:
            resampler.reset()
            self._idle = [*self._idle, resampler][-MAX_IDLE_RESAMPLERS:]

    def _take(self, rate: int, target_rate: int) -> Resampler | None:
        for i, resampler in enumerate(self._idle):
            if (resampler.rate, resampler.target_rate) == (rate, target_rate):
                return self._idle.pop(i)
        return None


def resample(samples: Samples, rate: int, target_rate: int) -> Samples:
    """Return samples at another rate, both in Hz; there are floor(n * target_rate / rate + 0.5) of them.

    >>> len(resample(np.zeros(44100, np.int16), 44100, 16000))
    16000
    """
    return Resampler(rate, target_rate).convert(samples, True) if rate != target_rate else samples
