"""Checks of what the HEAR API asks for: functions, attributes, types, shapes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from heareval.embeddings.checks.lab import API, Found, Lab

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)
SIZES = ("sample_rate", "scene_embedding_size", "timestamp_embedding_size")


def check_functions(lab: Lab) -> Found:
    """The module can be imported and has the three functions."""
    missing = [name for name in API if not callable(getattr(lab.module, name, None))]
    return Found("failed", f"no function {', '.join(missing)}") if missing else Found("ok", "all three")


def check_weights(lab: Lab) -> Found:
    """The weights file is there, and load_model refuses one that is rubbish."""
    file = lab.job["model"]
    if not file:
        return Found("ok", "no file given")
    if not Path(file).is_file():
        return Found("failed", f"no file {file}")
    lab.load(file)
    with tempfile.TemporaryDirectory() as folder:
        rubbish = Path(folder) / Path(file).name
        rubbish.write_bytes(b"these are no weights " * 100)
        try:
            lab.load(str(rubbish))
        except Exception as error:
            return Found("ok", f"loaded; rubbish is refused ({type(error).__name__})")
    return Found("failed", "loads rubbish without complaint")


def check_model(lab: Lab) -> Found:
    """load_model gives a torch.nn.Module."""
    kind, torch = type(lab.model), sys.modules.get("torch")
    is_module = torch is not None and isinstance(lab.model, torch.nn.Module)
    return Found("ok" if is_module else "failed", f"{kind.__module__}.{kind.__qualname__}")


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
    torch, audio = sys.modules["torch"], lab.sounds(2, 1.0)
    scene, pair = lab.raw(API[1], audio), lab.raw(API[2], audio)
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        return Found("failed", f"{API[2]} gives a {type(pair).__name__}, not embeddings and timestamps")
    for name, value in (
        ("scene embeddings", scene),
        ("timestamp embeddings", pair[0]),
        ("timestamps", pair[1]),
    ):
        if not isinstance(value, torch.Tensor):
            return Found("failed", f"{name}: a {type(value).__module__}.{type(value).__name__}")
        if name != "timestamps" and value.dtype != torch.float32:
            return Found("failed", f"{name}: {value.dtype}")
    is_float = pair[1].dtype.is_floating_point
    return Found("ok" if is_float else "warning", "float32" if is_float else f"timestamps: {pair[1].dtype}")


def check_device(lab: Lab) -> Found:
    """Answers are where the audio is."""
    audio = lab.sounds(2, 1.0)
    answers = (lab.raw(API[1], audio), *lab.raw(API[2], audio))
    elsewhere = sorted({str(part.device) for part in answers if part.device != lab.device})
    if elsewhere:
        return Found("failed", f"{', '.join(elsewhere)} for audio on {lab.device}")
    note = "" if lab.device.type == "cuda" else " (no GPU here: run it on one to be sure)"
    return Found("ok", f"{lab.device}{note}")


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
