"""DCASE 2016 task 2: office sounds in two-minute mixtures, with onsets and offsets.

Source: Mesaros et al., "Detection and Classification of Acoustic Scenes and Events: Outcome of the
DCASE 2016 Challenge", 2018.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from heareval.spec import Archives, Download, Event, Mode, Recording, Splits, TaskSpec
from heareval.tasks.sources import OPEN_DOWNSAMPLED

# Archive -> the folder that holds its `annotation` and `sound` folders.
FOLDERS = {
    "train/dev": "dcase2016_task2_train_dev/dcase2016_task2_dev",
    "train/eval": "dcase2016_task2_test_public",
}


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the development and public evaluation mixtures; HEAR pools them and draws new splits."""
    for archive, folder in FOLDERS.items():
        for annotation in sorted((archives[archive] / folder / "annotation").glob("*.txt")):
            sound = annotation.parent.parent / "sound" / f"{annotation.stem}.wav"
            yield Recording(sound, sound.stem, events=_events(annotation))


def _events(annotation: Path) -> tuple[Event, ...]:
    """Return the events of a file with tab-separated onset, offset (both in seconds) and label."""
    with open(annotation, encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.reader(stream, delimiter="\t") if row]
    return tuple(Event(float(onset) * 1000, float(offset) * 1000, label) for onset, offset, label in rows)


def _downloads(address: str, dev: tuple[str, str], evaluation: tuple[str, str]) -> tuple[Download, ...]:
    return tuple(
        Download(address + path, checksum, "train", name)
        for name, (path, checksum) in (("dev", dev), ("eval", evaluation))
    )


_PUBLISHED = _downloads(
    "https://archive.org/download/",
    ("dcase2016_task2_train_dev/dcase2016_task2_train_dev.zip", "4e1b5e8887159193e8624dec801eb9e7"),
    ("dcase2016_task2_test_public/dcase2016_task2_test_public.zip", "ac98768b39a08fc0c6c2ddd15a981dd7"),
)
_DOWNSAMPLED = _downloads(
    OPEN_DOWNSAMPLED,
    ("dcase2016_task2_train_dev-small.zip", "aa9b43c40e9d496163caab83becf972e"),
    ("dcase2016_task2_test_public-small.zip", "14539d85dec03cb7ac75eb62dd1dd21e"),
)
_SHARES = {"valid": 20, "test": 20, "train": 60}

TASK = TaskSpec(
    name="dcase2016_task2",
    version="hear2021",
    embedding_type="event",
    prediction_type="multilabel",
    splits=Splits("trainvaltest"),
    clip_duration_s=120.0,
    metrics=("event_onset_200ms_fms", "segment_1s_er"),
    modes={
        "full": Mode(_PUBLISHED, split_percentages=_SHARES, clips=72),
        "small": Mode(_DOWNSAMPLED, drop_missing_files=True),
        "demo": Mode(_PUBLISHED, clip_duration_s=20.0, split_percentages=_SHARES, published=False),
    },
    default_mode="full",
    read_recordings=read_recordings,
    is_open=True,
)
