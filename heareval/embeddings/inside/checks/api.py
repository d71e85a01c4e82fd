"""Check what the HEAR API requires: functions, attributes, types and shapes."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from heareval.embeddings.inside.checks.subject import CheckOutcome, Subject, fail_with
from heareval.embeddings.inside.submission import (
    API,
    ATTRIBUTES,
    FUNCTIONS,
    SAMPLE_RATES,
    SIZES,
    describe_default_weights,
)

# Messages about a file that can be read, but does not fit the model or is no file of weights.
OTHER_WEIGHTS = re.compile("(?i)state_dict|mismatch|unpickl|invalid load key|magic number|not compatible")


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
    try:
        subject.load_first_model()
    except Exception as error:
        outcome = fail_with(error, subject.job["module"])
        return replace(outcome, cause="other weights") if OTHER_WEIGHTS.search(str(error)) else outcome
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
    """Check that embeddings are float32 tensors and that timestamps are returned with theirs.

    What a run accepts is at most a warning here.
    """
    outcomes = [
        check_types_of(subject, embedding_type)
        for embedding_type in FUNCTIONS
        if embedding_type not in subject.lacking
    ]
    found = max(outcomes, key=lambda outcome: ("ok", "warning", "failed").index(outcome.result))
    dtype = subject.framework.default_dtype
    if dtype == "float32" or (found.result == "failed" and found.cause not in ("", "exception")):
        return found
    # New tensors of this type may well be why the outputs are wrong, or why they can't be computed.
    seen = f"{found.measured}; " if found.result == "failed" else ""
    result = "failed" if found.result == "failed" else "warning"
    return CheckOutcome(result, f"{seen}the submission has made {dtype} the default dtype", "default dtype")


def check_types_of(subject: Subject, embedding_type: str) -> CheckOutcome:
    """Check the types of what the function for one type of embeddings returns."""
    name, audio, lib = FUNCTIONS[embedding_type], subject.make_sounds(2, 1.0), subject.framework.lib
    try:
        output = subject.call(name, audio)
    except Exception as error:
        if has_swapped_arguments(subject, name, audio):
            return CheckOutcome("failed", f"{name} works with swapped arguments only", "swapped")
        return fail_with(error, subject.job["module"])
    if output is None:
        return CheckOutcome("failed", f"{name} returns None", "no output")
    parts = output if isinstance(output, (tuple, list)) else (output,)
    wanted = ("scene embeddings",) if embedding_type == "scene" else ("timestamp embeddings", "timestamps")
    if len(parts) != len(wanted):
        returned = f"a {type(output).__name__}" if parts[0] is output else f"{len(parts)} values"
        return CheckOutcome("failed", f"{name} returns {returned}, not {' and '.join(wanted)}")
    found = CheckOutcome("ok", "float32")
    for what, part in zip(wanted, parts):
        is_tensor, kind = isinstance(part, lib.Tensor), f"a {type(part).__module__}.{type(part).__name__}"
        try:
            dtype = name_dtype(part if is_tensor else subject.framework.to_numpy(part))
        except Exception:
            # A run could not convert it either, for example a ragged tensor.
            return CheckOutcome("failed", f"{what}: {kind}")
        if what != "timestamps" and dtype != "float32":
            return CheckOutcome("failed", f"{what}: {dtype if is_tensor else kind + ' of ' + dtype}")
        if not dtype.startswith("float"):
            found = CheckOutcome("warning", f"{what}: {dtype}")
        elif not is_tensor:
            found = CheckOutcome("warning", f"{what}: {kind}", "arrays")
        elif embedding_type == "scene" and part is not output:
            found = CheckOutcome("warning", f"{what}: a {type(output).__name__} with one tensor", "arrays")
    return found


def name_dtype(values: Any) -> str:
    """Return the name of the dtype of a tensor or an array."""
    return str(getattr(values.dtype, "name", values.dtype)).replace("torch.", "")


def has_swapped_arguments(subject: Subject, name: str, audio: np.ndarray) -> bool:
    """Return whether a function works if it gets the model first and then the audio."""
    function = getattr(subject.module, name)
    try:
        subject.framework.call(lambda sent, model: function(model, sent), audio, subject.model)
    except Exception:
        return False
    return True


def check_device(subject: Subject) -> CheckOutcome:
    """Check that outputs are on the device of the audio."""
    audio = subject.make_sounds(2, 1.0)
    outputs: list[Any] = []
    for embedding_type in FUNCTIONS:
        if embedding_type not in subject.lacking:
            output = subject.call(FUNCTIONS[embedding_type], audio)
            outputs += output if isinstance(output, (tuple, list)) else [output]
    here = device_name(subject.framework.call(lambda sent, model: sent, audio, subject.model))
    # Arrays, which `types` warns of, have no device.
    tensors = [part for part in outputs if isinstance(part, subject.framework.lib.Tensor)]
    elsewhere = sorted({device_name(part) for part in tensors} - {here})
    if elsewhere:
        return CheckOutcome("failed", f"{', '.join(elsewhere)} for audio on {here}")
    note = "" if subject.framework.is_gpu else " (no GPU here: run it on one to be sure)"
    return CheckOutcome("ok", f"{here}{note}")


def device_name(tensor: Any) -> str:
    """Return the device of a tensor; names of TensorFlow begin with a job and a task, which are dropped."""
    return str(tensor.device).split("/device:")[-1].lower()


def check_shapes(subject: Subject, check_shape: Callable[[np.ndarray], CheckOutcome]) -> CheckOutcome:
    """Check the shape of an output for several lengths and batch sizes.

    Args:
        subject: the submission.
        check_shape: checks the shape for this audio.
    """
    tried = [(count, seconds) for seconds in (0.5, 1.0, 2.345) for count in (1, 3)]
    for count, seconds in tried:
        try:
            outcome = check_shape(subject.make_sounds(count, seconds))
        except Exception as error:
            outcome = fail_with(error, subject.job["module"])
        if outcome.result != "ok":
            sounds = f"{count} sound{'s' if count > 1 else ''} of {seconds:g} s"
            return replace(outcome, measured=f"for {sounds}: {outcome.measured}")
    return CheckOutcome("ok", f"{outcome.measured} for {count} sounds; {len(tried)} kinds of batches")


def check_scene_shape(subject: Subject) -> CheckOutcome:
    """Check that scene embeddings are `(sounds, scene_embedding_size)`."""
    size = subject.model.scene_embedding_size

    def check_shape(audio: np.ndarray) -> CheckOutcome:
        shape, wanted = subject.embed_scenes(audio).shape, (len(audio), size)
        if shape == wanted:
            return CheckOutcome("ok", str(shape))
        cause = "declared size" if len(shape) == 2 and shape[0] == len(audio) else ""
        measured = f"{shape}, not {wanted}, as scene_embedding_size is {size}"
        return CheckOutcome("failed", measured, "not pooled" if len(shape) == 3 else cause)

    return check_shapes(subject, check_shape)


def check_timestamp_shape(subject: Subject) -> CheckOutcome:
    """Check that embeddings are `(sounds, n, timestamp_embedding_size)` and timestamps `(sounds, n)`."""
    size = subject.model.timestamp_embedding_size

    def check_shape(audio: np.ndarray) -> CheckOutcome:
        shape, of_times = (part.shape for part in subject.embed_timestamps(audio))
        is_right = len(of_times) == 2 and of_times[0] == len(audio) and of_times[1] > 0
        if is_right and shape == (*of_times, size):
            return CheckOutcome("ok", f"{shape} and {of_times}")
        cause = "declared size" if is_right and shape[:-1] == of_times else ""
        if of_times[:2] == shape and of_times[2:] == (size,):
            cause = "swapped output"
        count = len(audio)
        wanted = f"({count}, n, {size}) and ({count}, n), as timestamp_embedding_size is {size}"
        return CheckOutcome("failed", f"{shape} and {of_times}, not {wanted}", cause)

    return check_shapes(subject, check_shape)
