"""Relations between clips, prepared for the metrics: what is compared, what is measured, what is resampled.

Clips are numbered in the order of their names, so the order in the task's files never matters. A further
relation is one more file with a subclass of `PreparedRelation`, and a case in `prepare_relation`.
"""

from __future__ import annotations

from collections.abc import Sequence

from heareval.formats.labels import LabeledClip
from heareval.predictions.relations.abx import prepare_abx
from heareval.predictions.relations.listed import prepare_ratings, prepare_triplets
from heareval.predictions.relations.prepared import EmbeddedClips, NumberedClips, PreparedRelation
from heareval.predictions.relations.retrieval import prepare_retrieval
from heareval.predictions.relations.same_different import prepare_same_different, prepare_same_pairs
from heareval.spec import Abx, Ratings, Relation, Retrieval, SameDifferent, SamePairs, Triplets

__all__ = ["EmbeddedClips", "PreparedRelation", "prepare_relation"]


def prepare_relation(relation: Relation, clips: Sequence[LabeledClip]) -> PreparedRelation:
    """Return a relation between clips as the metrics take it.

    Args:
        clips: all clips of the split, in the order of their names.

    Raises:
        HearevalError: nothing can be scored.
    """
    numbered = NumberedClips(tuple(clips))
    match relation:
        case Ratings():
            return prepare_ratings(relation, numbered)
        case Triplets():
            return prepare_triplets(relation, numbered)
        case SamePairs():
            return prepare_same_pairs(relation, numbered)
        case SameDifferent():
            return prepare_same_different(relation, numbered)
        case Retrieval():
            return prepare_retrieval(relation, numbered)
        case Abx():
            return prepare_abx(relation, numbered)
