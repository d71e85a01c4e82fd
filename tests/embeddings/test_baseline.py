"""The baseline keeps the HEAR API's promises: shapes, times, any length, no influence of the batch."""

from __future__ import annotations

import pytest
import torch

from heareval.embeddings import baseline
from heareval.embeddings.baseline import get_scene_embeddings, get_timestamp_embeddings, load_model

RATE = baseline.SAMPLE_RATE


@pytest.fixture(scope="module")
def model():
    return load_model()


def some_noise(n_sounds: int, n_samples: int) -> torch.Tensor:
    return torch.rand(n_sounds, n_samples, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_model_tells_its_rate_and_sizes_as_integers(model):
    assert isinstance(model, torch.nn.Module)
    for name in ("sample_rate", "scene_embedding_size", "timestamp_embedding_size"):
        assert type(getattr(model, name)) is int
    assert not model.training


@pytest.mark.parametrize("n_samples", [1, baseline.HOP - 1, baseline.HOP, RATE, 3 * RATE + 7])
def test_shapes_and_types(model, n_samples):
    audio = some_noise(3, n_samples)
    embeddings, times_ms = get_timestamp_embeddings(audio, model)
    scenes = get_scene_embeddings(audio, model)
    n_timestamps = 1 + n_samples // baseline.HOP
    assert embeddings.shape == (3, n_timestamps, model.timestamp_embedding_size)
    assert times_ms.shape == (3, n_timestamps)
    assert scenes.shape == (3, model.scene_embedding_size)
    for values in (embeddings, times_ms, scenes):
        assert values.dtype == torch.float32
        assert not values.requires_grad
        assert values.isfinite().all()


def test_timestamps_are_regular_and_within_the_sound(model):
    _, times_ms = get_timestamp_embeddings(some_noise(2, 2 * RATE), model)
    hops_ms = times_ms.diff(dim=1)
    assert torch.all(hops_ms == hops_ms[0, 0])
    assert 0 < hops_ms[0, 0] <= 50
    assert times_ms[0, 0] == 0
    assert times_ms[0, -1] <= 2000


@pytest.mark.parametrize("click_ms", [0, 250, 500, 812.5, 1337, 1999])
def test_frames_are_centred_on_their_timestamps(model, click_ms):
    audio = torch.zeros(1, 2 * RATE)
    audio[0, round(click_ms / 1000 * RATE)] = 1
    heard, times_ms = get_timestamp_embeddings(audio, model)
    silence, _ = get_timestamp_embeddings(torch.zeros_like(audio), model)
    nearest = times_ms[0, (heard - silence).norm(dim=2).argmax()]
    hop_ms = 1000 * baseline.HOP / RATE
    assert abs(nearest.item() - click_ms) <= hop_ms / 2 + 0.1


def test_an_embedding_does_not_depend_on_its_batch(model):
    audio = some_noise(5, RATE)
    audio[2] *= 0.001
    audio[3] = 0
    together, _ = get_timestamp_embeddings(audio, model)
    scenes = get_scene_embeddings(audio, model)
    for i in range(len(audio)):
        alone, _ = get_timestamp_embeddings(audio[i : i + 1], model)
        torch.testing.assert_close(together[i], alone[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            scenes[i], get_scene_embeddings(audio[i : i + 1], model)[0], atol=1e-4, rtol=1e-4
        )


def test_the_size_of_blocks_changes_nothing(model, monkeypatch):
    audio = some_noise(3, RATE)
    whole, _ = get_timestamp_embeddings(audio, model)
    monkeypatch.setattr(baseline, "BLOCK_FRAMES", 7)
    torch.testing.assert_close(get_timestamp_embeddings(audio, model)[0], whole, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_twenty_minutes_go_through_in_blocks():
    model, blocks = load_model(embedding_size=8), []
    model.register_forward_pre_hook(lambda _, inputs: blocks.append(inputs[0].shape[:-1].numel()))
    embeddings, times_ms = get_timestamp_embeddings(torch.zeros(1, 20 * 60 * RATE), model)
    assert times_ms[0, -1] == 20 * 60 * 1000
    assert embeddings.shape[1] == sum(blocks)
    assert max(blocks) <= baseline.BLOCK_FRAMES


def test_silence_is_finite_and_constant(model):
    embeddings, _ = get_timestamp_embeddings(torch.zeros(1, RATE), model)
    assert embeddings.isfinite().all()
    torch.testing.assert_close(embeddings[0], embeddings[0, :1].expand_as(embeddings[0]))


@pytest.mark.parametrize("shape", [(RATE,), (1, 0), (1, 1, RATE)])
def test_audio_of_another_shape_is_an_error(model, shape):
    with pytest.raises(ValueError, match=r"expected \(n_sounds, n_samples\)"):
        get_scene_embeddings(torch.zeros(shape), model)


def test_a_model_file_brings_its_projection_back(tmp_path):
    path, audio = tmp_path / "model.pt", some_noise(2, RATE)
    model = load_model(embedding_size=32, seed=5)
    torch.save(model.state_dict(), path)
    again = load_model(str(path), embedding_size=32)
    assert torch.equal(get_scene_embeddings(audio, again), get_scene_embeddings(audio, model))
    with pytest.raises(RuntimeError, match="size mismatch for projection"):
        load_model(str(path), embedding_size=16)


def test_the_seed_alone_draws_the_projection():
    state = torch.get_rng_state()
    assert torch.equal(load_model(seed=3).projection, load_model(seed=3).projection)
    assert not torch.equal(load_model(seed=3).projection, load_model(seed=4).projection)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("hz", [55, 220, 440, 2000, 7000])
def test_a_tone_is_strongest_in_the_filter_around_it(hz):
    tone = torch.sin(2 * torch.pi * hz * torch.arange(baseline.WINDOW) / RATE)
    power = torch.fft.rfft(tone * torch.hann_window(baseline.WINDOW)).abs().square()
    filters = baseline.mel_filters()
    strongest = filters[:, (power @ filters).argmax()]
    bins_hz = torch.linspace(0, RATE / 2, len(strongest))[strongest > 0]
    assert bins_hz.min() - 8 <= hz <= bins_hz.max() + 8


def test_every_filter_hears_something():
    filters = baseline.mel_filters()
    assert filters.shape == (baseline.WINDOW // 2 + 1, baseline.N_MELS)
    assert (filters.sum(dim=0) > 0).all()
    assert (filters >= 0).all()
