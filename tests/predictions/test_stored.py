"""Results read back, and refused when their files don't belong together."""

import json

import numpy as np
import pytest

from heareval import layout
from heareval.errors import HearevalError
from heareval.predictions.bootstrap import resample_scores
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.protocol import Protocol
from heareval.predictions.stored import read_stored
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
        **{"test/predictions": np.stack([said, other]), "test/min_duration_ms": np.array([125.0, 250.0])},
    )
    results = json.loads((folder / SCORES).read_text())
    alone = results["scores"]["event_onset_200ms_fms"]["folds"]["test"]
    results["seeds"], results["more_seeds"] = (
        2,
        [{key: results[key] for key in ("seed", "settings", "folds", "grid")}],
    )
    results["scores"] = {"event_onset_200ms_fms": {"score": alone / 2, "folds": {"test": alone / 2}}}
    (folder / SCORES).write_text(json.dumps(results))
    stored = read_stored(folder, NAME)
    assert [run[0].predictions.postprocessing.min_duration_ms for run in stored.runs] == [125.0, 250.0]
    assert stored.score("event_onset_200ms_fms") == alone / 2


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
            {"test/predictions": np.zeros((5, 80, 3), dtype=np.float32)},
            "as computed from the stored predict",
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
