"""Read the tables of pairwise tasks: pairs, triplets, or queries and a gallery."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heareval.errors import HearevalError
from heareval.formats.relations import ROLES
from heareval.spec import RatedPair, Ratings, Relation, Retrieval, SamePair, SamePairs, Triplet, Triplets
from heareval.tasks.own.clip_names import make_clip_id
from heareval.tasks.own.csv_table import FORMS, Table, TableRow, parse_number, read_csv

PAIR_COLUMNS, TRIPLET_COLUMNS, QUERY_COLUMNS = FORMS["pairs"], FORMS["triplets"], FORMS["queries"]
# What people and their programs write for the same, and for not the same.
TRUTHS: Mapping[str, bool] = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
SPLIT = "test"


@dataclass(frozen=True)
class RelatedSounds:
    """What a table of a pairwise task contains.

    Args:
        places: the path of each sound, relative to the table, and the line that first names it.
        attributes: the attributes of each sound, by path; {} for a sound that is only listed.
        relation: how the clips of the sounds relate to each other.
        doubts: what is probably a mistake, in words.
    """

    places: Mapping[str, str]
    attributes: Mapping[str, Mapping[str, str]]
    relation: Relation
    doubts: tuple[str, ...] = ()


def read_pairs(path: Path) -> RelatedSounds:
    """Return the sounds in a table of pairs: `a,b,score` for ratings, or `a,b,same`.

    Raises:
        HearevalError: there is no such table, or something in it is wrong.
    """
    table = read_csv(path, PAIR_COLUMNS, ("score", "same", "group"), may_be_empty=("group",))
    if ("score" in table.columns) == ("same" in table.columns):
        got = "score and same" if "score" in table.columns else "neither score nor same"
        raise HearevalError(f"table {path}", got=got, expected="a column score, or a column same")
    if "same" in table.columns and "group" in table.columns:
        expected = "a, b, same"
        remedy = "Groups belong to scores; remove the column."
        raise HearevalError(f"table {path}", got="a column group", expected=expected, remedy=remedy)
    rows = _list_sounds(table, PAIR_COLUMNS)
    _check_pairs_once(table, rows)
    relation = _read_ratings(table, rows) if "score" in table.columns else _read_same(table, rows)
    return RelatedSounds(_find_places(table, rows), {}, relation, table.doubts)


def read_triplets(path: Path) -> RelatedSounds:
    """Return the sounds in a table of triplets: `anchor,positive,negative`.

    Raises:
        HearevalError: there is no such table, or something in it is wrong.
    """
    table = read_csv(path, TRIPLET_COLUMNS, ())
    rows = _list_sounds(table, TRIPLET_COLUMNS)
    triplets = tuple(Triplet(*map(make_clip_id, row)) for row in rows)
    doubts = (*table.doubts, *_doubt_triplets(rows))
    return RelatedSounds(_find_places(table, rows), {}, Triplets(triplets), doubts)


def read_queries(path: Path) -> RelatedSounds:
    """Return the sounds in a table of queries and a gallery: `path,label,role`.

    Raises:
        HearevalError: there is no such table, or something in it is wrong.
    """
    table = read_csv(path, QUERY_COLUMNS, ("group",), may_be_empty=("group",))
    rows = _list_sounds(table, ("path",))
    places = _find_places(table, rows)
    attributes: dict[str, Mapping[str, str]] = {}
    for (sound,), row in zip(rows, table.rows, strict=True):
        if sound in attributes:
            remedy = "A sound that is both has the role both."
            raise HearevalError(
                row.where,
                got=f"{sound} again, as in {places[sound]}",
                expected="each sound once",
                remedy=remedy,
            )
        role = row.cells["role"].lower()
        if role not in ROLES:
            got = repr(row.cells["role"])
            raise HearevalError(f"{row.where}: role", got=got, expected="query, gallery or both")
        attributes[sound] = {"label": row.cells["label"], "role": role}
        if "group" in table.columns:
            # A sound without a group is a group by itself.
            attributes[sound] = {**attributes[sound], "group": row.cells["group"] or make_clip_id(sound)}
    doubts = (*table.doubts, *_doubt_queries(table, attributes))
    unit = "group" if "group" in table.columns else ""
    return RelatedSounds(places, attributes, Retrieval("label", role="role", unit=unit), doubts)


READERS: Mapping[str, Callable[[Path], RelatedSounds]] = {
    "pairs": read_pairs,
    "triplets": read_triplets,
    "queries": read_queries,
}


# --------------------------------------------------------------------------- the rows


def _list_sounds(table: Table, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the paths in some columns of each row; raise HearevalError if a row has one twice."""
    if not table.rows:
        raise HearevalError(
            f"table {table.path}", got="no rows", expected=f"rows of {', '.join(table.columns)}"
        )
    rows = []
    remedy = "Correct or remove the line: the distance of a sound to itself is always 0."
    for row in table.rows:
        sounds = tuple(table.find_path(row.cells[column]) for column in columns)
        again = next((sound for sound, count in Counter(sounds).items() if count > 1), "")
        if again:
            expected = f"different sounds as {', '.join(columns[:-1])} and {columns[-1]}"
            raise HearevalError(row.where, got=f"{again} twice", expected=expected, remedy=remedy)
        rows.append(sounds)
    return rows


