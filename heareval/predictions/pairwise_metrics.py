"""Which metrics score which relation between clips."""

from __future__ import annotations

from collections.abc import Mapping

from heareval.predictions.metrics import Metric, abx, ratings, retrieval, same_different, triplets
from heareval.spec import Abx, Ratings, Relation, Retrieval, SameDifferent, SamePairs, Triplets

METRICS_OF_RELATION: Mapping[type[Relation], Mapping[str, Metric]] = {
    Ratings: ratings.METRICS,
    Triplets: triplets.METRICS,
    SamePairs: same_different.METRICS,
    SameDifferent: same_different.METRICS,
    Retrieval: retrieval.METRICS,
    Abx: abx.METRICS,
}
