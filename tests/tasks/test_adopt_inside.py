"""The content of finished tarballs, and the errors for wrong content."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from heareval.errors import HearevalError
from heareval.formats.task_description import describe_task
from heareval.spec import TaskSpec
from heareval.tasks import adopt
from heareval.tasks.registry import find_task
from tests.stand_ins import Tree, write_tree
from tests.stand_ins.trees import as_json

TASK = find_task("spoken_digit")
INSIDE = "hear-2021.0.3/tasks/spoken_digit-1.0.9-full"


def sound(frames: int = 26880, rate: int = 48000, channels: int = 1, subtype: str = "PCM_16") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros((frames, channels), np.int16), rate, subtype, format="WAV")
    return stream.getvalue()


def finished(task: TaskSpec, vocabulary: bytes, labels: object, frames: int) -> Tree:
    """Return a task with one clip in each split: a.wav, a1.wav ..."""
    tree = {"labelvocabulary.csv": vocabulary}
    tree["task_metadata.json"] = as_json(describe_task(task, "full"))
    for number, split in enumerate(task.splits.names):
        name = f"a{number or ''}.wav"
        tree |= {f"{split}.json": as_json({name: labels}), f"48000/{split}/{name}": sound(frames)}
    return {f"hear-2021.0.3/tasks/{task.folder('full')}/{name}": data for name, data in tree.items()}


@pytest.fixture(scope="module")
def tree() -> Tree:
    return finished(TASK, b"idx,label\n0,5\n", [5], 26880)


def inside(tree: Tree, folder: Path, task: TaskSpec = TASK) -> adopt.TarballContent:
    return adopt.read_content(write_tree(tree, folder), task, "full")


@pytest.mark.parametrize("frames", [26877, 26880, 26883])
def test_clips_of_every_split(tmp_path: Path, frames: int) -> None:
    found = inside(finished(TASK, b"idx,label\n0,5\n", [5], frames), tmp_path)
    assert (found.is_corrected, found.selected.warnings, found.is_published) == (False, (), None)
    clips = [(clip.split, clip.clip_id) for clip in found.selected.clips]
    assert clips == [(split, f"a{number or ''}") for number, split in enumerate(TASK.splits.names)]
    assert {clip.path for clip in found.selected.clips} == set((tmp_path / INSIDE).glob("48000/*/a*.wav"))


def test_clips_of_any_length(tmp_path: Path) -> None:
    task = replace(TASK, clip_duration_s=None)
    assert (
        len(inside(finished(task, b"idx,label\n0,5\n", [5], 1), tmp_path / "one", task).selected.clips) == 5
    )
    with pytest.raises(HearevalError, match=r"48000/fold00/a\.wav: got no samples, expected at least one"):
        inside(finished(task, b"idx,label\n0,5\n", [5], 0), tmp_path / "none", task)


def changed_settings(tree: Tree, **settings: object) -> dict[str, object]:
    return {**json.loads(tree[f"{INSIDE}/task_metadata.json"]), **settings}


# The content of a clip's file, and the error for it.
BAD_SOUNDS = {
    "rate": (sound(rate=44100), "got PCM_16, 1 channels, 44100 Hz, expected PCM_16, 1 channel, 48000 Hz"),
    "stereo": (sound(channels=2), "got PCM_16, 2 channels"),
    "24 bit": (sound(subtype="PCM_24"), "got PCM_24, 1 channels"),
    "long": (sound(26884), "got 26884 frames, expected 26880 (0.56 s)"),
    "cut": (sound()[:-100], "got 26830 frames, expected 26880 (0.56 s)"),
    "text": (b"not a sound", "expected a readable WAV file"),
}


@pytest.mark.parametrize("case", BAD_SOUNDS)
def test_bad_sounds(tree: Tree, tmp_path: Path, case: str) -> None:
    content, message = BAD_SOUNDS[case]
    where = "48000/fold02/a2.wav"
    with pytest.raises(HearevalError, match=rf"^in the tarball, {where}: .*{re.escape(message)}.* fetch it"):
        inside({**tree, f"{INSIDE}/{where}": content}, tmp_path)


# The changed files (None: missing), and the error for them.
BAD_FILES = {
    "no metadata": ({"task_metadata.json": None}, "task_metadata.json: got no such file"),
    "metadata no JSON": ({"task_metadata.json": b"{"}, "task_metadata.json: got Expecting property name"),
    "metadata a list": ({"task_metadata.json": b"[]"}, "task_metadata.json: got [], expected a JSON object"),
    "no vocabulary": ({"labelvocabulary.csv": None}, "labelvocabulary.csv: got no such file"),
    "other columns": (
        {"labelvocabulary.csv": b"label,idx\n0,0\n"},
        "csv: got other columns, expected idx,label",
    ),
    "gap": (
        {"labelvocabulary.csv": b"idx,label\n0,0\n2,1\n"},
        "csv: got 2 rows, expected indices 0, 1, 2 ... without a gap",
    ),
    "no text": ({"labelvocabulary.csv": b"\xff\xfe"}, "labelvocabulary.csv: got 'utf-8' codec"),
    "label of another task": ({"labelvocabulary.csv": b"idx,label\n0,cha\n"}, "label cha, expected 0, 1, 2"),
    "clip in two splits": (
        {"fold01.json": b'{"a.wav": [5], "a1.wav": [5]}', "48000/fold01/a.wav": sound()},
        "fold01.json: got a.wav, which is also in fold00",
    ),
    "unknown label": ({"labelvocabulary.csv": b"idx,label\n0,6\n"}, "expected one of labelvocabulary.csv"),
    "split lost": ({"fold04.json": None}, "splits: got fold00, fold01, fold02, fold03, expected fold00"),
    "split more": ({"fold05.json": b"{}"}, "fold05, expected fold00, fold01, fold02, fold03, fold04"),
    "folder more": ({"48000/fold05/a.wav": b""}, "folders of 48000/: got fold00, fold01"),
    "clips lost": ({"48000/fold03/a3.wav": None}, "48000/fold03: got no a3.wav (1 missing), expected all of"),
    "clip more": (
        {"48000/fold00/b.wav": b""},
        "fold00.json: got no b.wav (1 missing), expected all of",
    ),
    "clip listed": (
        {"fold00.json": b'{"a.wav": [5], "b.wav": [5]}'},
        "48000/fold00: got no b.wav (1 missing)",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tree: Tree, tmp_path: Path, case: str) -> None:
    changes, message = BAD_FILES[case]
    changed = {**tree, **{f"{INSIDE}/{name}": data for name, data in changes.items()}}
    with pytest.raises(HearevalError, match=rf"^in the tarball, .*{re.escape(message)}"):
        inside({name: data for name, data in changed.items() if data is not None}, tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("embedding_type", "event"),
        ("prediction_type", "multilabel"),
        ("split_mode", "trainvaltest"),
        ("splits", ["fold00"]),
        ("splits", None),
    ],
)
def test_settings_of_another_task(tree: Tree, tmp_path: Path, key: str, value: object) -> None:
    other = as_json(changed_settings(tree, **{key: value}))
    with pytest.raises(HearevalError, match=rf"task_metadata.json: {key}: got {re.escape(repr(value))}"):
        inside({**tree, f"{INSIDE}/task_metadata.json": other}, tmp_path)


@pytest.mark.parametrize("name", ["libricount", "spoken_letter"])
def test_a_name_whose_labels_do_not_tell_it_apart(tree: Tree, tmp_path: Path, name: str) -> None:
    settings = {f"{INSIDE}/task_metadata.json": as_json(changed_settings(tree, task_name=name))}
    with pytest.raises(
        HearevalError, match=f"task_name of task_metadata.json: got {name}, expected spoken_digit"
    ):
        inside({**tree, **settings}, tmp_path)


def test_an_older_edition_that_tells_less(tree: Tree, tmp_path: Path) -> None:
    settings = changed_settings(tree)
    del settings["splits"], settings["mode"]
    found = inside({**tree, f"{INSIDE}/task_metadata.json": as_json(settings)}, tmp_path)
    assert found.is_corrected
    assert found.settings["splits"] == list(TASK.splits.names)


def test_other_metrics_are_told(tree: Tree, tmp_path: Path) -> None:
    other = as_json(changed_settings(tree, evaluation=["mAP"]))
    found = inside({**tree, f"{INSIDE}/task_metadata.json": other}, tmp_path)
    assert found.selected.warnings == ("metrics of the tarball: ['mAP'], of the task: ['top1_acc']",)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("README", "the top: got README, hear-2021.0.3, expected <edition>/tasks/<task>/ and nothing else"),
        ("hear-2021.0.3/tasks/other/a.json", "hear-2021.0.3/tasks/: got other, spoken_digit-1.0.9-full"),
        ("hear-2021.0.3/data/a.json", "hear-2021.0.3/: got data, tasks"),
    ],
)
def test_more_than_one_task(tree: Tree, tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(HearevalError, match=re.escape(message)):
        inside({**tree, more: b""}, tmp_path)


@pytest.mark.parametrize(
    ("tree", "message"), [({"a.json": b""}, "the top: got a.json"), ({"a/b/c": b""}, "a/: got b, expected")]
)
def test_no_task_at_all(tree: Tree, tmp_path: Path, message: str) -> None:
    with pytest.raises(HearevalError, match=re.escape(message)):
        inside(tree, tmp_path)


# --------------------------------------------------------------------------- labels and events


def events_inside(events: object, folder: Path) -> adopt.TarballContent:
    """Return the content of an event task with a one-second clip in each split."""
    task = replace(find_task("dcase2016_task2"), clip_duration_s=1.0)
    return inside(finished(task, b"idx,label\n0,cough\n", events, 48000), folder, task)


def event(start: object, end: object, label: str = "cough") -> dict[str, object]:
    return {"label": label, "start": start, "end": end}


def test_events_in_the_clip(tmp_path: Path) -> None:
    found = events_inside([event(0.0, 1000.0), event(3, 3)], tmp_path)
    assert [clip.split for clip in found.selected.clips] == ["test", "train", "valid"]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([event(-1, 10)], "an event: got from -1 to 10 ms, expected 0 <= start <= end"),
        ([event(0, 1001)], "got an event from 0 to 1001 ms, expected one within the clip, 1000 ms"),
        ([event(20, 10)], "an event: got from 20 to 10 ms, expected 0 <= start <= end"),
        ([event(0, float("nan"))], "an event: end: got nan, expected a number"),
        ([event("0", 10)], "an event: start: got '0', expected a number"),
        ([event(0, 10, "cat")], "got label 'cat', expected one of labelvocabulary.csv"),
        ([{"label": "cough", "start": 0}], "got {'label': 'cough', 'start': 0}, expected events"),
        (["cough"], "got 'cough', expected events with label, start, end"),
        ([], "got [], expected a list of events"),
        ("cough", "got 'cough', expected a list of events"),
    ],
)
def test_bad_events(tmp_path: Path, events: object, message: str) -> None:
    with pytest.raises(HearevalError, match=re.escape(f"48000/test/a2.wav: {message}")):
        events_inside(events, tmp_path)


@pytest.mark.parametrize("labels", [[], [1, 2], 1, "1", {"label": 1}])
def test_labels_of_a_scene(tree: Tree, tmp_path: Path, labels: object) -> None:
    with pytest.raises(HearevalError, match=rf"got {re.escape(repr(labels))}, expected a list of one label"):
        inside({**tree, f"{INSIDE}/fold00.json": as_json({"a.wav": labels})}, tmp_path)
