"""Splits that are read from an embeddings folder: order, frame labels, bad input."""

import json
import random

import numpy as np
import pytest
import torch

from heareval import layout
from heareval.errors import HearevalError
from heareval.predictions.data import read_task
from heareval.predictions.kinds import find_kind, read_splits
from heareval.predictions.kinds.event import label_frames
from heareval.predictions.metrics.event import EventTable

CPU = torch.device("cpu")


def _read(folder):
    return read_splits(find_kind(read_task(folder)), CPU)


def _rewrite(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_one_generator_shuffles_all_splits_in_their_order(scene_folder):
    folder = scene_folder(clips=24)
    rng = random.Random(0)
    for order in read_task(folder).orders:
        clips = list(json.loads((folder / layout.split_json(order.name)).read_text()))
        rng.shuffle(clips)
        assert order.clip_names == tuple(clips)


def test_rows_belong_to_their_clips(scene_folder):
    folder = scene_folder()
    for name, split in _read(folder).items():
        stored = np.load(folder / layout.split_array(name))
        labels = json.loads((folder / layout.split_json(name)).read_text())
        vocabulary = list(read_task(folder).labels)
        for row, clip in enumerate(split.clips):
            assert np.array_equal(split.x[row].numpy(), stored[list(labels).index(clip)])
            assert split.y[row] == vocabulary.index(str(labels[clip][0]))


def test_half_precision_on_disk_is_single_in_training(event_folder):
    folder = event_folder()
    whole = _read(folder)["train"]
    path = folder / "train.npy"
    np.save(path, np.load(path).astype(np.float16))
    half = _read(folder)["train"]
    assert half.x.dtype == torch.float32
    assert torch.equal(half.x, whole.x.half().float())
    times = folder / layout.split_timestamps("train")
    np.save(times, np.load(times).astype(np.float16))
    with pytest.raises(HearevalError, match=r"got float16 .*, expected float32 \(clips, timestamps\)"):
        _read(folder)


def test_multilabel_targets(scene_folder):
    folder = scene_folder(prediction_type="multilabel")
    split = _read(folder)["train"]
    labels = json.loads((folder / "train.json").read_text())
    assert split.y.shape == (24, 3)
    assert split.y.sum(dim=1).tolist() == [len(labels[clip]) for clip in split.clips]


def test_frames_of_a_clip_follow_each_other(event_folder):
    folder = event_folder()
    split = _read(folder)["valid"]
    stored = np.load(folder / "valid.npy")
    assert split.x.shape == (5 * 80, 8)
    for i, clip in enumerate(split.clips):
        row = list(json.loads((folder / "valid.json").read_text())).index(clip)
        assert np.array_equal(split.x[i * 80 : (i + 1) * 80].numpy(), stored[row])


def test_frame_labels_by_a_plain_loop():
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(0, 200, (3, 40)) * 5.0 + np.arange(40) / 1000, axis=1)
    onset = rng.integers(0, 150, 12) * 5.0
    offset = onset + rng.integers(0, 60, 12) * 5.0
    events = EventTable(rng.integers(3, size=12), rng.integers(2, size=12), onset, offset)
    expected = np.zeros((3, 40, 2))
    for clip, label, start, end in zip(events.clip, events.label, onset, offset, strict=True):
        for frame in range(40):
            if start <= times[clip, frame] < end + 0.0001:
                expected[clip, frame, label] = 1
    assert expected.any()
    assert np.array_equal(label_frames(events, times, 2), expected)


def test_both_ends_of_an_event_belong_to_it():
    # 1001.1 ms is a number that doesn't survive the way to seconds and back.
    times = np.array([[1001.1 - 50, 1001.1, 1051.1, 1101.1, 1151.1]])
    events = EventTable(np.array([0]), np.array([0]), np.array([1001.1]), np.array([1101.1]))
    assert label_frames(events, times, 1)[0, :, 0].tolist() == [0, 1, 1, 1, 0]


