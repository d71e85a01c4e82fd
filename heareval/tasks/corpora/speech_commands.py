"""Speech Commands v0.02: one-second spoken words, unknown words and silence.

Source: Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", 2018.
"""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

from heareval.spec import Archives, Download, Mode, Recording, Splits, TaskSpec
from heareval.tasks.sources import open_downsampled

WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
SILENCE, UNKNOWN, NOISE = "_silence_", "_unknown_", "_background_noise_"
# The only noise whose windows are the silence of the validation split.
VALID_NOISE = "running_tap"


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the words of the training archive, windows of its background noise, and the test archive."""
    train = archives["train"]
    valid, testing = (_listed(train / f"{name}_list.txt") for name in ("validation", "testing"))
    for name in valid:
        yield _word(train / name, "valid")
    # The files of testing_list.txt are not used: the test split has a separate archive.
    set_aside = {*valid, *testing}
    for path in sorted(train.glob("[!_]*/*.wav"), key=str):
        if f"{path.parent.name}/{path.name}" not in set_aside:
            yield _word(path, "train")
    for path in sorted((train / NOISE).glob("*.wav")):
        yield from _silences(path)
    for path in sorted(archives["test"].glob("*/*.wav"), key=str):
        yield _word(path, "test")


def _listed(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").strip().splitlines()


def _word(path: Path, split: str) -> Recording:
    word = path.parent.name
    label = word if word in (*WORDS, SILENCE) else UNKNOWN
    return Recording(path, f"{word}_{path.stem}", (label,), split=split)


def _silences(path: Path) -> Iterator[Recording]:
    """Yield a one-second window every half second, but not one that ends exactly at the end."""
    with wave.open(str(path)) as noise:
        rate, length = noise.getframerate(), noise.getnframes()
    split = "valid" if path.stem == VALID_NOISE else "train"
    for start in range(0, length - rate, rate // 2):
        clip_id = f"{SILENCE}_{path.stem}-{start}"
        yield Recording(path, clip_id, (SILENCE,), split=split, start_frame=start, frames=rate)


_ORIGIN = "http://download.tensorflow.org/data/"
_PUBLISHED = (
    Download(_ORIGIN + "speech_commands_v0.02.tar.gz", "6b74f3901214cb2c2934e98196829835", "train"),
    Download(_ORIGIN + "speech_commands_test_set_v0.02.tar.gz", "854c580ee90bff80c516491c84544e32", "test"),
)
_DOWNSAMPLED = (
    open_downsampled("speech_commands_v0.02-small.zip", "455123a88b8410d1f955c77ad331524f", "train"),
    open_downsampled("speech_commands_test_set_v0.02-small.zip", "26d08374a7abd13ca2f4a4b8424f41d0", "test"),
)

TASK = TaskSpec(
    name="speech_commands",
    version="v0.0.2",
    embedding_type="scene",
    prediction_type="multiclass",
    splits=Splits("trainvaltest"),
    clip_duration_s=1.0,
    labels=(*WORDS, SILENCE, UNKNOWN),
    metrics=("top1_acc",),
    modes={
        "5h": Mode(_PUBLISHED, {"train": 16000.0, "valid": 2000.0, "test": None}, clips=22890),
        "full": Mode(_PUBLISHED, clips=100503),
        "small": Mode(_DOWNSAMPLED, drop_missing_files=True),
        "demo": Mode(_PUBLISHED, published=False),
    },
    default_mode="5h",
    read_recordings=read_recordings,
    is_open=True,
)
