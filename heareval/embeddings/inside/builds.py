"""Builds of PyTorch and of its extensions that do not fit together, known by their error messages."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Mismatch:
    """Libraries that do not fit together, or do not fit the machine.

    Args:
        cause: the cause that `heareval validate` has advice for.
        message: what the error messages have in common.
        remedy: what the user can do about it.
    """

    cause: str
    message: re.Pattern[str]
    remedy: str


PAGE = "docs/submissions.md#when-torch-torchaudio-and-cuda-do-not-fit-together"
MISMATCHES = (
    Mismatch(
        "builds",
        re.compile(
            # The dynamic linker: a library was compiled for another version of torch, or for CUDA.
            r"undefined symbol: \S*(torch|c10|aten|caffe2|cuda|cublas|cudnn|nccl)"
            r"|lib(cuda|cublas|cudnn|cufft|cupti|curand|cusolver|cusparse|nccl|nvrtc|nvJitLink|torch|c10)\S*\.so"
            r"[.\d]*: cannot open shared object file"
            r"|undefined symbol: \w+, version lib(cu|nv)"
            # torchvision is compiled for another version of torch; transformers imports it for other models.
            r"|operator torchvision::\w+ does not exist|Couldn't load custom C\+\+ ops"
            r"|compiled with different CUDA|Could not load this library: \S*torch",
            re.IGNORECASE,
        ),
        "torch and the library that failed were built for different versions of torch or CUDA. Install "
        "torch, torchaudio and torchvision together, from one package index, and remove those that nothing "
        f"needs ({PAGE}).",
    ),
    Mismatch(
        "no kernel",
        re.compile("no kernel image is available|no binary for GPU", re.IGNORECASE),
        "This build of torch has no code for this GPU. Install a build for a CUDA version that supports the "
        f"GPU, or use --device cpu ({PAGE}).",
    ),
    Mismatch(
        "old numpy",
        re.compile(
            "Numpy is not available|compiled using NumPy 1|numpy.core.multiarray failed to import"
            "|numpy.dtype size changed|_ARRAY_API not found",
        ),
        "A library was built for another major version of NumPy. Install a newer build of it, or name "
        f'"numpy<2" in `requirements` ({PAGE}).',
    ),
)


def find_mismatch(error: BaseException | None) -> Mismatch | None:
    """Return the mismatch that an exception, or one that led to it, reports; None for other faults.

    >>> find_mismatch(OSError("libcudart.so.12: cannot open shared object file")).cause
    'builds'
    """
    while error is not None:
        for mismatch in MISMATCHES:
            if mismatch.message.search(str(error)):
                return mismatch
        error = error.__cause__ or error.__context__
    return None
