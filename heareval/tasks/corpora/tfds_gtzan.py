"""GTZAN: thirty-second clips of ten genres of music; clip names of TensorFlow Datasets (TFDS).

Source: Tzanetakis and Cook, "Musical genre classification of audio signals", 2002; TFDS gtzan 1.0.0.
"""

from __future__ import annotations

from collections.abc import Iterator

from heareval.spec import Archives, Download, Mode, Recording, Splits, TaskSpec
from heareval.tasks import tfds
from heareval.tasks.sources import SCENE_METRICS, downsampled, sounds_below

NATIVE_RATE_HZ = 22050
GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the original files with their TFDS ids; in the small archive, they are the file names."""
    if mode == "small":
        yield from tfds.small_recordings(archives["train"], "train")
        return
    files = {path.name: path for path in sounds_below(archives["train"] / "genres", "*/*.wav")}
    for path, clip_id in tfds.clip_ids("gtzan", "train", files, NATIVE_RATE_HZ).items():
        yield Recording(path, clip_id, (path.name.split(".")[0],))


# The original server is gone, and no checksum was ever published.
_ORIGINAL = Download(
    "http://opihi.cs.uvic.ca/sound/genres.tar.gz",
    "",
    "train",
    other_urls=("https://huggingface.co/datasets/marsyas/gtzan/resolve/main/data/genres.tar.gz",),
)
_DOWNSAMPLED = downsampled("gtzan-small.zip", "c3ac045c759cde4c5f44d2e7daf5d43d")

TASK = TaskSpec(
    name="tfds_gtzan",
    version="1.0.0",
    embedding_type="scene",
    prediction_type="multiclass",
    splits=Splits("new_split_kfold", folds=10),
    clip_duration_s=30.0,
    labels=GENRES,
    metrics=SCENE_METRICS,
    modes={
        "full": Mode((_ORIGINAL,), clips=1000),
        "small": Mode((_DOWNSAMPLED,), clip_duration_s=2, drop_missing_files=True),
    },
    default_mode="full",
    read_recordings=read_recordings,
    settings=tfds.settings("gtzan", "1.0.0"),
    lists_downloads=False,
)
