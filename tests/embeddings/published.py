"""Small models of every family of transformers, with random weights, saved as published ones are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# What the models built like wav2vec 2.0 share: the real convolutions, which decide the times, few channels.
SPEECH = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
}
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
# SEW's own convolutions: stride 320, field 400 as well.
SEW = {
    **SPEECH,
    "conv_dim": (16,) * 7,
    "squeeze_factor": 2,
    "max_position_embeddings": 64,
    "position_buckets": 16,
}
MEL = {"num_mel_bins": 80}
# Family -> the prefix of its classes in transformers, its config, its feature extractor and what that gets.
FAMILIES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "wav2vec2": ("Wav2Vec2", SPEECH, "Wav2Vec2", {"do_normalize": True}),
    "hubert": ("Hubert", SPEECH, "Wav2Vec2", {"do_normalize": False}),
    "wavlm": ("WavLM", {**SPEECH, "num_buckets": 32}, "Wav2Vec2", {"do_normalize": True}),
    "unispeech": ("UniSpeech", {**SPEECH, **LAYER_NORM}, "Wav2Vec2", {}),
    "unispeech-sat": ("UniSpeechSat", SPEECH, "Wav2Vec2", {}),
    "sew": ("SEW", SEW, "Wav2Vec2", {}),
    "sew-d": ("SEWD", SEW, "Wav2Vec2", {}),
    "data2vec-audio": ("Data2VecAudio", {**SPEECH, "num_conv_pos_embeddings": 2}, "Wav2Vec2", {}),
    "wav2vec2-conformer": ("Wav2Vec2Conformer", {**SPEECH, **LAYER_NORM}, "Wav2Vec2", {}),
    "moonshine": (
        "Moonshine",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "encoder_num_hidden_layers": 2,
            "decoder_num_hidden_layers": 1,
            "encoder_num_attention_heads": 2,
            "decoder_num_attention_heads": 2,
            "vocab_size": 60,
        },
        "Wav2Vec2",
        {"do_normalize": False},
    ),
    "wav2vec2-bert": (
        "Wav2Vec2Bert",
        # Its convolutions look back: with 31 random taps in each layer, they hide where frames are.
        {**{key: SPEECH[key] for key in list(SPEECH)[:4]}, "conv_depthwise_kernel_size": 3},
        "SeamlessM4T",
        {"num_mel_bins": 80, "feature_size": 80},
    ),
    "whisper": (
        "Whisper",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "vocab_size": 60,
            "pad_token_id": 1,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
            # Windows of 3 s instead of 30 s, which take less time.
            "max_source_positions": 150,
            "num_hidden_layers": 2,
        },
        "Whisper",
        {"chunk_length": 3},
    ),
    "qwen2_audio_encoder": (
        "Qwen2AudioEncoder",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 48,
            "num_hidden_layers": 2,
            "num_mel_bins": 80,
            "max_source_positions": 150,
        },
        "Whisper",
        {"chunk_length": 3},
    ),
    "audio-spectrogram-transformer": ("AST", {key: SPEECH[key] for key in list(SPEECH)[:4]}, "AST", {}),
    "clap": (
        "Clap",
        {
            "projection_dim": 16,
            "audio_config": {
                "patch_embeds_hidden_size": 16,
                "depths": [1, 1, 1, 1],
                "num_attention_heads": [1, 1, 2, 2],
                "hidden_size": 128,
                "num_hidden_layers": 4,
                "window_size": 8,
                "enable_fusion": False,
                "projection_dim": 16,
            },
            "text_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
                "intermediate_size": 16,
                "vocab_size": 50,
                "projection_dim": 16,
            },
        },
        "Clap",
        {"truncation": "rand_trunc", "padding": "repeatpad"},
    ),
    "encodec": ("Encodec", {"num_filters": 4, "hidden_size": 16, "codebook_size": 16}, "Encodec", {}),
    "dac": (
        "Dac",
        {
            "encoder_hidden_size": 4,
            "decoder_hidden_size": 32,
            "downsampling_ratios": [2, 4, 5, 8],
            "upsampling_ratios": [8, 5, 4, 2],
            "n_codebooks": 1,
            "codebook_size": 16,
            "codebook_dim": 4,
            "sampling_rate": 16000,
            "hidden_size": 64,
        },
        "Dac",
        {"sampling_rate": 16000, "hop_length": 320},
    ),
}


def save_model(family: str, folder: Path, *, with_extractor: bool = True, **changes: Any) -> Path:
    """Save a model of a family, with the same random weights each time, into a folder; return the folder."""
    import torch
    import transformers

    prefix, config, extractor, options = FAMILIES[family]
    made = getattr(transformers, f"{prefix}Config")(**{**config, **changes})
    name = prefix if prefix.endswith("Encoder") else f"{prefix}Model"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = getattr(transformers, name)(made)
    model.save_pretrained(folder)
    if with_extractor:
        getattr(transformers, f"{extractor}FeatureExtractor")(**options).save_pretrained(folder)
    return folder
