"""Scores of a few clips of each split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from heareval import layout
from heareval.errors import HearevalError
from heareval.formats.limit import limit_task, write_limited_description
from heareval.formats.task_folder import read_task_folder
from heareval.predictions.claimed_protocol import find_protocol
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.protocol import Protocol, settings_for_fingerprint
from heareval.predictions.stored import read_stored
from heareval.predictions.writing import write_results
from tests.predictions.conftest import write_event_task, write_scene_task
from tests.predictions.test_pairwise import RELATIONS, write_pairwise_task

LINEAR = Protocol(probe="linear", device="cpu")


def limit_folder(folder: Path, limit: int) -> Path:
    """Return a folder with the embeddings of a few clips of each split of another one."""
    whole, limited = read_task_folder(folder), folder.with_name(f"{folder.name}-limit{limit}")
    few = limit_task(whole, limit)
    shutil.copytree(folder, limited)
    write_limited_description(few, limited)
    for split, clips in few.clips.items():
        rows = [whole.clips[split].index(clip) for clip in clips]
        for name in (layout.split_array(split), layout.split_timestamps(split)):
            if (folder / name).exists():
                np.save(limited / name, np.load(folder / name)[rows])
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    (limited / "MANIFEST.json").write_text(json.dumps({**manifest, "limit": limit}))
    return limited


@pytest.mark.parametrize("name", RELATIONS)
def test_related_clips_are_scored(name: str, tmp_path: Path) -> None:
    """Also a few clips have relations of every kind, and scores that are defined."""
    folder = limit_folder(write_pairwise_task(tmp_path, name), 10)
    protocol = LINEAR.for_task(is_pairwise=True)
    with pytest.raises(ValueError, match="with the limit 10"):
        evaluate_folder(folder, protocol)
    protocol = Protocol(limit=10).for_task(is_pairwise=True)
    write_results(folder, evaluate_folder(folder, protocol), "0", "0123456789abcdef")
    scores = read_stored(folder, "pairwise-l1-limit10").scores
    assert scores.clips == {"test": 10}
    assert all(np.isfinite(entry.value) for entry in scores.scores.values())


@pytest.mark.parametrize("name", ["same_different", "retrieval", "roles", "abx"])
def test_clips_that_are_not_related_are_one_line_on_the_limit(name: str, tmp_path: Path) -> None:
    folder = limit_folder(write_pairwise_task(tmp_path, name), 1)
    with pytest.raises(HearevalError, match=r"in the task: got none.* Use a larger limit than 1\.$"):
        evaluate_folder(folder, Protocol(limit=1).for_task(is_pairwise=True))


def test_a_single_clip_to_train_on_is_one_line_on_the_limit(tmp_path: Path) -> None:
    folder = limit_folder(write_scene_task(tmp_path, "scene"), 1)
    told = r"training data for test: .* got 1 embedding.* Use a larger limit than 1\.$"
    with pytest.raises(HearevalError, match=told):
        evaluate_folder(folder, Protocol(probe="linear", device="cpu", limit=1))


@pytest.mark.parametrize("write", [write_scene_task, write_event_task])
def test_two_clips_of_each_split_are_enough(write: object, tmp_path: Path) -> None:
    folder = limit_folder(write(tmp_path, "task"), 2)  # type: ignore[operator]
    for protocol in (Protocol(probe="linear", limit=2), Protocol(grid="faster", grid_points=1, limit=2)):
        write_results(folder, evaluate_folder(folder, protocol), "0", "0123456789abcdef")
        assert read_stored(folder, protocol.recorded_name).scores.clips["test"] == 2


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(limit=20),
        Protocol(grid="fast", seeds=5, limit=1),
        Protocol(probe="knn-l1", limit=300),
        Protocol(name="pairwise", distance="l2", limit=7),
    ],
    ids=lambda protocol: protocol.recorded_name,
)
def test_the_name_of_a_protocol_tells_its_limit(protocol: Protocol) -> None:
    name = protocol.recorded_name
    assert find_protocol(name) == protocol
    assert layout.find_limit(name) == protocol.limit
    assert settings_for_fingerprint(protocol)["protocol"] == name
    assert find_protocol(f"{name}0").limit == 10 * protocol.limit  # type: ignore[union-attr, operator]
    assert find_protocol(name.replace("limit", "limit0")) is None
