"""Models of transformers, from the hub or from a folder, as a submission: `hf:NAME` and `hf:FOLDER`."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heareval.embeddings.adapters.encoder import (
    HALVED_RATE,
    HearModel,
    get_scene_embeddings,
    get_timestamp_embeddings,
    halve_input,
)
from heareval.embeddings.adapters.errors import AdapterError
from heareval.embeddings.adapters.model_card import read_card

__version__ = "1"
__all__ = ["get_scene_embeddings", "get_timestamp_embeddings", "load_model"]
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Family:
    """How the models of one type are adapted.

    Args:
        module: module of this package with `adapt(network, config, extractor, layer)`.
        part: the part of the model that embeds; "" = all of it.
        needs: what the names of the weights begin with that embeddings depend on; () = those of the part.
    """

    module: str
    part: str = ""
    needs: tuple[str, ...] = ()


# model_type in config.json -> its family.
FAMILIES = {
    **dict.fromkeys(
        (
            *("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "sew", "sew-d", "data2vec-audio"),
            "wav2vec2-conformer",
        ),
        Family("raw_speech"),
    ),
    "moonshine": Family("raw_speech", "encoder"),
    "wav2vec2-bert": Family("wav2vec2_bert"),
    "whisper": Family("whisper", "encoder"),
    "qwen2_audio_encoder": Family("whisper"),
    "qwen2_audio": Family("whisper", "audio_tower"),
    "audio-spectrogram-transformer": Family("spectrogram_transformer"),
    "clap": Family("clap", needs=("audio_",)),
    "encodec": Family("codecs", "encoder"),
    "dac": Family("codecs", "encoder"),
}
# Weights that no embedding depends on, and that published checkpoints may lack.
UNUSED = ("masked_spec_embed",)


def load_model(
    model_file_path: str = "",
    *,
    name: str = "",
    revision: str = "main",
    layer: str = "",
    trust_remote_code: bool = False,
    dtype: str = "float32",
    attention: str = "",
) -> HearModel:
    """Return a model of transformers.

    Args:
        model_file_path: a folder that `save_pretrained` wrote; "" = the model `name` of the hub.
        name: name on the hub.
        revision: commit, tag or branch of it.
        layer: number of a hidden state, or `mean`; "" = the last hidden state.
        trust_remote_code: whether code that comes with the model may run.
        dtype: type of the weights, one of DTYPES.
        attention: implementation of attention in transformers, such as `sdpa`; "" = its default.

    Raises:
        AdapterError: the model is no audio encoder that is known here, or can't be loaded.
    """
    import torch
    import transformers

    source, what = model_file_path or name, f"hf:{model_file_path or name}"
    if dtype not in DTYPES:
        raise AdapterError(f"{what}: dtype", dtype, f"one of {', '.join(DTYPES)}")
    where = {} if model_file_path else {"revision": revision}
    config = _read_config(transformers, source, where, what)
    family = _find_family(config, trust_remote_code, what)
    arguments = {**where, "trust_remote_code": trust_remote_code}
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(source, **arguments)
    except (OSError, ValueError, KeyError) as error:
        remedy = "Save the feature extractor of the model into it: `extractor.save_pretrained(FOLDER)`."
        raise AdapterError(
            what, f"no feature extractor ({_first_line(error)})", "preprocessor_config.json", remedy
        ) from error
    options = {"attn_implementation": attention} if attention else {}
    model = _load_weights(transformers, source, family, getattr(torch, dtype), {**arguments, **options}, what)
    adapter = importlib.import_module(f"heareval.embeddings.adapters.{family.module}")
    try:
        part = getattr(model, family.part) if family.part else model
        # Those of all layers, also where the last ones are left out.
        parameters = sum(each.numel() for each in part.parameters())
        encoder = adapter.adapt(part, getattr(part, "config", model.config), extractor, layer)
    except AdapterError as error:
        raise AdapterError(**{**error.facts, "what": f"{what}: {error.facts['what']}"}) from None
    if encoder.sample_rate == HALVED_RATE:
        encoder = halve_input(encoder)
    facts = {
        **encoder.facts,
        "parameters": parameters,
        "type": config["model_type"],
        **where,
        **read_card(source, where),
    }
    return HearModel(
        replace(encoder, facts={**facts, **({"remote_code": True} if trust_remote_code else {})})
    )


def _read_config(transformers: Any, source: str, where: dict[str, str], what: str) -> dict[str, Any]:
    """Return config.json as it is: its type may be one that this transformers does not know."""
    expected = "config.json, which `save_pretrained` writes"
    try:
        config, _ = transformers.PretrainedConfig.get_config_dict(source, **where)
    except (OSError, ValueError) as error:
        if Path(source).is_dir():
            raise AdapterError(
                what, f"no config that can be read ({_first_line(error)})", expected
            ) from error
        remedy = "Check the name, the revision and the network, or give a folder: hf:./FOLDER."
        raise AdapterError(what, _first_line(error), "a model on the hub or in its cache", remedy) from error
    if not config.get("model_type"):
        raise AdapterError(what, "no model_type in config.json", expected)
    return dict(config)


def _find_family(config: dict[str, Any], trust_remote_code: bool, what: str) -> Family:
    """Return the family of a model.

    Raises:
        AdapterError: it is no audio encoder that is known here, or runs code that is not trusted.
    """
    kind = config["model_type"]
    if kind in FAMILIES:
        return FAMILIES[kind]
    if "auto_map" in config:
        if not trust_remote_code:
            raise AdapterError(
                what,
                f"a model of type {kind}, which brings its own code",
                "a type that transformers has",
                "Read that code; if you trust it, use --trust-remote-code.",
            )
        # Models such as MERT extend HuBERT.
        if "conv_kernel" in config and "conv_stride" in config:
            return Family("raw_speech")
    expected = f"an audio encoder: {', '.join(sorted(FAMILIES))}"
    raise AdapterError(what, f"a model of type {kind}", expected, "Wrap it in a file: see heareval.wrap.")


def _load_weights(
    transformers: Any, source: str, family: Family, dtype: Any, options: dict[str, Any], what: str
) -> Any:
    """Return a model with its weights.

    Raises:
        AdapterError: the files can't be loaded, or lack weights, which transformers would draw at random.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(source, **options)
        if getattr(config, "add_adapter", False):
            # Convolutions behind the transformer, which CTC models may have, are left out.
            config.add_adapter = False
        model, report = transformers.AutoModel.from_pretrained(
            source, config=config, torch_dtype=dtype, output_loading_info=True, **options
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise AdapterError(what, _first_line(error), "a model that transformers can load") from error
    part = f"{family.part}." if family.part else ""
    lacking = [
        name
        for name in sorted({*report["missing_keys"], *(each[0] for each in report["mismatched_keys"])})
        if name.startswith(family.needs or part) and not name.endswith(UNUSED)
    ]
    if lacking:
        got = f"no weights for {len(lacking)} parameters, such as {lacking[0]}"
        raise AdapterError(what, got, f"all weights of a {type(model).__name__}")
    return model


def _first_line(error: BaseException) -> str:
    """Return the type and the first sentence of an exception, without the advice that may follow it."""
    return f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0].split('. ')[0]}"
