"""An encoder: what a model returns for sound, and how its frames lie in time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Callable

import torch
from torch import Tensor

from heareval.embeddings.adapters.errors import AdapterError, SceneOnlyError
from heareval.embeddings.adapters.waves import HALF_BAND, halve_rate, pad_to

__version__ = "1"

# Samples of padded windows that are embedded at once: 8 windows of 30 s at 16 kHz. A batch of short clips
# would otherwise grow to many times its size.
WINDOW_SAMPLES = 8 * 30 * 16000
# Models at this rate get clips at twice the rate, because HEAR prepares no clips at theirs.
HALVED_RATE = 24000

# Maps waves `(clips, samples)` to frames `(clips, frames, size)`, or to scenes `(clips, size)`.
# Python 3.8 evaluates these and can't subscript `tuple` and collections.abc.Callable.
Embed = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Encoder:
    """A model and how its frames lie in time.

    Frame `i` of a clip is centred at `first_ms + i * hop_ms`.

    Args:
        network: the model, which is moved to the device.
        frames: waves `(clips, samples)` -> `(clips, frames, size)`; None for a model of scenes only.
        sample_rate: in Hz.
        hop_ms: distance of two frames.
        first_ms: centre of the first frame.
        size: size of a frame.
        scene: waves -> `(clips, scene_size)`; None = the mean of the frames over time.
        scene_size: size of a scene embedding.
        shortest: a clip of fewer samples is padded to it with zeros.
        window: samples of the input that the model always takes; 0 = any number. A shorter clip is padded by
            `frames` and `scene` themselves, a longer one is embedded in pieces.
        window_frames: how many frames of a window are kept: the next piece begins where they end.
        facts: further facts for the scores.
    """

    network: torch.nn.Module
    frames: Embed | None
    sample_rate: int
    hop_ms: float
    first_ms: float
    size: int
    scene: Embed | None = None
    scene_size: int = 0
    shortest: int = 1
    window: int = 0
    window_frames: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    def embed_frames(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames `(clips, frames, size)` of waves and their centres `(clips, frames)` in ms."""
        if self.frames is None:
            raise SceneOnlyError(f"{type(self.network).__name__} has scene embeddings only")
        duration_ms = 1000 * waves.shape[1] / self.sample_rate
        waves = pad_to(waves, self.shortest)
        if self.window:
            # A window has padding at its end: only frames that are centred on the clip are kept.
            count = max(1, math.ceil((duration_ms - self.first_ms) / self.hop_ms - 1e-6))
            if waves.shape[1] <= self.window:
                count = min(count, self.window_frames)
            pieces = [_embed_apart(self.frames, piece, self.window) for piece in self._cut(waves, count)]
            frames = torch.cat([piece[:, : self.window_frames] for piece in pieces], dim=1)[:, :count]
        else:
            frames = self.frames(waves)
        check_shape(frames, waves)
        steps = torch.arange(frames.shape[1], dtype=torch.float64)
        times_ms = (self.first_ms + self.hop_ms * steps).to(frames.device, torch.float32)
        if frames.shape[1] == 1:
            # Part of the only frame of a short clip may be padding.
            times_ms = times_ms.clamp(max=duration_ms / 2)
        return frames.float(), times_ms.expand(len(frames), -1).contiguous()

    def embed_scene(self, waves: Tensor) -> Tensor:
        """Return the scene embeddings `(clips, scene_size)` of waves."""
        if self.scene is None:
            return self.embed_frames(waves)[0].mean(dim=1)
        waves = pad_to(waves, self.shortest)
        if not self.window or waves.shape[1] <= self.window:
            return _embed_apart(self.scene, waves, self.window).float()
        pieces = torch.split(waves, self.window, dim=1)
        scenes = [_embed_apart(self.scene, piece, self.window).float() for piece in pieces]
        # The last piece is shorter, and counts less.
        shares = [piece.shape[1] / waves.shape[1] for piece in pieces]
        return torch.stack([share * scene for share, scene in zip(shares, scenes)]).sum(dim=0)

    def _cut(self, waves: Tensor, count: int) -> list[Tensor]:
        """Return the pieces of at most a window that begin a whole number of frames apart."""
        step = round(self.window_frames * self.hop_ms * self.sample_rate / 1000)
        starts = range(0, max(1, math.ceil(count / self.window_frames)) * step, step)
        return [waves[:, start : start + self.window] for start in starts]


def halve_input(encoder: Encoder) -> Encoder:
    """Return an encoder that takes waves at twice the rate, and low-passes and halves them itself."""

    def halved(embed: Embed | None) -> Embed | None:
        return embed and (lambda waves: embed(halve_rate(waves)))

    return replace(
        encoder,
        frames=halved(encoder.frames),
        scene=halved(encoder.scene),
        sample_rate=2 * encoder.sample_rate,
        shortest=2 * encoder.shortest,
        window=2 * encoder.window,
        facts={**encoder.facts, "resampled": f"to {encoder.sample_rate} Hz by the adapter ({HALF_BAND})"},
    )


def check_shape(frames: Any, waves: Tensor) -> None:
    """Raise AdapterError unless frames are `(clips, frames, size)` with at least one frame."""
    shape = tuple(frames.shape) if isinstance(frames, Tensor) else type(frames).__name__
    if not isinstance(frames, Tensor) or frames.ndim != 3 or len(frames) != len(waves) or not frames.shape[1]:
        expected = f"a tensor of shape ({len(waves)}, frames, size)"
        raise AdapterError(f"frames of waves of shape {tuple(waves.shape)}", f"{shape}", expected)


def _embed_apart(embed: Embed, waves: Tensor, window: int) -> Tensor:
    """Return what a function makes of waves, a few clips at a time if each is padded to a window."""
    if not window:
        return embed(waves)
    parts = torch.split(waves, max(1, WINDOW_SAMPLES // window))
    return torch.cat([embed(part) for part in parts])


class HearModel(torch.nn.Module):
    """An encoder with the attributes of the HEAR API."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.network = encoder, encoder.network
        self.sample_rate = encoder.sample_rate
        self.scene_embedding_size = encoder.scene_size or encoder.size
        self.timestamp_embedding_size = encoder.size

    @property
    def heareval_facts(self) -> dict[str, Any]:
        """What scores record of the model: its size, its rate, and how its frames lie in time."""
        of_frames = {"hop_ms": self.encoder.hop_ms, "first_ms": self.encoder.first_ms}
        return {
            "parameters": sum(each.numel() for each in self.network.parameters()),
            "sample_rate": self.sample_rate,
            "scene_embedding_size": self.scene_embedding_size,
            "timestamp_embedding_size": self.timestamp_embedding_size if self.encoder.frames else None,
            **(of_frames if self.encoder.frames else {}),
            **self.encoder.facts,
        }


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Return frames `(n_sounds, n_timestamps, size)` and their centres `(n_sounds, n_timestamps)` in ms."""
    return model.encoder.embed_frames(audio)


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Return scene embeddings `(n_sounds, scene_embedding_size)`."""
    return model.encoder.embed_scene(audio)
