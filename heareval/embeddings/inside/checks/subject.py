"""The submission under test, and the sounds that the checks give it."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from heareval.embeddings.inside.frameworks import Framework, find_framework
from heareval.embeddings.inside.submission import API, LoadedSubmission, prepare_environment


@dataclass(frozen=True)
class CheckOutcome:
    """The outcome of a check.

    Args:
        result: `ok`, `warning`, `failed` or `not run`.
        measured: what was measured, in words.
    """

    result: str
    measured: str


def grade(value: float, limits: tuple[float, float], measured: str) -> CheckOutcome:
    """Return `ok` up to the first limit, `warning` up to the second, and `failed` above."""
    good, fair = limits
    return CheckOutcome("ok" if value <= good else "warning" if value <= fair else "failed", measured)


class Subject:
    """The submission under test; it is loaded when the first check needs it.

    Args:
        job: the job, with the keys `module`, `weights_path`, `options`, `device` and the limits.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        # The measurements of long_audio.py, which several checks share.
        self.long_audio: Any = None

    @functools.cached_property
    def module(self) -> Any:
        """The imported module."""
        prepare_environment(self.job["device"])
        return importlib.import_module(self.job["module"])

    def load_model(self, weights_path: str) -> Any:
        """Return what the submission's load_model returns."""
        return self.module.load_model(weights_path, **self.job["options"])

    def load(self) -> LoadedSubmission:
        """Load a new model onto its device, in float32."""
        model = self.load_model(self.job["weights_path"])
        framework = find_framework(model)(self.job["device"], "float32")
        framework.prepare(model)
        return LoadedSubmission(self.module, model, framework)

    @functools.cached_property
    def submission(self) -> LoadedSubmission:
        """The submission that all checks share."""
        return self.load()

    @property
    def model(self) -> Any:
        """The shared model."""
        return self.submission.model

    @property
    def framework(self) -> Framework:
        """The framework of the shared model."""
        return self.submission.framework

    def call(self, name: str, audio: np.ndarray, model: Any = None) -> Any:
        """Return the output of an API function, unchanged.

        Args:
            name: name of the function.
            audio: float32 `(sounds, samples)`.
            model: another model than the shared one.
        """
        # Copy: models may change their input.
        return self.framework.call(
            getattr(self.module, name), audio.copy(), self.model if model is None else model
        )

    def embed_scenes(self, audio: np.ndarray, model: Any = None) -> np.ndarray:
        """Return scene embeddings `(sounds, size)`."""
        return self.framework.to_numpy(self.call(API[1], audio, model))

    def embed_timestamps(self, audio: np.ndarray, model: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Return timestamp embeddings `(sounds, timestamps, size)` and timestamps in ms."""
        embeddings, times = map(self.framework.to_numpy, self.call(API[2], audio, model))
        return embeddings, times.astype(np.float64)

    def embed_both(self, audio: np.ndarray, model: Any = None) -> list[np.ndarray]:
        """Return scene embeddings and timestamp embeddings."""
        return [self.embed_scenes(audio, model), self.embed_timestamps(audio, model)[0]]

    def make_sounds(self, count: int, seconds: float, seed: int = 0) -> np.ndarray:
        """Return sounds that differ in pitch, loudness, rhythm and noise: float32 `(count, samples)`."""
        rng, rate = np.random.default_rng(seed), self.model.sample_rate
        t = np.arange(round(seconds * rate)) / rate
        sounds = np.empty((count, len(t)), np.float32)
        for i in range(count):
            tone = np.sin(2 * np.pi * 110 * 2 ** (i * 7 % 36 / 12) * t) * (
                1 + np.sin(2 * np.pi * (i + 1) * t)
            )
            sounds[i] = 0.6 / (1 + i % 4) * (0.4 * tone + 0.1 * rng.uniform(-1, 1, len(t)))
        return sounds

    @functools.cached_property
    def timestamps_ms(self) -> np.ndarray:
        """The timestamps of two sounds of 4 s: `(2, timestamps)`."""
        return self.embed_timestamps(self.make_sounds(2, 4.0))[1]

    @property
    def hop_ms(self) -> float:
        """The median distance of two timestamps."""
        return float(np.median(np.diff(self.timestamps_ms[0])))
