"""The layer of a transformer whose output is the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heareval.embeddings.adapters.errors import AdapterError

__version__ = "1"
# Where the models of transformers have their layers; SEW-D and earlier versions of AST have the last two.
STACKS = ("layers", "encoder.layers", "encoder.layer", "encoder.encoder.layer")


@dataclass(frozen=True)
class Layer:
    """What is embedded: the last hidden state, one of all hidden states, or their mean.

    Args:
        index: index into the hidden states; None = the last hidden state, or the mean.
        is_mean: whether it is the mean of all hidden states.
    """

    index: int | None = None
    is_mean: bool = False

    @property
    def is_inner(self) -> bool:
        """Whether hidden states are needed, beside the last one."""
        return self.is_mean or self.index is not None


def choose_layer(layer: str, layers: int) -> Layer:
    """Return the layer that a user asks for: `""`, a number, or `mean`.

    Args:
        layer: what the user asks for.
        layers: number of layers of the model; hidden state 0 is what the first one gets.

    Raises:
        AdapterError: the model has no such layer.
    """
    if not layer:
        return Layer()
    if layer == "mean":
        return Layer(is_mean=True)
    if not layer.isdecimal() or int(layer) > layers:
        raise AdapterError("layer", layer, f"0 to {layers}, or mean", "Correct #layer.")
    return Layer(int(layer))


def cut_layers(network: Any, layer: Layer, layers: int) -> None:
    """Leave out the layers behind the chosen one, on which its output does not depend.

    One of them is kept: some models put their normalised output in place of what the last layer returns.

    Args:
        network: a transformer, which is changed.
        layer: the layer.
        layers: number of layers of the model.
    """
    if layer.index is None:
        return
    known = dict(network.named_modules())
    for place in STACKS:
        if place in known and len(known[place]) == layers:
            parent, _, name = place.rpartition(".")
            setattr(known[parent], name, known[place][: layer.index + 1])


def refuse_layer(layer: str, model: str) -> None:
    """Raise AdapterError if a layer is asked for of a model that has no layers to choose from."""
    if layer:
        raise AdapterError("layer", layer, f"no #layer: {model} has one output only")


def run_layers(network: Any, layer: Layer, values: Tensor) -> Tensor:
    """Return the output `(clips, frames, size)` of a layer of a transformer."""
    output = network(values, output_hidden_states=layer.is_inner, return_dict=True)
    return pick_output(output, layer)


def pick_output(output: Any, layer: Layer) -> Tensor:
    """Return what a layer put out."""
    if layer.is_mean:
        return torch.stack(list(output.hidden_states)).mean(dim=0)
    found = output.last_hidden_state if layer.index is None else output.hidden_states[layer.index]
    return torch.as_tensor(found)
