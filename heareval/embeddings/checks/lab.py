"""A submission on its device, ready to be asked by the checks, and the sounds they ask with."""

from __future__ import annotations

import functools
import importlib
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

API = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")


@dataclass(frozen=True)
class Found:
    """What a check found: `ok`, `warning`, `failed` or `not run`, and what it measured."""

    result: str
    measured: str


def graded(value: float, limits: tuple[float, float], measured: str) -> Found:
    """`ok` up to the first limit, `warning` up to the second, else `failed`."""
    good, fair = limits
    return Found("ok" if value <= good else "warning" if value <= fair else "failed", measured)


class NoDeviceError(Exception):
    """The device that the user asked for is not there, which is no fault of the submission's code."""


class Lab:
    """A submission on its device, ready to be asked; loaded when the first check needs it."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        # Kept for the checks that look at the same long audio.
        self.tried_long: Any = None

    @functools.cached_property
    def module(self) -> Any:
        """The imported module."""
        return importlib.import_module(self.job["module"])

    def load(self, file: str) -> Any:
        """A new model, moved to its device."""
        model = self.module.load_model(file, **self.job["options"])
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(model, torch.nn.Module):
            model.to(self.device).eval()
        return model

    @functools.cached_property
    def model(self) -> Any:
        """The model that all checks share."""
        return self.load(self.job["model"])

    @property
    def device_kind(self) -> str:
        """`cuda` or `cpu`: what was asked for, or else a GPU if there is one."""
        asked = self.job["device"]
        return asked if asked != "auto" else "cuda" if sys.modules["torch"].cuda.is_available() else "cpu"

    @property
    def device(self) -> Any:
        """Where the model and the audio are."""
        torch = sys.modules["torch"]
        if self.device_kind == "cuda" and not torch.cuda.is_available():
            raise NoDeviceError("asked for cuda, and there is no GPU that this torch can use")
        return torch.device("cuda:0" if self.device_kind == "cuda" else "cpu")

    def raw(self, name: str, audio: np.ndarray, model: Any = None) -> Any:
        """What a function of the submission answers."""
        torch = sys.modules["torch"]
        with torch.no_grad():
            audio = torch.from_numpy(audio.copy()).to(self.device)
            return getattr(self.module, name)(audio, self.model if model is None else model)

    def scene(self, audio: np.ndarray, model: Any = None) -> np.ndarray:
        """Scene embeddings `(sounds, size)`."""
        answer: np.ndarray = self.raw(API[1], audio, model).cpu().numpy()
        return answer

    def frames(self, audio: np.ndarray, model: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Timestamp embeddings `(sounds, timestamps, size)` and timestamps in ms."""
        embeddings, times = self.raw(API[2], audio, model)
        return embeddings.cpu().numpy(), times.cpu().numpy().astype(np.float64)

    def both(self, audio: np.ndarray, model: Any = None) -> list[np.ndarray]:
        """Scene and timestamp embeddings."""
        return [self.scene(audio, model), self.frames(audio, model)[0]]

    def sounds(self, count: int, seconds: float, seed: int = 0) -> np.ndarray:
        """Sounds that differ in pitch, loudness, rhythm and noise: float32 `(count, samples)`."""
        draw, rate = np.random.default_rng(seed), self.model.sample_rate
        t = np.arange(round(seconds * rate)) / rate
        sounds = np.empty((count, len(t)), np.float32)
        for i in range(count):
            tone = np.sin(2 * np.pi * 110 * 2 ** (i * 7 % 36 / 12) * t) * (
                1 + np.sin(2 * np.pi * (i + 1) * t)
            )
            sounds[i] = 0.6 / (1 + i % 4) * (0.4 * tone + 0.1 * draw.uniform(-1, 1, len(t)))
        return sounds

    @functools.cached_property
    def stamps(self) -> np.ndarray:
        """Timestamps of two clips of 4 s."""
        return self.frames(self.sounds(2, 4.0))[1]

    @property
    def hop_ms(self) -> float:
        """The usual distance of two timestamps."""
        return float(np.median(np.diff(self.stamps[0])))
