"""Assigning splits: rules that the golden cases do not cover, and bad input."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from heareval.errors import HearevalError
from heareval.spec import Recording, Splits
from heareval.tasks import metadata
from heareval.tasks.registry import find_task
from heareval.tasks.splits import assign_splits, subsample


def recordings(count: int, split: str = "train", groups: int = 10**9) -> list[Recording]:
    return [
        Recording(Path("/dev/null"), f"{split}{i}", (i % 3,), split=split, group=f"{split}{i % groups}")
        for i in range(count)
    ]


def test_default_shares_are_80_10_10() -> None:
    splits = list(assign_splits(recordings(200), Splits("trainvaltest")).values())
    assert [splits.count(split) for split in ("train", "valid", "test")] == [160, 20, 20]


def test_a_missing_valid_split_keeps_its_ratio_to_train() -> None:
    splits = assign_splits(recordings(90) + recordings(30, "test"), Splits("trainvaltest"))
    assert list(splits.values()).count("valid") == 10
    assert list(splits.values()).count("test") == 30


def test_given_splits_are_never_redrawn() -> None:
    given = [r for split in ("train", "valid", "test") for r in recordings(9, split)]
    assert assign_splits(given, Splits("trainvaltest")) == {r.clip_id: r.split for r in given}


def test_groups_stay_together() -> None:
    several = recordings(100, groups=20)
    splits = assign_splits(several, Splits("new_split_kfold", 5))
    for group in {r.group for r in several}:
        assert len({splits[r.clip_id] for r in several if r.group == group}) == 1


def test_first_folds_are_the_larger_ones() -> None:
    splits = list(
        assign_splits(recordings(23), Splits("new_split_kfold", 5), need_every_label=False).values()
    )
    assert [splits.count(f"fold0{i}") for i in range(5)] == [5, 5, 5, 4, 4]


def test_a_label_that_cannot_be_everywhere() -> None:
    lonely = [*recordings(30), Recording(Path("/dev/null"), "lonely", ("only once",))]
    lonely = [dataclasses.replace(r, labels=(str(r.labels[0]),)) for r in lonely]
    with pytest.raises(HearevalError, match="drawing 5 folds: got no draw of 1000 with every label"):
        assign_splits(lonely, Splits("new_split_kfold", 5))


def test_too_few_groups() -> None:
    with pytest.raises(HearevalError, match="drawing the valid split: got 2 groups of clips"):
        assign_splits(recordings(2), Splits("trainvaltest"))


def test_folds_that_are_not_those_of_the_task() -> None:
    with pytest.raises(HearevalError, match="got fold00, train, expected fold00, fold01"):
        assign_splits(recordings(3, "fold00") + recordings(1), Splits("presplit_kfold", 2))


def test_subsampling_is_a_function_of_the_names() -> None:
    names = [f"clip{i}" for i in range(50)]
    chosen = subsample(names, "train", 10)
    assert len(chosen) == 10
    assert chosen == subsample(names[::-1], "train", 10)
    assert chosen != subsample(names, "test", 10)
    assert subsample(names, "train", None) == set(names)


BAD_RECORDINGS = {
    "twice": (
        [Recording(Path("a"), "x", ("up",)), Recording(Path("b"), "x", ("up",))],
        "'x': got 2 recordings",
    ),
    "slash": ([Recording(Path("a"), "x/y", ("up",))], "'x/y'"),
    "no label": ([Recording(Path("a"), "x")], r"x: got labels \(\), expected exactly one"),
    "two labels": ([Recording(Path("a"), "x", ("up", "down"))], "expected exactly one"),
    "nothing": ([], "got no recordings"),
    "missing": ([Recording(Path("/nowhere/a.wav"), "x", ("up",))], "/nowhere/a.wav: got 1 of 1 missing"),
}


@pytest.mark.parametrize("name", BAD_RECORDINGS)
def test_bad_recordings(name: str) -> None:
    bad, complaint = BAD_RECORDINGS[name]
    with pytest.raises(HearevalError, match=complaint):
        metadata.select_clips(find_task("speech_commands"), "full", bad)
