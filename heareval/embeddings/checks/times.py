"""Checks of timestamps: what they are, and whether they are those of the sound they stand for."""

from __future__ import annotations

import math

import numpy as np

from heareval.embeddings.checks.lab import Found, Lab, graded
from heareval.embeddings.checks.limits import long_of

# Many models hear only the first 10 or 30 seconds.
COVERED_S = 40.0
HOP_MS = (25.0, 50.0)
# How far off an onset of the note task may be.
REFUSED_MS = 50.0


def check_increasing(lab: Lab) -> Found:
    """Timestamps increase."""
    steps = np.diff(lab.stamps, axis=1)
    if not steps.size:
        return Found("failed", "one timestamp in 4 s")
    return Found("failed" if (steps <= 0).any() else "ok", f"smallest step {steps.min():g} ms")


def check_unit(lab: Lab) -> Found:
    """Timestamps are milliseconds."""
    return Found(
        "failed" if lab.stamps.max() * 10 < 4000 else "ok", f"last of a 4 s clip: {lab.stamps.max():g}"
    )


def check_regular(lab: Lab) -> Found:
    """Timestamps have one distance, and are the same for all sounds of a batch."""
    if np.abs(lab.stamps - lab.stamps[0]).max() > 0.5:
        return Found("failed", "differ between sounds of one batch")
    off = float(np.abs(np.diff(lab.stamps[0]) - lab.hop_ms).max())
    limits = max(0.5, 0.02 * lab.hop_ms), max(0.5, 0.1 * lab.hop_ms)
    return graded(off, limits, f"{lab.hop_ms:.4g} ms, up to {off:.2g} ms off")


def check_inside(lab: Lab) -> Found:
    """Timestamps lie inside their clip."""
    beyond, told = -math.inf, ""
    for seconds in (4.0, 2.345):
        times = lab.stamps if seconds == 4.0 else lab.frames(lab.sounds(1, seconds))[1]
        over = max(float(times.max()) - seconds * 1000, -float(times.min()))
        if over > beyond:
            beyond, told = over, f"{times.min():.5g} to {times.max():.5g} ms of {seconds * 1000:g}"
    return graded(beyond, (0.01, lab.hop_ms), told)


def check_coverage(lab: Lab) -> Found:
    """Timestamps reach from the beginning of a clip to its end."""
    times = lab.frames(lab.sounds(1, COVERED_S))[1][0]
    gap = max(float(times[0]), COVERED_S * 1000 - float(times[-1]))
    limits = 500 + lab.hop_ms, 100 * COVERED_S
    return graded(gap, limits, f"{times[0] / 1000:.4g} to {times[-1] / 1000:.4g} s of {COVERED_S:g}")


def check_hop(lab: Lab) -> Found:
    """Timestamps are at most 50 ms apart."""
    low, high = HOP_MS
    note = f"; {low:g} to {high:g} is usual" if lab.hop_ms < 0.995 * low else ""
    return Found("ok" if lab.hop_ms <= 1.005 * high else "warning", f"{lab.hop_ms:.4g} ms{note}")


def check_drift(lab: Lab) -> Found:
    """Timestamps keep pace with the audio: from a short and a long clip follows the true distance."""
    long = long_of(lab)
    short, end = min(long.counts), long.end
    count = long.counts[end]
    if end == short or count == long.counts[short]:
        return Found("not run", f"audio of {end:g} s is too short to tell")
    true_ms = (end - short) * 1000 / (count - long.counts[short])
    off = (long.hop_ms - true_ms) * count
    # The number of timestamps is a whole one, at either end.
    limits = 2 * lab.hop_ms + 1, 2 * lab.hop_ms + 1
    return graded(abs(off), limits, f"{off:+.3g} ms after {end:g} s")


def check_centring(lab: Lab) -> Found:
    """A click changes the embeddings whose timestamps are near it."""
    rate, at_ms = lab.model.sample_rate, 1000 + 261.7 * np.arange(8)
    draw = np.random.default_rng(0)
    plain = np.tile(draw.normal(0, 1e-3, 4 * rate).astype(np.float32), (len(at_ms), 1))
    audio = plain.copy()
    burst = np.hanning(max(3, rate // 500)) * np.where(np.arange(max(3, rate // 500)) % 2, -0.9, 0.9)
    for i, when in enumerate(at_ms):
        start = round(when / 1000 * rate) - len(burst) // 2
        audio[i, start : start + len(burst)] += burst.astype(np.float32)
    embeddings, times = lab.frames(audio)
    change = np.linalg.norm(embeddings - lab.frames(plain)[0], axis=2)
    # A click between two windows may show in none.
    shows = change.max(axis=1) > 0.1 * change.max()
    change, clicks_ms = change[shows], at_ms[shows]
    if not len(change):
        return Found("warning", "a click changes nothing")
    weight = np.where(change >= 0.5 * change.max(axis=1, keepdims=True), change, 0)
    if (weight > 0).mean() > 0.5:
        return Found("warning", "a click changes everything, in no place of its own")
    offs = (weight * times[shows]).sum(1) / weight.sum(1) - clicks_ms
    off = float(np.median(offs))
    limits = max(HOP_MS[0] / 2, lab.hop_ms / 2), max(REFUSED_MS, lab.hop_ms)
    # Each click is off by something else: what changes is a block that it lies in.
    if float(offs.std()) > max(limits[1], abs(off)):
        told = f"{offs.min():+.0f} to {offs.max():+.0f} ms from it"
        return Found("warning", f"a click changes what is {told}, in no place of its own")
    return graded(abs(off), limits, f"{off:+.1f} ms from the click")
