"""Mridangam without training: strokes of the same kind should be the nearest to each other.

The clips and the folds are those of `mridangam_stroke`; each query searches the other folds.

Source: Musgrave et al., "A Metric Learning Reality Check", 2020, for the metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from heareval.spec import Archives, Recording, Retrieval, Splits
from heareval.tasks.corpora import mridangam
from heareval.tasks.splits import assign_splits

_STROKE = next(task for task in mridangam.TASKS if task.name == "mridangam_stroke")


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the strokes with their kind, and the fold that `mridangam_stroke` draws for them."""
    strokes = list(_STROKE.read_recordings(archives, mode))
    # As there: folds are drawn until each has every label, unless the archive is incomplete on purpose.
    need_every_label = not _STROKE.modes[mode].drop_missing_files
    fold_of = assign_splits(strokes, _STROKE.splits_of(mode), need_every_label=need_every_label)
    for clip in strokes:
        attributes = {"stroke": str(clip.labels[0]), "fold": fold_of[clip.clip_id]}
        yield replace(clip, labels=(), split="test", attributes=attributes)


def read_relation(archives: Archives, mode: str) -> Retrieval:
    """Return the relation: same kind of stroke, other fold; intervals resample single queries."""
    return Retrieval(relevant="stroke", differ=("fold",))


TASK = replace(
    _STROKE,
    name="mridangam_stroke_retrieval",
    prediction_type="pairwise",
    splits=Splits("test_only"),
    labels=(),
    metrics=("map_at_r", "precision_at_1"),
    read_recordings=read_recordings,
    read_relation=read_relation,
    clips_of="mridangam_stroke",
)
