"""Results read back, and refused when their files don't belong together."""

import copy
import json

import numpy as np
import pytest

from heareval import layout
from heareval.errors import HearevalError
from heareval.formats.results_folder import read_scores
from heareval.predictions.bootstrap import resample_scores
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.protocol import Protocol
from heareval.predictions.stored import read_checked_scores, read_stored
from heareval.predictions.writing import write_results

NAME = "hear2021-1points"
SCORES, PREDICTIONS = layout.scores(NAME), layout.predictions(NAME)


@pytest.fixture
def result(event_folder):
    folder = event_folder()
    found = evaluate_folder(folder, Protocol(grid_points=1, device="cpu"))
    write_results(folder, found, "beef", "0123456789abcdef")
    return found


def _change(path, **members):
    with np.load(path) as arrays:
        held = dict(arrays)
    np.savez(path, **{name: value for name, value in {**held, **members}.items() if value is not None})
    _forget_digest(path.parent)


def _forget_digest(folder):
    """Make the scores those of an earlier version, which did not record what the predictions file was."""
    scores = json.loads((folder / SCORES).read_text())
    scores.pop("predictions", None)
    (folder / SCORES).write_text(json.dumps(scores))


def test_what_was_written_is_read(result):
    folder = result.task.folder
    assert layout.scored_protocols(folder) == (NAME,)
    stored = read_stored(folder, NAME)
    ((fold,),) = stored.runs
    written = result.runs[0].folds[0]
    assert fold.predictions.postprocessing == written.model.validation.postprocessing
    assert fold.predictions.clips == written.predictions.clips
    assert (fold.predictions.probabilities == written.predictions.probabilities).all()
    assert len(fold.predictions.events) == 20
    assert stored.score("segment_1s_er") == written.scores[1].value
    drawn = resample_scores(["segment_1s_er"], [fold.scored], seed=1)["segment_1s_er"]
    assert (stored.resample(("segment_1s_er",), 1)["segment_1s_er"] == drawn).all()


def test_protocols_by_the_names_of_their_files(tmp_path):
    for name in ("hear2021", "hear2021-fast", "probe-knn-l1"):
        (tmp_path / layout.scores(name)).touch()
    assert layout.scored_protocols(tmp_path) == ("hear2021", "hear2021-fast", "probe-knn-l1")


def test_a_result_of_an_earlier_version_has_no_fingerprint_inside(result):
    _change(result.task.folder / PREDICTIONS, fingerprint=None)
    assert read_stored(result.task.folder, NAME).scores.fingerprint == "beef"


def test_several_seeds_are_one_more_axis(result):
    """The score is the mean over seeds; every seed has its own postprocessing."""
    folder = result.task.folder
    said = result.runs[0].folds[0].predictions.probabilities
    other = np.zeros_like(said)
    _change(
        folder / PREDICTIONS,
        **{"test/predictions": np.stack([said, other]), "test/min_duration_ms": np.array([250.0, 125.0])},
    )
    results = json.loads((folder / SCORES).read_text())
    alone = results["scores"]["event_onset_200ms_fms"]["folds"]["test"]
    more = copy.deepcopy({key: results[key] for key in ("seed", "settings", "folds", "grid")})
    more["folds"][0]["postprocessing"]["min_duration_ms"] = 125
    results["seeds"], results["more_seeds"] = 2, [more]
    results["scores"] = {"event_onset_200ms_fms": {"score": alone / 2, "folds": {"test": alone / 2}}}
    # The keys of 2021 hold the score of one seed.
    del results["test"]
    (folder / SCORES).write_text(json.dumps(results))
    stored = read_stored(folder, NAME)
    assert [run[0].predictions.postprocessing.min_duration_ms for run in stored.runs] == [250.0, 125.0]
    assert stored.score("event_onset_200ms_fms") == alone / 2
    more["folds"][0]["test"] = "valid"
    (folder / SCORES).write_text(json.dumps(results))
    with pytest.raises(
        HearevalError, match=r"more_seeds: got \['valid'\], expected the tested splits of the"
    ):
        read_stored(folder, NAME)


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"fingerprint": np.array("dead")}, "got predictions with fingerprint dead, expected beef"),
        ({"test/predictions": None}, "test/predictions: got nothing, expected an array"),
        (
            {"test/predictions": np.zeros((5, 80, 2), dtype=np.float32)},
            r"got float32 \(5, 80, 2\), expected an array \(5, 80, 3\)",
        ),
        (
            {"test/clips": np.array(["a", "b", "c", "d", "e"])},
            "clips of test in .*npz: got other names",
        ),
        (
            {"test/targets": np.zeros((5, 80, 3), dtype=np.uint8)},
            "targets of test in .*npz: got other labels, expected those of test.json",
        ),
        (
            {"test/predictions": np.zeros((5, 80, 3), dtype=np.float32)},
            "as computed from the stored predict",
        ),
        (
            {"test/predictions": np.full((5, 80, 3), np.nan, dtype=np.float32)},
            "test/predictions: got NaN or infinity, expected finite numbers",
        ),
        ({"test/timestamps_ms": np.full((5, 80), np.nan)}, "test/timestamps_ms: got NaN or infinity"),
        ({"test/median_filter_ms": np.array(np.inf)}, "test/median_filter_ms: got NaN or infinity"),
        (
            {"test/median_filter_ms": np.array(1e12)},
            r"test/median_filter_ms: got \[1000000000000.0\], expected \[250\], as in the scores",
        ),
    ],
)
def test_files_that_do_not_belong_together(result, members, told):
    _change(result.task.folder / PREDICTIONS, **members)
    with pytest.raises(HearevalError, match=told):
        read_stored(result.task.folder, NAME)


