"""Published models of every family: shapes, times, batches, lengths and features, with random weights."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
if not importlib.util.find_spec("transformers"):
    pytest.skip("needs transformers", allow_module_level=True)

import torch
from safetensors.torch import load_file, save_file

from heareval.embeddings.adapters import huggingface
from heareval.embeddings.adapters.encoder import HearModel
from heareval.embeddings.adapters.errors import AdapterError, SceneOnlyError
from heareval.embeddings.adapters.waves import halve_rate, standardise
from tests.embeddings.published import FAMILIES, save_model

RAW = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio", "wav2vec2-conformer")
# In seconds, and in frames; those of published models of whisper are ten times as long.
WINDOWS = {"whisper": 3.0, "qwen2_audio_encoder": 3.0, "audio-spectrogram-transformer": 10.24}
PER_WINDOW = {"whisper": 150, "qwen2_audio_encoder": 75, "audio-spectrogram-transformer": 101}
# Family -> sample rate, hop and first centre, as published: shared by those built like wav2vec 2.0.
FACTS = {
    **dict.fromkeys((*RAW, "sew", "sew-d"), (16000, 20.0, 12.5)),
    "moonshine": (16000, 24.0, 895 / 32),
    "wav2vec2-bert": (16000, 20.0, 17.5),
    "whisper": (16000, 20.0, 0.0),
    "qwen2_audio_encoder": (16000, 40.0, 10.0),
    "audio-spectrogram-transformer": (16000, 100.0, 87.5),
    "encodec": (48000, 1000 * 320 / 24000, 1000 * 160 / 24000),
    "dac": (16000, 20.0, 10.0),
}
# They see what lies before, up to the end of their hop, far more than what lies behind.
CAUSAL = ("encodec",)

Load = Callable[..., HearModel]


@pytest.fixture(scope="module")
def transformers() -> Any:
    """The library, imported only by the process that runs these tests: it takes a second."""
    return importlib.import_module("transformers")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory, transformers: Any) -> Load:
    """Save a model of a family once, and load it with options."""
    transformers.utils.logging.disable_progress_bar()
    folders = tmp_path_factory.mktemp("published")

    @functools.cache
    def load_family(family: str, **options: Any) -> HearModel:
        folder = folders / family
        if not folder.exists():
            save_model(family, folder)
        return huggingface.load_model(str(folder), **options).eval()

    return load_family


def make_waves(count: int, samples: int) -> Any:
    return 0.1 * torch.randn(count, samples, generator=torch.Generator().manual_seed(samples))


@torch.no_grad()
def embed(model: HearModel, waves: Any) -> tuple[Any, Any]:
    return huggingface.get_timestamp_embeddings(waves, model)


@torch.no_grad()
def embed_scene(model: HearModel, waves: Any) -> Any:
    return huggingface.get_scene_embeddings(waves, model)


def distance(ours: Any, theirs: Any) -> float:
    """The largest difference, relative to the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


# --------------------------------------------------------------------------- all families


def test_every_family_is_tested() -> None:
    assert {*FACTS, "clap"} == FAMILIES.keys()
    # qwen2_audio holds a language model as well; its encoder is that of qwen2_audio_encoder.
    assert huggingface.FAMILIES.keys() - FAMILIES.keys() == {"qwen2_audio"}


@pytest.mark.parametrize("family", FACTS)
def test_frames_have_the_published_times(family: str, load: Load) -> None:
    model, (rate, hop_ms, first_ms) = load(family), FACTS[family]
    assert model.sample_rate == rate
    frames, times = embed(model, make_waves(2, 2 * rate))
    assert frames.shape == (2, times.shape[1], model.timestamp_embedding_size)
    expected = first_ms + hop_ms * np.arange(times.shape[1])
    np.testing.assert_allclose(times.numpy(), [expected, expected], atol=1e-3)
    # SEW has one frame for a pair of others.
    assert expected[-1] < 2000 <= expected[-1] + (3 if family.startswith("sew") else 2) * hop_ms
    assert frames.dtype == times.dtype == torch.float32


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_equals_single_clips_and_the_same_batch(family: str, load: Load) -> None:
    model = load(family)
    waves = make_waves(3, round(1.2345 * model.sample_rate))
    # Batch mates of another loudness.
    waves *= torch.tensor([[1.0], [0.01], [5.0]])
    functions = [embed_scene, *([lambda model, waves: embed(model, waves)[0]] if family in FACTS else [])]
    for function in functions:
        together = function(model, waves)
        assert torch.equal(together, function(model, waves))
        assert distance(together, torch.cat([function(model, wave[None]) for wave in waves])) < 1e-4


