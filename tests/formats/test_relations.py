"""relations.json: what is written is read back, and what is wrong is told in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heareval import layout
from heareval.errors import HearevalError
from heareval.formats.relations import check_relation, read_relation, remove_related, write_relation
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

RELATIONS: dict[str, Relation] = {
    "ratings": Ratings((RatedPair("a", "b", 0.5, "one"), RatedPair("b", "c", 2.0, "two")), unit="sound"),
    "same_pairs": SamePairs((SamePair("a", "b", True), SamePair("b", "c", False))),
    "same_different": SameDifferent("emotion", ("speaker",), "speaker"),
    "triplets": Triplets((Triplet("a", "b", "c"), Triplet("b", "c", "a"))),
    "retrieval": Retrieval("label", ("fold",), ("class",), "role", "class", "speaker"),
    "abx": Abx("digit", "speaker", 3, 4, 5),
}
CLIPS: dict[str, dict[str, str]] = {name: {} for name in "abc"}


@pytest.mark.parametrize("name", RELATIONS)
def test_relations_are_read_back(name: str, tmp_path: Path) -> None:
    write_relation(tmp_path, RELATIONS[name])
    assert json.loads((tmp_path / layout.RELATIONS).read_text())["relation"] == name
    assert read_relation(tmp_path) == RELATIONS[name]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"relation": "distances"}, "relation in .*distances"),
        ({"triplets": "a.wav"}, "triplets: got 'a.wav', expected a list"),
        ({"triplets": [["a.wav", "b.wav"]]}, r"triplets\[0\].*expected three clips"),
        ({"triplets": [["a.wav", "b.wav", "c.wav", 1]]}, r"triplets\[0\].*expected three clips"),
        ({"triplets": [["a.wav", "b.wav", 3]]}, r"triplets\[0\].*expected three clips"),
        ({"triplets": [["a.wav", "b.wav", "c"]]}, r"triplets\[0\].*expected three clips"),
        ({"unit": 3}, "unit: got 3, expected text"),
        ({"untis": "speaker"}, "unknown key in .*relations.json: got 'untis'.*unit"),
    ],
)
def test_damaged_files_are_told(changes: dict[str, Any], match: str, tmp_path: Path) -> None:
    write_relation(tmp_path, RELATIONS["triplets"])
    file = tmp_path / layout.RELATIONS
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(HearevalError, match=match):
        read_relation(tmp_path)


@pytest.mark.parametrize("rating", [None, "1", True, float("nan")])
def test_ratings_are_numbers(rating: Any, tmp_path: Path) -> None:
    write_relation(tmp_path, RELATIONS["ratings"])
    file = tmp_path / layout.RELATIONS
    file.write_text(json.dumps({"relation": "ratings", "pairs": [["a.wav", "b.wav", rating, ""]]}))
    with pytest.raises(HearevalError, match=r"pairs\[0\]|JSON"):
        read_relation(tmp_path)


@pytest.mark.parametrize(
    ("relation", "match"),
    [
        (Triplets(()), "triplets: got none, expected at least one"),
        (Triplets((Triplet("a", "b", "x"),)), "got clip 'x', expected a clip of the task"),
        (SamePairs((SamePair("a", "a", True),)), "expected different clips"),
        (
            SamePairs((SamePair("a", "b", True), SamePair("b", "a", False))),
            r"pairs\[1\]: got \['b', 'a'\] again, as in pairs\[0\], expected each pair once",
        ),
        (Ratings((RatedPair("a", "b", 1.0, "x"), RatedPair("a", "b", 2.0, "x"))), "again, as in"),
        (Ratings((RatedPair("a", "b", -3.0),)), r"pairs\[0\]: got the rating -3, expected 0 or higher"),
        (SameDifferent("speaker"), "no attribute 'speaker', expected one for every clip"),
        (Abx("digit", "speaker"), "no attribute 'digit'"),
    ],
)
def test_relations_fit_their_clips(relation: Relation, match: str) -> None:
    with pytest.raises(HearevalError, match=match):
        check_relation(relation, CLIPS, "tones")


def test_every_experiment_may_rate_a_pair_and_a_triplet_may_be_repeated() -> None:
    check_relation(Ratings((RatedPair("a", "b", 1.0, "x"), RatedPair("b", "a", 2.0, "y"))), CLIPS, "tones")
    check_relation(Triplets((Triplet("a", "b", "c"),) * 2), CLIPS, "tones")


def test_roles_are_known() -> None:
    clips = {"a": {"label": "x", "role": "query"}, "b": {"label": "x", "role": "answer"}}
    with pytest.raises(HearevalError, match="role of clip 'b': got 'answer', expected query, gallery, both"):
        check_relation(Retrieval("label", role="role"), clips, "tones")
    with pytest.raises(HearevalError, match="most_x: got 0, expected 1 or more"):
        check_relation(Abx("label", "role", most_x=0), clips, "tones")


@pytest.mark.parametrize(("name", "left"), [("ratings", 1), ("same_pairs", 1), ("triplets", 0)])
def test_rows_of_removed_clips_go(name: str, left: int) -> None:
    kept = remove_related(RELATIONS[name], {"a"})
    assert len(next(value for value in vars(kept).values() if isinstance(value, tuple))) == left
    assert remove_related(RELATIONS["abx"], {"a"}) == RELATIONS["abx"]