def test_damaged_and_missing_files(result):
    folder = result.task.folder
    whole = (folder / PREDICTIONS).read_bytes()
    (folder / PREDICTIONS).write_bytes(whole[:-100])
    with pytest.raises(HearevalError, match="files that another program has changed"):
        read_stored(folder, NAME)
    _forget_digest(folder)
    with pytest.raises(HearevalError, match="can't be read"):
        read_stored(folder, NAME)
    (folder / PREDICTIONS).unlink()
    with pytest.raises(HearevalError, match="got no such file"):
        read_stored(folder, NAME)
    with pytest.raises(HearevalError, match="got 'hear2021', expected one of hear2021-1points"):
        read_stored(folder, "hear2021")


def test_scores_of_other_embeddings(result):
    (result.task.folder / "MANIFEST.json").write_text(json.dumps({"fingerprint": "another", "arrays": []}))
    with pytest.raises(HearevalError, match="embeddings_fingerprint: got 0123456789abcdef, expected another"):
        read_stored(result.task.folder, NAME)


def _edit(value, *keys):
    """Return a change of a scores file: the value at some keys, in each place that repeats it."""

    def edit(results):
        *way, last = keys
        for key in way:
            results = results[key]
        results[last] = value

    return edit


def _replace_everywhere(old, new):
    """Return a change that keeps all numbers of a scores file in agreement."""

    def replace(value):
        if isinstance(value, dict):
            return {key: replace(each) for key, each in value.items()}
        if isinstance(value, list):
            return [replace(each) for each in value]
        return new if value == old else value

    return lambda results: results.update(replace(results))


F_MEASURE = ("scores", "event_onset_200ms_fms")


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (_edit(0.99, *F_MEASURE, "score"), "event_onset_200ms_fms: score: got 0.99, .*the mean of its folds"),
        (_edit(0.99, "test", "test_score"), "test: test_score: got 0.99"),
        (_edit(0.99, *F_MEASURE, "details", "test", "recall"), "recall"),
        (_edit(6, "clips", "test"), "clips: got 6 in test, expected 5 in test"),
        (_edit(5, "clips", "other"), "clips: got 5 in other, expected no in other"),
        (_edit(4, "labels"), "labels: got 4, expected 3, as in labelvocabulary.csv"),
    ],
)
def test_edited_scores_are_refused(edit, told, result):
    path = result.task.folder / SCORES
    results = json.loads(path.read_text())
    edit(results)
    path.write_text(json.dumps(results))
    for read in (lambda: read_stored(path.parent, NAME), lambda: read_checked_scores(path)):
        with pytest.raises(HearevalError, match=told):
            read()


def test_a_score_edited_wherever_it_occurs_is_refused(result):
    """The file agrees with itself, and only the predictions tell."""
    path = result.task.folder / SCORES
    results = json.loads(path.read_text())
    entry = results["scores"]["event_onset_200ms_fms"]
    _replace_everywhere(entry["score"], 0.99)(results)
    results["scores"]["event_onset_200ms_fms"]["interval_95"] = [0.9, 1.0]
    path.write_text(json.dumps(results))
    assert read_scores(path).scores["event_onset_200ms_fms"].score == 0.99
    with pytest.raises(HearevalError, match=r"event_onset_200ms_fms of test in .*got 0\.99, expected 0\."):
        read_checked_scores(path)
    # A copy of the scores alone can't be held against anything.
    (path.parent / PREDICTIONS).unlink()
    assert read_checked_scores(path).scores["event_onset_200ms_fms"].score == 0.99


def test_labels_that_changed_after_the_evaluation_are_told(scene_folder):
    folder = scene_folder()
    write_results(
        folder, evaluate_folder(folder, Protocol(grid_points=1, device="cpu")), "beef", "0123456789abcdef"
    )
    labels = json.loads((folder / "test.json").read_text())
    labels["test_0.wav"] = ["flute"] if labels["test_0.wav"] != ["flute"] else ["drum"]
    (folder / "test.json").write_text(json.dumps(labels))
    with pytest.raises(HearevalError, match=r"targets of test in .*got other labels"):
        read_stored(folder, NAME)


def test_each_seed_is_checked(scene_folder):
    folder = scene_folder(splits=("fold00", "fold01", "fold02"), split_mode="new_split_kfold")
    protocol = Protocol(grid="faster", grid_points=1, seeds=2, device="cpu")
    path = write_results(folder, evaluate_folder(folder, protocol), "beef", "0123456789abcdef")
    results = json.loads(path.read_text())
    seeds = results["scores"]["top1_acc"]["seeds"]
    seeds["0"], seeds["1"] = seeds["0"] + 0.1, seeds["1"] - 0.1
    results["scores"]["top1_acc"]["seed_std"] = float(np.std(list(seeds.values()), ddof=1))
    path.write_text(json.dumps(results))
    with pytest.raises(HearevalError, match="top1_acc of seed 0 in"):
        read_checked_scores(path)
