"""Check timestamps: their unit and their spacing, and whether they match the audio."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from heareval.embeddings.inside.checks.long_audio import measure_long_audio
from heareval.embeddings.inside.checks.subject import CheckOutcome, Subject, grade

# Many models use only the first 10 or 30 seconds.
COVERED_S = 40.0
USUAL_HOP_MS = (25.0, 50.0)
# Timestamps that exceed the length of a clip this many times are not in milliseconds.
OTHER_UNIT = 5
# The tolerance for onsets in the note task.
ONSET_TOLERANCE_MS = 50.0


def check_increasing(subject: Subject) -> CheckOutcome:
    """Check that timestamps increase."""
    steps = np.diff(subject.timestamps_ms, axis=1)
    if not steps.size:
        return CheckOutcome("failed", "one timestamp in 4 s", "one timestamp")
    return CheckOutcome("failed" if (steps <= 0).any() else "ok", f"smallest step {steps.min():g} ms")


def check_milliseconds(subject: Subject) -> CheckOutcome:
    """Check that timestamps are milliseconds, not seconds."""
    last = subject.timestamps_ms.max()
    if last * 10 >= 4000:
        return CheckOutcome("ok", f"last of a 4 s clip: {last:g}")
    is_count = last > 4 and (np.diff(subject.timestamps_ms[0]) == 1).all()
    return CheckOutcome("failed", f"last of a 4 s clip: {last:g}", "frame numbers" if is_count else "")


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
    outcome = grade(worst, (0.01, subject.hop_ms), measured)
    # Nobody pads a clip to many times its length.
    return replace(outcome, cause="unit") if worst > OTHER_UNIT * 4000 else outcome


def check_coverage(subject: Subject) -> CheckOutcome:
    """Check that timestamps reach from the beginning of a clip to its end."""
    tried_s = min(COVERED_S, subject.job["long_s"])
    times = subject.embed_timestamps(subject.make_sounds(1, tried_s))[1][0]
    gap = max(float(times[0]), tried_s * 1000 - float(times[-1]))
    limits = 500 + subject.hop_ms, 100 * tried_s
    return grade(gap, limits, f"{times[0] / 1000:.4g} to {times[-1] / 1000:.4g} s of {tried_s:g}")


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
    if not is_heard.any():
        return CheckOutcome("warning", "a click changes nothing", "deaf")
    found = locate_change(change[is_heard], times[is_heard], clicks_ms[is_heard])
    if found.share <= 0.5:
        return grade_offsets(found.offsets_ms, subject.hop_ms)
    # Clips with one click each have the same peak, mean and deviation, wherever the click is. A normalisation
    # of the whole clip does not hide where they differ.
    change = np.stack(
        [np.median(np.linalg.norm(embeddings - each, axis=2), axis=0) for each in embeddings[is_heard]]
    )
    found, where = locate_change(change, times[is_heard], clicks_ms[is_heard]), ""
    if found.share <= 0.5:
        outcome = grade_offsets(found.offsets_ms, subject.hop_ms)
        if outcome.result != "ok" and not outcome.cause:
            return outcome
        where = f", and most of all those at {outcome.measured}" if outcome.result == "ok" else ""
    return CheckOutcome("warning", f"a click changes all embeddings{where}", "whole clip")


@dataclass(frozen=True)
class Change:
    """Where clicks change embeddings.

    Args:
        offsets_ms: for each click, the centre of the embeddings that it changes most, relative to the click.
        share: the share of all embeddings that are among these.
    """

    offsets_ms: np.ndarray
    share: float


def locate_change(change: np.ndarray, times: np.ndarray, clicks_ms: np.ndarray) -> Change:
    """Return where clicks change embeddings.

    Args:
        change: how much each embedding changes: `(clicks, timestamps)`.
        times: timestamps in ms, of the same shape.
        clicks_ms: the times of the clicks.
    """
    weight = np.where(change >= 0.5 * change.max(axis=1, keepdims=True), change, 0)
    return Change((weight * times).sum(1) / weight.sum(1) - clicks_ms, float((weight > 0).mean()))


def grade_offsets(offsets_ms: np.ndarray, hop_ms: float) -> CheckOutcome:
    """Return the outcome for the offsets of the embeddings that clicks change."""
    offset_ms = float(np.median(offsets_ms))
    limits = max(USUAL_HOP_MS[0] / 2, hop_ms / 2), max(ONSET_TOLERANCE_MS, hop_ms)
    # If the offsets differ, a click changes the whole block of audio around it.
    if float(offsets_ms.std()) > max(limits[1], abs(offset_ms)):
        span = f"{offsets_ms.min():+.0f} to {offsets_ms.max():+.0f} ms"
        measured = f"a click changes embeddings at {span} from it, not at a fixed offset"
        return CheckOutcome("warning", measured, "blocks")
    return grade(abs(offset_ms), limits, f"{offset_ms:+.1f} ms from the click")
