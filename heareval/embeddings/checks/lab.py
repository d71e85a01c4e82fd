"""A submission on its device, ready to be asked by the checks, and the sounds they ask with."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from heareval.embeddings.worker import API, Framework, Submission, framework_of, prepare_environment


@dataclass(frozen=True)
class Found:
    """What a check found: `ok`, `warning`, `failed` or `not run`, and what it measured."""

    result: str
    measured: str


def graded(value: float, limits: tuple[float, float], measured: str) -> Found:
    """`ok` up to the first limit, `warning` up to the second, else `failed`."""
    good, fair = limits
    return Found("ok" if value <= good else "warning" if value <= fair else "failed", measured)


class Lab:
    """A submission on its device, ready to be asked; loaded when the first check needs it."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        # Kept for the checks that look at the same long audio.
        self.tried_long: Any = None

    @functools.cached_property
    def module(self) -> Any:
        """The imported module."""
        prepare_environment(self.job["device"])
        return importlib.import_module(self.job["module"])

    def made(self, file: str) -> Any:
        """What load_model gives."""
        return self.module.load_model(file, **self.job["options"])

    def load(self) -> Submission:
        """A new model on its device, in the precision of a run."""
        model = self.made(self.job["model"])
        framework = framework_of(model)(self.job["device"], "float32")
        framework.settle(model)
        return Submission(self.module, model, framework)

    @functools.cached_property
    def submission(self) -> Submission:
        """The model that all checks share."""
        return self.load()

    @property
    def model(self) -> Any:
        """The same without its framework."""
        return self.submission.model

    @property
    def framework(self) -> Framework:
        """What the model is made with."""
        return self.submission.framework

    def raw(self, name: str, audio: np.ndarray, model: Any = None) -> Any:
        """What a function of the submission answers."""
        # Each question has audio of its own: models may work in place.
        return self.framework.ask(
            getattr(self.module, name), audio.copy(), self.model if model is None else model
        )

    def scene(self, audio: np.ndarray, model: Any = None) -> np.ndarray:
        """Scene embeddings `(sounds, size)`."""
        return self.framework.to_numpy(self.raw(API[1], audio, model))

    def frames(self, audio: np.ndarray, model: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Timestamp embeddings `(sounds, timestamps, size)` and timestamps in ms."""
        embeddings, times = map(self.framework.to_numpy, self.raw(API[2], audio, model))
        return embeddings, times.astype(np.float64)

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
