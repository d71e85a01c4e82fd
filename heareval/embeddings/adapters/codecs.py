"""Neural codecs: EnCodec and DAC. The embeddings are what their encoders put out, before quantisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heareval.embeddings.adapters.encoder import Encoder
from heareval.embeddings.adapters.layers import refuse_layer

__version__ = "2"


def adapt(encoder: Any, config: Any, extractor: Any, layer: str) -> Encoder:
    """Return the encoder of a codec.

    Frame `i` is that of samples `i * hop` to `(i + 1) * hop`: from it the decoder makes these samples. The
    convolutions of the causal EnCodec of 24 kHz look up to `(i + 1) * hop`, and far back. EnCodec of 48 kHz
    normalises over chunks of 1 s, so that longer clips are embedded in pieces of these. Those of transformers
    overlap by 1 %, half a frame too many for frames that are evenly spaced.
    """
    refuse_layer(layer, config.model_type)
    window = getattr(config, "chunk_length", None) or 0
    rate = extractor.sampling_rate
    hop, dtype = 1, next(encoder.parameters()).dtype
    for ratio in getattr(config, "upsampling_ratios", None) or config.downsampling_ratios:
        hop *= ratio
    channels = getattr(config, "audio_channels", 1)

    def frames(waves: Tensor) -> Tensor:
        # EnCodec completes the last frame with padding: keep it if its centre is within the clip.
        count = max(1, (waves.shape[1] + hop // 2 - 1) // hop)
        if getattr(config, "normalize", False):
            waves = waves / (waves.square().mean(dim=1, keepdim=True).sqrt() + 1e-8)
        encoded = encoder(waves.to(dtype)[:, None].expand(-1, channels, -1))
        return torch.as_tensor(encoded).transpose(1, 2)[:, :count]

    return Encoder(
        network=encoder,
        frames=frames,
        sample_rate=rate,
        hop_ms=1000 * hop / rate,
        first_ms=1000 * hop / 2 / rate,
        size=config.hidden_size,
        shortest=hop,
        window=window,
        window_frames=window // hop,
    )
