"""Gunshots before four microphones: the recordings of minutes on disk, and the small archive of clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.stand_ins.sounds import SUBTYPES, encoded, generator, low_bytes, sound, wav_header
from tests.stand_ins.trees import Tree

RATE = 48000
# The microphones' files, with the frame one second after which the tasks start to listen, and their formats.
MICROPHONES = {
    "mic1raw": (15764451, 1, "PCM_24"),
    "mic2raw16b": (13764742, 1, "PCM_16"),
    "mic3raw": (9334032, 2, "PCM_24"),
    "mic4raw": (6794611, 1, "PCM_24"),
}
SHOTS = 22
SHOT_FRAMES = 9000
ONSETS = [RATE + 40 + 30003 * shot + 137 * shot**2 % 5000 for shot in range(SHOTS)]


def gunshot_triangulation() -> dict[str, Tree]:
    """The small archive: clips of every shot before every microphone."""
    tree: Tree = {}
    for shot in range(SHOTS):
        firearm = 1 if shot == 0 else (shot - 1) // 3 + 1
        for microphone in range(1, 5):
            name = f"audio/mic{microphone}_shot{shot}_fid{firearm}.wav"
            tree[name] = sound("gunshot_triangulation", f"small/{name}", 1.5, RATE)
    return {"gunshot_triangulation.zip": tree}


def gunshot_recordings(folder: Path) -> Path:
    """The four recordings as files of a folder; the silence before the shots takes no room on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (offset, channels, subtype) in MICROPHONES.items():
        silence, shots = offset - RATE, _shots(name, channels)
        low = low_bytes(f"gunshot_triangulation/{name}.wav")
        if subtype == "PCM_24":
            _skip(low, silence * channels)
        with (folder / f"{name}.wav").open("wb") as out:
            out.write(wav_header(silence + len(shots), channels, RATE, subtype))
            out.seek(silence * channels * SUBTYPES[subtype][1], 1)
            out.write(encoded(shots, subtype, low))
            out.write(bytes(out.tell() % 2))
    return folder


def _skip(draw: np.random.RandomState, count: int) -> None:
    """Leave out numbers below 2**32, a million at a time."""
    for start in range(0, count, 1 << 20):
        draw.bytes(4 * min(1 << 20, count - start))


def _shots(name: str, channels: int) -> np.ndarray:
    """What a microphone hears of the shots, one second before the first on; the others differ by a moment."""
    draw = generator(name)
    samples = np.zeros((ONSETS[-1] + 80000, channels), np.int64)
    fade = np.arange(SHOT_FRAMES, 0, -1)[:, None] * 32000 // SHOT_FRAMES
    for shot, onset in enumerate(ONSETS):
        start = onset + (0 if name == "mic1raw" else draw.randint(-50, 50))
        burst = draw.randint(-32768, 32768, (SHOT_FRAMES, channels)) * fade >> 15
        # Loud at once, then low for a moment: only the very first sample passes the threshold.
        burst[0] = 30000 if shot % 2 else -30500
        burst[1:40] //= 4
        samples[start : start + SHOT_FRAMES] = burst
    return samples
