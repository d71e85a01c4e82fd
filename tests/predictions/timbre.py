"""MFCCs of the sounds of timbre_similarity, whose scores were published; the golden file that holds them.

`python -m tests.predictions.timbre FOLDER` makes `golden/timbre.npz` anew. FOLDER is a mirror of the files at
the commit that `heareval.tasks.corpora.timbre_similarity` names. The golden file holds no sounds: only
features, distances, and what the metrics need of the ratings.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.fft import dct

from heareval.predictions.metrics.ratings import PairDistances, RatedPairs
from heareval.spec import LISTED
from heareval.tasks.corpora import timbre_similarity

GOLDEN = Path(__file__).parent / "golden" / "timbre.npz"
RATE_HZ = 44100
WINDOW, HOP, MELS, COEFFICIENTS, TOP_DB = 2048, 512, 128, 40, 80.0


def mfccs(samples: NDArray[np.float64], rate_hz: int) -> NDArray[np.float64]:
    """The MFCCs of the published baseline, `(40, frames)`."""
    padded = np.pad(samples, WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    decibels = 10 * np.log10(np.maximum(power @ _mel_filters(rate_hz), 1e-10))
    return dct(np.maximum(decibels, decibels.max() - TOP_DB), norm="ortho", axis=1)[:, :COEFFICIENTS].T


def _mel_filters(rate_hz: int) -> NDArray[np.float64]:
    """Triangles on the mel scale of HTK, all of height 1, `(frequencies, mels)`."""
    top_mel = 2595 * np.log10(1 + rate_hz / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top_mel, MELS + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate_hz / 2, WINDOW // 2 + 1)
    low, middle, high = (corners[start : start + MELS] for start in range(3))
    rising = (frequencies[:, None] - low) / (middle - low)
    falling = (high - frequencies[:, None]) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling))


def averaged_mfccs(sounds: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean of the MFCCs of each sound over time, `(sounds, 40)`."""
    return np.array([mfccs(samples, RATE_HZ).mean(axis=1) for samples in sounds])


def averaged_distances(averaged: NDArray[np.float64], reference: RatedPairs) -> PairDistances:
    """The L1 distances of averaged MFCCs."""
    return PairDistances(np.abs(averaged[reference.first] - averaged[reference.second]).sum(axis=1))


def flat_distances(sounds: Sequence[NDArray[np.float64]], reference: RatedPairs) -> PairDistances:
    """The L1 distance of the MFCCs of each pair; sounds are padded to the longest of their set."""
    found = np.empty(len(reference.rating))
    for group in np.unique(reference.group):
        pairs = np.flatnonzero(reference.group == group)
        clips = np.union1d(reference.first[pairs], reference.second[pairs])
        longest = max(len(sounds[i]) for i in clips)
        features = {i: mfccs(np.pad(sounds[i], (0, longest - len(sounds[i]))), RATE_HZ) for i in clips}
        for pair in pairs:
            found[pair] = np.abs(features[reference.first[pair]] - features[reference.second[pair]]).sum()
    return PairDistances(found)


def read_folder(folder: Path) -> tuple[RatedPairs, list[NDArray[np.float64]]]:
    """The ratings and the samples of each sound, from a mirror of the published files."""
    archives = {d.folder: folder / "true_dissim" for d in timbre_similarity.TASK.modes["full"].downloads}
    archives[LISTED] = folder / "sounds"
    clips = list(timbre_similarity.read_recordings(archives, "full"))
    relation = timbre_similarity.read_relation(archives, "full")
    index = {clip.clip_id: i for i, clip in enumerate(clips)}
    sets, units = (
        {each: i for i, each in enumerate(dict.fromkeys(clip.attributes[key] for clip in clips))}
        for key in ("set", "sound")
    )
    reference = RatedPairs(
        np.array([index[pair.first] for pair in relation.pairs]),
        np.array([index[pair.second] for pair in relation.pairs]),
        np.array([pair.rating for pair in relation.pairs]),
        np.array([sets[pair.group] for pair in relation.pairs]),
        np.array([units[clip.attributes["sound"]] for clip in clips]),
    )
    sounds = [soundfile.read(folder / "sounds" / c.attributes["set"] / c.path.name) for c in clips]
    assert {rate for _, rate in sounds} == {RATE_HZ}
    return reference, [samples for samples, _ in sounds]


def read_golden() -> tuple[RatedPairs, NDArray[np.float64], PairDistances]:
    """The ratings, the time-averaged MFCCs, `(334, 40)`, and the distances of the flat ones."""
    with np.load(GOLDEN) as golden:
        columns = [golden[name].astype(np.int64) for name in ("first", "second")]
        group, unit = (golden[name].astype(np.int64) for name in ("group", "unit"))
        reference = RatedPairs(*columns, golden["rating"].astype(np.float64), group, unit)
        return (
            reference,
            golden["averaged"].astype(np.float64),
            PairDistances(golden["flat"].astype(np.float64)),
        )


def _write_golden(folder: Path) -> None:
    reference, sounds = read_folder(folder)
    np.savez_compressed(
        GOLDEN,
        first=reference.first.astype(np.int16),
        second=reference.second.astype(np.int16),
        rating=reference.rating,
        group=reference.group.astype(np.int16),
        unit=reference.unit.astype(np.int16),
        averaged=averaged_mfccs(sounds).astype(np.float32),
        flat=flat_distances(sounds, reference).distances.astype(np.float32),
    )


if __name__ == "__main__":
    _write_golden(Path(sys.argv[1]))
