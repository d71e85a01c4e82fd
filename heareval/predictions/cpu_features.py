"""What this machine's CPU can do, as far as it matters to training."""

from __future__ import annotations

import functools
from pathlib import Path

from heareval.errors import HearevalError
from heareval.predictions.protocol import TrainPrecision

CPU_INFO = Path("/proc/cpuinfo")
# As Linux names the instructions that multiply bf16. PyTorch emulates them on other CPUs, which is slower
# than float32.
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


def check_cpu(precision: TrainPrecision, cpu_info: Path = CPU_INFO) -> None:
    """Check that training in this precision is faster than in float32 on this CPU, unless it is float32.

    Args:
        cpu_info: where Linux describes the CPU.

    Raises:
        HearevalError: it would be slower, or the precision is one of GPUs.
    """
    if precision == "tf32":
        raise HearevalError(
            "training in tf32",
            got="a CPU",
            expected="a GPU",
            remedy="Leave out --train-precision.",
        )
    if precision == "bf16" and not has_fast_bf16(cpu_info):
        raise HearevalError(
            "training in bf16",
            got="a CPU that would emulate it, slower than float32",
            expected="a CPU with AVX512-BF16 or AMX-BF16",
            remedy="Leave out --train-precision.",
        )


@functools.cache
def has_fast_bf16(cpu_info: Path = CPU_INFO) -> bool:
    """Return whether this CPU has instructions that multiply bf16, as far as Linux says.

    Args:
        cpu_info: where Linux describes the CPU; other systems have no such file.
    """
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not BF16_FLAGS.isdisjoint(flags.split())
