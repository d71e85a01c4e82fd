"""Which clips of a task a limit keeps."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from pathlib import Path

import pytest

from heareval.errors import HearevalError
from heareval.formats.labels import LabeledClip
from heareval.formats.limit import (
    check_limit,
    limit_clips,
    limit_related_clips,
    limit_task,
    write_limited_description,
)
from heareval.formats.relations import read_relation, write_relation
from heareval.formats.task_folder import read_task_folder
from heareval.spec import (
    Abx,
    Event,
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
from tests.formats.folders import EVENT_LABELS, EVENT_METADATA

LABELS = tuple("abcdefg")


def draw_clips(*, is_event: bool) -> list[LabeledClip]:
    """Clips with some labels each, of which the first ones are frequent; some have none."""
    draw, clips = random.Random(3), []
    for number in range(200):
        labels = tuple(label for rank, label in enumerate(LABELS) if draw.random() < 0.6 / (1 + rank))
        if is_event:
            events = tuple(Event(0.0, 9.0, label) for label in labels)
            clips.append(LabeledClip(f"{number}.wav", events=events))
        else:
            clips.append(LabeledClip(f"{number}.wav", labels))
    return clips


def labels_of(clips: tuple[LabeledClip, ...]) -> set[str]:
    return {*(label for clip in clips for label in clip.labels)} | {
        str(event.label) for clip in clips for event in clip.events
    }


@pytest.mark.parametrize("is_event", [False, True])
def test_every_label_is_kept_if_the_limit_allows_it(is_event: bool) -> None:
    clips = draw_clips(is_event=is_event)
    for limit in range(len(LABELS), 60):
        kept = limit_clips(clips, limit)
        assert len(kept) == limit
        assert labels_of(kept) == set(LABELS)
    # Fewer clips than labels: each has another one of the first labels.
    assert labels_of(limit_clips(clips, 3)) >= set(LABELS[:3])


def test_clips_of_a_smaller_limit_are_among_those_of_a_larger_one() -> None:
    clips = draw_clips(is_event=False)
    before: set[str] = set()
    for limit in range(1, len(clips) + 1):
        kept = limit_clips(clips, limit)
        names = [clip.name for clip in kept]
        assert before < set(names)
        # In the order of the file, which is that of the rows of the arrays.
        assert list(kept) == [clip for clip in clips if clip.name in names]
        before = set(names)
    assert limit_clips(clips, 1000) == tuple(clips)


def test_the_choice_depends_on_the_names_alone() -> None:
    clips = [LabeledClip(f"{number}.wav", (str(number % 3),)) for number in range(12)]
    kept = [clip.name for clip in limit_clips(clips, 5)]
    # SHA-256 of the names draws them; another choice would give limited results other scores.
    assert kept == ["0.wav", "1.wav", "3.wav", "7.wav", "11.wav"]
    assert {clip.name for clip in limit_clips(clips[::-1], 5)} == set(kept)


def test_clips_without_labels_come_last() -> None:
    clips = [*(LabeledClip(f"{i}.wav") for i in range(9)), LabeledClip("x.wav", ("a",))]
    assert [clip.name for clip in limit_clips(clips, 1)] == ["x.wav"]
    assert len(limit_clips(clips, 5)) == 5


def test_labels_are_balanced() -> None:
    clips = [LabeledClip(f"{i}.wav", ("rare" if i < 4 else "frequent",)) for i in range(400)]
    for limit, rare in ((1, 0), (2, 1), (6, 3), (8, 4), (20, 4)):
        assert sum(clip.labels == ("rare",) for clip in limit_clips(clips, limit)) == rare


@pytest.mark.parametrize("limit", [0, -1, True, 2.0, "3"])
def test_a_limit_is_a_whole_number_from_1_on(limit: object) -> None:
    with pytest.raises(HearevalError, match=r"limit: got .*, expected 1 or more clips of each split"):
        check_limit(limit)  # type: ignore[arg-type]


# --------------------------------------------------------------------------- relations

DIGITS, SPEAKERS, TAKES = 5, 4, 3


def spoken() -> list[LabeledClip]:
    clips = []
    for digit, speaker, take in (
        (d, s, t) for d in range(DIGITS) for s in range(SPEAKERS) for t in range(TAKES)
    ):
        role = "query" if take == 0 else "gallery"
        attributes = {"digit": str(digit), "speaker": f"s{speaker}", "role": role, "parity": str(digit % 2)}
        clips.append(LabeledClip(f"{digit}_{speaker}_{take}.wav", attributes=attributes))
    return clips


IDS = [clip.clip_id for clip in spoken()]
RELATIONS: dict[str, Relation] = {
    "ratings": Ratings(tuple(RatedPair(a, b, 1.0, "x") for a, b in itertools.pairwise(IDS))),
    "triplets": Triplets(tuple(Triplet(IDS[i], IDS[i + 1], IDS[-i - 1]) for i in range(20))),
    # As a careless author lists them: all that are the same first.
    "same_pairs": SamePairs(
        tuple(SamePair(a, b, a[0] == b[0]) for a, b in itertools.pairwise(IDS) if a[0] == b[0])
        + tuple(SamePair(a, b, False) for a, b in zip(IDS, IDS[30:], strict=False))
    ),
    "same_different": SameDifferent("digit", ("speaker",)),
    "retrieval": Retrieval("digit", differ=("speaker",)),
    "roles": Retrieval("digit", role="role", within=("parity",)),
    "abx": Abx("digit", "speaker"),
}


@pytest.mark.parametrize("name", RELATIONS)
def test_related_clips_of_a_smaller_limit_are_among_those_of_a_larger_one(name: str) -> None:
    clips, before = spoken(), set[str]()
    for limit in range(1, len(clips) + 1):
        kept = limit_related_clips(clips, RELATIONS[name], limit)
        names = {clip.name for clip in kept}
        assert len(kept) == limit
        assert before < names
        assert list(kept) == [clip for clip in clips if clip.name in names]
        before = names


@pytest.mark.parametrize("name", ["same_different", "retrieval", "abx"])
def test_two_clips_of_a_class_have_different_speakers(name: str) -> None:
    for limit in (2, 4, 10):
        kept = limit_related_clips(spoken(), RELATIONS[name], limit)
        digits = {clip.attributes["digit"] for clip in kept}
        pairs = {(clip.attributes["digit"], clip.attributes["speaker"]) for clip in kept}
        assert len(digits) == limit / 2
        assert len(pairs) == limit


def test_a_query_and_its_clip_of_the_gallery_are_kept_together() -> None:
    kept = limit_related_clips(spoken(), RELATIONS["roles"], 4)
    # Digits 0 and 2, which are in one gallery.
    assert sorted((clip.attributes["digit"], clip.attributes["role"]) for clip in kept) == [
        ("0", "gallery"),
        ("0", "query"),
        ("2", "gallery"),
        ("2", "query"),
    ]


def write_pairwise(folder: Path, relation: Relation) -> Path:
    folder.mkdir()
    metadata = {
        **{"task_name": "digits", "version": "v1", "mode": "full", "embedding_type": "scene"},
        **{"prediction_type": "pairwise", "split_mode": "test_only", "splits": ["test"]},
        "evaluation": ["triplet_acc"],
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    (folder / "test.json").write_text(json.dumps({clip.name: clip.attributes for clip in spoken()}))
    write_relation(folder, relation)
    return folder


@pytest.mark.parametrize("name", RELATIONS)
def test_a_limited_task_is_written_and_read_back(name: str, tmp_path: Path) -> None:
    folder = write_pairwise(tmp_path / "digits", RELATIONS[name])
    limited = limit_task(read_task_folder(folder), 8)
    shutil.copytree(folder, tmp_path / "copy")
    write_limited_description(limited, tmp_path / "copy")
    read = read_task_folder(tmp_path / "copy")
    assert read.clips == limited.clips
    assert read.relation == limited.relation
    assert len(read.clips["test"]) == 8
    # The whole task is as it was.
    assert read_relation(folder) == RELATIONS[name]


@pytest.mark.parametrize(("name", "limit"), [("ratings", 1), ("triplets", 2), ("same_pairs", 1)])
def test_clips_without_a_listed_pair_are_an_error(name: str, limit: int, tmp_path: Path) -> None:
    folder = write_pairwise(tmp_path / "digits", RELATIONS[name])
    told = f"limit of {limit} clips on digits: got no listed pair or triplet .* Use a larger --limit"
    with pytest.raises(HearevalError, match=told):
        limit_task(read_task_folder(folder), limit)
    assert limit_task(read_task_folder(folder), limit + 1).relation != RELATIONS[name]


def test_events_of_a_clip_stay_together(tmp_path: Path) -> None:
    (tmp_path / "task_metadata.json").write_text(json.dumps(EVENT_METADATA))
    (tmp_path / "labelvocabulary.csv").write_text("idx,label\n0,high\n1,low\n")
    events = [*EVENT_LABELS["low.wav"], {"label": "high", "start": 300.0, "end": 400.0}]
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps({"silence.wav": [], "both.wav": events}))
    limited = limit_task(read_task_folder(tmp_path), 1)
    write_limited_description(limited, tmp_path)
    assert json.loads((tmp_path / "test.json").read_text()) == {"both.wav": events}
    assert read_task_folder(tmp_path).clips == limited.clips
