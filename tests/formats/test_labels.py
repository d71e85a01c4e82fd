"""Labels, events and vocabularies: shapes that are read, and those that are errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heareval import files
from heareval.errors import HearevalError
from heareval.formats.labels import (
    LabeledClip,
    format_vocabulary,
    read_clip_names,
    read_labels,
    read_vocabulary,
    remove_clips,
    write_labels,
    write_vocabulary,
)
from heareval.formats.task_folder import read_task_folder
from heareval.formats.task_metadata import read_task_metadata
from heareval.spec import Event
from tests.formats.folders import write_json, write_task

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir())


def read(folder: Path, split: str = "train") -> tuple[LabeledClip, ...]:
    return read_labels(folder, split, read_task_metadata(folder), read_vocabulary(folder))


@pytest.mark.parametrize(
    ("value", "labels"),
    [("low", ("low",)), (60, ("60",)), (["low"], ("low",)), ([60], ("60",)), (["60"], ("60",))],
)
def test_labels_of_a_scene(tmp_path: Path, value: Any, labels: tuple[str, ...]) -> None:
    folder = write_task(tmp_path / "tones")
    write_json(folder / "train.json", {"b.wav": value, "a.wav": ["low"]})
    assert read(folder) == (LabeledClip("b.wav", labels), LabeledClip("a.wav", ("low",)))


def test_any_number_of_labels(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "tones", prediction_type="multilabel")
    write_json(folder / "train.json", {"a.wav": [], "b.wav": ["low", 60]})
    assert [clip.labels for clip in read(folder)] == [(), ("low", "60")]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "got 0 labels, expected exactly one in a multiclass task"),
        (["low", 60], "got 2 labels, expected exactly one in a multiclass task"),
        (None, "got None, expected a list of labels"),
        (True, "got True, expected a list of labels"),
        (0.5, "got 0.5, expected a list of labels"),
        ({"label": "low"}, "got {'label': 'low'}, expected a list of labels"),
        ([["low"]], r"got \[\['low'\]\], expected a list of labels"),
    ],
)
def test_other_shapes_name_the_clip(tmp_path: Path, value: Any, message: str) -> None:
    folder = write_task(tmp_path / "tones")
    write_json(folder / "train.json", {"a.wav": ["low"], "b.wav": value})
    with pytest.raises(HearevalError, match=rf"/tones/train\.json: train/b\.wav: {message}"):
        read(folder)


@pytest.mark.parametrize("label", ["", "Low", 61])
def test_labels_outside_the_vocabulary(tmp_path: Path, label: str | int) -> None:
    folder = write_task(tmp_path / "tones")
    write_json(folder / "train.json", {"b.wav": [label]})
    message = (
        rf"unknown label of train/b\.wav in {folder}/train\.json: got '{label}', expected one of 60, low"
    )
    with pytest.raises(HearevalError, match=message):
        read(folder)


def test_events(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "tones", kind="event")
    event = {"label": 60, "start": 0, "end": 1.5, "channel": 3}
    write_json(folder / "train.json", {"a.wav": [event], "b.wav": []})
    assert read(folder) == (LabeledClip("a.wav", events=(Event(0, 1.5, "60"),)), LabeledClip("b.wav"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("low", "got 'low', expected a list of events with label, start, end"),
        ({"label": "low", "start": 0, "end": 1}, "got {'label.*, expected a list of events"),
        (["low"], "got 'low', expected events with label, start, end"),
        (
            [{"event_label": "low", "onset": 0, "offset": 1}],
            "got {'event_label.*, expected events with label",
        ),
        ([{"label": "low", "start": 0}], "got {'label': 'low', 'start': 0}, expected events with label"),
        ([{"label": None, "start": 0, "end": 1}], "an event: label: got None, expected text or a whole"),
        ([{"label": 0.5, "start": 0, "end": 1}], "an event: label: got 0.5, expected text or a whole number"),
        ([{"label": "low", "start": "0", "end": 1}], "an event: start: got '0', expected a number"),
        ([{"label": "low", "start": 0, "end": float("nan")}], "an event: end: got nan, expected a number"),
        (
            [{"label": "low", "start": 2, "end": 1}],
            "an event: got from 2 to 1 ms, expected 0 <= start <= end",
        ),
        ([{"label": "low", "start": -1, "end": 1}], "an event: got from -1 to 1 ms"),
        ([{"label": "low", "start": 0, "end": 1e9}], "an event: got from 0 to 1e.09 ms.*within a day"),
    ],
)
def test_wrong_events_name_the_clip(tmp_path: Path, value: Any, message: str) -> None:
    folder = write_task(tmp_path / "tones", kind="event")
    write_json(folder / "train.json", {"b.wav": value})
    with pytest.raises(HearevalError, match=rf"/tones/train\.json: train/b\.wav: {message}"):
        read(folder)


@pytest.mark.parametrize("name", ["../a.wav", "/a.wav", "a\0.wav", ""])
def test_clips_outside_the_folder(tmp_path: Path, name: str) -> None:
    folder = write_task(tmp_path / "tones")
    write_json(folder / "train.json", {name: ["low"]})
    for reader in (read, lambda path: read_clip_names(path, "train")):
        with pytest.raises(HearevalError, match=r"train\.json: got clip .*, expected a file inside"):
            reader(folder)


def test_a_split_without_clips(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "tones")
    write_json(folder / "valid.json", {})
    with pytest.raises(HearevalError, match=r"valid\.json: got no clips, expected at least one"):
        read(folder, "valid")


# --------------------------------------------------------------------------- vocabulary


@pytest.mark.parametrize(
    "text", ["idx,label\n0,a\n1,b c\n", "idx,label\n1,b c\n0,a\n", "label,x,idx\na,,0\nb c,,1\n"]
)
def test_vocabularies(tmp_path: Path, text: str) -> None:
    (tmp_path / "labelvocabulary.csv").write_text(text)
    assert read_vocabulary(tmp_path) == ("a", "b c")
    if text.startswith("idx,label\n0"):
        assert read_vocabulary(tmp_path, is_exact=True) == ("a", "b c")
    else:
        with pytest.raises(HearevalError, match="expected i"):
            read_vocabulary(tmp_path, is_exact=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "got no such file, expected the labels of the task"),
        (b"", "got other columns, expected idx,label"),
        (b"index,name\n0,a\n", "got other columns, expected idx,label"),
        (b"idx,label\n0\n", "got other columns, expected idx,label"),
        (b"idx,label\nx,a\n", "got other columns, expected idx,label"),
        (b"idx,label\n0,a\n2,b\n", "got 2 rows, expected indices 0, 1, 2 ... without a gap"),
        (b"idx,label\n0,a\n0,b\n", "got 2 rows, expected indices 0, 1, 2"),
        (b"idx,label\n", "got 0 rows"),
        (b"idx,label\n0,a\n1,a\n", "got label 'a' twice, expected each once"),
        (b"\xff\xfe", "got 'utf-8' codec .*, expected text in UTF-8"),
    ],
)
def test_wrong_vocabularies(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "labelvocabulary.csv").write_bytes(content)
    with pytest.raises(HearevalError, match=rf"/labelvocabulary\.csv: {message}.*\. Mend it\.$"):
        read_vocabulary(tmp_path, remedy="Mend it.")


# --------------------------------------------------------------------------- writing


@pytest.mark.parametrize("case", CASES)
def test_published_files_are_written_byte_for_byte(tmp_path: Path, case: str) -> None:
    task = read_task_folder(GOLDEN / case)
    raw = {split: json.loads((GOLDEN / case / f"{split}.json").read_text()) for split in task.clips}
    for split, clips in task.clips.items():
        if task.metadata.is_event:
            labels: Any = {clip.name: clip.events for clip in clips}
        else:
            # The vocabulary holds numbers as text, the JSON as numbers.
            labels = raw[split]
            assert [tuple(map(str, each)) for each in labels.values()] == [clip.labels for clip in clips]
        write_labels(tmp_path, split, labels)
        assert json.loads((tmp_path / f"{split}.json").read_text()) == _with_text(raw[split])
    numbers = all(label.isdigit() for label in task.vocabulary)
    write_vocabulary(tmp_path, map(int, task.vocabulary) if numbers else task.vocabulary)
    ours = (tmp_path / "labelvocabulary.csv").read_bytes()
    assert ours == (GOLDEN / case / "labelvocabulary.csv").read_bytes()


def _with_text(labels: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [{**each, "label": str(each["label"])} if isinstance(each, dict) else each for each in values]
        for name, values in labels.items()
    }


def test_labels_as_published(tmp_path: Path) -> None:
    labels = {"a.wav": (60, "low"), "b.wav": (Event(0.0, 2.5, 60),)}
    write_labels(tmp_path, "train", labels)
    expected = {"a.wav": [60, "low"], "b.wav": [{"label": 60, "start": 0.0, "end": 2.5}]}
    assert (tmp_path / "train.json").read_text() == files.dump_json(expected)


def test_vocabulary_keeps_the_order_of_numbers() -> None:
    assert format_vocabulary({10, 9}) == "idx,label\n0,9\n1,10\n"
    assert format_vocabulary({"10", "9"}) == "idx,label\n0,10\n1,9\n"


def test_removed_clips(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "tones")
    assert remove_clips(folder, "train", {"low"}) == {60}
    assert (folder / "train.json").read_text() == files.dump_json({"high.wav": [60]})
    with pytest.raises(HearevalError, match="split train: got no clip with usable audio"):
        remove_clips(folder, "train", {"high"})
    events = write_task(tmp_path / "events", kind="event")
    assert remove_clips(events, "train", {"silence"}) == {"low"}
