"""ABX: the error of each pair of categories and of speakers, and the triples that fail by the most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heareval.errors import HearevalError
from heareval.predictions.breakdowns.breakdown import (
    HARDEST,
    Breakdown,
    Case,
    CaseList,
    ErrorPlot,
    PairwiseResult,
    PartTable,
    check_same_values,
    score_part,
)
from heareval.predictions.distances import iterate_distances
from heareval.predictions.metrics.abx import RIGHT, AbxCells, AbxOutcomes, find_outcomes
from heareval.predictions.relations.abx import PreparedAbx
from heareval.spec import Abx

METRIC = "abx_error"
CAPTION = "ABX error: share of triples whose x is nearer to b than to a; ties count half."


@dataclass(frozen=True)
class _Triple:
    """Three clips by their numbers, and the distances of x to the others."""

    a: int
    b: int
    x: int
    to_a: float
    to_b: float


def break_down_abx(result: PairwiseResult, relation: Abx, prepared: PreparedAbx) -> Breakdown:
    """Return the errors of ordered pairs of categories and of pairs of speakers, and the hardest triples."""
    cells = prepared.reference
    # The first clip of a column is never padding.
    a, b, x = (prepared.used[column[:, 0]] for column in (cells.a, cells.b, cells.x))
    category, speaker = relation.category, relation.speaker
    said, other = ([result.value(clip, category) for clip in clips] for clips in (a, b))
    speaker_ab, speaker_x = ([result.value(clip, speaker) for clip in clips] for clips in (a, x))
    about = f"each {category} of a and x with each {category} of b"
    categories = _score_pairs(result, cells, "categories", about, {"category": said, "other": other})
    about = f"each {speaker} of a and b with each {speaker} of x"
    speakers = _score_pairs(
        result, cells, "speakers", about, {"speaker_ab": speaker_ab, "speaker_x": speaker_x}
    )
    tables = (categories, speakers)
    plots = (
        _plot("confusion", categories, f"{category} of a and x", f"{category} of b"),
        _plot("speakers", speakers, f"{speaker} of a and b", f"{speaker} of x"),
    )
    try:
        hardest = _find_hardest(result, prepared)
    except HearevalError as error:
        return Breakdown(tables, (), plots, (f"the hardest triples are left out: {error}",))
    return Breakdown(tables, (hardest,), plots)


def _score_pairs(
    result: PairwiseResult, cells: AbxCells, name: str, about: str, columns: dict[str, Sequence[str]]
) -> PartTable:
    """Return the error of the cells of each pair of names.

    Args:
        columns: the two names of each cell by their keys, `(cells,)` each.
    """
    members: dict[tuple[str, ...], list[int]] = {}
    for cell, names in enumerate(zip(*columns.values(), strict=True)):
        members.setdefault(names, []).append(cell)
    parts = []
    for names, numbers in sorted(members.items()):
        chosen = AbxCells(
            cells.a[numbers],
            cells.b[numbers],
            cells.x[numbers],
            cells.speaker_x[numbers],
            cells.speaker_ab[numbers],
            cells.pair[numbers],
            cells.unit,
        )
        sizes = [(clips >= 0).sum(axis=1) for clips in (chosen.a, chosen.b, chosen.x)]
        parts.append(
            score_part(
                (METRIC,),
                dict(zip(columns, names, strict=True)),
                {"triples": int(np.prod(sizes, axis=0).sum())},
                chosen,
                AbxOutcomes(result.measured.outcomes[numbers]),
            )
        )
    return PartTable(name, about, tuple(parts))


def _plot(name: str, table: PartTable, row_title: str, column_title: str) -> ErrorPlot:
    pairs = [tuple(part.names.values()) for part in table.parts]
    rows, columns = (sorted({pair[place] for pair in pairs}) for place in (0, 1))
    errors = np.full((len(rows), len(columns)), np.nan)
    for (row, column), part in zip(pairs, table.parts, strict=True):
        errors[rows.index(row), columns.index(column)] = part.scores[METRIC]
    return ErrorPlot(name, CAPTION, tuple(rows), tuple(columns), errors, row_title, column_title)


def _find_hardest(result: PairwiseResult, prepared: PreparedAbx) -> CaseList:
    """Return the triples that fail by the most, one for each x, so that no clip fills the list."""
    embedded, cells = result.open_clips(), prepared.reference
    worst: dict[int, _Triple] = {}
    outcomes = np.zeros_like(result.measured.outcomes)
    for number, (a, b, x) in enumerate(zip(cells.a, cells.b, cells.x, strict=True)):
        near, queries = (embedded.clips.select(prepared.used[each]) for each in (np.concatenate([a, b]), x))
        (block,) = iterate_distances(near, queries, embedded.distance, device=embedded.device)
        to_a, to_b = block.distances[: len(a)], block.distances[len(a) :]
        outcomes[number] = find_outcomes(to_a, to_b)
        # The farthest a and the nearest b of each x fail by the most; padding is never one of them.
        farthest = np.where(a[:, None] >= 0, to_a, -np.inf).argmax(axis=0)
        nearest = np.where(b[:, None] >= 0, to_b, np.inf).argmin(axis=0)
        for place in np.flatnonzero(x >= 0):
            i, j = farthest[place], nearest[place]
            clip_a, clip_b, clip_x = (int(prepared.used[clip]) for clip in (a[i], b[j], x[place]))
            triple = _Triple(clip_a, clip_b, clip_x, float(to_a[i, place]), float(to_b[j, place]))
            if triple.x not in worst or _excess(triple) > _excess(worst[triple.x]):
                worst[triple.x] = triple
    check_same_values("outcomes of the triples", result.measured.outcomes / RIGHT, outcomes / RIGHT)
    failing = sorted((each for each in worst.values() if _excess(each) >= 0), key=_excess, reverse=True)
    return CaseList(
        "triples",
        "for each x the triple that fails by the most, ties included, the largest difference first",
        tuple(_describe(result, triple) for triple in failing[:HARDEST]),
    )


def _excess(triple: _Triple) -> float:
    return triple.to_a - triple.to_b


def _describe(result: PairwiseResult, triple: _Triple) -> Case:
    clips = {"a": result.name(triple.a), "b": result.name(triple.b), "x": result.name(triple.x)}
    return Case(clips, {"distance_of_a": triple.to_a, "distance_of_b": triple.to_b})
