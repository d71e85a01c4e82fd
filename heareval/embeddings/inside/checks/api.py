"""Check what the HEAR API requires: functions, attributes, types and shapes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from heareval.embeddings.inside.checks.subject import CheckOutcome, Subject
from heareval.embeddings.inside.submission import (
    API,
    ATTRIBUTES,
    FUNCTIONS,
    SAMPLE_RATES,
    SIZES,
    describe_default_weights,
)


def check_functions(subject: Subject) -> CheckOutcome:
    """Check that the module can be imported and has load_model and a function for embeddings."""
    there = [name for name in API if callable(getattr(subject.module, name, None))]
    if API[0] in there and len(there) > 1:
        return CheckOutcome("ok", "all three" if len(there) == len(API) else ", ".join(there))
    return CheckOutcome("failed", f"no function {', '.join(name for name in API if name not in there)}")


def check_weights(subject: Subject) -> CheckOutcome:
    """Check that the weights can be loaded, and that load_model refuses a file of garbage."""
    weights = subject.job["weights_path"]
    if not weights:
        return CheckOutcome("ok", describe_default_weights(subject.module, subject.job["options"]))
    if not Path(weights).exists():
        return CheckOutcome("failed", f"no file {weights}")
    subject.load_first_model()
    with tempfile.TemporaryDirectory() as folder:
        garbage = Path(folder) / Path(weights).name
        if Path(weights).is_dir():
            garbage.mkdir()
        else:
            garbage.write_bytes(b"these are no weights " * 100)
        try:
            subject.load_model(str(garbage))
        except Exception as error:
            return CheckOutcome("ok", f"loaded; garbage is refused ({type(error).__name__})")
    return CheckOutcome("failed", "loads garbage without an error")


def check_model(subject: Subject) -> CheckOutcome:
    """Check that load_model returns a PyTorch or TensorFlow model, which can be moved to its device."""
    kind = type(subject.model)
    return CheckOutcome("ok", f"{kind.__module__}.{kind.__qualname__} ({subject.framework.name})")


def check_attributes(subject: Subject) -> CheckOutcome:
    """Check that the sample rate and the sizes are positive ints."""

    def find_wrong(names: Iterable[str]) -> dict[str, Any]:
        values = {name: getattr(subject.model, name, None) for name in names}
        return {n: v for n, v in values.items() if not isinstance(v, int) or isinstance(v, bool) or v <= 0}

    names = list(ATTRIBUTES)
    if not find_wrong(ATTRIBUTES[:1]):
        # A model without embeddings of one type needs no size for them.
        names = [name for name in names if name not in map(SIZES.get, subject.lacking)]
    values, wrong = {name: getattr(subject.model, name, None) for name in names}, find_wrong(names)
    measured = ", ".join(f"{name} = {value!r}" for name, value in (wrong or values).items())
    return CheckOutcome("failed" if wrong else "ok", measured)


def check_sample_rate(subject: Subject) -> CheckOutcome:
    """Check that tasks are prepared at the sample rate."""
    rate = subject.model.sample_rate
    return CheckOutcome("ok" if rate in SAMPLE_RATES else "warning", f"{rate} Hz")


def check_embeddings(subject: Subject) -> CheckOutcome:
    """Check that there are embeddings for both types of tasks."""
    lacking = subject.lacking
    if not lacking:
        return CheckOutcome("ok", "for scene and event tasks")
    told = "; ".join(f"{why}: no score on {kind} tasks" for kind, why in lacking.items())
    return CheckOutcome("failed" if len(lacking) == len(FUNCTIONS) else "warning", told)


def check_types(subject: Subject) -> CheckOutcome:
    """Check that embeddings are float32 tensors and that timestamps are returned with theirs."""
    lib, audio, named = subject.framework.lib, subject.make_sounds(2, 1.0), {}
    if "scene" not in subject.lacking:
        named["scene embeddings"] = subject.call(API[1], audio)
    if "event" not in subject.lacking:
        pair = subject.call(API[2], audio)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            return CheckOutcome(
                "failed", f"{API[2]} returns a {type(pair).__name__}, not embeddings and timestamps"
            )
        named["timestamp embeddings"], named["timestamps"] = pair
    for name, value in named.items():
        if not isinstance(value, lib.Tensor):
            return CheckOutcome("failed", f"{name}: a {type(value).__module__}.{type(value).__name__}")
        if name != "timestamps" and value.dtype != lib.float32:
            return CheckOutcome("failed", f"{name}: {dtype_name(value.dtype)}")
    times = named.get("timestamps")
    if times is not None and times.dtype not in (lib.float16, lib.float32, lib.float64):
        return CheckOutcome("warning", f"timestamps: {dtype_name(times.dtype)}")
    return CheckOutcome("ok", "float32")


def dtype_name(dtype: Any) -> str:
    """Return the name of a dtype of PyTorch or TensorFlow."""
    return str(getattr(dtype, "name", dtype))


def check_device(subject: Subject) -> CheckOutcome:
    """Check that outputs are on the device of the audio."""
    audio = subject.make_sounds(2, 1.0)
    scenes = [subject.call(API[1], audio)] if "scene" not in subject.lacking else []
    outputs = [*scenes, *(subject.call(API[2], audio) if "event" not in subject.lacking else ())]
    here = device_name(subject.framework.call(lambda sent, model: sent, audio, subject.model))
    elsewhere = sorted({device_name(part) for part in outputs} - {here})
    if elsewhere:
        return CheckOutcome("failed", f"{', '.join(elsewhere)} for audio on {here}")
    note = "" if subject.framework.is_gpu else " (no GPU here: run it on one to be sure)"
    return CheckOutcome("ok", f"{here}{note}")


def device_name(tensor: Any) -> str:
    """Return the device of a tensor; names of TensorFlow begin with a job and a task, which are dropped."""
    return str(tensor.device).split("/device:")[-1].lower()


def check_shapes(subject: Subject, has_right_shape: Callable[[np.ndarray], tuple[bool, str]]) -> CheckOutcome:
    """Check the shape of an output for several lengths and batch sizes.

    Args:
        subject: the submission.
        has_right_shape: returns whether the shape is right for this audio, and the shape in words.
    """
    tried = [(count, seconds) for seconds in (0.5, 1.0, 2.345) for count in (1, 3)]
    for count, seconds in tried:
        is_right, shape = has_right_shape(subject.make_sounds(count, seconds))
        if not is_right:
            return CheckOutcome("failed", f"{shape} for {count} sounds of {seconds:g} s")
    return CheckOutcome("ok", f"{shape} for {count} sounds; {len(tried)} kinds of batches")


def check_scene_shape(subject: Subject) -> CheckOutcome:
    """Check that scene embeddings are `(sounds, scene_embedding_size)`."""

    def has_right_shape(audio: np.ndarray) -> tuple[bool, str]:
        shape = tuple(subject.call(API[1], audio).shape)
        return shape == (len(audio), subject.model.scene_embedding_size), str(shape)

    return check_shapes(subject, has_right_shape)


def check_timestamp_shape(subject: Subject) -> CheckOutcome:
    """Check that embeddings are `(sounds, n, timestamp_embedding_size)` and timestamps `(sounds, n)`."""

    def has_right_shape(audio: np.ndarray) -> tuple[bool, str]:
        embeddings, times = (tuple(part.shape) for part in subject.call(API[2], audio))
        size = subject.model.timestamp_embedding_size
        is_right = len(times) == 2 and embeddings == (*times, size)
        return is_right and times[0] == len(audio) and times[1] > 0, f"{embeddings} and {times}"

    return check_shapes(subject, has_right_shape)
