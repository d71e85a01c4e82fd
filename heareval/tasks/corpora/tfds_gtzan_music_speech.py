"""GTZAN Music/Speech: thirty-second clips of music or speech; clip names of TensorFlow Datasets (TFDS).

Source: Tzanetakis, "GTZAN Music/Speech Collection", 1999; TFDS gtzan_music_speech 1.0.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from heareval.spec import Archives, Download, Mode, Recording, Splits, TaskSpec
from heareval.tasks import tfds
from heareval.tasks.sources import SCENE_METRICS, downsampled

NATIVE_RATE_HZ = 22050


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the original files with their TFDS ids; in the small archive, they are the file names."""
    if mode == "small":
        yield from tfds.small_recordings(archives["train"], "train")
        return
    found = sorted((archives["train"] / "music_speech").glob("*_wav/*.wav"))
    # TFDS ignores files with other names, such as those that macOS adds to archives.
    files = {path.name: path for path in found if re.fullmatch(r"[\w-]*", path.stem)}
    for path, clip_id in tfds.clip_ids("gtzan_music_speech", "train", files, NATIVE_RATE_HZ).items():
        yield Recording(path, clip_id, (path.parent.name.removesuffix("_wav"),))


# The original server is gone, and no checksum was ever published.
_ORIGINAL = Download("http://opihi.cs.uvic.ca/sound/music_speech.tar.gz", "", "train")
_DOWNSAMPLED = downsampled("gtzan_music_speech-small.zip", "11d0448e2c497ce1a3bd1a9ee5710aee")

TASK = TaskSpec(
    name="tfds_gtzan_music_speech",
    version="1.0.0",
    embedding_type="scene",
    prediction_type="multiclass",
    splits=Splits("new_split_kfold", folds=10),
    clip_duration_s=30.0,
    labels=("music", "speech"),
    metrics=SCENE_METRICS,
    modes={
        "full": Mode((_ORIGINAL,), clips=128),
        "small": Mode((_DOWNSAMPLED,), clip_duration_s=2, drop_missing_files=True),
    },
    default_mode="full",
    read_recordings=read_recordings,
    settings=tfds.settings("gtzan_music_speech", "1.0.0"),
    lists_downloads=False,
)
