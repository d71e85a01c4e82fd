"""Check audio of up to 20 minutes: whether it works, its memory and its speed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from heareval.embeddings.inside.checks.memory import free_bytes, peak_bytes, reset_peak
from heareval.embeddings.inside.checks.subject import CheckOutcome, Subject, fail_with
from heareval.embeddings.inside.checks.values import find_non_finite
from heareval.embeddings.inside.frameworks import GIB

# Longer and longer, so that time and memory can be extrapolated before they run out.
LENGTHS_S = (10.0, 30.0, 60.0, 300.0, 1200.0)
# A slope that is this much steeper than the one before is more than noise.
BEND = 1.6


@dataclass
class LongAudio:
    """What longer and longer audio took.

    Args:
        seconds: length of the audio in seconds -> computing time in seconds.
        peaks: length -> peak memory in bytes.
        counts: length -> number of timestamps, if there are any.
        hop_ms: mean distance of the timestamps of the longest audio.
        fault: what went wrong, with the length.
        note: why longer audio was not tried.
    """

    seconds: dict[float, float] = field(default_factory=dict)
    peaks: dict[float, float] = field(default_factory=dict)
    counts: dict[float, int] = field(default_factory=dict)
    hop_ms: float = 0.0
    fault: str = ""
    note: str = ""

    @property
    def longest_s(self) -> float:
        """The longest audio that was tried."""
        return max(self.seconds)


def extrapolate(measured: dict[float, float], length: float) -> float:
    """Return the expected time or memory for audio of a length.

    The model is a constant plus a share proportional to the length, plus a quadratic share, as attention has,
    where the measurements clearly show one.

    Args:
        measured: length in seconds -> measurement.
        length: in seconds.
    """
    known = sorted(measured)
    last = known[-1]
    if length in measured or len(known) == 1:
        return measured.get(length, measured[last] * length / last)
    slopes = np.diff([measured[each] for each in known]) / np.diff(known)
    has_bend = len(slopes) > 1 and slopes[-1] > BEND * max(slopes[-2], 0.0)
    points = known[-3:] if has_bend else known[-2:]
    coefficients = np.polyfit(points, [measured[each] for each in points], len(points) - 1)
    return max(measured[last], float(np.polyval(coefficients, length)))


def measure_long_audio(subject: Subject) -> LongAudio:
    """Return what audio of up to 20 minutes took; later calls return the same measurements."""
    if subject.long_audio is None:
        subject.long_audio = try_longer_audio(subject)
    long: LongAudio = subject.long_audio
    return long


def try_longer_audio(subject: Subject) -> LongAudio:
    """Try longer and longer audio, as far as time and memory are expected to suffice."""
    long, goal = LongAudio(), subject.job["long_s"]
    for length in sorted({*(each for each in LENGTHS_S if each < goal), goal}):
        if long.seconds and not long.fault:
            seconds = extrapolate(long.seconds, length)
            need = extrapolate(long.peaks, length) - long.peaks[long.longest_s]
            if seconds > subject.job["long_budget_s"]:
                long.note = f"{length:g} s would take about {seconds:.2g} s"
            elif need > free_bytes(subject.framework):
                long.note = f"{length:g} s would take {need / GIB:.2g} GiB more than there is"
        if long.fault or long.note:
            break
        try:
            measure(subject, long, length)
        except Exception as error:
            long.fault = f"{fail_with(error, subject.job['module']).measured}, at {length:g} s"
    return long


def measure(subject: Subject, long: LongAudio, length: float) -> None:
    """Call both functions on audio of a length and record what it took."""
    audio = subject.make_sounds(1, length)
    reset_peak(subject.framework)
    began = time.perf_counter()
    outputs = subject.embed_by_type(audio)
    long.seconds[length] = time.perf_counter() - began
    long.peaks[length] = peak_bytes(subject.framework)
    fault = find_non_finite([array for output in outputs.values() for array in output])
    long.fault = f"{fault}, at {length:g} s" if fault else ""
    if "event" in outputs:
        times = outputs["event"][1]
        long.counts[length] = times.shape[1]
        long.hop_ms = float(times[0, -1] - times[0, 0]) / max(1, times.shape[1] - 1)


def check_long_audio(subject: Subject) -> CheckOutcome:
    """Check that audio of 20 minutes has finite embeddings."""
    long = measure_long_audio(subject)
    if long.fault:
        return CheckOutcome("failed", long.fault)
    measured = f"{long.longest_s:g} s in {long.seconds[long.longest_s]:.3g} s"
    return CheckOutcome("ok", f"{measured}; {long.note}" if long.note else measured)


def check_memory(subject: Subject) -> CheckOutcome:
    """Check that audio of 20 minutes fits into 16 GB."""
    long, goal = measure_long_audio(subject), subject.job["long_s"]
    peak, allowed = extrapolate(long.peaks, goal), subject.job["memory_bytes"]
    where = "of the GPU" if subject.framework.is_gpu else "of the process"
    longest = long.longest_s
    how = "" if goal == longest else f", extrapolated from {long.peaks[longest] / GIB:.2g} at {longest:g} s"
    measured = f"{peak / GIB:.2g} GiB {where} at {goal:g} s{how}"
    return CheckOutcome("ok" if peak <= allowed else "failed", measured)


def check_speed(subject: Subject) -> CheckOutcome:
    """Check that both functions together are fast enough for the benchmark."""
    long = measure_long_audio(subject)
    speed = long.longest_s / long.seconds[long.longest_s]
    where = "cuda" if subject.framework.is_gpu else "cpu"
    is_fast = speed >= subject.job["speed"]
    return CheckOutcome("ok" if is_fast else "warning", f"{speed:.3g} s of audio per second on {where}")
