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
    TEST_CLIP,
    FoldEntry,
    GridEntry,
    ResampledUnits,
    RunEntry,
    ScoreEntry,
    Scores,
    defined_or_none,
    drop_intervals,
    explain_no_interval,
    number_to_json,
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
    score_mode="min",
    embedding_path="mine/tones",
    runs=(RUN,),
    labels=4,
    clips={"test": 40},
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


@pytest.mark.parametrize(
    "scores",
    [SCORES, SEEDS, dataclasses.replace(SCORES, threads=2)],
    ids=["one seed", "two seeds", "threads"],
)
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
    kept = [defined_or_none(value) for value in (math.nan, math.inf, -math.inf, 1.0)]
    assert kept == [None, math.inf, -math.inf, 1.0]
    assert number_to_json(kept) == [None, "inf", "-inf", 1.0]


def test_infinite_scores_are_read_as_they_were_written(tmp_path):
    infinite = ScoreEntry(math.inf, folds={"test": math.inf}, details={"test": {}})
    model = dataclasses.replace(MODEL, validation_score=math.inf, curve=((3, math.inf), (6, None)))
    run = dataclasses.replace(RUN, grid=(model,))
    scores = dataclasses.replace(SCORES, scores={"d_prime": infinite}, runs=(run,))
    path = write_scores(tmp_path, scores)
    values = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert values["scores"]["d_prime"]["score"] == values["test"]["test_score"] == "inf"
    assert read_scores(path) == scores


# --------------------------------------------------------------------------- contradictory numbers

