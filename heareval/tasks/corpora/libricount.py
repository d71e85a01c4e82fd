"""LibriCount: five-second mixtures of zero to ten simultaneous speakers; the label is their number.

Source: Stöter et al., "Classification vs. Regression in Supervised Learning for Single Channel Speaker Count
Estimation", 2018.
"""

from __future__ import annotations

from collections.abc import Iterator

from heareval.spec import Archives, Mode, Recording, Splits, TaskSpec
from heareval.tasks.sources import SCENE_METRICS, downsampled, sounds_below, zenodo


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the mixtures, whose files are named `<speakers>_<id>.wav`."""
    for path in sounds_below(archives["train"] / "test"):
        yield Recording(path, path.stem, (int(path.stem.split("_")[0]),))


_PUBLISHED = zenodo(1216072, "LibriCount10-0dB.zip", "30c8f844dc59fa65d216d53db9dc37e2")
_DOWNSAMPLED = downsampled("libricount-train-small.zip", "25d1bd1e71800440d635171a8f41a5f7")

TASK = TaskSpec(
    name="libricount",
    version="v1.0.0-hear2021",
    embedding_type="scene",
    prediction_type="multiclass",
    splits=Splits("new_split_kfold", folds=5),
    clip_duration_s=5.0,
    labels=tuple(range(11)),
    metrics=SCENE_METRICS,
    modes={
        "full": Mode((_PUBLISHED,), clips=5720),
        "small": Mode((_DOWNSAMPLED,), clip_duration_s=2, drop_missing_files=True),
    },
    default_mode="full",
    read_recordings=read_recordings,
)
