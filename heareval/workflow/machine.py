"""Limits on what a run uses of a machine: GPUs, with one model on each at a time, waiting time and memory."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from heareval.errors import HearevalError
from heareval.formats.fields import shorten

if TYPE_CHECKING:
    from heareval.embeddings.submission import Model

# What has no GPU is not written in CUDA_VISIBLE_DEVICES like this; Slurm writes `NoDevFiles`.
GPU_NAMES = re.compile(r"\d+|(GPU|MIG)-.+")
# Files that stand for GPUs: NVIDIA's on Linux, those of WSL, and AMD's.
GPU_FILES = ("dev/nvidia[0-9]*", "proc/driver/nvidia/gpus/*", "dev/dxg", "dev/kfd")
Device = Literal["auto", "cpu", "cuda"]
# No batch of a reasonable model takes this long, not even the first one on a busy machine.
DEFAULT_TIMEOUT_S = 3600.0
RETRY_EVERY_S = 0.5


def is_whole(value: object, least: int, most: float = math.inf) -> bool:
    """Return whether a value is a whole number in a range.

    >>> is_whole(1, 1), is_whole(True, 1), is_whole(1.0, 1), is_whole("1", 1)
    (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_seconds(value: object, least: float) -> bool:
    """Return whether a value is a finite number that is large enough.

    >>> is_seconds(1.5, 1), is_seconds(0, 1), is_seconds(float("inf"), 1)
    (True, False, False)
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= least  # type: ignore[arg-type,operator]


def _are_gpus(value: object) -> bool:
    if value == ("",):
        return True
    are_numbers = isinstance(value, tuple) and all(
        isinstance(each, str) and each.isascii() and each.isdecimal() for each in value
    )
    return are_numbers and len(set(value)) == len(value)  # type: ignore[call-overload,arg-type]


def check_fields(settings: object, **rules: tuple[Callable[[Any], bool], str]) -> None:
    """Check values that Python code has given.

    Args:
        settings: a dataclass.
        rules: for each field, a function that returns whether a value is right, and what it should be.

    Raises:
        HearevalError: a value is wrong.

    Example: `check_fields(Machine(), train_threads=(lambda value: value is None, "None"))`
    """
    for name, (is_right, expected) in rules.items():
        if not is_right(value := getattr(settings, name)):
            raise HearevalError(f"{name} of {type(settings).__name__}", got=shorten(value), expected=expected)


@dataclass(frozen=True)
class Machine:
    """What a run may use of the machine.

    Args:
        gpus: numbers of the GPUs to use in parallel, one model on each; () leaves the choice to the models,
            `("",)` means the CPU.
        timeout_s: a model is killed if it finishes no batch for this many seconds.
        in_memory: whether to keep embeddings in memory while predictors train; None decides by what is free.
        train_threads: number of threads of each network in training on a CPU, where as many networks train
            side by side as there are cores for; None trains them one after the other on all cores.

    Raises:
        HearevalError: a value of a wrong type, or out of range.

    Example: `heareval.RunSettings(machine=heareval.Machine(gpus=("",), train_threads=1))`
    """

    gpus: tuple[str, ...] = ()
    timeout_s: float = DEFAULT_TIMEOUT_S
    in_memory: bool | None = None
    train_threads: int | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            gpus=(_are_gpus, 'a tuple of numbers as text, such as ("0", "1"), or ("",) for the CPU'),
            timeout_s=(lambda value: is_seconds(value, 1), "seconds, at least 1"),
            in_memory=(lambda value: value is None or isinstance(value, bool), "True, False or None"),
            train_threads=(lambda value: value is None or is_whole(value, 1), "a whole number of at least 1"),
        )

    @property
    def device(self) -> Device:
        """The device for models: `auto`, or what the user named; a named GPU never falls back to the CPU."""
        return "auto" if not self.gpus else "cpu" if self.gpus == ("",) else "cuda"

    def choose_device(self, model: Model) -> Device:
        """Return `cpu` if the model or the user wants the CPU, else `cuda` if one wants a GPU, else `auto`.

        >>> from heareval.embeddings.submission import Model
        >>> Machine(("1",)).choose_device(Model("my_model")), Machine().choose_device(Model("my_model"))
        ('cuda', 'auto')
        """
        wishes = (model.device, self.device)
        return "cpu" if "cpu" in wishes else "cuda" if "cuda" in wishes else "auto"

    @property
    def networks_side_by_side(self) -> int:
        """How many networks a step trains at the same time on this machine at most.

        >>> Machine().networks_side_by_side
        1
        """
        return max(1, count_cores() // self.train_threads) if self.train_threads else 1


ANY_MACHINE = Machine()


def count_cores() -> int:
    """Return how many cores this process may use, where affinity and the limits of its container count.

    >>> count_cores() >= 1
    True
    """
    # It takes a while to import.
    import joblib

    return int(joblib.cpu_count())


def check_train_threads(machine: Machine) -> None:
    """Check the number of threads of each network in training.

    Raises:
        HearevalError: this machine has fewer cores, or networks would be trained on its GPU.

    >>> check_train_threads(Machine(("",), train_threads=1))
    """
    threads = machine.train_threads
    if threads is None:
        return
    if uses_gpu(machine.device):
        raise HearevalError(
            f"--train-threads {threads}",
            got="a GPU, where it changes nothing",
            expected="training on a CPU",
            remedy="Leave it out, or train on the CPU with --gpus 0.",
        )
    if threads > (cores := count_cores()):
        raise HearevalError(
            f"--train-threads {threads}",
            got=f"{cores} {'core' if cores == 1 else 'cores'} that this process may use",
            expected="1" if cores == 1 else f"a number from 1 to {cores}",
        )


def parse_gpus(text: str | None) -> tuple[str, ...]:
    """Return the GPUs that `--gpus` names: one number is a count, several or `3,` are numbers of GPUs.

    Numbers in brackets, as the command lines of 2021 have them, are numbers of GPUs, too.

    Raises:
        HearevalError: the text is neither.

    >>> parse_gpus("2"), parse_gpus("0,3"), parse_gpus("3,"), parse_gpus("0"), parse_gpus(None)
    (('0', '1'), ('0', '3'), ('3',), ('',), ())
    >>> parse_gpus("[0]"), parse_gpus("[1, 3]")
    (('0',), ('1', '3'))
    """
    if text is None:
        return ()
    bare = text.strip()
    is_list = bare.startswith("[") and bare.endswith("]")
    words = [word.strip() for word in (f"{bare[1:-1]}," if is_list else text).split(",")]
    numbers = [int(word) for word in words if word.isascii() and word.isdecimal() and len(word) < 5]
    if (
        len(numbers) < len([word for word in words if word])
        or len(set(numbers)) < len(numbers)
        or not numbers
    ):
        raise HearevalError(
            "--gpus", got=repr(text), expected="a count such as 2, numbers such as 0,1, or 0 for the CPU"
        )
    if len(words) == 1:
        numbers = list(range(numbers[0]))
    return tuple(map(str, numbers)) or ("",)


def uses_gpu(device: Device) -> bool:
    """Return whether a step will use a GPU on this machine: the user says so, or there is one.

    >>> uses_gpu("cpu"), uses_gpu("cuda")
    (False, True)
    """
    return device == "cuda" or (device == "auto" and has_gpu())


def has_gpu(root: Path = Path("/")) -> bool:
    """Return whether this process may use a GPU of this machine, as far as files and variables tell.

    Asking CUDA would start it in this process, which Luigi forks.

    Args:
        root: where the file system begins.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    # CUDA takes the devices up to the first that is none.
    if visible is not None and not GPU_NAMES.fullmatch(visible.split(",")[0].strip()):
        return False
    return any(True for pattern in GPU_FILES for _ in root.glob(pattern))


@contextlib.contextmanager
def claim_device(device: Device, machine: Machine) -> Iterator[dict[str, str]]:
    """Wait for the device of a step and keep it while the block lasts; other runs of this user respect that.

    Yields the environment variables for a process that may use this device only. Without `--gpus` the process
    may use all GPUs, and waits for the first one.

    Args:
        device: as `Machine.choose_device` returns it.
        machine: the GPUs to use.

    Raises:
        HearevalError: a number in `machine.gpus` that CUDA_VISIBLE_DEVICES does not have.

    Example: `with claim_device("cpu", Machine()) as variables: ...`
    """
    if device == "cpu":
        yield {"CUDA_VISIBLE_DEVICES": ""}
    elif machine.gpus:
        with claim_gpu(machine.gpus) as variables:
            yield variables
    elif has_gpu():
        with claim_gpu(("0",)):
            yield {}
    else:
        yield {}


@contextlib.contextmanager
def claim_gpu(gpus: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Wait for one of these GPUs and keep it while the block lasts; other runs of this user respect that.

    Yields the environment variables for a process that may use this GPU only.

    Args:
        gpus: numbers of GPUs, at least one.

    Raises:
        HearevalError: a number that CUDA_VISIBLE_DEVICES does not have.
    """
    devices = list(gpus)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # Numbers are indices into the GPUs that a cluster gave to this job.
        given = visible.split(",") if visible else []
        if max(map(int, gpus)) >= len(given):
            raise HearevalError(
                f"--gpus {','.join(gpus)}",
                got=f"CUDA_VISIBLE_DEVICES={visible}",
                expected=f"numbers below {len(given)}, the number of visible GPUs",
            )
        devices = [given[int(gpu)] for gpu in gpus]
    with contextlib.ExitStack() as stack:
        while True:
            for device in devices:
                if _try_lock(_lock_path(device), stack):
                    yield {"CUDA_VISIBLE_DEVICES": device}
                    return
            time.sleep(RETRY_EVERY_S)


def _lock_path(device: str) -> Path:
    """Return the lock file of a GPU for this machine, user and cluster job, which numbers its GPUs itself."""
    job = os.environ.get("SLURM_JOB_ID", "")
    return Path(tempfile.gettempdir()) / f"heareval-{os.getuid()}-{job}gpu-{device.replace('/', '-')}.lock"


def _try_lock(path: Path, stack: contextlib.ExitStack) -> bool:
    """Lock a file until the stack is closed; returns False if another process has the lock."""
    stream = open(path, "a")  # noqa: SIM115
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return False
    stack.enter_context(stream)
    return True
