"""Free Spoken Digit Dataset, with the clip names of TensorFlow Datasets (TFDS).

Source: Jackson et al., "Free Spoken Digit Dataset" v1.0.9; TFDS spoken_digit 1.0.9.
"""

from __future__ import annotations

from collections.abc import Iterator

from heareval.spec import Archives, Download, Mode, Recording, Splits, TaskSpec
from heareval.tasks import tfds
from heareval.tasks.sources import open_downsampled

NATIVE_RATE_HZ = 8000


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the original recordings with their TFDS ids; in the small archive, they are the file names."""
    if mode == "small":
        yield from tfds.small_recordings(archives["train"], "train")
        return
    found = sorted((archives["train"] / "free-spoken-digit-dataset-1.0.9" / "recordings").glob("*.wav"))
    ids = tfds.clip_ids("spoken_digit", "train", {path.stem: path for path in found}, NATIVE_RATE_HZ)
    for path, clip_id in ids.items():
        yield Recording(path, clip_id, (int(path.stem.split("_")[0]),))


_ORIGINAL = Download(
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.9.tar.gz",
    "8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0",
    "train",
)
_DOWNSAMPLED = open_downsampled("spoken_digit-small.zip", "69d50c15805ea11beb12d9a4db1d4c2a")

TASK = TaskSpec(
    name="spoken_digit",
    version="1.0.9",
    embedding_type="scene",
    prediction_type="multiclass",
    splits=Splits("new_split_kfold", folds=5),
    clip_duration_s=0.56,
    labels=tuple(range(10)),
    metrics=("top1_acc",),
    modes={
        "full": Mode((_ORIGINAL,), clips=2500),
        "small": Mode((_DOWNSAMPLED,), drop_missing_files=True),
    },
    default_mode="full",
    read_recordings=read_recordings,
    settings=tfds.settings("spoken_digit", "1.0.9"),
    # In 2021, TFDS fetched this corpus, so the general settings list no download.
    lists_downloads=False,
    is_open=True,
)
