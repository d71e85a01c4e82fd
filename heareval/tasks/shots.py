"""Find the onsets of gunshots in a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from heareval.errors import HearevalError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SAMPLE_RATE_HZ = 48000
THRESHOLD = 0.8  # relative to full scale
# A shot ends more than 25000 samples after its onset, and the next cannot begin at the sample that ends it.
MIN_DISTANCE = 25002  # samples
BLOCK_FRAMES = 1 << 20


def find_onsets(path: Path, start_frame: int, limit: int) -> list[int]:
    """Return the onsets of the first `limit` shots, in samples after `start_frame`.

    A shot begins where the mean of the channels reaches THRESHOLD, at least MIN_DISTANCE after the previous.

    Source: the 2021 kit, task gunshot_triangulation.

    Args:
        path: a recording at SAMPLE_RATE_HZ.
        start_frame: where to begin.
        limit: how many shots to find; fewer are returned if there are fewer.

    Raises:
        HearevalError: the recording has another sample rate.
    """
    import soundfile

    check_rate(path)
    with soundfile.SoundFile(path) as recording:
        recording.seek(start_frame)
        onsets: list[int] = []
        blocks = recording.blocks(BLOCK_FRAMES, dtype="float32", always_2d=True)
        for number, block in enumerate(blocks):
            mono = block.mean(axis=1)
            _add_onsets(onsets, number * BLOCK_FRAMES + find_loud_samples(mono), limit)
            if len(onsets) == limit:
                break
    return onsets


def check_rate(path: Path) -> None:
    """Raise HearevalError unless a recording has the sample rate in which onsets are counted."""
    import soundfile

    if (found := soundfile.info(str(path)).samplerate) != SAMPLE_RATE_HZ:
        raise HearevalError(f"recording {path}", got=f"{found} Hz", expected=f"{SAMPLE_RATE_HZ} Hz")


def find_loud_samples(wave: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the indices of the samples whose absolute value reaches the threshold.

    >>> import numpy as np
    >>> find_loud_samples(np.array([0.1, -0.9, 0.85], np.float32)).tolist()
    [1, 2]
    """
    import numpy as np

    return np.flatnonzero(np.abs(wave) >= THRESHOLD)


def _add_onsets(onsets: list[int], loud: npt.NDArray[np.int64], limit: int) -> None:
    """Append the next onsets, given the ascending indices of loud samples, until there are `limit`."""
    next_loud = 0
    while len(onsets) < limit:
        if onsets:
            next_loud = int(loud.searchsorted(onsets[-1] + MIN_DISTANCE))
        if next_loud >= len(loud):
            return
        onsets.append(int(loud[next_loud]))
