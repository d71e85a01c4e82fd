"""Waves prepared for models: normalised, padded, halved in rate, or turned into log-mel spectrograms."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__version__ = "2"

HALF_BAND = "257 taps, Kaiser 12"
_TAPS, _KAISER_BETA = 257, 12.0


def pad_to(waves: Tensor, samples: int) -> Tensor:
    """Return waves `(clips, samples)` with zeros at the end of those that are shorter."""
    missing = samples - waves.shape[-1]
    return functional.pad(waves, (0, missing)) if missing > 0 else waves


def standardise(waves: Tensor) -> Tensor:
    """Return each wave with zero mean and unit variance, as Wav2Vec2FeatureExtractor computes them."""
    mean = waves.mean(dim=1, keepdim=True)
    return (waves - mean) / (waves.var(dim=1, keepdim=True, unbiased=False) + 1e-7).sqrt()


def halve_rate(waves: Tensor) -> Tensor:
    """Return waves at half their rate: low-passed, then every second sample.

    The windowed sinc falls by 6 dB at a quarter of the input's rate. It is flat to 0.1 dB up to 93 % of that,
    and 100 dB down from 109 % of it on. Sample `i` of the output stays at the time of sample `2 * i`.
    """
    taps = _half_band_taps().to(waves)
    padded = functional.pad(waves, (_TAPS // 2, _TAPS // 2))
    with _in_full_precision(waves):
        return functional.conv1d(padded[:, None], taps[None, None], stride=2)[:, 0]


@functools.lru_cache(maxsize=None)
def _half_band_taps() -> Tensor:
    offsets = torch.arange(_TAPS, dtype=torch.float64) - _TAPS // 2
    window = torch.kaiser_window(_TAPS, periodic=False, beta=_KAISER_BETA, dtype=torch.float64)
    taps = torch.sinc(offsets / 2) * window
    return taps / taps.sum()


def make_spectrogram(waves: Tensor, window: Tensor, n_fft: int, hop: int) -> Tensor:
    """Return the power spectrum around every `hop`-th sample `(clips, frequencies, frames)`.

    Waves are reflected at their ends, as by librosa.
    """
    with _in_full_precision(waves):
        spectrum = torch.stft(
            waves.float(), n_fft, hop, window=window.to(waves.device), return_complex=True, center=True
        )
        return spectrum.real.square() + spectrum.imag.square()


def make_kaldi_fbank(waves: Tensor, window: Tensor, filters: Tensor) -> Tensor:
    """Return Kaldi's log-mel features of waves `(clips, frames, mels)`: 25 ms every 10 ms, at 16 kHz.

    Args:
        waves: `(clips, samples)` with at least 400 samples.
        window: 400 samples.
        filters: `(257, mels)`.
    """
    with _in_full_precision(waves):
        frames = waves.float().unfold(1, 400, 160)
        frames = frames - frames.mean(dim=2, keepdim=True)
        before = functional.pad(frames, (1, 0), mode="replicate")[..., :-1]
        spectrum = torch.fft.rfft((frames - 0.97 * before) * window.to(waves.device), n=512)
        mels = (spectrum.real.square() + spectrum.imag.square()) @ filters.to(waves.device)
        return torch.log(mels.clamp(min=torch.finfo(torch.float32).eps))


def multiply_precisely(filters: Tensor, power: Tensor) -> Tensor:
    """Return mel filters `(mels, frequencies)` times a power spectrum `(clips, frequencies, frames)`."""
    with _in_full_precision(power):
        return filters @ power


def as_tensor(array: Any) -> Tensor:
    """Return an array of a feature extractor, such as its filters, as float32."""
    return torch.as_tensor(array).float()


def _in_full_precision(waves: Tensor) -> Any:
    """Return a context in which autocast, which `--precision bf16` uses, leaves results in float32."""
    return torch.autocast(waves.device.type, enabled=False)
