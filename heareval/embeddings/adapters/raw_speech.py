"""wav2vec 2.0 and the models built like it: a stack of convolutions on the wave, then a transformer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from heareval.embeddings.adapters.encoder import Encoder
from heareval.embeddings.adapters.layers import choose_layer, cut_layers, run_layers
from heareval.embeddings.adapters.waves import pad_to, standardise

__version__ = "1"

# Kernels and strides of its convolutions, which its config does not tell.
MOONSHINE = ((127, 7, 3), (64, 3, 2))


def adapt(model: Any, config: Any, extractor: Any, layer: str) -> Encoder:
    """Return the encoder of a model whose config has `conv_kernel` and `conv_stride`, or of Moonshine.

    Clips of a batch have one length, so none is padded and no attention mask is needed. Models whose
    convolutions have group norm (wav2vec2-base) must not be given one; for the others it would be all ones.
    """
    kernels, strides = MOONSHINE
    if hasattr(config, "conv_kernel"):
        kernels, strides = config.conv_kernel, config.conv_stride
    stride, field = measure_convolutions(kernels, strides)
    layers = getattr(config, "encoder_num_hidden_layers", config.num_hidden_layers)
    chosen = choose_layer(layer, layers)
    cut_layers(model, chosen, layers)
    rate, dtype = extractor.sampling_rate, next(model.parameters()).dtype
    # SEW averages neighbouring frames in front of its layers, and takes them apart again behind.
    squeeze = getattr(config, "squeeze_factor", 1)
    joined = squeeze if chosen.is_inner else 1

    def frames(waves: Tensor) -> Tensor:
        if getattr(extractor, "do_normalize", False):
            waves = standardise(waves)
        # Convolutions whose frames lie on the clip; SEW fills frames that it can't average with zeros.
        count = max(1, (waves.shape[1] - field) // stride + 1)
        # Zeros behind a clip that is shorter than a frame are not part of its mean, and come after it.
        waves = pad_to(waves, field + (squeeze - 1) * stride)
        found = run_layers(model, chosen, waves.to(dtype))
        return found[:, : max(1, count // squeeze * squeeze // joined)]

    return Encoder(
        network=model,
        frames=frames,
        sample_rate=rate,
        hop_ms=1000 * joined * stride / rate,
        first_ms=1000 * (field + (joined - 1) * stride) / 2 / rate,
        size=config.hidden_size,
    )


def measure_convolutions(kernels: Any, strides: Any) -> tuple[int, int]:
    """Return the stride and the receptive field of a stack of convolutions, in samples.

    >>> measure_convolutions((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
    (320, 400)
    """
    total, field = 1, 1
    for kernel, stride in zip(kernels, strides):
        field += (kernel - 1) * total
        total *= stride
    return total, field
