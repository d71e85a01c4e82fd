"""Check timestamps: their unit and their spacing, and whether they match the audio."""

from __future__ import annotations

import math

import numpy as np

from heareval.embeddings.inside.checks.long_audio import measure_long_audio
from heareval.embeddings.inside.checks.subject import CheckOutcome, Subject, grade

# Many models use only the first 10 or 30 seconds.
COVERED_S = 40.0
USUAL_HOP_MS = (25.0, 50.0)
# The tolerance for onsets in the note task.
ONSET_TOLERANCE_MS = 50.0


def check_increasing(subject: Subject) -> CheckOutcome:
    """Check that timestamps increase."""
    steps = np.diff(subject.timestamps_ms, axis=1)
    if not steps.size:
        return CheckOutcome("failed", "one timestamp in 4 s")
    return CheckOutcome("failed" if (steps <= 0).any() else "ok", f"smallest step {steps.min():g} ms")


def check_milliseconds(subject: Subject) -> CheckOutcome:
    """Check that timestamps are milliseconds, not seconds."""
    last = subject.timestamps_ms.max()
    return CheckOutcome("failed" if last * 10 < 4000 else "ok", f"last of a 4 s clip: {last:g}")


def check_regular(subject: Subject) -> CheckOutcome:
    """Check that timestamps are equidistant, and the same for all sounds of a batch."""
    times = subject.timestamps_ms
    if np.abs(times - times[0]).max() > 0.5:
        return CheckOutcome("failed", "differ between sounds of one batch")
    hop_ms = subject.hop_ms
    deviation = float(np.abs(np.diff(times[0]) - hop_ms).max())
    limits = max(0.5, 0.02 * hop_ms), max(0.5, 0.1 * hop_ms)
    return grade(deviation, limits, f"{hop_ms:.4g} ms, up to {deviation:.2g} ms off")


def check_inside(subject: Subject) -> CheckOutcome:
    """Check that timestamps lie within their clip."""
    worst, measured = -math.inf, ""
    for seconds in (4.0, 2.345):
        is_known = seconds == 4.0
        times = (
            subject.timestamps_ms
            if is_known
            else subject.embed_timestamps(subject.make_sounds(1, seconds))[1]
        )
        excess = max(float(times.max()) - seconds * 1000, -float(times.min()))
        if excess > worst:
            worst, measured = excess, f"{times.min():.5g} to {times.max():.5g} ms of {seconds * 1000:g}"
    return grade(worst, (0.01, subject.hop_ms), measured)


def check_coverage(subject: Subject) -> CheckOutcome:
    """Check that timestamps reach from the beginning of a clip to its end."""
    times = subject.embed_timestamps(subject.make_sounds(1, COVERED_S))[1][0]
    gap = max(float(times[0]), COVERED_S * 1000 - float(times[-1]))
    limits = 500 + subject.hop_ms, 100 * COVERED_S
    return grade(gap, limits, f"{times[0] / 1000:.4g} to {times[-1] / 1000:.4g} s of {COVERED_S:g}")


def check_hop(subject: Subject) -> CheckOutcome:
    """Check that timestamps are at most 50 ms apart."""
    low, high = USUAL_HOP_MS
    note = f"; {low:g} to {high:g} is usual" if subject.hop_ms < 0.995 * low else ""
    return CheckOutcome(
        "ok" if subject.hop_ms <= 1.005 * high else "warning", f"{subject.hop_ms:.4g} ms{note}"
    )


def check_drift(subject: Subject) -> CheckOutcome:
    """Check that timestamps don't drift: compare their spacing with that of short and long audio."""
    long = measure_long_audio(subject)
    short, end = min(long.counts), long.longest_s
    count = long.counts[end]
    if end == short or count == long.counts[short]:
        return CheckOutcome("not run", f"audio of {end:g} s is too short to tell")
    true_hop_ms = (end - short) * 1000 / (count - long.counts[short])
    drift_ms = (long.hop_ms - true_hop_ms) * count
    # The number of timestamps is rounded to an integer at either length.
    limit = 2 * subject.hop_ms + 1
    return grade(abs(drift_ms), (limit, limit), f"{drift_ms:+.3g} ms after {end:g} s")


def check_centring(subject: Subject) -> CheckOutcome:
    """Check that a click changes the embeddings whose timestamps are near it."""
    rate, clicks_ms = subject.model.sample_rate, 1000 + 261.7 * np.arange(8)
    rng = np.random.default_rng(0)
    noise = np.tile(rng.normal(0, 1e-3, 4 * rate).astype(np.float32), (len(clicks_ms), 1))
    audio = noise.copy()
    click = np.hanning(max(3, rate // 500)) * np.where(np.arange(max(3, rate // 500)) % 2, -0.9, 0.9)
    for i, when in enumerate(clicks_ms):
        start = round(when / 1000 * rate) - len(click) // 2
        audio[i, start : start + len(click)] += click.astype(np.float32)
    embeddings, times = subject.embed_timestamps(audio)
    change = np.linalg.norm(embeddings - subject.embed_timestamps(noise)[0], axis=2)
    # A click between two windows may change neither.
    is_heard = change.max(axis=1) > 0.1 * change.max()
    change, clicks_ms = change[is_heard], clicks_ms[is_heard]
    if not len(change):
        return CheckOutcome("warning", "a click changes nothing")
    weight = np.where(change >= 0.5 * change.max(axis=1, keepdims=True), change, 0)
    if (weight > 0).mean() > 0.5:
        return CheckOutcome("warning", "a click changes all embeddings, not only those near it")
    offsets_ms = (weight * times[is_heard]).sum(1) / weight.sum(1) - clicks_ms
    offset_ms = float(np.median(offsets_ms))
    limits = max(USUAL_HOP_MS[0] / 2, subject.hop_ms / 2), max(ONSET_TOLERANCE_MS, subject.hop_ms)
    # If the offsets differ, a click changes the whole block of audio around it.
    if float(offsets_ms.std()) > max(limits[1], abs(offset_ms)):
        span = f"{offsets_ms.min():+.0f} to {offsets_ms.max():+.0f} ms"
        return CheckOutcome("warning", f"a click changes embeddings at {span} from it, not at a fixed offset")
    return grade(abs(offset_ms), limits, f"{offset_ms:+.1f} ms from the click")
