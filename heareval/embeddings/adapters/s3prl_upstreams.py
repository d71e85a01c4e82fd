"""Upstream models of S3PRL as a submission: `s3prl:NAME`."""

from __future__ import annotations

import torch
from torch import Tensor

from heareval.embeddings.adapters.encoder import (
    Encoder,
    HearModel,
    get_scene_embeddings,
    get_timestamp_embeddings,
)
from heareval.embeddings.adapters.errors import AdapterError

__version__ = "1"
__all__ = ["get_scene_embeddings", "get_timestamp_embeddings", "load_model"]
SAMPLE_RATE = 16000


def load_model(*, name: str = "") -> HearModel:
    """Return an upstream model of S3PRL; its last hidden state is the embedding.

    S3PRL does not say where the first frame is centred: half a hop from the beginning is taken, which
    `heareval validate` checks.

    Args:
        name: name of the upstream.

    Raises:
        AdapterError: S3PRL has no such upstream.
    """
    from s3prl.nn import S3PRLUpstream

    known = S3PRLUpstream.available_names()
    if name not in known:
        raise AdapterError(f"s3prl:{name}", "no such upstream", f"one of {', '.join(known)}")
    network = S3PRLUpstream(name)

    def frames(waves: Tensor) -> Tensor:
        # All clips of a batch have the same length.
        lengths = torch.full((len(waves),), waves.shape[1], device=waves.device)
        return torch.as_tensor(network(waves, lengths)[0][-1])

    hop_ms = 1000 * network.downsample_rates[-1] / SAMPLE_RATE
    return HearModel(
        Encoder(
            network=network,
            frames=frames,
            sample_rate=SAMPLE_RATE,
            hop_ms=hop_ms,
            first_ms=hop_ms / 2,
            size=network.hidden_sizes[-1],
        )
    )
