"""Checks at the limits: silence, clipping, very short and very long audio, memory, speed."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from heareval.embeddings.checks.lab import Found, Lab
from heareval.embeddings.checks.values import unfinished
from heareval.embeddings.worker import GIB

# The shortest clip of the benchmark, and a shorter one, in seconds.
SHORTEST_S, SHORT_S = 0.3, 0.01
# Longer and longer, so that time and memory can be foretold before they are gone.
RUNGS_S = (10.0, 30.0, 60.0, 300.0, 1200.0)
# Growth that is this much steeper than before is more than noise.
BEND = 1.6


def whole(lab: Lab, audio: np.ndarray) -> Found:
    """Whether both functions answer with numbers, as many as they should."""
    scene, (frames, times) = lab.scene(audio), lab.frames(audio)
    if len(scene) != len(audio) or frames.shape[:2] != times.shape or not times.size:
        return Found("failed", f"shapes {scene.shape}, {frames.shape} and {times.shape}")
    wrong = unfinished([scene, frames, times])
    return Found("failed" if wrong else "ok", wrong or "finite")


def check_finite(lab: Lab) -> Found:
    """Ordinary sounds give numbers."""
    return whole(lab, lab.sounds(4, 2.0))


def check_silence(lab: Lab) -> Found:
    """Silence gives numbers."""
    return whole(lab, np.zeros((2, lab.model.sample_rate), np.float32))


def check_clipping(lab: Lab) -> Found:
    """Sound clipped at full scale gives numbers."""
    return whole(lab, np.sign(lab.sounds(2, 1.0)))


def check_short(lab: Lab) -> Found:
    """Clips of 300 ms, as the benchmark has them, and of 10 ms have embeddings."""
    found = Found("ok", "")
    for seconds in (SHORTEST_S, SHORT_S):
        try:
            found = whole(lab, lab.sounds(2, seconds))
        except Exception as error:
            found = Found("failed", f"{type(error).__name__}: {error}")
        if found.result != "ok":
            result = "failed" if seconds >= SHORTEST_S else "warning"
            return Found(result, f"at {seconds * 1000:g} ms: {found.measured}")
    return Found("ok", f"finite at {SHORTEST_S * 1000:g} and {SHORT_S * 1000:g} ms")


@dataclass
class Long:
    """What longer and longer audio took."""

    # What was tried, in seconds of audio -> how long it took, peak memory, and the number of timestamps.
    seconds: dict[float, float] = field(default_factory=dict)
    peaks: dict[float, float] = field(default_factory=dict)
    counts: dict[float, int] = field(default_factory=dict)
    hop_ms: float = 0.0
    # What went wrong, with the length at which it did.
    wrong: str = ""
    # Why the longest was not tried.
    note: str = ""

    @property
    def end(self) -> float:
        """The longest audio that was tried, in seconds."""
        return max(self.counts)

    def foretold(self, what: dict[float, float], length: float) -> float:
        """What audio of this length would take, if it grows on as it did."""
        known = sorted(what)
        last = known[-1]
        if length in what or len(known) == 1:
            return what.get(length, what[last] * length / last)
        # A constant share and a proportional one, and the square that attention takes where it shows clearly.
        slopes = np.diff([what[each] for each in known]) / np.diff(known)
        bends = len(slopes) > 1 and slopes[-1] > BEND * max(slopes[-2], 0.0)
        points = known[-3:] if bends else known[-2:]
        shares = np.polyfit(points, [what[each] for each in points], len(points) - 1)
        return max(what[last], float(np.polyval(shares, length)))


def long_of(lab: Lab) -> Long:
    """What audio up to 20 minutes took, tried once."""
    lab.tried_long = lab.tried_long or climb(lab)
    long: Long = lab.tried_long
    return long


def climb(lab: Lab) -> Long:
    """Longer and longer audio, as far as time and memory are likely to suffice."""
    long, goal = Long(), lab.job["long_s"]
    for length in sorted({*(rung for rung in RUNGS_S if rung < goal), goal}):
        if long.counts and not long.wrong:
            seconds = long.foretold(long.seconds, length)
            need = long.foretold(long.peaks, length) - long.peaks[long.end]
            if seconds > lab.job["long_budget_s"]:
                long.note = f"{length:g} s would take some {seconds:.2g} s"
            elif need > free_bytes(lab):
                long.note = f"{length:g} s would take {need / GIB:.2g} GiB more than there is"
        if long.wrong or long.note:
            break
        try:
            measure(lab, long, length)
        except Exception as error:
            traceback.print_exc()
            told = (str(error).strip().splitlines() or [""])[0]
            long.wrong = f"{type(error).__name__}: {told}, at {length:g} s"
    return long


def measure(lab: Lab, long: Long, length: float) -> None:
    """Ask both functions about audio of a length and note what it took."""
    audio = lab.sounds(1, length)
    forget_peak(lab)
    began = time.perf_counter()
    scene, (frames, times) = lab.scene(audio), lab.frames(audio)
    long.seconds[length], long.peaks[length] = time.perf_counter() - began, peak_bytes(lab)
    wrong = unfinished([scene, frames, times])
    long.counts[length], long.wrong = times.shape[1], f"{wrong}, at {length:g} s" if wrong else ""
    long.hop_ms = float(times[0, -1] - times[0, 0]) / max(1, times.shape[1] - 1)


def check_long(lab: Lab) -> Found:
    """Audio of 20 minutes has embeddings."""
    long = long_of(lab)
    if long.wrong:
        return Found("failed", long.wrong)
    told = f"{long.end:g} s in {long.seconds[long.end]:.3g} s"
    return Found("ok", f"{told}; {long.note}" if long.note else told)


def check_memory(lab: Lab) -> Found:
    """Audio of 20 minutes fits into 16 GB."""
    long, goal = long_of(lab), lab.job["long_s"]
    peak, allowed = long.foretold(long.peaks, goal), lab.job["memory_bytes"]
    where = "of the GPU" if lab.framework.is_gpu else "of the process"
    how = "" if goal == long.end else f", foretold from {long.peaks[long.end] / GIB:.2g} at {long.end:g} s"
    told = f"{peak / GIB:.2g} GiB {where} at {goal:g} s{how}"
    return Found("ok" if peak <= allowed else "failed", told)


def check_speed(lab: Lab) -> Found:
    """Both functions together are fast enough for the benchmark."""
    long = long_of(lab)
    speed = long.end / long.seconds[long.end]
    enough = speed >= lab.job["speed"]
    where = "cuda" if lab.framework.is_gpu else "cpu"
    return Found("ok" if enough else "warning", f"{speed:.3g} s of audio a second on {where}")


# --------------------------------------------------------------------------- memory


@dataclass(frozen=True)
class Gpu:
    """What a framework tells of its GPU; each gets the framework's module."""

    name: Callable[[Any], str]
    forget_peak: Callable[[Any], object]
    peak: Callable[[Any], float]
    free: Callable[[Any], float]


