"""Measure memory: of the GPU, or of this process."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heareval.embeddings.inside.frameworks import Framework


@dataclass(frozen=True)
class GpuFunctions:
    """Functions of a framework that describe its GPU; each takes the framework's module.

    Args:
        name: returns the name of the GPU.
        reset_peak: starts measuring the peak anew.
        peak_bytes: returns the peak of allocated memory.
        free_bytes: returns the free memory.
    """

    name: Callable[[Any], str]
    reset_peak: Callable[[Any], object]
    peak_bytes: Callable[[Any], float]
    free_bytes: Callable[[Any], float]


GPU_FUNCTIONS = {
    "torch": GpuFunctions(
        lambda torch: torch.cuda.get_device_name(),
        lambda torch: torch.cuda.reset_peak_memory_stats(),
        lambda torch: torch.cuda.max_memory_allocated(),
        lambda torch: torch.cuda.mem_get_info()[0],
    ),
    "tensorflow": GpuFunctions(
        lambda tf: tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0]).get(
            "device_name", "GPU"
        ),
        lambda tf: tf.config.experimental.reset_memory_stats("GPU:0"),
        lambda tf: tf.config.experimental.get_memory_info("GPU:0")["peak"],
        # TensorFlow does not report free memory.
        lambda tf: float("inf"),
    ),
}


def reset_peak(framework: Framework) -> None:
    """Start measuring the peak of memory anew, where the system supports that."""
    if framework.is_gpu:
        GPU_FUNCTIONS[framework.name].reset_peak(framework.lib)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(framework: Framework) -> float:
    """Return the peak since `reset_peak`: of GPU memory, or of the resident memory of this process."""
    if framework.is_gpu:
        return float(GPU_FUNCTIONS[framework.name].peak_bytes(framework.lib))
    if Path("/proc/self/status").exists():
        return read_kilobytes("/proc/self/status", "VmHWM")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)


def free_bytes(framework: Framework) -> float:
    """Return the free memory; infinity where the system does not report it."""
    if framework.is_gpu:
        return float(GPU_FUNCTIONS[framework.name].free_bytes(framework.lib))
    return read_kilobytes("/proc/meminfo", "MemAvailable") or float("inf")


def read_kilobytes(file: str, name: str) -> float:
    """Return a value of a /proc file in bytes; 0 if it is not there."""
    with contextlib.suppress(OSError):
        for line in Path(file).read_text().splitlines():
            if line.startswith(f"{name}:"):
                return float(line.split()[1]) * 1024
    return 0.0
