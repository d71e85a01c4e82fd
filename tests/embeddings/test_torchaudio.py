"""Models of torchaudio with random weights, where that package is installed and fits this torch."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
# A build for another torch raises OSError.
pytest.importorskip("torchaudio", exc_type=(ImportError, OSError))  # type: ignore[arg-type]

import torch
import torchaudio

from heareval.embeddings.adapters import torchaudio_bundles
from heareval.embeddings.adapters.encoder import HearModel
from heareval.embeddings.adapters.errors import AdapterError


class Bundled(torch.nn.Module):
    """Normalises a batch as the bundles of torchaudio do: all clips together."""

    normalize_waveform = True

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def extract_features(self, waves: torch.Tensor, *more: Any, **options: Any) -> Any:
        return self.model.extract_features(
            torch.nn.functional.layer_norm(waves, waves.shape), *more, **options
        )


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    convolutions = [(16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 2]
    return torchaudio.models.wav2vec2_model(
        "group_norm", convolutions, False, 32, 0.0, 16, 2, 3, 2, 0.0, 48, 0.0, 0.0, False, 0.0, None
    ).eval()


@torch.no_grad()
def embed(
    network: torch.nn.Module, waves: torch.Tensor, layer: str = ""
) -> tuple[torch.Tensor, torch.Tensor]:
    model = HearModel(torchaudio_bundles.adapt(network, 16000, layer, "torchaudio:X"))
    return torchaudio_bundles.get_timestamp_embeddings(waves, model)


def test_layers_and_times(network: torch.nn.Module) -> None:
    waves = torch.randn(2, 16000)
    with torch.no_grad():
        outputs = network.extract_features(waves)[0]
    for number, output in enumerate(outputs, 1):
        frames, times = embed(network, waves, str(number))
        assert torch.equal(frames, output)
        assert times[0].tolist() == [12.5 + 20 * i for i in range(49)]
    assert torch.equal(embed(network, waves)[0], outputs[-1])
    assert torch.allclose(embed(network, waves, "mean")[0], torch.stack(outputs).mean(0), atol=1e-6)
    assert embed(network, waves[:, :100])[0].shape == (2, 1, 32)
    with pytest.raises(AdapterError, match="layer: got 0"):
        embed(network, waves, "0")


def test_each_clip_is_normalised_on_its_own(network: torch.nn.Module) -> None:
    bundled = Bundled(network)
    waves = torch.randn(3, 8000) * torch.tensor([[1.0], [0.01], [5.0]])
    together = embed(bundled, waves)[0]
    for wave, frames in zip(waves, together, strict=True):
        with torch.no_grad():
            alone = bundled.extract_features(wave[None])[0][-1][0]
        assert torch.allclose(frames, alone, atol=1e-4)


def test_a_bundle_that_is_not_there_is_one_line() -> None:
    with pytest.raises(AdapterError, match="torchaudio:NOPE: got no such bundle"):
        torchaudio_bundles.load_model(name="NOPE")
    with pytest.raises(AdapterError, match="has no features"):
        torchaudio_bundles.adapt(torch.nn.Linear(2, 2), 16000, "", "torchaudio:X")
