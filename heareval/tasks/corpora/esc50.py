"""ESC-50: fifty classes of environmental sounds in five-second clips and five given folds.

Source: Piczak, "ESC: Dataset for Environmental Sound Classification", 2015.
"""

from __future__ import annotations

from collections.abc import Iterator

from heareval.spec import Archives, Download, Mode, Recording, Splits, TaskSpec
from heareval.tasks.sources import SCENE_METRICS, downsampled, read_table


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the clips of `esc50.csv`, in the folds that it gives."""
    folder = archives["all_folds"] / "ESC-50-master"
    for row in read_table(folder / "meta" / "esc50.csv"):
        path = folder / "audio" / row["filename"]
        # The corpus counts folds from 1, HEAR from 0.
        yield Recording(path, path.stem, (row["category"],), split=f"fold{int(row['fold']) - 1:02d}")


# An archive of the master branch, so its checksum changes whenever the corpus is edited.
_PUBLISHED = Download(
    "https://github.com/karoldvl/ESC-50/archive/master.zip", "7771e4b9d86d0945acce719c7a59305a", "all_folds"
)
_DOWNSAMPLED = downsampled("esc50-all_folds-small.zip", "08bb240e414ce96529087aba52983b1c", "all_folds")

TASK = TaskSpec(
    name="esc50",
    version="v2.0.0",
    embedding_type="scene",
    prediction_type="multiclass",
    splits=Splits("presplit_kfold", folds=5),
    clip_duration_s=5,
    metrics=SCENE_METRICS,
    modes={
        "full": Mode((_PUBLISHED,), clips=2000),
        "small": Mode((_DOWNSAMPLED,), clip_duration_s=2, drop_missing_files=True),
    },
    default_mode="full",
    read_recordings=read_recordings,
    moved_settings={"sample_duration": "prediction_type"},
)
