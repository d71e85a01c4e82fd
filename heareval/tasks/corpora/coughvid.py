"""COUGHVID: coughs of healthy people, people with symptoms and people with COVID-19, recorded at home.

Source: Orlandic et al., "The COUGHVID crowdsourcing dataset, a corpus for the study of large-scale cough
analysis algorithms", 2021.
"""

from __future__ import annotations

from collections.abc import Iterator

from heareval.spec import Archives, Download, Mode, Recording, Splits, TaskSpec
from heareval.tasks.sources import SCENE_METRICS, downsampled, read_table

SUFFIXES = (".webm", ".ogg", ".wav")
MIN_COUGH = 0.8


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the files with a status and a probable cough; rows without a file are ignored."""
    folder = archives["train"] / "public_dataset"
    status = {
        row["uuid"]: row["status"]
        for row in read_table(folder / "metadata_compiled.csv")
        if row["status"] and float(row["cough_detected"] or 0) > MIN_COUGH
    }
    for path in sorted(folder.iterdir()):
        if path.suffix in SUFFIXES and path.stem in status:
            yield Recording(path, path.stem, (status[path.stem],))


_PUBLISHED = Download(
    "https://zenodo.org/record/4498364/files/public_dataset.zip", "110d638a292cfa5c3a71a95d60b5b466", "train"
)
_DOWNSAMPLED = downsampled("public_dataset-small.zip", "ca3d811f1e533247b531224ca7d12346")

TASK = TaskSpec(
    name="coughvid",
    version="v2.0",
    embedding_type="scene",
    prediction_type="multiclass",
    splits=Splits("new_split_kfold", folds=5),
    clip_duration_s=10.19,
    labels=("COVID-19", "healthy", "symptomatic"),
    metrics=SCENE_METRICS,
    modes={
        "full": Mode((_PUBLISHED,), clips=12000),
        "small": Mode((_DOWNSAMPLED,), clip_duration_s=1, drop_missing_files=True),
    },
    default_mode="full",
    read_recordings=read_recordings,
)
