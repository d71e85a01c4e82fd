"""ESC-50 without training: recordings of the same class should be the nearest to each other.

The clips are those of `esc50`. All clips of one source recording lie in one fold, so each query searches the
four other folds.

Source: Musgrave et al., "A Metric Learning Reality Check", 2020, for the metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from heareval.spec import Archives, Recording, Retrieval, Splits
from heareval.tasks.corpora import esc50


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the clips with class, fold and source; files are named `<fold>-<source>-<take>-<class>.wav`."""
    for clip in esc50.read_recordings(archives, mode):
        source = clip.path.stem.split("-")[1]
        attributes = {"label": str(clip.labels[0]), "fold": clip.split, "source": source}
        yield replace(clip, labels=(), split="test", attributes=attributes)


def read_relation(archives: Archives, mode: str) -> Retrieval:
    """Return the relation: same class, other fold; intervals resample source recordings."""
    return Retrieval(relevant="label", differ=("fold",), unit="source")


TASK = replace(
    esc50.TASK,
    name="esc50_retrieval",
    prediction_type="pairwise",
    splits=Splits("test_only"),
    metrics=("map_at_r", "precision_at_1"),
    read_recordings=read_recordings,
    read_relation=read_relation,
    clips_of="esc50",
)
