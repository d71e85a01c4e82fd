"""What a run may use of a machine: its GPUs, a model on each at a time, and how long it waits for a model."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from heareval.errors import HearevalError

# No batch of a reasonable model takes so long, not even the first one on a busy machine.
SILENCE_S = 3600.0
ASK_AGAIN_S = 0.5


@dataclass(frozen=True)
class Machine:
    """What a run may use.

    Args:
        gpus: numbers of the GPUs to use side by side, a model on each; none of them = what there is, or for
            `("",)` the CPU.
        silence_s: a model that finishes nothing for so long is killed.
        in_memory: whether embeddings are held in memory while predictors train; None = if there is room.
    """

    gpus: tuple[str, ...] = ()
    silence_s: float = SILENCE_S
    in_memory: bool | None = None

    @property
    def device(self) -> Literal["auto", "cpu", "cuda"]:
        """What models are asked to run on: who names GPUs wants no CPU in their place."""
        return "auto" if not self.gpus else "cpu" if self.gpus == ("",) else "cuda"


ANY_MACHINE = Machine()


def gpus_of(text: str | None) -> tuple[str, ...]:
    """The GPUs that `--gpus` means: how many, or which.

    >>> gpus_of("2"), gpus_of("0,3"), gpus_of("3,"), gpus_of("0"), gpus_of(None)
    (('0', '1'), ('0', '3'), ('3',), ('',), ())
    """
    if text is None:
        return ()
    words = [word.strip() for word in text.split(",")]
    numbers = [int(word) for word in words if word.isascii() and word.isdecimal() and len(word) < 5]
    if (
        len(numbers) < len([word for word in words if word])
        or len(set(numbers)) < len(numbers)
        or not numbers
    ):
        raise HearevalError(
            "--gpus", got=repr(text), expected="how many, such as 2, or which, such as 0,1; 0 is the CPU"
        )
    if len(words) == 1:
        numbers = list(range(numbers[0]))
    return tuple(map(str, numbers)) or ("",)


@contextlib.contextmanager
def claimed(gpus: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Environment variables of a process that has one of these GPUs for itself, as soon as one is free."""
    if not gpus:
        yield {}
        return
    if gpus == ("",):
        yield {"CUDA_VISIBLE_DEVICES": ""}
        return
    devices = list(gpus)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # A number counts what a cluster's job was given.
        given = visible.split(",") if visible else []
        if max(map(int, gpus)) >= len(given):
            raise HearevalError(
                f"--gpus {','.join(gpus)}",
                got=f"CUDA_VISIBLE_DEVICES={visible}",
                expected=f"numbers below {len(given)}, the count of what is visible",
            )
        devices = [given[int(gpu)] for gpu in gpus]
    with contextlib.ExitStack() as stack:
        while True:
            for device in devices:
                if _took(_lock_of(device), stack):
                    yield {"CUDA_VISIBLE_DEVICES": device}
                    return
            time.sleep(ASK_AGAIN_S)


def _lock_of(device: str) -> Path:
    """A file of this machine and user; jobs of a cluster count their devices each for itself."""
    job = os.environ.get("SLURM_JOB_ID", "")
    return Path(tempfile.gettempdir()) / f"heareval-{os.getuid()}-{job}gpu-{device.replace('/', '-')}.lock"


def _took(path: Path, stack: contextlib.ExitStack) -> bool:
    """Take the lock of a file until the stack ends, if nobody has it."""
    stream = open(path, "a")  # noqa: SIM115
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return False
    stack.enter_context(stream)
    return True
