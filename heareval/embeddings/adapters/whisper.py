"""The encoder of Whisper, and those built like it: log-mel spectrograms of exactly 30 s."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heareval.embeddings.adapters.encoder import Encoder
from heareval.embeddings.adapters.errors import AdapterError
from heareval.embeddings.adapters.layers import choose_layer, cut_layers, run_layers
from heareval.embeddings.adapters.waves import as_tensor, make_spectrogram, multiply_precisely, pad_to

__version__ = "2"


def adapt(encoder: Any, config: Any, extractor: Any, layer: str) -> Encoder:
    """Return the encoder; what WhisperFeatureExtractor computes is computed on the device here."""
    chosen = choose_layer(layer, config.num_hidden_layers)
    is_pooled = hasattr(encoder, "avg_pooler")
    if is_pooled and chosen.is_mean:
        raise AdapterError(
            "layer", layer, f"0 to {config.num_hidden_layers}: the last hidden state has half as many frames"
        )
    if is_pooled and chosen.index == config.num_hidden_layers:
        # transformers puts the last hidden state, which is pooled, in place of what the last layer returns.
        chosen = choose_layer("", config.num_hidden_layers)
    cut_layers(encoder, chosen, config.num_hidden_layers)
    filters, rate, hop = as_tensor(extractor.mel_filters), extractor.sampling_rate, extractor.hop_length
    window, dtype = torch.hann_window(extractor.n_fft), next(encoder.parameters()).dtype
    # Two mel frames make a frame; the encoder of Qwen2-Audio then averages pairs of these.
    pairs = 2 if is_pooled and not chosen.is_inner else 1
    samples = config.max_source_positions * 2 * hop

    def frames(waves: Tensor) -> Tensor:
        power = make_spectrogram(pad_to(waves, samples), window, extractor.n_fft, hop)[..., :-1]
        mels = multiply_precisely(filters.T.to(waves.device), power).clamp(min=1e-10).log10()
        mels = torch.maximum(mels, mels.amax(dim=(1, 2), keepdim=True) - 8.0)
        return run_layers(encoder, chosen, ((mels + 4.0) / 4.0).to(dtype))

    step = 2 * hop
    return Encoder(
        network=encoder,
        frames=frames,
        sample_rate=rate,
        hop_ms=1000 * pairs * step / rate,
        # Spectra and convolutions are centred: frame 0 on sample 0.
        first_ms=1000 * (pairs - 1) * step / 2 / rate,
        size=config.d_model,
        window=samples,
        window_frames=config.max_source_positions // pairs,
    )
