"""The predictor: a shallow fully-connected network on frozen embeddings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from heareval.predictions.protocol import Settings
from heareval.predictions.rows import Rows

_INITIALIZERS: dict[str, Callable[..., Tensor]] = {
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
}

# Of embeddings that go through the network at once where nothing is learnt.
CHUNK_ROWS, CHUNK_BYTES = 8192, 64 << 20


class Dropout(nn.Dropout):
    """PyTorch's dropout, in a third of the time on the CPU, where it rivals the matrix products.

    One core alone draws random numbers, so it draws few: 16 bits decide, to which `p` is rounded.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`(rows, width)` with a share `p` set to 0 and the rest scaled up; unchanged in evaluation mode."""
        if x.device.type != "cpu" or not self.training:
            return super().forward(x)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        drawn = words.view(torch.int16)[: x.numel()].view(x.shape)
        is_kept = drawn.ge(-(2**15) + round(self.p * 2**16))
        return x * is_kept.to(x.dtype).mul_(1.0 / (1.0 - self.p))


def build_predictor(dim: int, labels: int, settings: Settings) -> nn.Sequential:
    """A fresh predictor on the CPU, from `(rows, dim)` embeddings to `(rows, labels)` logits.

    Weights come from torch's current random state; biases keep PyTorch's default.
    """
    layers: list[nn.Module] = []
    width, gain = dim, 1.0
    for _ in range(settings.hidden_layers):
        layers += [
            _linear(width, settings.hidden_dim, gain, settings.initialization),
            nn.BatchNorm1d(settings.hidden_dim),
            Dropout(settings.dropout),
            nn.ReLU(inplace=True),
        ]
        # From here on a layer's input went through a ReLU, which halves its variance.
        width, gain = settings.hidden_dim, nn.init.calculate_gain("relu")
    layers.append(_linear(width, labels, gain, settings.initialization))
    return nn.Sequential(*layers)


def _linear(inputs: int, outputs: int, gain: float, initialization: str) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    _INITIALIZERS[initialization](layer.weight, gain=gain)
    return layer


def predict_logits(network: nn.Module, x: Rows) -> Tensor:
    """Logits `(rows, labels)` of embeddings `(rows, dim)`; the network is left in evaluation mode."""
    network.eval()
    rows = max(1, min(CHUNK_ROWS, CHUNK_BYTES // (4 * x.shape[1])))
    with torch.inference_mode():
        return torch.cat([network(x[start : start + rows]) for start in range(0, len(x), rows)])