def test_event_without_length_labels_its_frame():
    events = EventTable(np.array([0]), np.array([0]), np.array([100.0]), np.array([100.0]))
    assert label_frames(events, np.array([[50.0, 100.0, 150.0]]), 1)[0, :, 0].tolist() == [0, 1, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_must_be_finite(scene_folder, value):
    folder = scene_folder()
    x = np.load(folder / "valid.npy")
    x[7, 2] = value
    np.save(folder / "valid.npy", x)
    with pytest.raises(HearevalError, match=r"valid/valid_7\.wav: got NaN or infinity"):
        _read(folder)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((23, 8), np.float32),
            r"got float32 \(23, 8\), expected float32 or float16 \(clips, dim\) with 24",
        ),
        (np.zeros((24, 8, 2), np.float32), r"got float32 \(24, 8, 2\)"),
        (np.zeros((24, 0), np.float32), r"got float32 \(24, 0\)"),
        (np.zeros((24, 8), np.float64), r"got float64 \(24, 8\)"),
    ],
)
def test_shape_and_type_of_embeddings(scene_folder, array, message):
    folder = scene_folder()
    np.save(folder / "train.npy", array)
    with pytest.raises(HearevalError, match=message):
        _read(folder)


def test_pickled_arrays_are_refused(scene_folder):
    folder = scene_folder()
    np.save(folder / "train.npy", np.array([{}] * 24, dtype=object), allow_pickle=True)
    with pytest.raises(HearevalError, match="can't be read"):
        _read(folder)


@pytest.mark.parametrize(
    "name", ["task_metadata.json", "labelvocabulary.csv", "test.json", "test.npy", "test.timestamps.npy"]
)
def test_missing_file(event_folder, name):
    folder = event_folder()
    (folder / name).unlink()
    with pytest.raises(HearevalError, match=f"{name}: got no such file|got no {name}"):
        _read(folder)


def test_label_outside_the_vocabulary(scene_folder):
    folder = scene_folder()
    _rewrite(folder / "test.json", lambda labels: labels.update({"test_3.wav": ["drums"]}))
    with pytest.raises(
        HearevalError, match=r"label of test/test_3\.wav in .*: got 'drums'.*Did you mean drum\?"
    ):
        _read(folder)


@pytest.mark.parametrize("labels", [[], ["drum", "flute"]])
def test_multiclass_clips_have_one_label(scene_folder, labels):
    folder = scene_folder()
    _rewrite(folder / "test.json", lambda clips: clips.update({"test_3.wav": labels}))
    with pytest.raises(HearevalError, match=f"got {len(labels)} labels, expected exactly one"):
        _read(folder)


def test_split_without_clips(scene_folder):
    folder = scene_folder()
    (folder / "valid.json").write_text("{}")
    with pytest.raises(HearevalError, match=r"valid\.json: got no clips"):
        _read(folder)


@pytest.mark.parametrize("change", ["shape", "standstill", "nan"])
def test_timestamps_fit_and_increase(event_folder, change):
    folder = event_folder()
    times = np.load(folder / "train.timestamps.npy")
    if change == "shape":
        times = times[:, 1:]
    else:
        times[2, 5] = times[2, 4] if change == "standstill" else np.nan
    np.save(folder / "train.timestamps.npy", times)
    message = r"got shape \(5, 79\)" if change == "shape" else r"timestamps of train/train_2\.wav"
    with pytest.raises(HearevalError, match=message):
        _read(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index,name\n0,a\n", "expected idx,label"),
        ("idx,label\n0,a\n2,b\n", "without a gap"),
        ("idx,label\n", "got 0 rows"),
    ],
)
def test_vocabulary(scene_folder, text, message):
    folder = scene_folder()
    (folder / "labelvocabulary.csv").write_text(text)
    with pytest.raises(HearevalError, match=message):
        read_task(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding_type": "scenes"}, "Did you mean scene"),
        ({"split_mode": "kfold"}, "unknown split_mode"),
        ({"evaluation": []}, "evaluation: got no metric"),
    ],
)
def test_metadata(scene_folder, change, message):
    with pytest.raises(HearevalError, match=message):
        read_task(scene_folder(**change))


def test_event_tasks_are_multilabel(event_folder):
    with pytest.raises(HearevalError, match="got multiclass for an event task, expected multilabel"):
        _read(event_folder(prediction_type="multiclass"))