@pytest.mark.parametrize("family", sorted(FACTS.keys() - {"audio-spectrogram-transformer"}))
def test_scenes_are_the_mean_of_frames(family: str, load: Load) -> None:
    waves = make_waves(2, load(family).sample_rate)
    assert torch.equal(embed_scene(load(family), waves), embed(load(family), waves)[0].mean(1))


@pytest.mark.parametrize("family", FACTS)
def test_clicks_change_the_frames_around_them(family: str, load: Load) -> None:
    """Frames are found as `validate` finds them: where clips with one click each differ from the others."""
    # Attention of random weights, and convolutions to the past, hide where a frame is centred.
    model = load(family, layer="" if family in ("encodec", "dac") else "0")
    rate, hop_ms = model.sample_rate, model.encoder.hop_ms
    # They lie evenly between two frames.
    clicks_ms = 400 + hop_ms * (np.ceil(150 / hop_ms) + 1 / 8) * np.arange(8)
    waves = 0.01 * make_waves(1, 2 * rate).repeat(8, 1)
    before = embed(model, waves)[0].numpy()
    click = np.hanning(rate // 500) * np.where(np.arange(rate // 500) % 2, -0.9, 0.9)
    for wave, when in zip(waves, clicks_ms, strict=True):
        start = round(when / 1000 * rate) - len(click) // 2
        wave[start : start + len(click)] += torch.tensor(click)
    frames, times = (each.numpy() for each in embed(model, waves))
    change = np.stack([np.median(np.linalg.norm(frames - each, axis=2), axis=0) for each in frames])
    if family in CAUSAL:
        # Nothing before the hop of the click knows of it, but for the 4 ms that it and the low-pass reach.
        change = np.linalg.norm(frames - before, axis=2)
        first = times[0, (change > 1e-3 * change.max()).argmax(axis=1)]
        assert (np.abs(first - clicks_ms) < hop_ms / 2 + 4).all(), first - clicks_ms
        return
    weight = np.where(change >= 0.5 * change.max(axis=1, keepdims=True), change, 0)
    offsets_ms = (weight * times).sum(1) / weight.sum(1) - clicks_ms
    assert abs(np.median(offsets_ms)) < max(3, hop_ms / 10), offsets_ms


@pytest.mark.parametrize("family", FAMILIES)
def test_clips_of_any_length_are_embedded(family: str, load: Load) -> None:
    model = load(family)
    for samples in (1, 100, 399, 401):
        assert torch.isfinite(embed_scene(model, make_waves(2, samples))).all(), samples
        if family in FACTS:
            frames, times = embed(model, make_waves(2, samples))
            assert frames.shape[:2] == times.shape
            assert times.min() >= 0
            assert times.max() <= 1000 * samples / model.sample_rate


# --------------------------------------------------------------------------- lengths


@pytest.mark.parametrize("family", [*RAW, "sew", "sew-d"])
def test_raw_speech_has_as_many_frames_as_published(family: str, load: Load) -> None:
    """One frame for every 20 ms whose window of 25 ms is complete, and never less than one."""
    for samples in (160, 399, 400, 719, 720, 1039, 1040, 16000, 16079, 16080, 16081, 16400):
        expected = max(1, (samples / 16 - 5) // 20)
        if family.startswith("sew"):
            # It averages pairs, and has nothing for one that is incomplete.
            expected = max(1, expected // 2 * 2)
        assert embed(load(family), make_waves(1, samples))[0].shape[1] == expected, samples


def test_no_frame_of_sew_is_filled_with_zeros(load: Load) -> None:
    frames, _ = embed(load("sew"), make_waves(1, 16400))
    assert frames.abs().amax(dim=2).min() > 0


@pytest.mark.parametrize("family", WINDOWS)
def test_windows_are_cropped_to_the_clip(family: str, load: Load) -> None:
    model = load(family)
    for samples in (1, 319, 320, 321, 1600, 16000, round(16000 * WINDOWS[family]) - 1):
        count = embed(model, make_waves(1, samples))[0].shape[1]
        spacing, first = model.encoder.hop_ms * 16, model.encoder.first_ms * 16
        assert count == min(max(1, np.ceil((samples - first) / spacing)), PER_WINDOW[family]), samples


@pytest.mark.parametrize("family", WINDOWS)
def test_longer_clips_are_embedded_in_pieces(family: str, load: Load) -> None:
    model, window = load(family), round(16000 * WINDOWS[family])
    waves = make_waves(2, window + 8000)
    frames, times = embed(model, waves)
    # The next piece begins where the frames of the first one end, a whole number of frames later.
    count = PER_WINDOW[family]
    step = count * model.encoder.hop_ms
    assert torch.equal(frames[:, :count], embed(model, waves[:, :window])[0])
    assert distance(frames[:, count:], embed(model, waves[:, round(16 * step) :])[0]) < 1e-5
    np.testing.assert_allclose(np.diff(times.numpy()), model.encoder.hop_ms, atol=1e-2)
    assert times.max() < (window + 8000) / 16 <= times.max() + 2 * model.encoder.hop_ms


@pytest.mark.parametrize("family", ["audio-spectrogram-transformer", "clap"])
def test_scenes_of_pieces_count_by_their_length(family: str, load: Load) -> None:
    model = load(family)
    window = model.encoder.window
    waves = make_waves(1, window + window // 4)
    parts = embed_scene(model, waves[:, :window]), embed_scene(model, waves[:, window:])
    assert distance(embed_scene(model, waves), 0.8 * parts[0] + 0.2 * parts[1]) < 1e-5


# --------------------------------------------------------------------------- against the library


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_are_those_of_the_library(family: str, load: Load, transformers: Any) -> None:
    """What the feature extractor and the model of transformers make of each clip, given as users give it."""
    model = load(family)
    folder = Path(model.network.config.name_or_path) if hasattr(model.network, "config") else None
    if folder is None:
        pytest.skip("the encoder of a codec takes waves as they are")
    rate = model.sample_rate
    waves = make_waves(2, rate + 1234)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor([wave.numpy() for wave in waves], sampling_rate=rate, return_tensors="pt")
    network = model.network
    with torch.no_grad():
        if family == "clap":
            inputs["is_longer"] = torch.zeros(2, 1, dtype=torch.bool)
            theirs = network.get_audio_features(**inputs).pooler_output
            assert distance(embed_scene(model, waves), theirs) < 1e-4
            return
        inputs.pop("attention_mask", None)
        output = network(**inputs)
    ours, _ = embed(model, waves)
    theirs = output.last_hidden_state
    if family == "audio-spectrogram-transformer":
        assert distance(embed_scene(model, waves), output.pooler_output) < 1e-4
        theirs = theirs[:, 2:].unflatten(1, (12, 101)).mean(1)
    assert distance(ours, theirs[:, : ours.shape[1]]) < 1e-4


def test_normalisation_is_that_of_the_library(transformers: Any) -> None:
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    waves = make_waves(2, 5000) + 0.3
    theirs = extractor(
        [wave.numpy() for wave in waves], sampling_rate=16000, return_tensors="pt"
    ).input_values
    assert distance(standardise(waves), theirs) < 1e-5


def test_layers_are_hidden_states(load: Load) -> None:
    waves = make_waves(1, 8000)
    with torch.no_grad():
        states = load("hubert").network(waves, output_hidden_states=True).hidden_states
    assert len(states) == 3
    for number, state in enumerate(states):
        assert torch.equal(embed(load("hubert", layer=str(number)), waves)[0], state)
    mean = embed(load("hubert", layer="mean"), waves)[0]
    assert distance(mean, torch.stack(states).mean(0)) < 1e-6
    assert torch.equal(embed(load("hubert"), waves)[0], states[-1])


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"clap", "encodec", "dac"}))
def test_layers_behind_the_chosen_one_are_left_out(
    family: str, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, waves = load(family, layer="0"), make_waves(2, 16000)
    parameters = cut.heareval_facts["parameters"]
    module = huggingface.FAMILIES[family].module
    monkeypatch.setattr(f"heareval.embeddings.adapters.{module}.cut_layers", lambda *given: None)
    whole = huggingface.load_model(cut.network.config.name_or_path, layer="0").eval()
    assert torch.equal(embed(cut, waves)[0], embed(whole, waves)[0])
    assert torch.equal(embed_scene(cut, waves), embed_scene(whole, waves))
    names, of_cut = ({name for name, _ in each.network.named_parameters()} for each in (whole, cut))
    # Layer 1 of 2, and nothing else.
    assert names - of_cut
    assert all(re.search(r"(^|encoder\.)layers?\.1\.", name) for name in names - of_cut)
    assert not any(re.search(r"(^|encoder\.)layers?\.1\.", name) for name in of_cut)
    assert parameters == whole.heareval_facts["parameters"]


def test_layers_of_qwen2_audio_have_the_times_of_their_frames(load: Load) -> None:
    """Its last hidden state is pooled to half as many frames, and is the last of `hidden_states` as well."""
    waves = make_waves(1, 48000)
    for layer, shape, hop_ms in (("0", 150, 20.0), ("1", 150, 20.0), ("2", 75, 40.0)):
        frames, times = embed(load("qwen2_audio_encoder", layer=layer), waves)
        assert (frames.shape[1], float(times[0, 1] - times[0, 0])) == (shape, hop_ms), layer
    assert torch.equal(frames, embed(load("qwen2_audio_encoder"), waves)[0])
    with pytest.raises(AdapterError, match="layer: got mean"):
        load("qwen2_audio_encoder", layer="mean")


def test_half_the_rate_keeps_what_lies_below_and_removes_what_lies_above() -> None:
    times, inner = torch.arange(48000, dtype=torch.float64) / 48000, slice(500, -500)
    for frequency in (100, 5000, 11000):
        wave = torch.sin(2 * np.pi * frequency * times)
        halved = halve_rate(wave[None])[0]
        assert halved.shape == (24000,)
        # Sample i stays at its time; 0.01 is 0.1 dB.
        assert distance(halved[inner], wave[::2][inner]) < 0.01, frequency
    for frequency in (13100, 16000, 20000, 23900):
        halved = halve_rate(torch.sin(2 * np.pi * frequency * times)[None])[0]
        assert 20 * torch.log10(halved[inner].abs().max()) < -100, frequency


def test_half_the_rate_is_computed_in_float32_under_bf16() -> None:
    waves = make_waves(1, 4800)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = halve_rate(waves)
    assert found.dtype == torch.float32
    assert torch.equal(found, halve_rate(waves))


def test_encodec_gets_half_the_rate(load: Load) -> None:
    model = load("encodec")
    waves = make_waves(1, 48000)
    with torch.no_grad():
        theirs = model.network(halve_rate(waves)[:, None]).transpose(1, 2)
    assert torch.equal(embed(model, waves)[0], theirs[:, :75])
    assert model.heareval_facts["resampled"].startswith("to 24000 Hz")


def test_encodec_of_48_khz_normalises_chunks(tmp_path: Path, transformers: Any) -> None:
    """As transformers does: its encoder refuses more than a chunk of 1 s."""
    changes = {"sampling_rate": 48000, "audio_channels": 2, "chunk_length_s": 1.0, "overlap": 0.0}
    changes |= {"normalize": True, "norm_type": "time_group_norm", "use_causal_conv": False}
    folder = save_model("encodec", tmp_path, with_extractor=False, **changes)
    transformers.EncodecFeatureExtractor(feature_size=2, sampling_rate=48000).save_pretrained(folder)
    model = huggingface.load_model(str(folder)).eval()
    # The second half is quieter.
    waves = make_waves(2, 2 * 48000 + 24000) * torch.linspace(1, 0.01, 120000)
    frames, times = embed(model, waves)
    assert frames.shape[1] == 375
    whole = transformers.EncodecModel.from_pretrained(folder).eval()
    encoded = []
    whole.encoder.register_forward_hook(lambda module, inputs, output: encoded.append(output))
    with torch.no_grad():
        for start in (0, 48000, 96000):
            whole.encode(waves[:, None, start : start + 48000].expand(-1, 2, -1))
    assert distance(frames, torch.cat(encoded, dim=2).transpose(1, 2)) < 1e-5
    np.testing.assert_allclose(times[0], (np.arange(375) + 0.5) * 20 / 3, atol=1e-3)


# --------------------------------------------------------------------------- options, facts, errors


def test_half_precision_is_close_and_returns_float32(load: Load) -> None:
    waves = make_waves(2, 16000)
    for family in ("wav2vec2", "whisper", "audio-spectrogram-transformer", "clap", "wav2vec2-bert"):
        half = embed_scene(load(family, dtype="bfloat16"), waves)
        assert half.dtype == torch.float32
        found = distance(half, embed_scene(load(family), waves))
        assert 0 < found < 0.1, family
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = distance(
                embed_scene(load(family), waves).float(), embed_scene(load(family), waves).float()
            )
        assert found < 0.1, family


def test_attention_may_be_chosen(load: Load) -> None:
    eager = load("wav2vec2", attention="eager")
    assert eager.network.config._attn_implementation == "eager"
    assert load("wav2vec2").network.config._attn_implementation == "sdpa"
    waves = make_waves(1, 16000)
    assert distance(embed(eager, waves)[0], embed(load("wav2vec2"), waves)[0]) < 1e-4


def test_scores_will_say_what_the_model_is(load: Load) -> None:
    folder = Path(load("whisper").network.config.name_or_path)
    (folder / "README.md").write_text(
        "---\nlicense: mit\n---\n# W\n```bibtex\n@misc{w,\n title={W}\n}\n```\n"
    )
    facts = huggingface.load_model(str(folder), layer="1").heareval_facts
    assert facts["parameters"] == sum(each.numel() for each in load("whisper").network.parameters())
    assert (facts["type"], facts["licence"], facts["hop_ms"]) == ("whisper", "mit", 20.0)
    assert facts["citation"] == "@misc{w,\n title={W}\n}"


def test_clap_has_scenes_only(load: Load) -> None:
    with pytest.raises(SceneOnlyError, match="scene embeddings only"):
        embed(load("clap"), make_waves(1, 48000))


OWN_CODE = """
from transformers import HubertConfig, HubertModel

class OwnConfig(HubertConfig):
    model_type = "own_hubert"

class OwnModel(HubertModel):
    config_class = OwnConfig
"""


def test_code_of_a_model_runs_only_if_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transformers: Any
) -> None:
    """Like MERT: HuBERT at 24 kHz, of a type that transformers does not have."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = save_model("hubert", tmp_path / "own")
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=24000).save_pretrained(folder)
    (folder / "own_code.py").write_text(OWN_CODE)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own_hubert", "architectures": ["OwnModel"]}
    config["auto_map"] = {"AutoConfig": "own_code.OwnConfig", "AutoModel": "own_code.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterError, match="a model of type own_hubert, which brings its own code"):
        huggingface.load_model(str(folder))
    model = huggingface.load_model(str(folder), trust_remote_code=True).eval()
    assert type(model.network).__name__ == "OwnModel"
    assert model.heareval_facts["remote_code"] is True
    frames, times = embed(model, make_waves(1, 48000))
    assert (model.sample_rate, frames.shape[1]) == (48000, 74)
    np.testing.assert_allclose(times[0, :2], [1000 * 200 / 24000, 1000 * 520 / 24000], atol=1e-4)


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "rate", "size", "count"),
    [
        ("facebook/wav2vec2-base-960h", 16000, 768, 99),
        ("openai/whisper-tiny", 16000, 384, 100),
        ("MIT/ast-finetuned-audioset-10-10-0.4593", 16000, 768, 20),
        ("facebook/encodec_24khz", 48000, 128, 150),
    ],
)
def test_real_names(name: str, rate: int, size: int, count: int) -> None:
    model = huggingface.load_model(name=name).eval()
    frames, times = embed(model, make_waves(1, 2 * rate))
    assert (model.sample_rate, frames.shape, times.shape) == (rate, (1, count, size), (1, count))
    assert model.heareval_facts["licence"]


def write_config(folder: Path, text: str) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(text)
    return str(folder)


@pytest.mark.parametrize(
    ("text", "got", "expected"),
    [
        (
            '{"model_type": "bert"}',
            "a model of type bert",
            "an audio encoder: audio-spectrogram-transformer, ",
        ),
        ('{"model_type": "my_net"}', "a model of type my_net", "an audio encoder: "),
        (
            '{"model_type": "my_net", "auto_map": {}}',
            "my_net, which brings its own code",
            "a type that transf",
        ),
        ("{}", "no model_type", "config.json"),
        ("{", "no config that can be read", "config.json"),
    ],
)
def test_a_model_that_is_no_audio_encoder_is_one_line(
    text: str, got: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(AdapterError) as raised:
        huggingface.load_model(write_config(tmp_path / "model", text))
    assert got in raised.value.facts["got"]
    assert raised.value.facts["expected"].startswith(expected)


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"no model_type in config\.json"):
        huggingface.load_model(str(tmp_path))


def test_a_missing_feature_extractor_is_one_line(tmp_path: Path) -> None:
    save_model("wav2vec2", tmp_path, with_extractor=False)
    # `validate` prints the exception itself.
    says = r"no feature extractor .*, expected preprocessor_config.json. Save the feature extractor"
    with pytest.raises(AdapterError, match=says) as raised:
        huggingface.load_model(str(tmp_path))
    assert "save_pretrained" in raised.value.facts["remedy"]


def test_missing_weights_are_never_drawn_at_random(tmp_path: Path) -> None:
    weights = save_model("wav2vec2", tmp_path) / "model.safetensors"
    kept = {name: each for name, each in load_file(weights).items() if "attention" not in name}
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(AdapterError, match=r"no weights for [0-9]+ parameters, such as ") as raised:
        huggingface.load_model(str(tmp_path))
    assert raised.value.facts["expected"] == "all weights of a Wav2Vec2Model"
    # No embedding depends on this one, which published checkpoints lack.
    save_model("wav2vec2", tmp_path)
    kept = {name: each for name, each in load_file(weights).items() if name != "masked_spec_embed"}
    save_file(kept, weights, metadata={"format": "pt"})
    huggingface.load_model(str(tmp_path))


@pytest.mark.parametrize("layer", ["3", "99"])
def test_a_layer_that_is_not_there_is_one_line(layer: str, load: Load) -> None:
    with pytest.raises(AdapterError, match=f"layer: got {layer}") as raised:
        load("wav2vec2", layer=layer)
    assert raised.value.facts["expected"] == "0 to 2, or mean"


@pytest.mark.parametrize("family", ["clap", "encodec"])
def test_a_layer_of_a_model_without_layers_is_one_line(family: str, load: Load) -> None:
    with pytest.raises(AdapterError, match="layer: got 1"):
        load(family, layer="1")
