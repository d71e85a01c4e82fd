"""Whether PyTorch rounds the factors of float32 products, to TF32 on GPUs or to bf16 on CPUs.

A model's code may have asked for it in one of two interfaces, and NVIDIA's containers ask for it by the
variable TORCH_ALLOW_TF32_CUBLAS_OVERRIDE. Since PyTorch 2.9, reading the old interface fails where the new
one says something else (https://pytorch.org/docs/stable/notes/cuda.html).
"""

from __future__ import annotations

import contextlib
import typing
from typing import Any

# What products of the new interface are called: those that are exact, and those in TF32.
EXACT, TF32 = "ieee", "tf32"


def set_rounding(torch: Any, *, to_tf32: bool) -> None:
    """Let products of float32 be rounded to TF32 on GPUs, or not at all, and on CPUs never, whatever was set.

    All interfaces say the same afterwards.

    Args:
        torch: the module.
        to_tf32: whether GPUs round.
    """
    _set_old_interface(torch, "high" if to_tf32 else "highest", to_tf32)
    torch.backends.cuda.matmul.allow_tf32 = to_tf32
    for backend, is_on_gpu in _list_backends(torch):
        backend.fp32_precision = TF32 if to_tf32 and is_on_gpu else EXACT


@contextlib.contextmanager
def keep_rounding(torch: Any) -> typing.Iterator[None]:
    """Restore what PyTorch rounds when the block ends.

    Args:
        torch: the module.
    """
    of_matmul = _read(lambda: torch.get_float32_matmul_precision())
    of_cudnn = _read(lambda: torch.backends.cudnn.allow_tf32)
    backends = _list_backends(torch)
    values = [backend.fp32_precision for backend, _ in backends]
    try:
        yield
    finally:
        _set_old_interface(torch, of_matmul, of_cudnn)
        for (backend, _), value in zip(backends, values):
            backend.fp32_precision = value


def _set_old_interface(torch: Any, of_matmul: str | None, of_cudnn: bool | None) -> None:
    """Set what is not None. The old interface of matrix products exists since PyTorch 1.12."""
    if of_matmul is not None and hasattr(torch, "set_float32_matmul_precision"):
        # With "medium", CPUs may round to bf16.
        torch.set_float32_matmul_precision(of_matmul)
    if of_cudnn is not None:
        torch.backends.cudnn.allow_tf32 = of_cudnn


def _list_backends(torch: Any) -> list[tuple[Any, bool]]:
    """Return what the new interface sets, the general before the special, and whether it is of GPUs alone."""
    all_backends = torch.backends
    if not hasattr(all_backends, "fp32_precision"):
        return []
    cudnn, mkldnn = all_backends.cudnn, all_backends.mkldnn
    on_gpu = (all_backends.cuda.matmul, cudnn, cudnn.conv, cudnn.rnn)
    others = (all_backends, mkldnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
    return [(backend, False) for backend in others] + [(backend, True) for backend in on_gpu]


def _read(read: typing.Callable[[], Any]) -> Any:
    """Return what the old interface says; None where it is missing, or the new one says something else."""
    try:
        return read()
    except (AttributeError, RuntimeError):
        return None
