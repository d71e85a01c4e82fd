"""CLAP: one embedding for up to 10 s of sound, in the space that it shares with text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heareval.embeddings.adapters.encoder import Encoder
from heareval.embeddings.adapters.layers import refuse_layer
from heareval.embeddings.adapters.waves import as_tensor, make_spectrogram, multiply_precisely, pad_to

__version__ = "1"


def adapt(model: Any, config: Any, extractor: Any, layer: str) -> Encoder:
    """Return the encoder; what ClapFeatureExtractor computes is computed on the device here.

    Of a longer clip the extractor takes random crops, which depend on chance and on the clips of a batch.
    Here it is embedded in pieces of 10 s, and the mean of their embeddings is taken.
    """
    refuse_layer(layer, "CLAP")
    rate, samples, hop = extractor.sampling_rate, extractor.nb_max_samples, extractor.hop_length
    is_fused = extractor.truncation == "fusion"
    filters = as_tensor(extractor.mel_filters if is_fused else extractor.mel_filters_slaney)
    n_fft, dtype = extractor.fft_window_size, next(model.parameters()).dtype
    window = torch.hann_window(n_fft)

    def fill(waves: Tensor) -> Tensor:
        """Repeat a short clip, as the extractor does."""
        repeats = max(1, samples // waves.shape[1])
        if extractor.padding == "repeat":
            return waves.repeat(1, repeats + 1)[:, :samples]
        return pad_to(waves.repeat(1, repeats) if extractor.padding == "repeatpad" else waves, samples)

    def scene(waves: Tensor) -> Tensor:
        power = make_spectrogram(fill(waves), window, n_fft, hop)
        mels = 10 * multiply_precisely(filters.T.to(waves.device), power).clamp(min=1e-10).log10()
        # The fused model takes four crops, which are the same for a clip that is not longer.
        features = mels.transpose(1, 2)[:, None].expand(-1, 4 if is_fused else 1, -1, -1).to(dtype)
        is_longer = torch.zeros(len(waves), 1, dtype=torch.bool, device=waves.device)
        output = model.get_audio_features(features, is_longer=is_longer)
        # transformers 4 returns the tensor itself.
        return torch.as_tensor(getattr(output, "pooler_output", output))

    return Encoder(
        network=model,
        frames=None,
        sample_rate=rate,
        hop_ms=0.0,
        first_ms=0.0,
        size=config.projection_dim,
        scene=scene,
        window=samples,
    )
