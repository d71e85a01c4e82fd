"""The submission under test, and the sounds that the checks give it."""

from __future__ import annotations

import functools
import traceback
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heareval.embeddings.inside.errors import (
    SubmissionError,
    describe_exception,
    find_cause,
    find_own_frame,
)
from heareval.embeddings.inside.frameworks import Arrays, Framework, find_framework
from heareval.embeddings.inside.submission import (
    API,
    FUNCTIONS,
    LoadedSubmission,
    call_load_model,
    import_submission,
    is_refusal,
    prepare_environment,
)


@dataclass(frozen=True)
class CheckOutcome:
    """The outcome of a check.

    Args:
        result: `ok`, `warning`, `failed` or `not run`.
        measured: what was measured, in words.
        cause: the cause of a failure that `heareval validate` has advice for; "" for the advice of the check.
    """

    result: str
    measured: str
    cause: str = ""


@dataclass(frozen=True)
class Sample:
    """What a model is and does after load_model has been called once in a process.

    Args:
        weights: name and checksum of each weight.
        embeddings: embeddings of some sounds, of each type that the submission has.
    """

    weights: list[tuple[str, int]]
    embeddings: list[np.ndarray]


# Loads the submission of a job in another process and returns its sample.
TakeSample = typing.Callable[[typing.Dict[str, Any]], Sample]


def grade(value: float, limits: tuple[float, float], measured: str) -> CheckOutcome:
    """Return `ok` up to the first limit, `warning` up to the second, and `failed` above."""
    good, fair = limits
    return CheckOutcome("ok" if value <= good else "warning" if value <= fair else "failed", measured)


def fail_with(error: BaseException, module: str) -> CheckOutcome:
    """Return the outcome of a check that an exception ended, and write its traceback to the log.

    Args:
        error: the exception.
        module: name of the submission's module.
    """
    if isinstance(error, SubmissionError):
        # What `blame_submission` has wrapped says more.
        if error.__cause__ is None:
            measured = "{what}: got {got}, expected {expected}".format(**error.facts)
            return CheckOutcome("failed", measured, error.cause)
        error = error.__cause__
    traceback.print_exception(type(error), error, error.__traceback__)
    frame = find_own_frame(error)
    place = f"line {frame.lineno} of {Path(frame.filename).name}"
    return CheckOutcome("failed", f"{describe_exception(error)} ({place})", find_cause(error, module))


class Subject:
    """The submission under test; it is loaded when the first check needs it.

    Args:
        job: the job, with the keys `module`, `weights_path`, `options`, `device` and the limits.
        take_sample: loads the submission in another process.
    """

    def __init__(self, job: dict[str, Any], take_sample: TakeSample) -> None:
        self.job, self.take_sample = job, take_sample
        self.first_model: Any = None
        # The measurements of long_audio.py, which several checks share.
        self.long_audio: Any = None

    @functools.cached_property
    def module(self) -> Any:
        """The imported module."""
        prepare_environment(self.job["device"])
        return import_submission(self.job)

    def load_model(self, weights_path: str) -> Any:
        """Return what the submission's load_model returns."""
        return call_load_model(self.module, weights_path, self.job["options"])

    def load_first_model(self) -> Any:
        """Return what the first call of load_model in this process returned: that is what is evaluated."""
        if self.first_model is None:
            self.first_model = self.load_model(self.job["weights_path"])
        return self.first_model

    @functools.cached_property
    def submission(self) -> LoadedSubmission:
        """The submission that all checks share: the first model on its device, in float32."""
        model = self.load_first_model()
        framework = find_framework(model)(self.job["device"], "float32")
        framework.prepare(model)
        return LoadedSubmission(self.module, model, framework)

    @functools.cached_property
    def lacking(self) -> dict[str, str]:
        """Types of embeddings that the submission does not have -> how that shows."""
        reasons = {}
        for embedding_type, function in FUNCTIONS.items():
            if not callable(getattr(self.module, function, None)):
                reasons[embedding_type] = f"no function {function}"
                continue
            try:
                self.call(function, self.make_sounds(1, 1.0))
            except (Exception, SystemExit) as error:
                # Any other error is a fault, which a later check reports.
                if is_refusal(error):
                    reasons[embedding_type] = f"{describe_exception(error)}, from {function}"
        return reasons

    @property
    def model(self) -> Any:
        """The shared model."""
        return self.submission.model

    @property
    def framework(self) -> Framework:
        """The framework of the shared model."""
        return self.submission.framework

    def call(self, name: str, audio: np.ndarray) -> Any:
        """Return the output of an API function on audio `(sounds, samples)`, unchanged."""
        # Copy: models may change their input.
        return self.framework.call(getattr(self.module, name), audio.copy(), self.model)

    def embed_scenes(self, audio: np.ndarray) -> np.ndarray:
        """Return scene embeddings `(sounds, size)`."""
        return self.framework.to_arrays(self.call(API[1], audio))[0]

    def embed_timestamps(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return timestamp embeddings `(sounds, timestamps, size)` and timestamps in ms."""
        embeddings, times = self.framework.to_arrays(self.call(API[2], audio))
        return embeddings, times.astype(np.float64)

    def embed_by_type(self, audio: np.ndarray) -> dict[str, Arrays]:
        """Return scene embeddings, and timestamp embeddings with their timestamps, if the model has them."""
        outputs: dict[str, Arrays] = {}
        if "scene" not in self.lacking:
            outputs["scene"] = (self.embed_scenes(audio),)
        if "event" not in self.lacking:
            outputs["event"] = self.embed_timestamps(audio)
        return outputs

    def embed_both(self, audio: np.ndarray) -> list[np.ndarray]:
        """Return scene embeddings and timestamp embeddings, or the one that the submission has."""
        return [arrays[0] for arrays in self.embed_by_type(audio).values()]

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
