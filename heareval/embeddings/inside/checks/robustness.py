"""Check that silence, clipping and very short audio have finite embeddings."""

from __future__ import annotations

import numpy as np

from heareval.embeddings.inside.checks.subject import CheckOutcome, Subject, fail_with
from heareval.embeddings.inside.checks.values import find_non_finite

# The shortest clip of the benchmark, and a shorter one.
SHORTEST_S, SHORTER_S = 0.3, 0.01


def check_embeddings(subject: Subject, audio: np.ndarray) -> CheckOutcome:
    """Check that the functions return finite embeddings, one per sound."""
    outputs = subject.embed_by_type(audio)
    arrays = [array for output in outputs.values() for array in output]
    is_right = all(len(array) == len(audio) for array in arrays)
    if "event" in outputs:
        embeddings, times = outputs["event"]
        is_right = is_right and embeddings.shape[:2] == times.shape and times.size > 0
    if not is_right:
        return CheckOutcome("failed", f"shapes {', '.join(str(array.shape) for array in arrays)}")
    fault = find_non_finite(arrays)
    return CheckOutcome("failed" if fault else "ok", fault or "finite")


def check_finite(subject: Subject) -> CheckOutcome:
    """Check that ordinary sounds have finite embeddings."""
    return check_embeddings(subject, subject.make_sounds(4, 2.0))


def check_silence(subject: Subject) -> CheckOutcome:
    """Check that silence has finite embeddings."""
    return check_embeddings(subject, np.zeros((2, subject.model.sample_rate), np.float32))


def check_clipping(subject: Subject) -> CheckOutcome:
    """Check that sound clipped at full scale has finite embeddings."""
    return check_embeddings(subject, np.sign(subject.make_sounds(2, 1.0)))


def check_short_audio(subject: Subject) -> CheckOutcome:
    """Check that clips of 300 ms, the shortest of the benchmark, and of 10 ms have finite embeddings."""
    for seconds in (SHORTEST_S, SHORTER_S):
        try:
            outcome = check_embeddings(subject, subject.make_sounds(2, seconds))
        except Exception as error:
            outcome = fail_with(error, subject.job["module"])
        if outcome.result != "ok":
            measured = f"at {seconds * 1000:g} ms: {outcome.measured}"
            if seconds >= SHORTEST_S:
                return CheckOutcome("failed", measured)
            return CheckOutcome("warning", measured, "very short audio")
    return CheckOutcome("ok", f"finite at {SHORTEST_S * 1000:g} and {SHORTER_S * 1000:g} ms")
