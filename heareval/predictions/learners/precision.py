"""The precision of training steps: float32, or what is faster where the hardware multiplies in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from heareval.errors import HearevalError
from heareval.predictions.cpu_features import check_cpu
from heareval.predictions.protocol import TrainPrecision

# NVIDIA's GPUs multiply in TF32 and bf16 from Ampere on.
FIRST_FAST_GPU = (8, 0)


def activations_of(precision: TrainPrecision) -> torch.dtype | None:
    """Return the type of embeddings and activations in training steps; None leaves it as it is.

    TF32 is a way to multiply float32, and has no type.

    >>> activations_of("bf16")
    torch.bfloat16
    """
    return torch.bfloat16 if precision == "bf16" else None


@contextlib.contextmanager
def multiply_in(precision: TrainPrecision) -> Iterator[None]:
    """Let CUDA multiply float32 matrices in TF32 while the block lasts, if that is the precision.

    Example: `with multiply_in("tf32"): loss.backward()`
    """
    if precision != "tf32":
        yield
        return
    backend = torch.backends.cuda.matmul
    before = backend.allow_tf32
    backend.allow_tf32 = True
    try:
        yield
    finally:
        backend.allow_tf32 = before


def check_device(precision: TrainPrecision, device: torch.device) -> None:
    """Check that a device gains from a precision.

    Raises:
        HearevalError: it would be slower than float32, or is unknown there.
    """
    if device.type == "cpu":
        check_cpu(precision)
    elif precision != "float32" and torch.cuda.get_device_capability(device) < FIRST_FAST_GPU:
        raise HearevalError(
            f"training in {precision}",
            got=torch.cuda.get_device_name(device),
            expected="a GPU of compute capability 8.0 or more",
            remedy="Leave out --train-precision.",
        )
