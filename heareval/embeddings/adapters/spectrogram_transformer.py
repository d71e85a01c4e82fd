"""The Audio Spectrogram Transformer (AST): patches of a log-mel spectrogram of 10.24 s."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from heareval.embeddings.adapters.encoder import Encoder
from heareval.embeddings.adapters.layers import choose_layer, cut_layers, pick_output
from heareval.embeddings.adapters.waves import as_tensor, make_kaldi_fbank, pad_to

__version__ = "1"
WINDOW, HOP = 400, 160
# The class token and the distillation token.
TOKENS = 2


def adapt(model: Any, config: Any, extractor: Any, layer: str) -> Encoder:
    """Return the encoder; what ASTFeatureExtractor computes is computed on the device here.

    The filters are those that it uses without torchaudio, so that results do not depend on that package.
    """
    from transformers.audio_utils import mel_filter_bank, window_function

    rate = extractor.sampling_rate
    chosen, dtype = choose_layer(layer, config.num_hidden_layers), next(model.parameters()).dtype
    cut_layers(model, chosen, config.num_hidden_layers)
    bank = mel_filter_bank(
        num_frequency_bins=257,
        num_mel_filters=extractor.num_mel_bins,
        min_frequency=20,
        max_frequency=rate // 2,
        sampling_rate=rate,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    filters, window = as_tensor(bank), as_tensor(window_function(400, "hann", periodic=False))
    bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1

    def run(waves: Tensor) -> Any:
        mels = make_kaldi_fbank(pad_to(waves, WINDOW), window, filters)[:, : extractor.max_length]
        # The rest of the spectrogram is zeros, as in training.
        mels = functional.pad(mels, (0, 0, 0, extractor.max_length - mels.shape[1]))
        if extractor.do_normalize:
            mels = (mels - extractor.mean) / (extractor.std * 2)
        return model(mels.to(dtype), output_hidden_states=chosen.is_inner, return_dict=True)

    def frames(waves: Tensor) -> Tensor:
        patches = pick_output(run(waves), chosen)[:, TOKENS:]
        return patches.reshape(len(waves), bands, -1, config.hidden_size).mean(dim=1)

    def scene(waves: Tensor) -> Tensor:
        output = run(waves)
        if chosen.is_inner:
            return pick_output(output, chosen)[:, :TOKENS].mean(dim=1)
        return torch.as_tensor(output.pooler_output)

    return Encoder(
        network=model,
        frames=frames,
        sample_rate=rate,
        hop_ms=1000 * config.time_stride * HOP / rate,
        first_ms=1000 * (WINDOW + (config.patch_size - 1) * HOP) / 2 / rate,
        size=config.hidden_size,
        scene=scene,
        window=extractor.max_length * HOP,
        window_frames=(extractor.max_length - config.patch_size) // config.time_stride + 1,
    )
