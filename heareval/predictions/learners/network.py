"""The network: shallow and fully connected, alone or in a stack of networks of one shape."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from heareval.predictions.learners.dropout import DroppedReLU, dropped_relu, dropped_relu_of_bits
from heareval.predictions.protocol import Settings
from heareval.predictions.rows import Rows

_INITIALIZERS: dict[str, Callable[..., Tensor]] = {
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
}

# Largest number and size of embeddings that are predicted at a time.
CHUNK_ROWS, CHUNK_BYTES = 8192, 64 << 20


def build_predictor(
    dim: int, labels: int, settings: Settings, *, seed: int, device: torch.device | None = None
) -> nn.Sequential:
    """Return an untrained network from `(rows, dim)` embeddings to `(rows, labels)` logits.

    Weights are initialised as the settings say, biases by PyTorch's default. The global random state of torch
    doesn't change.

    Args:
        dim: size of the embeddings.
        labels: size of the vocabulary.
        seed: seed of the weights, which are the same on every device, and of dropout.
    """
    device = device or torch.device("cpu")
    rng = random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(rng.getrandbits(63))
        generator = torch.Generator(device).manual_seed(rng.getrandbits(63))
        layers: list[nn.Module] = []
        width, gain = dim, 1.0
        for _ in range(settings.hidden_layers):
            layers += [
                _linear(width, settings.hidden_dim, gain, settings.initialization),
                nn.BatchNorm1d(settings.hidden_dim),
                DroppedReLU(settings.dropout, generator),
            ]
            # The input of the next layers went through a ReLU, which halves the variance.
            width, gain = settings.hidden_dim, nn.init.calculate_gain("relu")
        layers.append(_linear(width, labels, gain, settings.initialization))
    return nn.Sequential(*layers).to(device)


def find_generator(network: nn.Sequential) -> torch.Generator | None:
    """Return what draws the random numbers of all dropout in a network; None without hidden layers."""
    return next((layer.generator for layer in network if isinstance(layer, DroppedReLU)), None)


def _linear(inputs: int, outputs: int, gain: float, initialization: str) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    _INITIALIZERS[initialization](layer.weight, gain=gain)
    return layer


def logits_in_training(
    networks: Sequence[nn.Sequential], xs: Sequence[Tensor], dtype: torch.dtype | None = None
) -> Tensor:
    """Return logits `(networks, rows, labels)` of networks in training, given a batch `(rows, dim)` for each.

    The networks must have one shape: one batched product computes a layer of all of them.

    Args:
        dtype: type of the activations and of the factors of products; None means that of the weights, which
            also have gradients, statistics of batch normalisation and logits of their own type. Products of
            bfloat16 are summed in float32.
    """
    of_weights = next(networks[0].parameters()).dtype
    dtype = dtype or of_weights
    if len(networks) == 1:
        apply = _apply_in_bf16 if dtype == torch.bfloat16 and xs[0].device.type == "cpu" else _apply_layers
        return apply(networks[0], xs[0].to(dtype)).to(of_weights).unsqueeze(0)
    is_one_batch = all(x is xs[0] for x in xs)
    # (networks, rows, width); after a layer the memory may be laid out row by row
    x = xs[0].to(dtype).expand(len(xs), -1, -1) if is_one_batch else torch.stack(list(xs)).to(dtype)
    for layers in zip(*networks, strict=True):
        if isinstance(layers[0], nn.Linear):
            x = _apply_linears(layers, x)
        else:
            # (rows, networks * width), like the layer of one network
            wide = x.transpose(0, 1).reshape(x.shape[1], -1)
            wide = (
                _apply_norm(layers, wide)
                if isinstance(layers[0], nn.BatchNorm1d)
                else _apply_dropped_relu(layers, wide)
            )
            x = wide.view(x.shape[1], len(networks), -1).transpose(0, 1)
    return x.to(of_weights)


def _apply_layers(network: nn.Sequential, x: Tensor) -> Tensor:
    for layer in network:
        x = _apply_linear(layer, x) if isinstance(layer, nn.Linear) else layer(x)
    return x


def _apply_in_bf16(network: nn.Sequential, x: Tensor) -> Tensor:
    """Return what `_apply_layers` returns, but for rounding, in fewer passes over the activations.

    * Linear layers leave out their bias, because normalisation would subtract it again. Only the running mean
      gets it. So these biases have no gradient, and keep their first values.
    * The scale of dropout multiplies the weights and biases of normalisation instead of the activations.
    """
    hidden: list[Any] = list(network)
    last: nn.Linear = hidden.pop()
    for linear, norm, dropout in zip(hidden[::3], hidden[1::3], hidden[2::3], strict=True):
        x = functional.linear(x, linear.weight.to(x.dtype))
        bias = linear.bias.detach()
        running_mean = norm.running_mean - bias
        x = functional.batch_norm(
            x,
            running_mean,
            norm.running_var,
            norm.weight * dropout.scale,
            norm.bias * dropout.scale,
            training=True,
            momentum=norm.momentum,
            eps=norm.eps,
        )
        torch.add(running_mean, bias, out=norm.running_mean)
        x = dropped_relu_of_bits(x, dropout.draw(*x.shape), dropout.p)
    return _apply_linear(last, x)


def _apply_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return functional.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def _apply_linears(layers: Sequence[Any], x: Tensor) -> Tensor:
    weight = torch.stack([layer.weight.to(x.dtype) for layer in layers])
    bias = torch.stack([layer.bias.to(x.dtype) for layer in layers])
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


def _apply_norm(layers: Sequence[Any], x: Tensor) -> Tensor:
    statistics = [statistic for layer in layers for statistic in (layer.running_mean, layer.running_var)]
    means, variances = torch.cat(statistics[::2]), torch.cat(statistics[1::2])
    weight = torch.cat([layer.weight for layer in layers])
    bias = torch.cat([layer.bias for layer in layers])
    first = layers[0]
    y = functional.batch_norm(
        x, means, variances, weight, bias, training=True, momentum=first.momentum, eps=first.eps
    )
    chunks = zip(means.chunk(len(layers)), variances.chunk(len(layers)), strict=True)
    torch._foreach_copy_(statistics, [statistic for pair in chunks for statistic in pair])
    return y


def _apply_dropped_relu(layers: Sequence[Any], x: Tensor) -> Tensor:
    rows, width = len(x), x.shape[1] // len(layers)
    return dropped_relu(x, torch.cat([layer.draw(rows, width) for layer in layers], dim=1), layers[0].p)


def predict_logits(network: nn.Module, x: Rows) -> Tensor:
    """Return logits `(rows, labels)` of embeddings `(rows, dim)`; the network stays in evaluation mode."""
    network.eval()
    rows = max(1, min(CHUNK_ROWS, CHUNK_BYTES // (4 * x.shape[1])))
    with torch.inference_mode():
        return torch.cat([network(x[start : start + rows]) for start in range(0, len(x), rows)])
