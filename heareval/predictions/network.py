"""The predictor: a shallow fully-connected network on frozen embeddings, alone or in a stack of its like."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from heareval.predictions.protocol import Settings
from heareval.predictions.rows import Rows

_INITIALIZERS: dict[str, Callable[..., Tensor]] = {
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
}

# Of embeddings that go through the network at once where nothing is learnt.
CHUNK_ROWS, CHUNK_BYTES = 8192, 64 << 20


class DroppedReLU(nn.Module):
    """Dropout, then ReLU, in few passes over memory, which rival the matrix products on a CPU.

    Dropout has chance of its own, so that a network learns the same alone and in a stack. 16 bits decide, to
    which `p` is rounded: one core alone draws random numbers, so it draws few.
    """

    def __init__(self, p: float, chance: torch.Generator) -> None:
        super().__init__()
        self.p, self.chance = p, chance

    def drawn(self, rows: int, width: int) -> Tensor:
        """New random numbers `(rows, width)` int16."""
        numbers = torch.empty((rows * width + 3) // 4, dtype=torch.int64, device=self.chance.device)
        numbers.random_(-(2**63), None, generator=self.chance)
        return numbers.view(torch.int16)[: rows * width].view(rows, width)

    def forward(self, x: Tensor) -> Tensor:
        """`(rows, width)` with a share `p` set to 0 and the rest scaled up, where they learn; all >= 0."""
        return dropped_relu(x, self.drawn(*x.shape), self.p) if self.training else x.relu()


def dropped_relu(x: Tensor, drawn: Tensor, p: float) -> Tensor:
    """ReLU of `x`, 0 where the int16 number drawn for an element is among the lowest share `p`."""
    return _DroppedReLU.apply(x, drawn, p)  # type: ignore[no-any-return, no-untyped-call]


class _DroppedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, drawn: Tensor, p: float) -> Tensor:
        lowest = min(round(p * 2**16), 2**16 - 1)
        y = torch.ge(drawn, -(2**15) + lowest, out=torch.empty_like(x))
        y.mul_(x).relu_().mul_(1.0 / (1.0 - p))
        ctx.save_for_backward(y)
        ctx.scale = 1.0 / (1.0 - p)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        # What was dropped, and what was negative, is 0 in the answer, and nothing else is.
        return torch.ops.aten.threshold_backward(gradient, y, 0).mul_(ctx.scale), None, None


def build_predictor(
    dim: int, labels: int, settings: Settings, *, seed: int, device: torch.device | None = None
) -> nn.Sequential:
    """A fresh predictor from `(rows, dim)` embeddings to `(rows, labels)` logits.

    Biases keep PyTorch's default.

    Args:
        seed: of weights, which are the same on every device, and of dropout; torch's own random state is left
            alone.
    """
    device = device or torch.device("cpu")
    rng = random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(rng.getrandbits(63))
        chance = torch.Generator(device).manual_seed(rng.getrandbits(63))
        layers: list[nn.Module] = []
        width, gain = dim, 1.0
        for _ in range(settings.hidden_layers):
            layers += [
                _linear(width, settings.hidden_dim, gain, settings.initialization),
                nn.BatchNorm1d(settings.hidden_dim),
                DroppedReLU(settings.dropout, chance),
            ]
            # From here on a layer's input went through a ReLU, which halves its variance.
            width, gain = settings.hidden_dim, nn.init.calculate_gain("relu")
        layers.append(_linear(width, labels, gain, settings.initialization))
    return nn.Sequential(*layers).to(device)


def _linear(inputs: int, outputs: int, gain: float, initialization: str) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    _INITIALIZERS[initialization](layer.weight, gain=gain)
    return layer


def logits_in_training(networks: Sequence[nn.Sequential], xs: Sequence[Tensor]) -> Tensor:
    """Logits `(networks, rows, labels)` of a batch `(rows, dim)` for each network, as it learns from them.

    Several networks of one shape go side by side: a layer of all is one batched product.
    """
    if len(networks) == 1:
        return torch.as_tensor(networks[0](xs[0])).unsqueeze(0)
    is_one_batch = all(x is xs[0] for x in xs)
    # (networks, rows, width), in memory that is laid out row by row where a layer has left it so
    x = xs[0].expand(len(xs), -1, -1) if is_one_batch else torch.stack(list(xs))
    for layers in zip(*networks, strict=True):
        if isinstance(layers[0], nn.Linear):
            x = _linears(layers, x)
        else:
            # (rows, networks * width), as one network's layer
            wide = x.transpose(0, 1).reshape(x.shape[1], -1)
            wide = _norms(layers, wide) if isinstance(layers[0], nn.BatchNorm1d) else _dropped(layers, wide)
            x = wide.view(x.shape[1], len(networks), -1).transpose(0, 1)
    return x


def _linears(layers: Sequence[Any], x: Tensor) -> Tensor:
    weight = torch.stack([layer.weight for layer in layers])
    bias = torch.stack([layer.bias for layer in layers])
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


def _norms(layers: Sequence[Any], x: Tensor) -> Tensor:
    kept = [statistic for layer in layers for statistic in (layer.running_mean, layer.running_var)]
    means, variances = torch.cat(kept[::2]), torch.cat(kept[1::2])
    weight = torch.cat([layer.weight for layer in layers])
    bias = torch.cat([layer.bias for layer in layers])
    first = layers[0]
    y = functional.batch_norm(
        x, means, variances, weight, bias, training=True, momentum=first.momentum, eps=first.eps
    )
    chunks = zip(means.chunk(len(layers)), variances.chunk(len(layers)), strict=True)
    torch._foreach_copy_(kept, [statistic for pair in chunks for statistic in pair])
    return y


def _dropped(layers: Sequence[Any], x: Tensor) -> Tensor:
    rows, width = len(x), x.shape[1] // len(layers)
    return dropped_relu(x, torch.cat([layer.drawn(rows, width) for layer in layers], dim=1), layers[0].p)


def predict_logits(network: nn.Module, x: Rows) -> Tensor:
    """Logits `(rows, labels)` of embeddings `(rows, dim)`; the network is left in evaluation mode."""
    network.eval()
    rows = max(1, min(CHUNK_ROWS, CHUNK_BYTES // (4 * x.shape[1])))
    with torch.inference_mode():
        return torch.cat([network(x[start : start + rows]) for start in range(0, len(x), rows)])
