"""VoxLingua107: utterances from videos, in the ten most frequent languages of the development set.

Source: Valk and Alumäe, "VoxLingua107: a Dataset for Spoken Language Recognition", 2021.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from heareval.spec import Archives, Download, Mode, Recording, Splits, TaskSpec
from heareval.tasks.sources import SCENE_METRICS, downsampled, sounds_below

LANGUAGES = 10


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the files of the most frequent languages; the name of the folder is the language."""
    by_language: dict[str, list[Path]] = defaultdict(list)
    for path in sounds_below(archives["train"]):
        by_language[path.parent.name].append(path)
    # Between languages that tie for tenth, the 2021 kit chose by directory order; here the name decides.
    ranked = sorted(by_language, key=lambda language: (-len(by_language[language]), language))
    for language in ranked[:LANGUAGES]:
        for path in by_language[language]:
            # File names end with times, which contain dots, so `stem` must remove only the last suffix.
            yield Recording(path, path.stem, (language,))


_PUBLISHED = Download(
    "http://bark.phon.ioc.ee/voxlingua107/dev.zip", "07fbd4732c97f28c10ec8dcfed4f600e", "train"
)
_DOWNSAMPLED = downsampled("vox_lingua-train-small.zip", "b94370873fbbdc34241a6e4f7eb1952b")

TASK = TaskSpec(
    name="vox_lingua_top10",
    version="hear2021",
    embedding_type="scene",
    prediction_type="multiclass",
    splits=Splits("new_split_kfold", folds=5),
    clip_duration_s=18.64,
    metrics=SCENE_METRICS,
    modes={
        "full": Mode((_PUBLISHED,), clips=972),
        "small": Mode((_DOWNSAMPLED,), clip_duration_s=2, drop_missing_files=True),
    },
    default_mode="full",
    read_recordings=read_recordings,
)
