"""task_metadata.json read, composed and changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heareval import files
from heareval.errors import HearevalError
from heareval.formats.fields import Fields
from heareval.formats.task_description import adopt_task_metadata, describe_task, record_skipped_clips
from heareval.formats.task_metadata import TaskMetadata, parse_task_metadata, read_task_metadata
from heareval.tasks.registry import all_tasks
from tests.formats.folders import SCENE_METADATA, write_task

GOLDEN = Path(__file__).parent.parent / "golden"


def parse(**changes: Any) -> TaskMetadata:
    return parse_task_metadata(Fields("task_metadata.json", {**SCENE_METADATA, **changes}, "Mend it."))


def test_plain_values(tmp_path: Path) -> None:
    metadata = read_task_metadata(write_task(tmp_path / "tones", kind="event"))
    assert metadata == TaskMetadata(
        name="tones",
        version="v1",
        mode="full",
        embedding_type="event",
        prediction_type="multilabel",
        split_mode="trainvaltest",
        splits=("train", "valid", "test"),
        metrics=("event_onset_200ms_fms",),
        loss_decides=False,
        settings_grid={},
        postprocessing_grid={"median_filter_ms": (150,), "min_duration": (50,)},
        is_published=None,
    )
    assert (metadata.is_event, metadata.is_multilabel, metadata.is_kfold) == (True, True, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task_name": None}, "task_name: got null, expected text"),
        ({"task_name": ""}, "task_name: got '', expected a name"),
        ({"task_name": 3}, "task_name: got 3, expected text"),
        ({"version": ["v1"]}, r"version: got \['v1'\], expected text or a number"),
        ({"embedding_type": "scenes"}, "unknown embedding_type in task_metadata.json: got 'scenes'.*scene"),
        ({"embedding_type": None}, "embedding_type: got null, expected text"),
        ({"prediction_type": "multi"}, "unknown prediction_type in task_metadata.json: got 'multi'"),
        (
            {"embedding_type": "event"},
            "prediction_type: got multiclass for an event task, expected multilabel",
        ),
        ({"split_mode": "kfold"}, "unknown split_mode in task_metadata.json: got 'kfold'"),
        ({"splits": "train"}, "splits: got 'train', expected a list of texts"),
        ({"splits": []}, "splits: got no split, expected at least one"),
        ({"splits": ["train", "../../evil"]}, r"splits: got '\.\./\.\./evil', expected the name of a folder"),
        ({"splits": ["/tmp"]}, "splits: got '/tmp', expected the name of a folder"),
        ({"splits": ["a\0b"]}, r"splits: got 'a\\x00b', expected the name of a folder"),
        ({"splits": None, "split_mode": "presplit_kfold"}, "nfolds: got nothing, expected a whole number"),
        (
            {"splits": None, "split_mode": "presplit_kfold", "nfolds": 10**9},
            "expected a number from 1 to 100",
        ),
        ({"evaluation": []}, "evaluation: got no metric, expected at least one"),
        ({"evaluation": "mAP"}, "evaluation: got 'mAP', expected a list of texts"),
        ({"evaluation_params": []}, r"evaluation_params: got \[\], expected an object"),
        (
            {"evaluation_params": {"task_specific_param_grid": {"hidden_layers": 2}}},
            "evaluation_params: task_specific_param_grid: hidden_layers: got 2, expected a list of values",
        ),
        (
            {"evaluation_params": {"event_postprocessing_grid": {"min_duration": ["50"]}}},
            "event_postprocessing_grid: min_duration: got .*, expected a list of numbers",
        ),
        (
            {"evaluation_params": {"event_postprocessing_grid": {"min_duration": []}}},
            r"event_postprocessing_grid: min_duration: got \[\], expected a list of values",
        ),
        ({"use_scoring_for_early_stopping": "no"}, "early_stopping: got 'no', expected true or false"),
    ],
)
def test_wrong_values(change: dict[str, Any], message: str) -> None:
    with pytest.raises(HearevalError, match=message):
        parse(**change)


@pytest.mark.parametrize(
    ("settings", "splits"),
    [
        ({"split_mode": "trainvaltest"}, ("train", "valid", "test")),
        ({"split_mode": "new_split_kfold", "nfolds": 3}, ("fold00", "fold01", "fold02")),
        ({"split_mode": "presplit_kfold", "nfolds": 2}, ("fold00", "fold01")),
    ],
)
def test_splits_follow_from_the_split_mode(settings: dict[str, Any], splits: tuple[str, ...]) -> None:
    assert parse(**settings, splits=None).splits == splits
    assert parse(**settings, splits=["b", "a"]).splits == ("b", "a"), "what the file lists counts"


def test_keys_of_a_later_version_are_ignored() -> None:
    assert parse(pairs=[1, 2]) == parse()


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_published_files(case: str) -> None:
    metadata = read_task_metadata(GOLDEN / case)
    values = json.loads((GOLDEN / case / "task_metadata.json").read_text())
    assert metadata.name == values["task_name"]
    assert list(metadata.splits) == values["splits"]
    assert list(metadata.metrics) == values["evaluation"]
    without_list = {key: value for key, value in values.items() if key != "splits"}
    assert parse_task_metadata(Fields("", without_list)).splits == metadata.splits


@pytest.mark.parametrize("name", sorted(all_tasks()))
def test_descriptions_of_all_tasks_are_read_again(name: str) -> None:
    task = all_tasks()[name]
    for mode in task.modes:
        metadata = parse_task_metadata(Fields(name, describe_task(task, mode)))
        assert (metadata.name, metadata.version, metadata.mode) == (name, task.version, mode)
        assert metadata.splits == task.splits_of(mode).names
        assert metadata.is_published is None
        settings, notes = adopt_task_metadata(Fields(name, describe_task(task, mode)), task, mode)
        assert (settings, notes) == (describe_task(task, mode), [])


@pytest.mark.parametrize("has_corpus", [False, True])
def test_skipped_clips_are_recorded(tmp_path: Path, has_corpus: bool) -> None:
    folder = write_task(tmp_path / "tones")
    record_skipped_clips(folder, ["train/b", "test/a"], has_corpus=has_corpus)
    expected = {**SCENE_METADATA, "skipped": ["test/a", "train/b"]}
    if has_corpus:
        expected["not_the_published_corpus"] = []
    assert (folder / "task_metadata.json").read_text() == files.dump_json(expected)
    assert read_task_metadata(folder).is_published is (False if has_corpus else None)
