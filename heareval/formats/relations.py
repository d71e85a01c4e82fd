"""Read, check and write relations.json: how the clips of a pairwise task relate to each other.

The file names the relation, its attributes and, if it lists clips, the clips by file name:

    {"relation": "retrieval", "relevant": "label", "differ": ["fold"], "within": [], "role": "", ...}
    {"relation": "triplets", "unit": "", "triplets": [["a.wav", "b.wav", "c.wav"], ...]}

In memory, clips are named by their ids, which are the file names without `.wav`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from heareval import files, layout
from heareval.errors import HearevalError
from heareval.formats.fields import Fields, is_number, read_fields, shorten
from heareval.formats.task_metadata import PREPARE_AGAIN
from heareval.spec import (
    Abx,
    RatedPair,
    Ratings,
    Relation,
    Retrieval,
    SameDifferent,
    SamePair,
    SamePairs,
    Triplet,
    Triplets,
)

ROLES = ("query", "gallery", "both")
_NAME = "relation"
_SUFFIX = ".wav"


@dataclass(frozen=True)
class _Listing:
    """How a relation that lists its clips is written.

    Args:
        key: the key of the list, and the field of the relation.
        row: the type of a row; each row is a list of its fields' values.
        clips: how many clips each row begins with.
        expected: what a row holds, for errors.
        is_rest: checks what follows the clips in a row.
    """

    key: str
    row: Callable[..., Any]
    clips: int
    expected: str
    is_rest: Callable[[Sequence[Any]], bool]


_RELATIONS: Mapping[str, type[Relation]] = {
    "ratings": Ratings,
    "same_pairs": SamePairs,
    "same_different": SameDifferent,
    "triplets": Triplets,
    "retrieval": Retrieval,
    "abx": Abx,
}
_NAMES = {kind: name for name, kind in _RELATIONS.items()}
_LISTINGS: Mapping[type[Relation], _Listing] = {
    Ratings: _Listing(
        "pairs",
        RatedPair,
        2,
        "two clips, a rating and an experiment",
        lambda rest: len(rest) == 2 and is_number(rest[0]) and isinstance(rest[1], str),
    ),
    SamePairs: _Listing(
        "pairs",
        SamePair,
        2,
        "two clips, and true or false",
        lambda rest: len(rest) == 1 and isinstance(rest[0], bool),
    ),
    Triplets: _Listing("triplets", Triplet, 3, "three clips", lambda rest: not rest),
}


def name_relation(relation: Relation) -> str:
    """Return the name of a relation's type, as in relations.json.

    >>> name_relation(SameDifferent("emotion"))
    'same_different'
    """
    return _NAMES[type(relation)]


def list_attributes(relation: Relation) -> tuple[str, ...]:
    """Return the attributes that every clip of a relation must have, each once.

    >>> list_attributes(Retrieval("label", differ=("fold",)))
    ('label', 'fold')
    """
    names: list[str] = []
    for field in fields(relation):
        value = getattr(relation, field.name)
        if isinstance(value, str):
            names.append(value)
        elif field.name in ("differ", "within"):
            names += value
    return tuple(dict.fromkeys(name for name in names if name))


# --------------------------------------------------------------------------- checks


def check_relation(
    relation: Relation, clips: Mapping[str, Mapping[str, str]], where: str, remedy: str = ""
) -> None:
    """Raise HearevalError if a relation does not fit the clips of its task.

    Args:
        clips: the attributes of each clip, by clip id.
        where: name of the relation in errors.
        remedy: advice for the user.

    >>> check_relation(Triplets((Triplet("a", "b", "x"),)), {"a": {}, "b": {}}, "tones")
    Traceback (most recent call last):
        ...
    heareval.errors.HearevalError: tones: triplets[0]: got clip 'x', expected a clip of the task
    """

    def fail(what: str, got: str, expected: str) -> HearevalError:
        return HearevalError(f"{where}: {what}", got=got, expected=expected, remedy=remedy)

    for attribute in list_attributes(relation):
        lacking = next((clip for clip, found in clips.items() if attribute not in found), None)
        if lacking is not None:
            raise fail(f"clip {shorten(lacking)}", f"no attribute {shorten(attribute)}", "one for every clip")
    listing = _LISTINGS.get(type(relation))
    if listing:
        rows = _list_rows(relation, listing)
        if not rows:
            raise fail(listing.key, "none", "at least one")
        for number, (row_clips, _) in enumerate(rows):
            what = f"{listing.key}[{number}]"
            if unknown := [clip for clip in row_clips if clip not in clips]:
                raise fail(what, f"clip {shorten(unknown[0])}", "a clip of the task")
            if len(set(row_clips)) < len(row_clips):
                raise fail(what, f"{shorten(list(row_clips))}", "different clips")
    if isinstance(relation, Ratings | SamePairs):
        _check_pairs(relation.pairs, fail)
    if isinstance(relation, Retrieval) and relation.role:
        for clip, attributes in clips.items():
            if (role := attributes[relation.role]) not in ROLES:
                raise fail(f"{relation.role} of clip {shorten(clip)}", shorten(role), ", ".join(ROLES))
    if isinstance(relation, Abx):
        for name in ("most_a", "most_b", "most_x"):
            if getattr(relation, name) < 1:
                raise fail(name, str(getattr(relation, name)), "1 or more")


def _check_pairs(
    pairs: Sequence[RatedPair | SamePair], fail: Callable[[str, str, str], HearevalError]
) -> None:
    """Raise the error that `fail` makes if an experiment has a pair twice, or a rating is negative."""
    first_of: dict[tuple[str, frozenset[str]], int] = {}
    for number, pair in enumerate(pairs):
        what, group = f"pairs[{number}]", ""
        if isinstance(pair, RatedPair):
            group = pair.group
            # Ratings are divided by the largest one, so that none may be negative.
            if pair.rating < 0:
                raise fail(what, f"the rating {pair.rating:g}", "0 or higher")
        first = first_of.setdefault((group, frozenset((pair.first, pair.second))), number)
        if first < number:
            got = f"{shorten([pair.first, pair.second])} again, as in pairs[{first}]"
            raise fail(what, got, "each pair once in an experiment, in one order")


def remove_related(relation: Relation, clip_ids: Collection[str]) -> Relation:
    """Return a relation without the rows that name one of some clips.

    >>> pairs = (SamePair("a", "b", True), SamePair("a", "c", False))
    >>> remove_related(SamePairs(pairs), {"c"})
    SamePairs(pairs=(SamePair(first='a', second='b', is_same=True),), unit='')
    """
    listing = _LISTINGS.get(type(relation))
    if listing is None:
        return relation
    rows = _list_rows(relation, listing)
    kept = tuple(
        listing.row(*clips, *rest) for clips, rest in rows if not any(clip in clip_ids for clip in clips)
    )
    changed: dict[str, Any] = {listing.key: kept}
    return replace(relation, **changed)  # type: ignore[arg-type]


def lists_clips(relation: Relation) -> bool:
    """Return whether a relation lists the clips that are compared, instead of naming their attributes.

    >>> lists_clips(SameDifferent("emotion"))
    False
    """
    return type(relation) in _LISTINGS


def list_related(relation: Relation) -> list[tuple[str, ...]]:
    """Return the ids of the clips of each pair or triplet that a relation lists; [] if it lists none.

    >>> list_related(Triplets((Triplet("a", "b", "c"),)))
    [('a', 'b', 'c')]
    """
    listing = _LISTINGS.get(type(relation))
    return [clips for clips, _ in _list_rows(relation, listing)] if listing else []


def _list_rows(relation: Relation, listing: _Listing) -> list[tuple[tuple[str, ...], tuple[Any, ...]]]:
    """Return the clips of each row, and what follows them."""
    rows = [tuple(vars(row).values()) for row in getattr(relation, listing.key)]
    return [(row[: listing.clips], row[listing.clips :]) for row in rows]


# --------------------------------------------------------------------------- the file


def write_relation(folder: Path, relation: Relation) -> None:
    """Write relations.json."""
    values: dict[str, Any] = {_NAME: name_relation(relation)}
    listing = _LISTINGS.get(type(relation))
    for key, value in vars(relation).items():
        if not listing or key != listing.key:
            values[key] = list(value) if isinstance(value, tuple) else value
    if listing:
        rows = _list_rows(relation, listing)
        values[listing.key] = [[f"{clip}{_SUFFIX}" for clip in clips] + list(rest) for clips, rest in rows]
    files.write_json(folder / layout.RELATIONS, values)


def read_relation(folder: Path, *, remedy: str = PREPARE_AGAIN, where: str = "") -> Relation:
    """Return the relation between the clips of a folder.

    Args:
        folder: the folder of a pairwise task, or an embeddings folder, which has a copy of its file.
        remedy: advice for the user if the file is missing or wrong.
        where: name of the file in errors; "" means its path.

    Raises:
        HearevalError: the file is missing or wrong. Whether it fits the clips, `check_relation` says.

    >>> read_relation(Path("tasks/esc50_retrieval-v2.0.0-full")).differ  # doctest: +SKIP
    ('fold',)
    """
    found = read_fields(folder / layout.RELATIONS, remedy=remedy, where=where)
    kind: Any = _RELATIONS[found.one_of(_NAME, tuple(_RELATIONS))]
    known = [_NAME, *(field.name for field in fields(kind))]
    for key in found:
        # A misspelt condition such as `wihtin` would otherwise be left out of the scores.
        if key not in known:
            raise found.unknown_name(f"key in {found.where}", key, known)
    listing, values = _LISTINGS.get(kind), dict[str, Any]()
    for field in fields(kind):
        if listing and field.name == listing.key:
            values[field.name] = _parse_rows(found, listing)
        elif field.name in ("differ", "within"):
            values[field.name] = found.texts(field.name, ())
        elif field.name.startswith("most_"):
            values[field.name] = found.integer(field.name, field.default)
        else:
            is_required = field.name in ("same", "relevant", "category", "speaker")
            values[field.name] = found.text(field.name) if is_required else found.text(field.name, "")
    relation: Relation = kind(**values)
    return relation


def _parse_rows(found: Fields, listing: _Listing) -> tuple[Any, ...]:
    rows = found.values.get(listing.key)
    if not isinstance(rows, list):
        raise found.error(listing.key, shorten(rows), "a list")
    parsed = []
    for number, row in enumerate(rows):
        is_row = isinstance(row, list) and len(row) >= listing.clips and listing.is_rest(row[listing.clips :])
        names = row[: listing.clips] if is_row else []
        if not is_row or not all(isinstance(name, str) and name.endswith(_SUFFIX) for name in names):
            raise found.error(f"{listing.key}[{number}]", shorten(row), listing.expected)
        clips = [name.removesuffix(_SUFFIX) for name in names]
        parsed.append(listing.row(*clips, *row[listing.clips :]))
    return tuple(parsed)