FOLDS = ("fold00", "fold01", "fold02")
MODELS = tuple(FoldEntry(fold, "valid", ("train",), MODEL) for fold in FOLDS)
ACCURACY = ScoreEntry(
    score=0.5,
    std=0.25,
    interval_95=(0.25, 0.75),
    resamples=1000,
    folds=dict(zip(FOLDS, (0.25, 0.5, 0.75), strict=True)),
    details={fold: {"precision": 0.5} for fold in FOLDS},
    seed_std=0.5**0.5 / 4,
    seeds={"0": 0.375, "1": 0.625},
)
FOLDED = dataclasses.replace(
    SCORES,
    scores={"top1_acc": ACCURACY},
    runs=tuple(RunEntry(seed, {"lr": 0.1}, MODELS, (MODEL,)) for seed in (0, 1)),
    clips=dict.fromkeys(FOLDS, 8),
)
ENTRY = ("scores", "top1_acc")


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ((*ENTRY, "score"), 0.99, r"top1_acc: score: got 0\.99, expected 0\.5, the mean of its folds"),
        ((*ENTRY, "score"), None, r"score: got null, expected 0\.5"),
        ((*ENTRY, "score"), "inf", r"score: got inf, expected 0\.5"),
        ((*ENTRY, "score"), 0.5 + 1e-8, "the mean of its folds"),
        ((*ENTRY, "folds", "fold01"), 0.6, "the mean of its folds"),
        ((*ENTRY, "folds", "fold01"), None, r"score: got 0\.5, expected null"),
        ((*ENTRY, "std"), 0.2, r"std: got 0\.2, expected 0\.25, the standard deviation of its folds"),
        ((*ENTRY, "seeds", "1"), 0.7, "the mean of its seeds"),
        ((*ENTRY, "seeds"), {"0": 0.375, "7": 0.625}, r"\['0', '7'\], expected the seeds 0, 1"),
        ((*ENTRY, "seed_std"), 0.1, "the standard deviation of its seeds"),
        ((*ENTRY, "interval_95"), [0.6, 0.7], r"0\.6 to 0\.7, expected an interval around the score 0\.5"),
        ((*ENTRY, "interval_95"), [0.75, 0.25], "an interval around the score"),
        ((*ENTRY, "undefined_resamples"), -1, "0 or more"),
        (("clips", "fold02"), 0, r"clips: got 0 in fold02, expected 1 or more"),
        (("seeds",), 3, r"seeds: got 3, expected 2"),
        (("settings",), {"lr": 0.2}, "settings: got .*, those of the first tested model"),
        (("fold01", "test_score"), 0.99, r"fold01: test_score: got 0\.99, expected 0\.5"),
        (("fold01", "test_top1_acc"), None, "test_top1_acc: got None, expected 0.5"),
        (("aggregated_scores", "test_score_mean"), 0.99, r"test_score_mean: got 0\.99, expected 0\.5"),
        (("aggregated_scores", "test_score_std"), 0.0, r"test_score_std: got 0\.0, expected 0\.25"),
        (("hparams", "lr"), 7, r"hparams: lr: got 7, expected 0\.1"),
        (("score_mode",), "up", r"score_mode"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(keys, value, message, tmp_path):
    path = write_scores(tmp_path, FOLDED)
    assert read_scores(path) == FOLDED
    values = json.loads(path.read_text())
    _set(values, keys, value)
    path.write_text(json.dumps(values))
    with pytest.raises(HearevalError, match=message) as raised:
        read_scores(path)
    assert str(path) in str(raised.value)
    assert str(raised.value).endswith("evaluate the task again.")


def test_the_last_digits_may_be_rounded_in_another_way(tmp_path):
    path = write_scores(tmp_path, FOLDED)
    values = json.loads(path.read_text())
    values["scores"]["top1_acc"]["score"] += 1e-12
    path.write_text(json.dumps(values))
    assert read_scores(path).scores["top1_acc"].score == 0.5 + 1e-12


def test_infinite_scores_of_0_1_0_were_null(tmp_path):
    old = dataclasses.replace(SCORES, scores={"d_prime": ScoreEntry(None, folds={"test": None})})
    assert read_scores(write_scores(tmp_path, old)).scores["d_prime"].score is None


def test_intervals_of_0_1_0_that_mean_nothing_are_dropped_and_told(tmp_path):
    entries = {
        "top1_acc": ScoreEntry(0.0, None, (0.0, 0.0), 1000, folds={"test": 0.0}, details={"test": {}}),
        "mAP": ScoreEntry(0.5, None, (0.25, 0.75), 1000, folds={"test": 0.5}, details={"test": {}}),
    }
    for clips, kept, told in (
        (15, [None, None], "no 95 % interval of top1_acc, mAP: 15 test clips are fewer than 16"),
        (1, [None, None], "no 95 % interval of top1_acc, mAP: 1 test clip is fewer than 16"),
        (16, [None, (0.25, 0.75)], "no 95 % interval of top1_acc: all resamples have the same score"),
    ):
        scores = dataclasses.replace(SCORES, scores=entries, clips={"test": clips})
        read = read_scores(write_scores(tmp_path, scores))
        assert [score.interval_95 for score in read.scores.values()] == kept
        assert read.problems == ("something", told)


def test_an_interval_without_finite_resamples_is_missed_once(tmp_path):
    """The sentence is written with the scores, and not added again when they are read."""
    entry = ScoreEntry(2.5, None, None, 0, 1000, folds={"test": 2.5}, details={"test": {}})
    scores = dataclasses.replace(SCORES, scores={"d_prime": entry}, clips={"test": 40})
    told = "no 95 % interval of d_prime: half of the resamples or more have no finite score"
    for written in (scores, drop_intervals(scores)):
        assert read_scores(write_scores(tmp_path, written)).problems == ("something", told)
    few = drop_intervals(dataclasses.replace(scores, clips={"test": 9}))
    assert few.problems[-1] == "no 95 % interval of d_prime: 9 test clips are fewer than 16"


def test_ends_that_differ_by_rounding_are_no_interval():
    assert explain_no_interval(
        ResampledUnits(TEST_CLIP, 40), 0.3333333333333333, 0.3333333333333334, 0.33333333333333337
    )


def test_an_interval_of_0_1_0_beside_its_score_is_dropped(tmp_path):
    entry = ScoreEntry(0.5, None, (0.6, 0.7), 1000, folds={"test": 0.5}, details={"test": {}})
    old = dataclasses.replace(
        SCORES, scores={"segment_1s_er": entry}, clips={"test": 16}, score_mode="", embedding_path=""
    )
    read = read_scores(write_scores(tmp_path, old))
    assert read.scores["segment_1s_er"].interval_95 is None
    assert read.problems[-1] == "no 95 % interval of segment_1s_er: it would not contain the score"


def test_an_interval_beside_its_score_is_not_written():
    entry = ScoreEntry(0.5, None, (0.6, 0.7), 1000, folds={"test": 0.5})
    kept = drop_intervals(dataclasses.replace(SCORES, scores={"segment_1s_er": entry}))
    assert kept.scores["segment_1s_er"].interval_95 is None
    assert kept.problems[-1] == "no 95 % interval of segment_1s_er: it would not contain the score"


# --------------------------------------------------------------------------- keys of 2021


def test_keys_of_2021_of_one_test_split():
    details = {"precision": 0.4, "recall": 0.6, "substitution_rate": 0.1}
    scores = {
        "event_onset_200ms_fms": ScoreEntry(0.5, folds={"test": 0.5}, details={"test": details}),
        "segment_1s_er": ScoreEntry(0.3, folds={"test": 0.3}, details={"test": {"deletion_rate": 0.2}}),
    }
    values = scores_to_json(dataclasses.replace(SCORES, scores=scores))
    assert values["test"] == {
        "test_loss": None,
        "test_score": 0.5,
        "test_event_onset_200ms_fms": 0.5,
        "test_event_onset_200ms_fms_f_measure": 0.5,
        "test_event_onset_200ms_fms_precision": 0.4,
        "test_event_onset_200ms_fms_recall": 0.6,
        "test_segment_1s_er": 0.3,
        "test_segment_1s_er_error_rate": 0.3,
        "validation_score": 0.5,
        "epoch": 3,
        "time_in_min": 0.025,
    }
    assert "aggregated_scores" not in values
    assert values["hparams"] == {"lr": 0.1}
    assert values["postprocessing"] == [["median_filter_ms", 250.0], ["min_duration", 125.0]]
    assert (values["score_mode"], values["embedding_path"]) == ("min", "mine/tones")
    # In 2021 there was one file of this name.
    assert layout.scores("hear2021") == "test.predicted-scores.json"


def test_keys_of_2021_of_folds():
    values = scores_to_json(FOLDED)
    assert [values[fold]["test_score"] for fold in FOLDS] == [0.25, 0.5, 0.75]
    assert "test" not in values
    # The sample standard deviation, as in 2021.
    assert values["aggregated_scores"] == {
        "test_score_mean": 0.5,
        "test_score_std": 0.25,
        "test_top1_acc_mean": 0.5,
        "test_top1_acc_std": 0.25,
        "test_top1_acc_precision_mean": 0.5,
        "test_top1_acc_precision_std": 0.0,
    }


def test_our_keys_win_over_splits_of_the_same_name(tmp_path):
    run = dataclasses.replace(RUN, folds=(dataclasses.replace(RUN.folds[0], test="grid"),))
    entry = ScoreEntry(0.5, folds={"grid": 0.5}, details={"grid": {}})
    scores = dataclasses.replace(SCORES, runs=(run,), scores={"mAP": entry}, clips={"grid": 40})
    assert scores_to_json(scores)["grid"] == scores_to_json(SCORES)["grid"]
    assert read_scores(write_scores(tmp_path, scores)) == scores


def test_results_of_0_1_0_have_none_of_these_keys(tmp_path):
    path = write_scores(tmp_path, FOLDED)
    values = json.loads(path.read_text())
    for key in ("aggregated_scores", "hparams", "postprocessing", "score_mode", "embedding_path", *FOLDS):
        del values[key]
    path.write_text(json.dumps(values))
    assert read_scores(path) == dataclasses.replace(FOLDED, score_mode="", embedding_path="")
