"""Beijing opera percussion: single strokes of four instruments.

Source: Tian et al., "A Study of Instrument-wise Onset Detection in Beijing Opera Percussion Ensembles", 2014.
"""

from __future__ import annotations

from collections.abc import Iterator

from heareval.spec import Archives, Mode, Recording, Splits, TaskSpec
from heareval.tasks.sources import SCENE_METRICS, downsampled, name_parts, sounds_below, zenodo

FOLDER = "beijing_opera_percussion_instrument_1.0"


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the strokes, whose files are named like `205971__ajaysm__bangu-1.wav`."""
    for path in sounds_below(archives["train"] / FOLDER, "*.wav"):
        instrument = name_parts(path)[-2]
        yield Recording(path, path.stem, (instrument,))


_PUBLISHED = zenodo(1285212, f"{FOLDER}.zip", "51dc70d02a06b9d96befadf320a6996f")
_DOWNSAMPLED = downsampled("beijing_opera-train-small.zip", "391b086d4a81c525d8b052ac50a6a8c0")

TASK = TaskSpec(
    name="beijing_opera",
    version="v1.0-hear2021",
    embedding_type="scene",
    prediction_type="multiclass",
    splits=Splits("new_split_kfold", folds=5),
    clip_duration_s=4.77,
    labels=("bangu", "daluo", "naobo", "xiaoluo"),
    metrics=SCENE_METRICS,
    modes={
        "full": Mode((_PUBLISHED,), clips=236),
        "small": Mode((_DOWNSAMPLED,), clip_duration_s=2, drop_missing_files=True),
    },
    default_mode="full",
    read_recordings=read_recordings,
)
