"""Checks of the numbers in embeddings: whether they differ, and depend on nothing but their sound."""

from __future__ import annotations

import math

import numpy as np

from heareval.embeddings.checks.lab import Found, Lab, graded

# Largest difference of two answers that ought to be the same, as a share of their range: (ok, warning).
FLOAT_NOISE, SAME_CALL = (1e-4, 1e-2), (1e-6, 1e-3)


def unfinished(parts: list[np.ndarray]) -> str:
    """What is not a number, or ""."""
    for part in parts:
        if not np.isfinite(part).all():
            kind = "NaN" if np.isnan(part).any() else "infinity"
            return f"{kind} in {(~np.isfinite(part)).mean():.0%} of the values"
    return ""


def check_dimensions(lab: Lab) -> Found:
    """Sounds that differ have embeddings that differ, in every dimension."""
    told = []
    for name, part in (
        ("scene", lab.scene(lab.sounds(12, 1.0))),
        ("timestamp", lab.frames(lab.sounds(12, 1.0))[0]),
    ):
        rows = part.reshape(-1, part.shape[-1])
        is_dead = np.ptp(rows, axis=0) <= 1e-7 * np.abs(rows).max(axis=0)
        if is_dead.all():
            return Found("failed", f"{name} embeddings are the same for all sounds")
        alive = rows[:, ~is_dead]
        twice = alive.shape[1] - np.unique(alive, axis=1).shape[1]
        told += [f"{name}: {is_dead.sum()} constant, {twice} duplicate"] if is_dead.any() or twice else []
    return Found("warning" if told else "ok", "; ".join(told) or "all different")


def apart(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """The largest difference of two answers as a share of the range of the first."""
    shares = [0.0]
    for i, part in enumerate(one):
        if part.shape != other[i].shape:
            return math.inf
        shares.append(float(np.abs(part - other[i]).max() / max(np.ptp(part), 1e-30)))
    return max(shares)


def check_determinism(lab: Lab) -> Found:
    """The same question twice, with another in between, has the same answer."""
    audio = lab.sounds(3, 1.0)
    first, _ = lab.both(audio), lab.both(lab.sounds(2, 1.5, seed=1))
    difference = apart(first, lab.both(audio))
    return graded(difference, SAME_CALL, f"{difference:.1e} of the range")


def check_reload(lab: Lab) -> Found:
    """A model that is loaded again gives the same answer."""
    audio = lab.sounds(3, 1.0)
    difference = apart(lab.both(audio), lab.both(audio, lab.load().model))
    return graded(difference, FLOAT_NOISE, f"{difference:.1e} of the range")


def check_order(lab: Lab) -> Found:
    """The place of a sound in its batch does not matter."""
    audio = lab.sounds(5, 1.0)
    difference = apart(lab.both(audio), [part[::-1] for part in lab.both(audio[::-1])])
    return graded(difference, FLOAT_NOISE, f"{difference:.1e} of the range")


def check_batch(lab: Lab) -> Found:
    """The other sounds of a batch do not matter."""
    audio = lab.sounds(5, 1.0)
    alone = [lab.both(audio[i : i + 1]) for i in range(len(audio))]
    joined = [np.concatenate([parts[kind] for parts in alone]) for kind in range(2)]
    difference = apart(lab.both(audio), joined)
    return graded(difference, FLOAT_NOISE, f"{difference:.1e} of the range")
