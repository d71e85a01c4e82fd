"""Results of an evaluation: written and read back, and refused in one line whatever the files hold."""

import dataclasses
import json
import math

import numpy as np
import pytest

from heareval import layout
from heareval.errors import HearevalError
from heareval.formats.results_folder import (
    SplitPredictions,
    find_scores_fingerprint,
    read_predictions,
    read_scores,
    write_predictions,
    write_scores,
)
from heareval.formats.scores import (
    FoldEntry,
    GridEntry,
    RunEntry,
    ScoreEntry,
    Scores,
    finite_or_none,
    scores_to_json,
)

SHAPE = (2, 3, 4)
POSTPROCESSING = {"median_filter_ms": 250.0, "min_duration_ms": 125.0}
MODEL = GridEntry({"lr": 0.1}, 0.5, POSTPROCESSING, 3, 6, 1.5, ((3, 0.5), (6, None)))
RUN = RunEntry(0, {"lr": 0.1}, (FoldEntry("test", "valid", ("train",), MODEL),), (MODEL,))
SCORES = Scores(
    protocol="hear2021",
    task="tones",
    version="v1",
    mode="full",
    fingerprint="feed",
    embeddings_fingerprint="beef",
    submission={"name": "mine"},
    is_the_published_corpus=None,
    made_from={},
    unusual_embedding={},
    scores={
        "event_onset_200ms_fms": ScoreEntry(0.5, None, (0.4, None), 990, 10, {"test": 0.5}, {"test": {}})
    },
    problems=("something",),
    decided_by="loss",
    runs=(RUN,),
    labels=4,
    clips={"test": 2},
    device="cpu",
    deterministic=True,
    seconds=2.5,
    versions={"python": "3.11"},
)
# With two seeds every number of a seed has a partner.
SEEDS = dataclasses.replace(
    SCORES,
    runs=(RUN, dataclasses.replace(RUN, seed=1)),
    scores={"mAP": ScoreEntry(None, folds={"test": None}, seed_std=None, seeds={"0": 0.5, "1": None})},
)


def _predictions(seeds):
    rng = np.random.default_rng(seeds)
    return SplitPredictions(
        ("a.wav", "b.wav"),
        rng.integers(2, size=SHAPE).astype(np.uint8),
        rng.random((seeds, *SHAPE)).astype(np.float32),
        np.cumsum(np.ones(SHAPE[:2]), axis=1),
        {name: np.full(seeds, value) for name, value in POSTPROCESSING.items()},
    )


@pytest.mark.parametrize("scores", [SCORES, SEEDS], ids=["one seed", "two seeds"])
def test_scores_are_read_as_they_were_written(scores, tmp_path):
    assert read_scores(write_scores(tmp_path, scores)) == scores


def test_the_first_seed_stands_at_the_top():
    values = scores_to_json(SEEDS)
    assert (values["seed"], values["seeds"], values["more_seeds"][0]["seed"]) == (0, 2, 1)
    assert values["scores"]["mAP"]["seed_std"] is None
    assert "seeds" not in scores_to_json(SCORES)["scores"]["event_onset_200ms_fms"]


@pytest.mark.parametrize("seeds", [1, 2])
def test_predictions_are_read_as_they_were_written(seeds, tmp_path):
    written = _predictions(seeds)
    scores = SCORES if seeds == 1 else SEEDS
    write_predictions(tmp_path, "hear2021", "feed", {"test": written})
    read = read_predictions(tmp_path, scores, {"test": (2, None, 4)})["test"]
    assert read.clips == written.clips
    for name in ("targets", "predictions", "timestamps_ms"):
        assert np.array_equal(getattr(read, name), getattr(written, name))
        assert getattr(read, name).dtype == getattr(written, name).dtype
    assert {name: values.tolist() for name, values in read.postprocessing.items()} == {
        name: [value] * seeds for name, value in POSTPROCESSING.items()
    }


def test_one_seed_has_no_axis_in_the_file(tmp_path):
    write_predictions(tmp_path, "hear2021", "feed", {"test": _predictions(1)})
    with np.load(tmp_path / layout.predictions("hear2021")) as members:
        assert members["test/predictions"].shape == SHAPE
        assert members["test/min_duration_ms"].shape == ()


