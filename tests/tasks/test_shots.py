"""Onsets of shots, compared with the published rule applied sample by sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from heareval.errors import HearevalError
from heareval.tasks import shots


def onsets_one_by_one(wave: np.ndarray, limit: int) -> list[int]:
    """Apply the published rule, one sample after the other."""
    onsets, in_shot = [], False
    for index, value in enumerate(wave):
        if in_shot:
            in_shot = index - onsets[-1] <= 25000
        elif abs(value) >= 0.8 and len(onsets) < limit:
            onsets.append(index)
            in_shot = True
    return onsets


def write(path: Path, wave: np.ndarray, rate: int = 48000) -> Path:
    soundfile.write(path, wave, rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize("seed", range(3))
def test_against_the_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(shots, "BLOCK_FRAMES", 7777)
    draw = np.random.RandomState(seed)
    wave = draw.uniform(-0.7, 0.7, 200_000)
    wave[draw.randint(0, len(wave), 60)] *= 1.3
    wave[[100, 25_100, 25_101, 25_102]] = 0.8, -1.0, 0.9, -0.81
    path = write(tmp_path / "mic.wav", np.concatenate([np.ones(500), wave]))
    wave = soundfile.read(path, dtype="float32")[0][500:]
    for limit in (1, 3, 22):
        assert shots.find_onsets(path, 500, limit) == onsets_one_by_one(wave, limit)


def test_the_first_sample_that_may_follow(tmp_path: Path) -> None:
    wave = np.zeros(60_000)
    wave[[10, 10 + 25_001, 10 + 25_002]] = 0.9
    assert shots.find_onsets(write(tmp_path / "mic.wav", wave), 0, 22) == [10, 25_012]


def test_channels_are_averaged(tmp_path: Path) -> None:
    wave = np.zeros((50, 2))
    wave[10], wave[20] = (1.0, 0.5), (0.9, 0.75)
    assert shots.find_onsets(write(tmp_path / "mic.wav", wave), 0, 22) == [20]


def test_another_rate(tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match="got 44100 Hz, expected 48000 Hz"):
        shots.find_onsets(write(tmp_path / "mic.wav", np.zeros(10), 44100), 0, 22)
