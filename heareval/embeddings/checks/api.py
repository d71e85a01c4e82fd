"""Checks of what the HEAR API asks for: functions, attributes, types, shapes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from heareval.embeddings.checks.lab import Found, Lab
from heareval.embeddings.worker import API, SAMPLE_RATES, SIZES


def check_functions(lab: Lab) -> Found:
    """The module can be imported and has the three functions."""
    missing = [name for name in API if not callable(getattr(lab.module, name, None))]
    return Found("failed", f"no function {', '.join(missing)}") if missing else Found("ok", "all three")


def check_weights(lab: Lab) -> Found:
    """The weights file is there, and load_model refuses one that is rubbish."""
    file = lab.job["model"]
    if not file:
        return Found("ok", "no file given")
    if not Path(file).exists():
        return Found("failed", f"no file {file}")
    lab.made(file)
    with tempfile.TemporaryDirectory() as folder:
        rubbish = Path(folder) / Path(file).name
        if Path(file).is_dir():
            rubbish.mkdir()
        else:
            rubbish.write_bytes(b"these are no weights " * 100)
        try:
            lab.made(str(rubbish))
        except Exception as error:
            return Found("ok", f"loaded; rubbish is refused ({type(error).__name__})")
    return Found("failed", "loads rubbish without complaint")


def check_model(lab: Lab) -> Found:
    """load_model gives a model of a framework that we know, and it goes to its device."""
    kind = type(lab.model)
    return Found("ok", f"{kind.__module__}.{kind.__qualname__} ({lab.framework.name})")


def check_attributes(lab: Lab) -> Found:
    """The model tells its sample rate and sizes."""
    values = {name: getattr(lab.model, name, None) for name in SIZES}
    wrong = {n: v for n, v in values.items() if not isinstance(v, int) or isinstance(v, bool) or v <= 0}
    told = ", ".join(f"{name} = {value!r}" for name, value in (wrong or values).items())
    return Found("failed" if wrong else "ok", told)


def check_sample_rate(lab: Lab) -> Found:
    """The sample rate is one that tasks are prepared at."""
    rate = lab.model.sample_rate
    return Found("ok" if rate in SAMPLE_RATES else "failed", f"{rate} Hz")


def check_types(lab: Lab) -> Found:
    """Embeddings are float32 tensors, timestamps come with theirs."""
    lib, audio = lab.framework.lib, lab.sounds(2, 1.0)
    scene, pair = lab.raw(API[1], audio), lab.raw(API[2], audio)
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        return Found("failed", f"{API[2]} gives a {type(pair).__name__}, not embeddings and timestamps")
    for name, value in (
        ("scene embeddings", scene),
        ("timestamp embeddings", pair[0]),
        ("timestamps", pair[1]),
    ):
        if not isinstance(value, lib.Tensor):
            return Found("failed", f"{name}: a {type(value).__module__}.{type(value).__name__}")
        if name != "timestamps" and value.dtype != lib.float32:
            return Found("failed", f"{name}: {name_of(value.dtype)}")
    is_float = pair[1].dtype in (lib.float16, lib.float32, lib.float64)
    told = "float32" if is_float else f"timestamps: {name_of(pair[1].dtype)}"
    return Found("ok" if is_float else "warning", told)


def name_of(dtype: Any) -> str:
    """A type of numbers in a word."""
    return str(getattr(dtype, "name", dtype))


def check_device(lab: Lab) -> Found:
    """Answers are where the audio is."""
    audio = lab.sounds(2, 1.0)
    answers = (lab.raw(API[1], audio), *lab.raw(API[2], audio))
    here = place_of(lab.framework.ask(lambda heard, model: heard, audio, lab.model))
    elsewhere = sorted({place_of(part) for part in answers} - {here})
    if elsewhere:
        return Found("failed", f"{', '.join(elsewhere)} for audio on {here}")
    note = "" if lab.framework.is_gpu else " (no GPU here: run it on one to be sure)"
    return Found("ok", f"{here}{note}")


def place_of(tensor: Any) -> str:
    """The device of a tensor in a word: TensorFlow's names begin with the job and the task."""
    return str(tensor.device).split("/device:")[-1].lower()


def shapes(lab: Lab, answer: Callable[[np.ndarray], tuple[str, bool]]) -> Found:
    """Whether the shape of the answer is right for several lengths and batch sizes."""
    tried = [(count, seconds) for seconds in (0.5, 1.0, 2.345) for count in (1, 3)]
    for count, seconds in tried:
        told, is_right = answer(lab.sounds(count, seconds))
        if not is_right:
            return Found("failed", f"{told} for {count} sounds of {seconds:g} s")
    return Found("ok", f"{told} for {count} sounds; {len(tried)} kinds of batches")


def check_scene_shape(lab: Lab) -> Found:
    """Scene embeddings are `(sounds, scene_embedding_size)`."""

    def answer(audio: np.ndarray) -> tuple[str, bool]:
        shape = tuple(lab.raw(API[1], audio).shape)
        return str(shape), shape == (len(audio), lab.model.scene_embedding_size)

    return shapes(lab, answer)


def check_timestamp_shape(lab: Lab) -> Found:
    """Timestamp embeddings are `(sounds, n, timestamp_embedding_size)`, timestamps `(sounds, n)`."""

    def answer(audio: np.ndarray) -> tuple[str, bool]:
        embeddings, times = (tuple(part.shape) for part in lab.raw(API[2], audio))
        is_right = len(times) == 2 and embeddings == (*times, lab.model.timestamp_embedding_size)
        return f"{embeddings} and {times}", is_right and times[0] == len(audio) and times[1] > 0

    return shapes(lab, answer)