def _find_places(table: Table, rows: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """Return the line that first names each sound."""
    places: dict[str, str] = {}
    for row, sounds in zip(table.rows, rows, strict=True):
        for sound in sounds:
            places.setdefault(sound, row.where)
    return places


def _check_pairs_once(table: Table, rows: Sequence[tuple[str, ...]]) -> None:
    """Raise HearevalError if a pair is listed twice, in either order."""
    seen: dict[tuple[str, frozenset[str]], str] = {}
    for row, sounds in zip(table.rows, rows, strict=True):
        key = row.cells.get("group", ""), frozenset(sounds)
        if key in seen:
            remedy = "Give the mean of several ratings, or name the raters in a column group."
            raise HearevalError(
                row.where,
                got=f"{sounds[0]} and {sounds[1]} again, as in {seen[key]}",
                expected="each pair once, in one order",
                remedy=remedy if "score" in row.cells else "Remove one of the rows.",
            )
        seen[key] = row.where


def _read_ratings(table: Table, rows: Sequence[tuple[str, ...]]) -> Ratings:
    pairs = tuple(
        RatedPair(make_clip_id(first), make_clip_id(second), _parse_score(row), row.cells.get("group", ""))
        for (first, second), row in zip(rows, table.rows, strict=True)
    )
    if not count_anchors(pairs):
        raise HearevalError(
            f"table {table.path}",
            got="no sound with two different scores",
            expected="sounds in two or more pairs each",
            remedy="The pairs of a sound are ranked by score and by distance, so it takes several of them.",
        )
    return Ratings(pairs)


def count_anchors(pairs: Iterable[RatedPair]) -> int:
    """Return how many sounds have two different ratings in a group, so that their pairs can be ranked.

    >>> count_anchors([RatedPair("a", "b", 1.0), RatedPair("a", "c", 2.0)])
    1
    """
    ratings: dict[tuple[str, str], set[float]] = defaultdict(set)
    for pair in pairs:
        for clip in (pair.first, pair.second):
            ratings[pair.group, clip].add(pair.rating)
    return sum(len(each) > 1 for each in ratings.values())


def _parse_score(row: TableRow) -> float:
    where, cell = f"{row.where}: score", row.cells["score"]
    expected = "a number such as 0.25, 0 or higher; higher means more different"
    try:
        score = parse_number(cell)
    except ValueError:
        raise HearevalError(where, got=repr(cell), expected=expected) from None
    # This also rejects NaN, with which every comparison is false.
    if not 0 <= score < math.inf:
        remedy = "Turn similarities round: subtract them from the highest one." if score < 0 else ""
        raise HearevalError(where, got=cell, expected=expected, remedy=remedy)
    return score


def _read_same(table: Table, rows: Sequence[tuple[str, ...]]) -> SamePairs:
    pairs = []
    for (first, second), row in zip(rows, table.rows, strict=True):
        cell = row.cells["same"]
        if cell.lower() not in TRUTHS:
            expected = "1 or 0, true or false, yes or no"
            raise HearevalError(f"{row.where}: same", got=repr(cell), expected=expected)
        pairs.append(SamePair(make_clip_id(first), make_clip_id(second), TRUTHS[cell.lower()]))
    if len({pair.is_same for pair in pairs}) < 2:
        got = "only pairs that are the same" if pairs[0].is_same else "only pairs that are different"
        raise HearevalError(f"table {table.path}: same", got=got, expected="pairs of both kinds")
    return SamePairs(tuple(pairs))


# --------------------------------------------------------------------------- doubts


def _doubt_triplets(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return notes about triplets that are listed several times, or contradict each other."""
    counts, doubts = Counter(rows), []
    if again := [row for row, count in counts.items() if count > 1]:
        doubts.append(
            f"{_count(len(again), 'triplet is', 'triplets are')} listed several times, such as "
            f"{', '.join(again[0])}; every row counts"
        )
    opposed = [row for row in counts if row[1] < row[2] and (row[0], row[2], row[1]) in counts]
    if opposed:
        lost = sum(min(counts[row], counts[row[0], row[2], row[1]]) for row in opposed)
        doubts.append(
            f"{_count(len(opposed), 'triplet is', 'triplets are')} listed with positive and negative swapped "
            f"as well, such as {', '.join(opposed[0])}; no model can score more than "
            f"{1 - lost / len(rows):.4f}"
        )
    return doubts


def _doubt_queries(table: Table, attributes: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return notes about queries without a right answer and a gallery without wrong ones.

    Raises:
        HearevalError: there are no queries, no gallery, no right answers or no wrong ones.
    """
    queries = [path for path, each in attributes.items() if each["role"] != "gallery"]
    gallery = [path for path, each in attributes.items() if each["role"] != "query"]
    for name, found in (("query", queries), ("gallery", gallery)):
        if not found:
            got = f"no sound with the role {name} or both"
            raise HearevalError(f"table {table.path}: role", got=got, expected="queries and a gallery")
    in_gallery = Counter(attributes[path]["label"] for path in gallery)
    if len({*in_gallery, *(attributes[path]["label"] for path in queries)}) < 2:
        got = f"only {attributes[gallery[0]]['label']}"
        raise HearevalError(f"table {table.path}: label", got=got, expected="two or more labels")
    lost = [path for path in queries if _count_right(attributes[path], in_gallery) < 1]
    if len(lost) == len(queries):
        got = "no query with another sound of its label in the gallery"
        raise HearevalError(f"table {table.path}", got=got, expected="right answers to the queries")
    if not lost:
        return []
    return [
        f"{_count(len(lost), 'query has', 'queries have')} no other sound of the same label in the gallery, "
        f"such as {lost[0]}; such queries are not scored"
    ]


def _count_right(query: Mapping[str, str], in_gallery: Mapping[str, int]) -> int:
    """Return the number of right answers to a query, which is never an answer to itself."""
    return in_gallery.get(query["label"], 0) - (query["role"] == "both")


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
