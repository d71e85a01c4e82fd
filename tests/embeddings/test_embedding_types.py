"""Submissions that have embeddings of one type only, or keep something between calls of the two functions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from heareval.embeddings.inside.checks.table import CHECKS
from tests.commands import MODEL, RESULT, SPOKEN, command, evaluate, only_line
from tests.embeddings.checking import findings_of, noticed
from tests.embeddings.clips import write_task
from tests.embeddings.zoo import GOOD, ZOO

SPLITS = {"train": [8000], "valid": [8000], "test": [8000, 8000]}
NO_TIMESTAMPS = "def get_timestamp_embeddings(audio, model):\n    raise NotImplementedError('scenes only')\n"
SIZES = "scene_embedding_size, timestamp_embedding_size = 16000, 8, 8"
ONLY_SCENES = MODEL.replace("get_timestamp_embeddings(", "frames_of(").replace(
    SIZES, "scene_embedding_size = 16000, 8"
)
ONLY_TIMESTAMPS = MODEL.replace("get_scene_embeddings(", "scenes_of(").replace(
    SIZES, "timestamp_embedding_size = 16000, 8"
)
# Whichever function is called first decides what both return.
KEEPS_STATE = (
    MODEL.replace(
        "def load_model",
        "def first(model, name):\n    model.first = getattr(model, 'first', name)\n"
        "    return float(len(model.first))\n\ndef load_model",
    )
    .replace("    return torch.log1p(spectrum)", "    return first(model, 'event') * torch.log1p(spectrum)")
    .replace("    return get_timestamp", "    first(model, 'the scene')\n    return get_timestamp")
)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a scene task and an event task."""
    for kind in ("scene", "event"):
        write_task(tmp_path / "tasks" / kind, SPLITS, kind)
    return tmp_path


def embedded(folder: Path, name: str) -> set[str]:
    return {path.parent.name for path in (folder / "embeddings" / name).glob("*/test.npy")}


@pytest.mark.parametrize(
    ("source", "has", "lacks", "told"),
    [
        (ONLY_SCENES, "scene", "event", "got no function get_timestamp_embeddings"),
        pytest.param(
            MODEL.replace("get_timestamp_embeddings(", "frames_of(") + NO_TIMESTAMPS,
            "scene",
            "event",
            "got NotImplementedError: scenes only from get_timestamp_embeddings, expected embeddings for ",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            MODEL.replace(SIZES, "scene_embedding_size = 16000, 8"),
            "scene",
            "event",
            "got timestamp_embedding_size = None, expected an attribute timestamp_embedding_size, a positive",
            marks=pytest.mark.slow,
        ),
        (ONLY_TIMESTAMPS, "event", "scene", "got no function get_scene_embeddings"),
    ],
    ids=["no timestamp function", "timestamps not implemented", "no size", "no scene function"],
)
def test_one_type_is_enough_for_its_tasks(here: Path, source: str, has: str, lacks: str, told: str) -> None:
    (here / "half.py").write_text(source)
    done = command(here, "heareval", "embed", "half", "--task", has)
    assert done.returncode == 0, done.stderr
    line = only_line(command(here, "heareval", "embed", "half", "--task", lacks))
    assert told in line
    both = command(here, "heareval", "embed", "half")
    assert both.returncode == 2
    line = only_line(both)
    assert told in line
    assert line.endswith(f"Left out: {lacks}.")
    assert both.stderr.endswith(f"not embedded: half on {lacks}\n")
    assert "nothing to do" in both.stdout, "the other task is embedded"
    assert embedded(here, "half") == {has}


def test_a_function_that_fails_leaves_out_its_tasks_only(here: Path) -> None:
    (here / "half.py").write_text(MODEL.replace("return get_timestamp_embeddings(", "return missing_name("))
    done = command(here, "heareval", "embed", "half")
    assert done.returncode == 2
    line = only_line(done)
    assert "NameError: name 'missing_name' is not defined" in line
    assert line.endswith(f"Its log is in {here}/_workdir/submissions. Left out: scene.")
    assert embedded(here, "half") == {"event"}


@pytest.mark.slow
def test_nothing_is_kept_between_the_functions(here: Path) -> None:
    (here / "half.py").write_text(KEEPS_STATE)
    arrays = {}
    for order in (("all",), ("event", "scene"), ("scene", "event")):
        for task in order:
            words = ("half", "--task", task, "--embeddings-dir", "-".join(order))
            done = command(here, "heareval", "embed", *words, "--tmp-dir", f"work-{'-'.join(order)}")
            assert done.returncode == 0, done.stderr
        folder = here / "-".join(order) / "half"
        arrays[order] = [np.load(folder / kind / "test.npy") for kind in ("scene", "event")]
    for other in arrays.values():
        for one, two in zip(arrays["all",], other, strict=True):
            np.testing.assert_array_equal(one, two)
    # The fingerprints are the same as well.
    assert "nothing to do" in command(here, "heareval", "embed", "half", "--embeddings-dir", "all").stdout


def test_evaluate_scores_what_it_can(tmp_path: Path, mirror: Path) -> None:
    (tmp_path / "my_model.py").write_text(ONLY_SCENES)
    done = evaluate(tmp_path, mirror, "--tasks", "spoken_digit,dcase2016_task2")
    assert done.returncode == 2
    event_task = "dcase2016_task2-hear2021-full"
    assert only_line(done).endswith(f"Left out: {event_task}.")
    assert done.stderr.endswith(f"not evaluated: my_model on {event_task}\n")
    assert (tmp_path / "embeddings" / "my_model" / SPOKEN / RESULT).is_file()
    assert not (tmp_path / "tasks" / event_task).exists(), "it would have been made for nothing"
    line = only_line(evaluate(tmp_path, mirror, "--tasks", "dcase2016_task2"))
    assert "got no function get_timestamp_embeddings" in line


# --------------------------------------------------------------------------- validate


@pytest.mark.parametrize("name", ["no_scenes", "refuses_timestamps"])
def test_validate_checks_what_there_is(folder: Path, name: str) -> None:
    findings = findings_of(folder, ZOO[name].source)
    lacks = "scene" if name == "no_scenes" else "event"
    assert noticed(findings) == {"embeddings": "warning"}
    assert findings["embeddings"]["measured"].endswith(f": no score on {lacks} tasks")
    left_out = {check for check, finding in findings.items() if finding["result"] == "not run"}
    assert left_out == {check for check in CHECKS if CHECKS[check].embedding_type == lacks}
    for check in left_out:
        assert findings[check]["measured"] == f"no embeddings for {lacks} tasks"


def test_validate_tells_of_a_submission_without_both(folder: Path) -> None:
    source = GOOD.replace("def get_scene_embeddings", "def scenes").replace(
        "def get_timestamp_embeddings", "def frames"
    )
    findings = findings_of(folder, source)
    assert noticed(findings) == {"functions": "failed"}
    told = "no function get_scene_embeddings, get_timestamp_embeddings"
    assert findings["functions"]["measured"] == told


@pytest.mark.slow
def test_a_submission_with_one_type_passes(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(ZOO["refuses_timestamps"].source)
    done = command(tmp_path, "heareval", "validate", "half", "--long-seconds", "10", "--json")
    assert done.returncode == 0, done.stdout
    told = {check["check"]: check for check in json.loads(done.stdout)["checks"]}
    assert told["embeddings"]["result"] == "warning"
    assert told["speed"]["result"] == "ok"
