"""Clips for models whose sample rate a task is not prepared at: resampled once, in front of the model.

heareval resamples in its own process, as it does when it prepares a task: the submission's environment need
not have libsoxr, and every submission gets the same samples.
"""

from __future__ import annotations

import shutil
import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from heareval import files, layout
from heareval.embeddings.inside.reading import ClipBlock, read_block, read_length
from heareval.errors import HearevalError
from heareval.formats.digests import FileDigest, check_unchanged, digest_file, parse_digests
from heareval.formats.fields import read_fields
from heareval.formats.task_folder import find_clips
from heareval.formats.task_metadata import read_task_metadata
from heareval.resampling import ResamplerPool, Samples
from heareval.spec import SAMPLE_RATES, Progress, ignore_progress

VERSION = 1
# A model at a rate outside of these expects something else than sound.
LOWEST_RATE, HIGHEST_RATE = 1000, 768000


def choose_source_rate(sample_rate: int, prepared: Iterable[int]) -> int:
    """Return the rate to resample from: the next higher one, from which nothing is lost, or the highest.

    Args:
        sample_rate: rate of the model, in Hz.
        prepared: the rates that there are.

    >>> choose_source_rate(24000, [16000, 22050, 44100, 48000]), choose_source_rate(96000, [16000, 48000])
    (44100, 48000)
    """
    rates = sorted(prepared)
    return next((rate for rate in rates if rate >= sample_rate), rates[-1])


def check_sample_rate(name: str, sample_rate: int, *, any_rate: bool) -> None:
    """Raise HearevalError if tasks are not prepared at the rate of a model.

    Args:
        name: the submission.
        sample_rate: rate of its model, in Hz.
        any_rate: whether the user wants clips to be resampled for other rates.
    """
    if sample_rate in SAMPLE_RATES:
        return
    got = f"sample_rate = {sample_rate}"
    if any_rate and LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        return
    rates = ", ".join(map(str, SAMPLE_RATES))
    if any_rate:
        expected = f"{LOWEST_RATE} to {HIGHEST_RATE} Hz"
        raise HearevalError(f"model of {name}", got=got, expected=expected)
    remedy = "Resample inside the model, or use --any-rate, which resamples the clips for it."
    raise HearevalError(f"model of {name}", got=got, expected=f"one of {rates}", remedy=remedy)


def resample_task(
    task: Path, folder: Path, *, source_rate: int, sample_rate: int, progress: Progress = ignore_progress
) -> dict[str, FileDigest]:
    """Write the clips of a task at another rate, with the lists of its clips.

    Returns the digests of the clips by `<sample_rate>/<split>/<clip>`.

    Args:
        task: published task folder.
        folder: gets `<sample_rate>/<split>/<clip>` and `<split>.json`.
        source_rate: rate that the task is prepared at, in Hz.
        sample_rate: rate to write, in Hz.
        progress: called with (done, total).

    Raises:
        HearevalError: the source rate or a clip is missing.
    """
    for split in read_task_metadata(task).splits:
        (folder / str(sample_rate) / split).mkdir(parents=True)
        shutil.copyfile(task / layout.split_json(split), folder / layout.split_json(split))
    clips, resamplers = find_clips(task, source_rate), ResamplerPool()
    digests = {}
    for done, clip in enumerate(clips):
        progress(done, len(clips))
        with resamplers.borrow(source_rate, sample_rate) as resampler:
            samples = resampler.convert(_read_samples(clip, source_rate), True)
        name = f"{sample_rate}/{clip.parent.name}/{clip.name}"
        _write_wav(folder / name, samples, sample_rate)
        digests[name] = digest_file(folder / name)
    progress(len(clips), len(clips))
    return digests


def check_resampled(folder: Path) -> None:
    """Raise HearevalError if another program has changed clips that `resample_task` wrote.

    Args:
        folder: the folder of resampled clips, with the digests in its manifest.
    """
    remedy = f"Remove {folder}, and run again."
    manifest = read_fields(folder / files.MANIFEST, remedy=remedy)
    check_unchanged(folder, parse_digests(manifest.object("digests")), remedy)


def _read_samples(clip: Path, sample_rate: int) -> Samples:
    path = str(clip)
    audio = read_block(ClipBlock("", [0], [path], read_length(path, sample_rate)))[0]
    return np.asarray(audio * 32768, np.int16)


def _write_wav(path: Path, samples: Samples, sample_rate: int) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(sample_rate)
        sound.writeframes(samples.astype("<i2").tobytes())
