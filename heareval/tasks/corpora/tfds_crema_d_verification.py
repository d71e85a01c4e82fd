"""CREMA-D without training: same emotion by another speaker, and same speaker with another sentence.

The clips are those of `tfds_crema_d`. Only its mode `full` has file names with speaker and sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from heareval.spec import Archives, Recording, SameDifferent, Splits
from heareval.tasks.corpora import tfds_crema_d


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the clips with speaker, sentence and emotion, the first three fields of their file names."""
    for clip in tfds_crema_d.read_recordings(archives, mode):
        fields = zip(("speaker", "sentence", "emotion"), clip.path.stem.split("_")[:3], strict=True)
        yield replace(clip, labels=(), split="test", attributes=dict(fields))


def read_same_emotion(archives: Archives, mode: str) -> SameDifferent:
    """Return the relation: two speakers, same emotion or not; intervals resample speakers."""
    return SameDifferent(same="emotion", differ=("speaker",), unit="speaker")


def read_same_speaker(archives: Archives, mode: str) -> SameDifferent:
    """Return the relation: two sentences, same speaker or not; intervals resample speakers."""
    return SameDifferent(same="speaker", differ=("sentence",), unit="speaker")


_SAME_EMOTION = replace(
    tfds_crema_d.TASK,
    name="tfds_crema_d_same_emotion",
    prediction_type="pairwise",
    splits=Splits("test_only"),
    labels=(),
    metrics=("pair_auc", "pair_eer", "pair_ap"),
    modes={"full": tfds_crema_d.TASK.modes["full"]},
    read_recordings=read_recordings,
    read_relation=read_same_emotion,
    clips_of="tfds_crema_d",
)
_SAME_SPEAKER = replace(_SAME_EMOTION, name="tfds_crema_d_same_speaker", read_relation=read_same_speaker)
TASKS = [_SAME_EMOTION, _SAME_SPEAKER]
