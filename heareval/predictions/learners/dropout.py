"""Dropout followed by ReLU, in few passes over memory, because on a CPU these passes rival the products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class DroppedReLU(nn.Module):
    """Dropout, then ReLU.

    Each network has its own random generator, so that it learns the same alone and in a stack. Random
    numbers have 16 bits, to which `p` is rounded, because they are drawn on a single core.

    Args:
        p: share of the elements that are set to 0.
        generator: draws the random numbers.
    """

    def __init__(self, p: float, generator: torch.Generator) -> None:
        super().__init__()
        self.p, self.generator = p, generator

    @property
    def scale(self) -> float:
        """The factor of elements that are not dropped, which keeps the mean."""
        return 1.0 / (1.0 - self.p)

    def draw(self, rows: int, width: int) -> Tensor:
        """Draw random numbers `(rows, width)` int16."""
        numbers = torch.empty((rows * width + 3) // 4, dtype=torch.int64, device=self.generator.device)
        numbers.random_(-(2**63), None, generator=self.generator)
        return numbers.view(torch.int16)[: rows * width].view(rows, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return ReLU of `(rows, width)`; in training a share `p` is set to 0 and the rest scaled up."""
        return dropped_relu(x, self.draw(*x.shape), self.p) if self.training else x.relu()


def dropped_relu(x: Tensor, random_numbers: Tensor, p: float) -> Tensor:
    """Return ReLU of `x`, with 0 where an element's int16 random number is among the lowest share `p`.

    The other elements are scaled up.
    """
    return _DroppedReLU.apply(x, random_numbers, p)  # type: ignore[no-any-return, no-untyped-call]


def dropped_relu_of_bits(x: Tensor, random_numbers: Tensor, p: float) -> Tensor:
    """Return what `dropped_relu` returns for bfloat16 numbers, but without scaling up.

    It works on the bits of the numbers as int16, which are negative for negative numbers and 0 for 0. NaN
    with the bit of the sign becomes 0; the gradients of a network that diverges have other NaN.
    Instructions for bfloat16 take three to six times as long, because they convert every number to float32
    and back.
    """
    return _DroppedReLUOfBits.apply(x, random_numbers, p)  # type: ignore[no-any-return, no-untyped-call]


def _first_kept(p: float) -> int:
    """Return the lowest random number of elements that are kept."""
    return -(2**15) + min(round(p * 2**16), 2**16 - 1)


class _DroppedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, random_numbers: Tensor, p: float) -> Tensor:
        y = torch.ge(random_numbers, _first_kept(p), out=torch.empty_like(x))
        y.mul_(x).relu_().mul_(1.0 / (1.0 - p))
        ctx.save_for_backward(y)
        ctx.scale = 1.0 / (1.0 - p)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        # The output is 0 exactly where an element was dropped or negative.
        return torch.ops.aten.threshold_backward(gradient, y, 0).mul_(ctx.scale), None, None


class _DroppedReLUOfBits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, random_numbers: Tensor, p: float) -> Tensor:
        # Without `out`, the result of a comparison is bool, which is slow to multiply with.
        kept = torch.ge(random_numbers, _first_kept(p), out=torch.empty_like(random_numbers))
        y = x.view(torch.int16).clamp_min(0).mul_(kept)
        ctx.save_for_backward(y)
        return y.view(torch.bfloat16)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        passed = torch.gt(y, 0, out=torch.empty_like(y))
        return passed.mul_(gradient.view(torch.int16)).view(torch.bfloat16), None, None
