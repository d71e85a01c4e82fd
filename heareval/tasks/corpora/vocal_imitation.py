"""Vocal imitations of sounds; the label is the imitated sound.

Source: Kim et al., "Vocal Imitation Set: a dataset of vocally imitated sound events using the AudioSet
ontology", 2018.
"""

from __future__ import annotations

from collections.abc import Iterator

from heareval.errors import HearevalError
from heareval.spec import Archives, Mode, Recording, Splits, TaskSpec
from heareval.tasks.sources import downsampled, read_table, sounds_below, zenodo


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the included imitations; the label is the name of the reference recording."""
    folder = archives["train"] / "VocalImitationSet"
    table = folder / "vocal_imitations.txt"
    references: dict[str, str] = {}
    for row in read_table(table, "\t"):
        if row["included"].lower() in ("1", "true"):
            name = row["imitation_filename"]
            if name in references:
                raise HearevalError(f"imitation {name}", got=f"two included rows in {table}", expected="one")
            references[name] = row["reference_filename"]
    for path in sounds_below(folder / "vocal_imitations" / "included"):
        if path.name not in references:
            raise HearevalError(
                f"imitation {path.name}", got=f"no included row in {table}", expected="one for every sound"
            )
        # As published, the split key is the clip, so the same imitator can be in several folds.
        yield Recording(path, path.stem, (references[path.name],))


_PUBLISHED = zenodo(1340763, "VocalImitationSet_v1.1.3.zip", "386e7b1487fe0800ade4916c344086bc")
_DOWNSAMPLED = downsampled("vocal_imitation-train-small.zip", "08283695cafda4ba42a7f42f75f568d1")

TASK = TaskSpec(
    name="vocal_imitation",
    version="v1.1.3",
    embedding_type="scene",
    prediction_type="multiclass",
    splits=Splits("new_split_kfold", folds=3),
    clip_duration_s=11.26,
    metrics=("mAP", "d_prime", "aucroc", "top1_acc"),
    modes={
        "full": Mode((_PUBLISHED,), clips=5601),
        "small": Mode((_DOWNSAMPLED,), clip_duration_s=2, drop_missing_files=True),
    },
    default_mode="full",
    read_recordings=read_recordings,
)