@pytest.mark.parametrize(
    "text", ["[]", "{}", "3", "null", "", "nonsense", '{"scores": [1]}', '{"results": {}}']
)
def test_other_json_is_refused_with_the_file_and_the_remedy(text, tmp_path):
    path = tmp_path / layout.scores("hear2021")
    path.write_text(text)
    with pytest.raises(HearevalError, match=r"predicted-scores\.json.*evaluate the task again"):
        read_scores(path)
    assert find_scores_fingerprint(tmp_path, "hear2021") == ""


def _set(values, keys, value):
    *way, last = keys
    for key in way:
        values = values[key]
    values[last] = value


@pytest.mark.parametrize("value", [[], {}, "text", 3, True, None])
@pytest.mark.parametrize(
    "keys",
    [
        *([key] for key in scores_to_json(SCORES)),
        *(
            ["scores", "event_onset_200ms_fms", key]
            for key in ("score", "folds", "interval_95", "details", "seeds")
        ),
        *(["folds", 0, key] for key in ("test", "train", "settings", "postprocessing", "curve", "epochs")),
        ["grid", 0],
        ["scores", "event_onset_200ms_fms"],
    ],
    ids=lambda keys: ".".join(map(str, keys)),
)
def test_any_value_anywhere_is_read_or_refused(keys, value, tmp_path):
    path = write_scores(tmp_path, SCORES)
    values = json.loads(path.read_text())
    _set(values, keys, value)
    path.write_text(json.dumps(values))
    message = _error_of(path)
    assert message == "" or (str(path) in message and message.endswith("evaluate the task again."))


def _error_of(path):
    """The message with which a file is refused, "" if it is read."""
    try:
        scores_to_json(read_scores(path))
    except HearevalError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("test/targets", None, r"test/targets: got nothing, expected an array \(2, None, 4\)"),
        ("test/predictions", np.zeros((2, 3, 5), np.float32), r"got float32 \(2, 3, 5\), expected an array"),
        ("test/predictions", np.zeros(SHAPE, np.int64), r"got int64 \(2, 3, 4\)"),
        ("test/timestamps_ms", np.zeros((2, 4)), r"got float64 \(2, 4\), expected an array \(2, 3\)"),
        ("test/clips", np.array(["a.wav"]), r"test/clips: got <U5 \(1,\)"),
        ("test/min_duration_ms", np.array([1.0, 2.0]), r"min_duration_ms: got float64 \(2,\)"),
        (
            "fingerprint",
            np.array("dead"),
            "got predictions with fingerprint dead, expected feed, as in the sc",
        ),
    ],
)
def test_other_arrays_are_refused(member, value, message, tmp_path):
    write_predictions(tmp_path, "hear2021", "feed", {"test": _predictions(1)})
    path = tmp_path / layout.predictions("hear2021")
    with np.load(path) as held:
        members = {**held, member: value}
    np.savez(path, **{name: array for name, array in members.items() if array is not None})
    with pytest.raises(HearevalError, match=message):
        read_predictions(tmp_path, SCORES, {"test": (2, None, 4)})


@pytest.mark.parametrize("kept", [0, 10, 300])
def test_a_damaged_file_is_refused(kept, tmp_path):
    write_predictions(tmp_path, "hear2021", "feed", {"test": _predictions(1)})
    path = tmp_path / layout.predictions("hear2021")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(HearevalError, match=r"predictions\.npz can't be read"):
        read_predictions(tmp_path, SCORES, {"test": (2, None, 4)})
    path.unlink()
    with pytest.raises(HearevalError, match=r"predictions\.npz: got no such file"):
        read_predictions(tmp_path, SCORES, {"test": (2, None, 4)})


def test_fingerprints_of_complete_results_only(tmp_path):
    write_scores(tmp_path, SCORES)
    assert find_scores_fingerprint(tmp_path, "hear2021") == ""
    write_predictions(tmp_path, "hear2021", "feed", {"test": _predictions(1)})
    assert find_scores_fingerprint(tmp_path, "hear2021") == "feed"
    assert find_scores_fingerprint(tmp_path, "hear2021-fast") == ""


def test_json_has_no_infinity():
    assert [finite_or_none(value) for value in (math.nan, math.inf, -math.inf, 1.0)] == [
        None,
        None,
        None,
        1.0,
    ]
