"""The ten most frequent languages."""

from __future__ import annotations

from pathlib import Path

from heareval.tasks.corpora import vox_lingua_top10
from tests.stand_ins import write_tree


def test_a_tie_at_the_tenth_place_goes_by_name_and_only_the_suffix_goes(tmp_path: Path) -> None:
    counts = {**dict.fromkeys("bcdefghij", 3), "z": 2, "y": 2, "x": 1}
    tree = {
        f"dev/{language}/-{language}.{n}---0001.5-0002.75.wav": b""
        for language, count in counts.items()
        for n in range(count)
    }
    found = list(vox_lingua_top10.read_recordings({"train": write_tree(tree, tmp_path)}, "full"))
    assert {label for r in found for label in r.labels} == {*"bcdefghij", "y"}
    assert "-b.0---0001.5-0002.75" in {r.clip_id for r in found}
