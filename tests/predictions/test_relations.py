"""Relations as the metrics take them, against plain loops over clips and their attributes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from heareval.formats.labels import LabeledClip
from heareval.predictions.distances import ClipEmbeddings
from heareval.predictions.metrics import METRICS
from heareval.predictions.relations import EmbeddedClips, PreparedRelation, prepare_relation
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

rng = np.random.default_rng(5)
CLIPS = tuple(
    LabeledClip(
        f"{number:02}.wav",
        attributes={
            "digit": str(number % 3),
            "speaker": f"s{number // 3 % 4}",
            "site": f"p{number // 10}",
            "role": ("query", "gallery", "both")[number // 2 % 3],
        },
    )
    for number in range(36)
)
# Whole numbers, so that many distances are equal.
PLACES = rng.integers(3, size=(36, 3)).astype(np.float32)
DISTANCES = np.abs(PLACES[:, None] - PLACES).sum(axis=2)


def prepare(relation: Relation) -> tuple[PreparedRelation, Any]:
    """Return the relation as the metrics take it, and what was measured."""
    prepared = prepare_relation(relation, CLIPS)
    clips = ClipEmbeddings(PLACES, np.arange(36), tuple(clip.name for clip in CLIPS))
    return prepared, prepared.measure(EmbeddedClips(clips, "l1", torch.device("cpu")))


def score(relation: Relation, metric: str) -> float:
    prepared, measured = prepare(relation)
    return METRICS[metric].function(prepared.reference, measured)


def attribute(clip: int, name: str) -> str:
    return CLIPS[clip].attributes[name]


def win(near: float, far: float) -> float:
    return 1.0 if near < far else 0.5 if near == far else 0.0


# --------------------------------------------------------------------------- retrieval

RETRIEVALS = {
    "every clip searches the others": Retrieval("digit"),
    "other speakers": Retrieval("digit", differ=("speaker",)),
    "same site": Retrieval("digit", within=("site",)),
    "roles": Retrieval("digit", role="role"),
    "mean over classes": Retrieval("digit", role="role", average="site", unit="speaker"),
}


def judge_queries(relation: Retrieval) -> dict[int, float]:
    """Return the reciprocal rank of each query by a plain loop."""
    found = {}
    for query in range(36):
        if relation.role and attribute(query, relation.role) == "gallery":
            continue
        gallery = [
            item
            for item in range(36)
            if item != query
            and not (relation.role and attribute(item, relation.role) == "query")
            and all(attribute(item, name) != attribute(query, name) for name in relation.differ)
            and all(attribute(item, name) == attribute(query, name) for name in relation.within)
        ]
        is_right = {item: attribute(item, "digit") == attribute(query, "digit") for item in gallery}
        if any(is_right.values()):
            nearest = min(DISTANCES[query, item] for item in gallery if is_right[item])
            wrong = [DISTANCES[query, item] for item in gallery if not is_right[item]]
            rank = 1 + sum(each < nearest for each in wrong) + sum(each == nearest for each in wrong) / 2
            found[query] = 1 / rank
    return found


@pytest.mark.parametrize("name", RETRIEVALS)
def test_queries_search_their_gallery(name: str) -> None:
    relation = RETRIEVALS[name]
    values = judge_queries(relation)
    groups: dict[str, list[float]] = {}
    for query, value in values.items():
        groups.setdefault(attribute(query, relation.average) if relation.average else "", []).append(value)
    expected = np.mean([np.mean(group) for group in groups.values()])
    assert score(relation, "mrr") == pytest.approx(expected, abs=1e-12)


def test_means_over_classes_and_over_queries_differ() -> None:
    """Otherwise the test above could not tell them apart."""
    plain = Retrieval("digit", role="role")
    assert score(plain, "mrr") != pytest.approx(score(RETRIEVALS["mean over classes"], "mrr"), abs=1e-6)


# --------------------------------------------------------------------------- same or different


@pytest.mark.parametrize("differ", [(), ("speaker",), ("speaker", "site")])
def test_all_pairs_that_differ_in_some_attributes(differ: tuple[str, ...]) -> None:
    pairs = [
        (attribute(a, "digit") == attribute(b, "digit"), DISTANCES[a, b])
        for a, b in itertools.combinations(range(36), 2)
        if all(attribute(a, name) != attribute(b, name) for name in differ)
    ]
    same, different = ([distance for is_same, distance in pairs if is_same is each] for each in (True, False))
    expected = np.mean([win(near, far) for near in same for far in different])
    assert score(SameDifferent("digit", differ, "speaker"), "pair_auc") == pytest.approx(expected, abs=1e-12)


# --------------------------------------------------------------------------- ABX


def judge_abx(relation: Abx) -> float:
    members: dict[tuple[str, str], list[int]] = {}
    for clip in range(36):
        members.setdefault((attribute(clip, "digit"), attribute(clip, "speaker")), []).append(clip)
    of_pairs = []
    for digit, other in itertools.permutations("012", 2):
        of_speakers = []
        for speaker in ("s0", "s1", "s2", "s3"):
            cells = [
                np.mean(
                    [
                        win(DISTANCES[a, x], DISTANCES[b, x])
                        for a in members[digit, speaker]
                        for b in members[other, speaker]
                        for x in members[digit, speaker_x]
                    ]
                )
                for speaker_x in ("s0", "s1", "s2", "s3")
                if speaker_x != speaker
            ]
            of_speakers.append(np.mean(cells))
        of_pairs.append(np.mean(of_speakers))
    return float(1 - np.mean(of_pairs))


def test_abx_over_all_recordings() -> None:
    relation = Abx("digit", "speaker")
    assert score(relation, "abx_error") == pytest.approx(judge_abx(relation), abs=1e-6)


def test_abx_draws_at_most_what_the_relation_says() -> None:
    prepared, measured = prepare(Abx("digit", "speaker", 2, 1, 3))
    cells = prepared.reference
    assert [(each >= 0).sum(axis=1).tolist() for each in (cells.a, cells.b, cells.x)] == [
        [most] * 72 for most in (2, 1, 3)
    ]
    digit, speaker = (
        np.array([attribute(clip, name) for clip in prepared.used]) for name in ("digit", "speaker")
    )
    assert (digit[cells.a[:, :1]] == digit[cells.x]).all()
    assert (digit[cells.a] != digit[cells.b]).all()
    assert (speaker[cells.a] == speaker[cells.b]).all()
    assert (speaker[cells.a[:, :1]] != speaker[cells.x]).all()
    assert measured.outcomes.shape == (72, 2, 1, 3)
    again = prepare_relation(Abx("digit", "speaker", 2, 1, 3), CLIPS)
    np.testing.assert_array_equal(again.reference.a, cells.a)


# --------------------------------------------------------------------------- listed clips


def test_ratings_of_two_experiments_are_ranked_apart() -> None:
    """Ratings agree with the distances within each experiment, but not across both: the scales differ."""
    order = np.argsort(DISTANCES[0, 1:7]) + 1
    measured = DISTANCES[0, order]
    groups = {"x": measured, "y": measured + 100}
    pairs = tuple(
        RatedPair("00", f"{clip:02}", float(rating), group)
        for group, ratings in groups.items()
        for clip, rating in zip(order, ratings, strict=True)
    )
    assert np.ptp(measured) > 0
    assert score(Ratings(pairs), "spearman") == pytest.approx(1.0, abs=1e-12)


UNITS: dict[str, tuple[Relation, Relation]] = {
    "ratings": tuple(
        Ratings(tuple(RatedPair("00", f"{n:02}", float(n)) for n in range(1, 36)), unit=unit)
        for unit in ("", "speaker")
    ),
    "triplets": tuple(
        Triplets(tuple(Triplet("00", f"{n:02}", f"{n + 1:02}") for n in range(1, 35)), unit=unit)
        for unit in ("", "speaker")
    ),
    "same pairs": tuple(
        SamePairs(tuple(SamePair("00", f"{n:02}", n % 2 == 0) for n in range(1, 36)), unit=unit)
        for unit in ("", "speaker")
    ),
    "same or different": tuple(SameDifferent("digit", unit=unit) for unit in ("", "speaker")),
    "retrieval": tuple(Retrieval("digit", unit=unit) for unit in ("", "speaker")),
}


@pytest.mark.parametrize("name", UNITS)
def test_units_are_clips_or_the_values_of_an_attribute(name: str) -> None:
    clips, speakers = (prepare_relation(relation, CLIPS).units for relation in UNITS[name])
    assert (clips.count, str(speakers)) == (36, "4 values of speaker")
