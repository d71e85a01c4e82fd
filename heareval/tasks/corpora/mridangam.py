"""Mridangam: ten kinds of strokes on drums of six tonics; two tasks with the same clips.

Source: Anantapadmanabhan et al., "Modal Analysis and Transcription of Strokes of the Mridangam using
Non-negative Matrix Factorization", 2013.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from heareval.errors import HearevalError
from heareval.spec import Archives, Mode, Recording, Splits, TaskSpec
from heareval.tasks.sources import SCENE_METRICS, downsampled, name_parts, sounds_below, zenodo

FOLDER = "mridangam_stroke_1.5"
# Kind of label -> its place in a name like `224030__akshaylaya__bheem-b-001.wav`, and the labels.
STROKE, TONIC = "stroke", "tonic"
PLACES = {STROKE: -3, TONIC: -2}
LABELS = {
    STROKE: ("bheem", "cha", "dheem", "dhin", "num", "ta", "tha", "tham", "thi", "thom"),
    TONIC: ("b", "c", "csh", "d", "dsh", "e"),
}


def read_recordings(archives: Archives, mode: str, *, kind: str) -> Iterator[Recording]:
    """Yield every stroke, labelled with its kind or with the drum's tonic."""
    for path in sounds_below(archives["train"] / FOLDER):
        label = name_parts(path)[PLACES[kind]]
        if label not in LABELS[kind]:
            raise HearevalError(f"{kind} in {path.name}", got=label, expected=", ".join(LABELS[kind]))
        yield Recording(path, path.stem, (label,))


_PUBLISHED = zenodo(4068196, f"{FOLDER}.zip", "39af55b2476b94c7946bec24331ec01a")
_DOWNSAMPLED = downsampled("mridangam-train-small.zip", "8269ea439beacacf8db19d6c26dd1e71")

TASKS = [
    TaskSpec(
        name=f"mridangam_{kind}",
        version="v1.5",
        embedding_type="scene",
        prediction_type="multiclass",
        splits=Splits("new_split_kfold", folds=5),
        clip_duration_s=0.81,
        labels=LABELS[kind],
        metrics=SCENE_METRICS,
        modes={
            "full": Mode((_PUBLISHED,), clips=6977),
            "small": Mode((_DOWNSAMPLED,), clip_duration_s=1, drop_missing_files=True),
        },
        default_mode="full",
        read_recordings=partial(read_recordings, kind=kind),
    )
    for kind in (STROKE, TONIC)
]
