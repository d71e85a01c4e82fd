"""Vocal Imitation Set without training: which sound does a person imitate?

The queries are the clips of `vocal_imitation`. The gallery holds the original recordings: in
`vocal_imitation_retrieval` the reference recordings, which people listened to and imitated; in
`vocal_imitation_retrieval_fine`, for each class, its reference recording and other recordings of the class.
The recordings of the gallery differ in length. They are cut or padded to 11.26 s, like the imitations.

Source: Kim et al., "Vocal Imitation Set: a dataset of vocally imitated sound events using the AudioSet
ontology", 2018.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from heareval.spec import Archives, Recording, Retrieval, Splits
from heareval.tasks.corpora import vocal_imitation
from heareval.tasks.sources import read_table, sounds_below

FOLDER = "VocalImitationSet"
REFERENCE, NON_REFERENCE = "reference", "non_reference"


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the imitations as queries and the reference recordings as gallery."""
    yield from _read_queries(archives, mode)
    yield from _read_gallery(archives, REFERENCE)


def read_recordings_of_classes(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the same and the other recordings; classes that have no other recording are left out."""
    others = list(_read_gallery(archives, NON_REFERENCE))
    # One class has none, so that its queries could not fail.
    classes = {clip.attributes["class"] for clip in others}
    for clip in (*read_recordings(archives, mode), *others):
        if clip.attributes["class"] in classes:
            yield clip


def _read_queries(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the imitations with role, reference, class and participant."""
    table = archives["train"] / FOLDER / "vocal_imitations.txt"
    participants = {row["imitation_filename"]: row["participant_id"] for row in read_table(table, "\t")}
    for clip in vocal_imitation.read_recordings(archives, mode):
        reference = str(clip.labels[0])
        attributes = _describe("query", reference, participants[clip.path.name], reference)
        yield replace(clip, labels=(), split="test", attributes=attributes)


def _read_gallery(archives: Archives, kind: str) -> Iterator[Recording]:
    """Yield the original recordings of a kind; their names could be those of imitations or of one another."""
    folder = archives["train"] / FOLDER / "original_recordings" / kind
    for path in sounds_below(folder):
        clip_id = "_".join((kind, *path.relative_to(folder).with_suffix("").parts))
        reference = path.name if kind == REFERENCE else clip_id
        yield Recording(
            path, clip_id, split="test", attributes=_describe("gallery", reference, "", path.name)
        )


def _describe(role: str, reference: str, participant: str, named: str) -> dict[str, str]:
    """Return the attributes of a clip; `named` is the file name that starts with the digits of the class."""
    return {"role": role, "reference": reference, "class": named[:3], "participant": participant}


def read_relation(archives: Archives, mode: str) -> Retrieval:
    """Return the relation: the imitated recording; intervals resample participants."""
    return Retrieval(relevant="reference", role="role", unit="participant")


def read_relation_within_classes(archives: Archives, mode: str) -> Retrieval:
    """Return the relation: the imitated recording among those of its class; the mean is over classes."""
    return replace(read_relation(archives, mode), within=("class",), average="class")


_FULL = vocal_imitation.TASK.modes["full"]
_COARSE = replace(
    vocal_imitation.TASK,
    name="vocal_imitation_retrieval",
    prediction_type="pairwise",
    splits=Splits("test_only"),
    metrics=("mrr", "recall_at_1", "recall_at_10"),
    modes={"full": replace(_FULL, clips=5903)},
    read_recordings=read_recordings,
    read_relation=read_relation,
    clips_of="vocal_imitation",
)
_FINE = replace(
    _COARSE,
    name="vocal_imitation_retrieval_fine",
    metrics=("mrr",),
    modes={"full": replace(_FULL, clips=8600)},
    read_recordings=read_recordings_of_classes,
    read_relation=read_relation_within_classes,
)
TASKS = [_COARSE, _FINE]
