"""The predictor: a shallow fully-connected network on frozen embeddings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from heareval.predictions.protocol import Settings

_INITIALIZERS: dict[str, Callable[..., Tensor]] = {
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
}


class Dropout(nn.Dropout):
    """PyTorch's dropout, drawn in a third of the time on the CPU, where it rivals the matrix products."""

    def forward(self, x: Tensor) -> Tensor:
        """`(rows, width)` with a share `p` set to 0 and the rest scaled up; unchanged in evaluation mode."""
        if x.is_cuda or not self.training:
            return super().forward(x)
        return x * torch.rand_like(x).ge_(self.p).div_(1.0 - self.p)


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


def predict_logits(network: nn.Module, x: Tensor, chunk_rows: int = 8192) -> Tensor:
    """Logits `(rows, labels)` of embeddings `(rows, dim)`; the network is left in evaluation mode."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(chunk) for chunk in torch.split(x, chunk_rows)])
