"""Names of splits and clips that would lead out of their folder."""

from __future__ import annotations

import pytest

from heareval.errors import HearevalError
from heareval.formats.names import check_clip, check_splits, is_inside

OUTSIDE = ["..", "../x", "a/../../x", "/x", "a/..", "", ".", "a\0b", "\ud800"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out(name: str) -> None:
    assert not is_inside(name)
    with pytest.raises(HearevalError, match=r"^a\.json: splits: got .*, expected the name of a folder"):
        check_splits([name], "a.json: splits")
    with pytest.raises(HearevalError, match=r"^a\.json: got clip .*, expected a file inside"):
        check_clip(name, "a.json")


@pytest.mark.parametrize("name", ["a.wav", "sub/a.wav", "..a.wav", "a..wav", "-", "ä.wav", "a\\b.wav", "a b"])
def test_names_that_stay(name: str) -> None:
    check_clip(name, "a.json")


@pytest.mark.parametrize(
    ("splits", "got"),
    [
        ([], "no split"),
        (["train", "train"], "'train' twice"),
        (["a/b"], "'a/b'"),
        (["task_metadata"], "'task_metadata'"),
        (["MANIFEST"], "'MANIFEST'"),
    ],
)
def test_lists_of_splits(splits: list[str], got: str) -> None:
    with pytest.raises(HearevalError, match=f"^splits: got {got}, expected .* Mend it"):
        check_splits(splits, "splits", "Mend it.")
