"""A complete submission in one file: a random projection of the log-mel spectrum. Copy it to write your own.

HEAR calls three functions of a submission: `load_model`, `get_scene_embeddings` and
`get_timestamp_embeddings`. The model has attributes for its sample rate and the sizes of its embeddings.
"""

from __future__ import annotations

import torch
from torch import Tensor

SAMPLE_RATE = 16000
HOP = 400  # 25 ms: the tolerance of the note task is 50 ms
# 128 ms: long enough to distinguish semitones above 200 Hz, short enough to locate an onset.
WINDOW = 2048
N_MELS = 128
LOWEST_HZ, HIGHEST_HZ = 20.0, 8000.0
# Added to the mel power, about 100 dB below full scale, so that silence has a finite logarithm.
FLOOR = 1e-6
# Frames transformed at once, over all sounds of a batch: limits the memory for long audio.
BLOCK_FRAMES = 4096


class Baseline(torch.nn.Module):
    """Maps frames of audio `(..., WINDOW)` to embeddings `(..., timestamp_embedding_size)`."""

    window: Tensor
    filters: Tensor
    projection: Tensor

    def __init__(self, embedding_size: int, seed: int) -> None:
        super().__init__()
        self.sample_rate = SAMPLE_RATE
        self.timestamp_embedding_size = embedding_size
        self.scene_embedding_size = 2 * embedding_size
        generator = torch.Generator().manual_seed(seed)
        projection = torch.randn(N_MELS, embedding_size, generator=generator) / N_MELS**0.5
        # A model file contains only the projection: the rest is computed.
        self.register_buffer("projection", projection)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("filters", mel_filters(), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        power = torch.fft.rfft(frames * self.window).abs().square()
        return torch.log(power @ self.filters + FLOOR) @ self.projection


def load_model(model_file_path: str = "", *, embedding_size: int = 512, seed: int = 0) -> Baseline:
    """Return the model, on the CPU.

    Args:
        model_file_path: a saved `model.state_dict()`; "" = a random projection.
        embedding_size: size of timestamp embeddings, as in the model file; scene embeddings have twice
            this size.
        seed: seed of the random projection.
    """
    model = Baseline(embedding_size, seed)
    if model_file_path:
        model.load_state_dict(torch.load(model_file_path, map_location="cpu", weights_only=True))
    return model.eval()


@torch.no_grad()
def get_timestamp_embeddings(audio: Tensor, model: Baseline) -> tuple[Tensor, Tensor]:
    """Return embeddings at regular times, each of the sound around its timestamp.

    Args:
        audio: `(n_sounds, n_samples)` float32 in [-1, 1] at the model's sample rate.

    Returns:
        Embeddings `(n_sounds, n_timestamps, timestamp_embedding_size)` float32 and
        timestamps `(n_sounds, n_timestamps)` float32 in milliseconds: 0, 25, 50 ...
    """
    if audio.ndim != 2 or audio.shape[1] == 0:
        raise ValueError(f"audio: got shape {tuple(audio.shape)}, expected (n_sounds, n_samples)")
    # Half a window of zeros in front centres frame i on sample i * HOP.
    padded = torch.nn.functional.pad(audio.to(model.projection.device), (WINDOW // 2, WINDOW // 2))
    frames = padded.unfold(1, WINDOW, HOP)
    blocks = torch.split(frames, max(1, BLOCK_FRAMES // max(1, len(audio))), dim=1)
    embeddings = torch.cat([model(block) for block in blocks], dim=1)
    times_ms = torch.arange(frames.shape[1], device=embeddings.device) * (1000.0 * HOP / SAMPLE_RATE)
    return embeddings, times_ms.expand(len(audio), -1).contiguous()


@torch.no_grad()
def get_scene_embeddings(audio: Tensor, model: Baseline) -> Tensor:
    """Return mean and standard deviation over time: `(n_sounds, scene_embedding_size)` float32.

    Args:
        audio: `(n_sounds, n_samples)` float32 in [-1, 1] at the model's sample rate.
    """
    embeddings, _ = get_timestamp_embeddings(audio, model)
    return torch.cat([embeddings.mean(dim=1), embeddings.std(dim=1, correction=0)], dim=1)


def mel_filters() -> Tensor:
    """Return triangular mel filters `(WINDOW // 2 + 1, N_MELS)`, to be multiplied with power spectra."""
    span_mel = 2595 * torch.log10(1 + torch.tensor([LOWEST_HZ, HIGHEST_HZ]) / 700)
    edges_mel = torch.linspace(span_mel[0].item(), span_mel[1].item(), N_MELS + 2)
    edges_hz = 700 * (10 ** (edges_mel / 2595) - 1)
    left, middle, right = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    bins_hz = torch.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)[:, None]
    rising, falling = (bins_hz - left) / (middle - left), (right - bins_hz) / (right - middle)
    return torch.minimum(rising, falling).clamp(min=0)
