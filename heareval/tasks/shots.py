"""Where shots begin in a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from heareval.errors import HearevalError

SAMPLE_RATE_HZ = 48000
THRESHOLD = 0.8  # of full scale
APART = 25002  # samples: a shot ends more than 25000 after its onset, and the sample that ends it begins none
BLOCK_FRAMES = 1 << 20


def find_onsets(path: Path, start_frame: int, limit: int) -> list[int]:
    """Onsets of the shots in a recording, in samples after `start_frame`; at most `limit` of them.

    Source: the rule of HEAR 2021 for its gunshot task.
    """
    check_rate(path)
    with soundfile.SoundFile(path) as recording:
        recording.seek(start_frame)
        onsets: list[int] = []
        blocks = recording.blocks(BLOCK_FRAMES, dtype="float32", always_2d=True)
        for number, block in enumerate(blocks):
            mono = block.mean(axis=1)
            _add_onsets(onsets, number * BLOCK_FRAMES + loud_samples(mono), limit)
            if len(onsets) == limit:
                break
    return onsets


def check_rate(path: Path) -> None:
    """Raise HearevalError for a recording whose samples are not those that the shots are counted in."""
    if (found := soundfile.info(str(path)).samplerate) != SAMPLE_RATE_HZ:
        raise HearevalError(f"recording {path}", got=f"{found} Hz", expected=f"{SAMPLE_RATE_HZ} Hz")


def loud_samples(wave: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Places of the samples at or above the threshold."""
    return np.flatnonzero(np.abs(wave) >= THRESHOLD)


def _add_onsets(onsets: list[int], loud: npt.NDArray[np.int64], limit: int) -> None:
    place = 0
    while len(onsets) < limit:
        if onsets:
            place = int(np.searchsorted(loud, onsets[-1] + APART))
        if place >= len(loud):
            return
        onsets.append(int(loud[place]))
