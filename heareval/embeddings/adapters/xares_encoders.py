"""Encoders of X-ARES as a submission: `xares:FILE.py:CLASS`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from torch import nn

from heareval.embeddings.adapters.encoder import (
    HALVED_RATE,
    Encoder,
    HearModel,
    get_scene_embeddings,
    get_timestamp_embeddings,
    halve_input,
)
from heareval.embeddings.adapters.errors import AdapterError

__version__ = "1"
__all__ = ["get_scene_embeddings", "get_timestamp_embeddings", "load_model"]
ATTRIBUTES = ("sampling_rate", "output_dim", "hop_size_in_ms")


def load_model(*, file: str = "", encoder: str = "") -> HearModel:
    """Return an encoder of X-ARES, made without arguments.

    Such an encoder maps waves `(clips, samples)` to `(clips, frames, output_dim)`. It does not say where its
    first frame is centred: half a hop from the beginning is taken, which `heareval validate` checks.

    Args:
        file: the Python file.
        encoder: name of the class in it.

    Raises:
        AdapterError: the file has no such class, or its objects lack attributes of X-ARES.
    """
    what = f"xares:{file}:{encoder}"
    # Its neighbours can be imported.
    sys.path.insert(0, str(Path(file).parent))
    spec: Any = importlib.util.spec_from_file_location(Path(file).stem, file)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not isinstance(getattr(module, encoder, None), type):
        raise AdapterError(what, f"no class {encoder} in the file", "the name of an encoder")
    network: Any = getattr(module, encoder)()
    lacking = [name for name in ATTRIBUTES if not hasattr(network, name)]
    is_module = isinstance(network, nn.Module)
    if lacking or not is_module:
        got = f"a {type(network).__name__} without {', '.join(lacking)}" if lacking else "no torch.nn.Module"
        raise AdapterError(what, got, f"a torch.nn.Module with {', '.join(ATTRIBUTES)}")
    found = Encoder(
        network=network,
        frames=network,
        sample_rate=int(network.sampling_rate),
        hop_ms=float(network.hop_size_in_ms),
        first_ms=float(network.hop_size_in_ms) / 2,
        size=int(network.output_dim),
    )
    return HearModel(halve_input(found) if found.sample_rate == HALVED_RATE else found)
