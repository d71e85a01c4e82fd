"""Beehives with and without their queen, in ten-minute clips; two tasks with the hives swapped.

Source: Nolasco et al., "Audio-based identification of beehive states", 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from heareval.spec import Archives, Mode, Recording, Splits, TaskSpec
from heareval.tasks.sources import downsampled, sounds_below, zenodo

HIVES = ("hive1", "hive3")


def read_recordings(archives: Archives, mode: str, *, train: str) -> Iterator[Recording]:
    """Yield the files of one hive for train, of the other for test; a tenth of train later becomes valid."""
    for key, folder in archives.items():
        split = "train" if key.startswith(train) else "test"
        for path in sounds_below(folder):
            # Upper case, anywhere in the file name: the corpus writes NO_QueenBee.
            label = "NOQUEEN" if "NO" in path.name else "QUEEN"
            yield Recording(path, path.stem, (label,), split=split)


_PUBLISHED = (
    zenodo(2667806, "Hive1_12_06_2018.rar", "c04cd7fd310a84f327eb7121e026b40a", "hive1", name="12062018"),
    zenodo(2667806, "Hive1_31_05_2018.rar", "834c58cb1e4c9a15a332a16e106bfa11", "hive1", name="31052018"),
    zenodo(2667806, "Hive3_14_07_2017.rar", "c1fc5c4d2e110aa2bc8687393db7d55d", "hive3", name="14072017"),
    zenodo(2667806, "Hive3_28_07_2017.rar", "3fe9c0488a2207379f410a81d17c5d18", "hive3", name="28072017"),
)
_DOWNSAMPLED = (
    downsampled("hive1_12062018.zip", "461c77d29e5c2c4ac51deb0b87c82d5c", "hive1", name="12062018"),
    downsampled("hive1_31052018.zip", "c0e0b4c33879b865de022413138a61da", "hive1", name="31052018"),
    downsampled("hive3_14072017.zip", "2650a40a1e38088391181451e0183ca6", "hive3", name="14072017"),
    downsampled("hive3_28072017.zip", "51d43e9621b8ad7681a44355f70329a2", "hive3", name="28072017"),
)
_LIMITS = {"train": 16000.0, "valid": 2000.0, "test": 2000.0}

TASKS = [
    TaskSpec(
        name=f"beehive_states_fold{fold}",
        version="v2",
        embedding_type="scene",
        prediction_type="multiclass",
        splits=Splits("trainvaltest"),
        clip_duration_s=600,
        labels=("NOQUEEN", "QUEEN"),
        metrics=("aucroc", "mAP", "d_prime", "top1_acc"),
        modes={
            "5h": Mode(_PUBLISHED, _LIMITS, clip_duration_s=30, clips=576),
            "full": Mode(_PUBLISHED, clips=576),
            "small": Mode(_DOWNSAMPLED, clip_duration_s=2, drop_missing_files=True),
        },
        default_mode="5h",
        read_recordings=partial(read_recordings, train=hive),
    )
    for fold, hive in enumerate(HIVES)
]
