"""Models of torchaudio.pipelines as a submission: `torchaudio:WAVLM_BASE_PLUS`."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from heareval.embeddings.adapters.encoder import (
    Encoder,
    HearModel,
    get_scene_embeddings,
    get_timestamp_embeddings,
)
from heareval.embeddings.adapters.errors import AdapterError
from heareval.embeddings.adapters.layers import choose_layer
from heareval.embeddings.adapters.waves import pad_to

__version__ = "1"
__all__ = ["get_scene_embeddings", "get_timestamp_embeddings", "load_model"]
# All bundles with `extract_features` share these convolutions of wav2vec 2.0.
STRIDE, FIELD = 320, 400


def load_model(*, name: str = "", layer: str = "") -> HearModel:
    """Return a model of torchaudio.

    Args:
        name: name of a bundle in torchaudio.pipelines.
        layer: number of a layer, from 1, or `mean`; "" = the last one.

    Raises:
        AdapterError: there is no such bundle, it has no features, its weights can't be had, or the layer is
            not there.
    """
    from torchaudio import pipelines

    what = f"torchaudio:{name}"
    bundle: Any = getattr(pipelines, name, None)
    if not hasattr(bundle, "get_model") or not hasattr(bundle, "sample_rate"):
        known = [
            key for key in dir(pipelines) if key.isupper() and hasattr(getattr(pipelines, key), "get_model")
        ]
        raise AdapterError(what, "no such bundle", f"one of {', '.join(known)}")
    try:
        model = bundle.get_model()
    except OSError as error:
        raise AdapterError(
            what, f"{type(error).__name__}: {error}", "weights that can be downloaded"
        ) from error
    return HearModel(adapt(model, bundle.sample_rate, layer, what))


def adapt(model: Any, sample_rate: int, layer: str, what: str) -> Encoder:
    """Return the encoder of a model of torchaudio.

    Where waves have to be normalised, a bundle wraps its model in one that normalises all clips of a batch
    together. Here each clip is normalised, as one clip alone is there.
    """
    inner = getattr(model, "model", model)
    is_normalised = getattr(model, "normalize_waveform", False)
    if not hasattr(model, "extract_features"):
        expected = "a bundle of wav2vec 2.0, HuBERT or WavLM"
        raise AdapterError(what, f"a {type(model).__name__}, which has no features", expected)
    layers = len(inner.encoder.transformer.layers)
    chosen = choose_layer(layer, layers)
    if chosen.index == 0:
        raise AdapterError(f"{what}: layer", "0", f"1 to {layers}, or mean", "Correct #layer.")

    def frames(waves: Tensor) -> Tensor:
        if is_normalised:
            waves = functional.layer_norm(waves, waves.shape[1:])
        # Layers behind the chosen one are not computed.
        outputs, _ = inner.extract_features(pad_to(waves, FIELD), None, num_layers=chosen.index or layers)
        found: Tensor = sum(outputs) / len(outputs) if chosen.is_mean else outputs[-1]
        return found

    return Encoder(
        network=model,
        frames=frames,
        sample_rate=sample_rate,
        hop_ms=1000 * STRIDE / sample_rate,
        first_ms=1000 * FIELD / 2 / sample_rate,
        size=inner.encoder.feature_projection.projection.out_features,
    )
