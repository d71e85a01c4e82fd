"""Triplets: the score of each anchor, and the triplets that fail by the most."""

from __future__ import annotations

import numpy as np

from heareval.predictions.breakdowns.breakdown import (
    HARDEST,
    Breakdown,
    Case,
    CaseList,
    PairwiseResult,
    PartPlot,
    PartTable,
    score_part,
)
from heareval.predictions.metrics.triplets import ListedTriplets, TripletDistances
from heareval.predictions.relations.listed import PreparedTriplets


def break_down_triplets(result: PairwiseResult, prepared: PreparedTriplets) -> Breakdown:
    """Return the score of each anchor, and the hardest triplets, whose distances are stored."""
    reference, distances = prepared.reference, result.measured.distances
    parts = []
    order = np.argsort(reference.clips[:, 0], kind="stable")
    starts = np.flatnonzero(np.diff(reference.clips[order, 0], prepend=-1))
    # There may be as many anchors as triplets, so the triplets aren't searched for each.
    for rows in np.split(order, starts[1:]):
        anchor = reference.clips[rows[0], 0]
        parts.append(
            score_part(
                result.metrics,
                {"anchor": result.name(prepared.used[anchor])},
                {"triplets": len(rows)},
                ListedTriplets(reference.clips[rows], reference.unit),
                TripletDistances(distances[rows]),
            )
        )
    anchors = PartTable("anchors", "the triplets of each anchor", tuple(parts))
    plots = (PartPlot("anchors", anchors, result.metrics[0]),)
    return Breakdown((anchors,), (_list_hardest(result, prepared),), plots)


def _list_hardest(result: PairwiseResult, prepared: PreparedTriplets) -> CaseList:
    """Return the triplets whose positive is not nearer than the negative, the largest difference first."""
    # Several listeners may list a triplet.
    triplets, rows, times = np.unique(prepared.reference.clips, axis=0, return_index=True, return_counts=True)
    positive, negative = result.measured.distances[rows].T
    excess = positive - negative
    cases = []
    for place in np.argsort(-excess, kind="stable")[:HARDEST]:
        if excess[place] >= 0:
            names = (result.name(clip) for clip in prepared.used[triplets[place]])
            values = {
                "listed": int(times[place]),
                "distance_of_positive": float(positive[place]),
                "distance_of_negative": float(negative[place]),
            }
            cases.append(Case(dict(zip(("anchor", "positive", "negative"), names, strict=True)), values))
    return CaseList(
        "triplets",
        "triplets whose positive is not nearer to the anchor than the negative, the largest difference first",
        tuple(cases),
    )
