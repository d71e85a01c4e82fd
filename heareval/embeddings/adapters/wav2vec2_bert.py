"""wav2vec2-bert: log-mel features in pairs, then a conformer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from heareval.embeddings.adapters.encoder import Encoder
from heareval.embeddings.adapters.layers import choose_layer, cut_layers, run_layers
from heareval.embeddings.adapters.waves import as_tensor, make_kaldi_fbank, pad_to

__version__ = "1"
WINDOW, HOP = 400, 160


def adapt(model: Any, config: Any, extractor: Any, layer: str) -> Encoder:
    """Return the encoder; what SeamlessM4TFeatureExtractor computes is computed on the device here."""
    chosen = choose_layer(layer, config.num_hidden_layers)
    cut_layers(model, chosen, config.num_hidden_layers)
    window, filters = as_tensor(extractor.window), as_tensor(extractor.mel_filters)
    stride, dtype = extractor.stride, next(model.parameters()).dtype
    rate, shortest = extractor.sampling_rate, WINDOW + (stride - 1) * HOP

    def frames(waves: Tensor) -> Tensor:
        # Kaldi's features are of 16-bit integers.
        mels = make_kaldi_fbank(pad_to(waves, shortest) * 2**15, window, filters)
        mean, variance = mels.mean(dim=1, keepdim=True), mels.var(dim=1, keepdim=True)
        mels = (mels - mean) / (variance + 1e-7).sqrt()
        # An incomplete pair at the end would be masked in the model.
        pairs = mels[:, : mels.shape[1] // stride * stride].reshape(len(mels), -1, stride * mels.shape[2])
        return run_layers(model, chosen, pairs.to(dtype))

    return Encoder(
        network=model,
        frames=frames,
        sample_rate=rate,
        hop_ms=1000 * stride * HOP / rate,
        first_ms=1000 * shortest / 2 / rate,
        size=config.hidden_size,
    )