GPUS = {
    "torch": Gpu(
        lambda torch: torch.cuda.get_device_name(),
        lambda torch: torch.cuda.reset_peak_memory_stats(),
        lambda torch: torch.cuda.max_memory_allocated(),
        lambda torch: torch.cuda.mem_get_info()[0],
    ),
    "tensorflow": Gpu(
        lambda tf: tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0]).get(
            "device_name", "GPU"
        ),
        lambda tf: tf.config.experimental.reset_memory_stats("GPU:0"),
        lambda tf: tf.config.experimental.get_memory_info("GPU:0")["peak"],
        # It does not tell.
        lambda tf: float("inf"),
    ),
}


def forget_peak(lab: Lab) -> None:
    """Measure the peak of memory from here on, where the system can."""
    if lab.framework.is_gpu:
        GPUS[lab.framework.name].forget_peak(lab.framework.lib)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(lab: Lab) -> float:
    """Most memory since then: of the GPU, or resident of this process."""
    if lab.framework.is_gpu:
        return float(GPUS[lab.framework.name].peak(lab.framework.lib))
    if Path("/proc/self/status").exists():
        return kilobytes("/proc/self/status", "VmHWM")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)


def free_bytes(lab: Lab) -> float:
    """Memory that is left, infinite where nobody knows."""
    if lab.framework.is_gpu:
        return float(GPUS[lab.framework.name].free(lab.framework.lib))
    return kilobytes("/proc/meminfo", "MemAvailable") or float("inf")


def kilobytes(file: str, name: str) -> float:
    """A line of a file of Linux in bytes, 0 if there is none."""
    with contextlib.suppress(OSError):
        for line in Path(file).read_text().splitlines():
            if line.startswith(f"{name}:"):
                return float(line.split()[1]) * 1024
    return 0.0
