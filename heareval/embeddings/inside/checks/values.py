"""Check the values of embeddings: that they differ between sounds, and depend on nothing but the sound."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from heareval.embeddings.inside.checks.subject import CheckOutcome, Subject, grade
from heareval.embeddings.inside.submission import FUNCTIONS

# The largest difference of outputs that should be equal, as a share of their range: (ok, warning).
FLOAT_NOISE, SAME_CALL = (1e-4, 1e-2), (1e-6, 1e-3)


def find_non_finite(parts: list[np.ndarray]) -> str:
    """Return how many values are NaN or infinite, in words; "" if all are finite."""
    for part in parts:
        if not np.isfinite(part).all():
            kind = "NaN" if np.isnan(part).any() else "infinity"
            return f"{kind} in {(~np.isfinite(part)).mean():.0%} of the values"
    return ""


def check_dimensions(subject: Subject) -> CheckOutcome:
    """Check that embeddings differ between sounds, in every dimension, and that no dimension has a copy."""
    sounds, faults = subject.make_sounds(12, 1.0), []
    for kind, (part, *_) in subject.embed_by_type(sounds).items():
        name = "timestamp" if kind == "event" else kind
        rows = part.reshape(-1, part.shape[-1])
        is_constant = np.ptp(rows, axis=0) <= 1e-7 * np.abs(rows).max(axis=0)
        if is_constant.all():
            return CheckOutcome("failed", f"{name} embeddings are the same for all sounds")
        others = rows[:, ~is_constant]
        copies = others.shape[1] - np.unique(others, axis=1).shape[1]
        if is_constant.any() or copies:
            faults.append(f"{name}: {is_constant.sum()} constant, {copies} duplicate")
    return CheckOutcome("warning" if faults else "ok", "; ".join(faults) or "all different")


def largest_difference(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Return the largest difference of two outputs, as a share of the range of the first."""
    shares = [0.0]
    for one, other in zip(first, second):
        if one.shape != other.shape:
            return math.inf
        shares.append(float(np.abs(one - other).max() / max(np.ptp(one), 1e-30)))
    return max(shares)


def check_determinism(subject: Subject) -> CheckOutcome:
    """Check that the same sounds have the same embeddings after other sounds in between."""
    audio = subject.make_sounds(3, 1.0)
    first, _ = subject.embed_both(audio), subject.embed_both(subject.make_sounds(2, 1.5, seed=1))
    difference = largest_difference(first, subject.embed_both(audio))
    return grade(difference, SAME_CALL, f"{difference:.1e} of the range")


def check_input(subject: Subject) -> CheckOutcome:
    """Check that the functions leave the audio as it is."""
    to_numpy, changed = subject.framework.to_numpy, []
    for embedding_type, name in FUNCTIONS.items():
        function = getattr(subject.module, name, None)

        def is_left(sent: Any, model: Any, function: Any = function) -> bool:
            before = to_numpy(sent)
            function(sent, model)
            return np.array_equal(before, to_numpy(sent))

        audio = subject.make_sounds(2, 1.0)
        if embedding_type not in subject.lacking and not subject.framework.call(
            is_left, audio, subject.model
        ):
            changed.append(name)
    if changed:
        return CheckOutcome(
            "warning", f"{' and '.join(changed)} overwrite{'s' * (len(changed) < 2)} the audio"
        )
    return CheckOutcome("ok", "left as it is")


def check_order(subject: Subject) -> CheckOutcome:
    """Check that the position of a sound in its batch does not matter."""
    audio = subject.make_sounds(5, 1.0)
    reversed_back = [part[::-1] for part in subject.embed_both(audio[::-1])]
    difference = largest_difference(subject.embed_both(audio), reversed_back)
    return grade(difference, FLOAT_NOISE, f"{difference:.1e} of the range")


def check_batch(subject: Subject) -> CheckOutcome:
    """Check that the other sounds of a batch do not matter."""
    audio = subject.make_sounds(5, 1.0)
    alone = [subject.embed_both(audio[i : i + 1]) for i in range(len(audio))]
    joined = [np.concatenate([parts[kind] for parts in alone]) for kind in range(len(alone[0]))]
    difference = largest_difference(subject.embed_both(audio), joined)
    return grade(difference, FLOAT_NOISE, f"{difference:.1e} of the range")
