"""The two result files: complete, the same on every run, never NaN."""

import json

import numpy as np
import pytest
import torch

from heareval import layout
from heareval.errors import HearevalError
from heareval.formats.scores import scores_to_json
from heareval.predictions.bootstrap import confidence_interval, recenter
from heareval.predictions.data import read_task
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.kinds import find_kind, read_splits
from heareval.predictions.protocol import Protocol
from heareval.predictions.results import LabelPredictions
from heareval.predictions.statistics import BOOTSTRAP_SEED
from heareval.predictions.stored import read_stored
from heareval.predictions.writing import collect_scores, write_results

NAME = "hear2021-2points"
EMBEDDINGS = "0123456789abcdef"  # as the fixture writes it
FOLDS = ("fold00", "fold01", "fold02")


def _evaluate(folder, **options):
    protocol = Protocol(grid_points=2, device="cpu", **options)
    return evaluate_folder(folder, protocol)


def _without_seconds(value):
    if isinstance(value, dict):
        times = ("seconds", "time_in_min")
        return {key: _without_seconds(each) for key, each in value.items() if key not in times}
    return [_without_seconds(each) for each in value] if isinstance(value, list) else value


def _strict_json(folder):
    def refuse(text):
        raise ValueError(f"{text} is no JSON")

    return json.loads((folder / layout.scores(NAME)).read_text(), parse_constant=refuse)


def test_scores_of_folds(scene_folder):
    folder = scene_folder(splits=FOLDS, split_mode="new_split_kfold")
    result = _evaluate(folder)
    write_results(folder, result, "feedfeedfeedfeed", EMBEDDINGS)
    written = _strict_json(folder)
    values = [fold.scores[0].value for fold in result.runs[0].folds]
    top1 = written["scores"]["top1_acc"]
    assert top1["folds"] == dict(zip(FOLDS, values, strict=True))
    assert top1["score"] == pytest.approx(np.mean(values))
    assert top1["std"] == pytest.approx(np.std(values, ddof=1))
    low, high = top1["interval_95"]
    assert low <= top1["score"] <= high
    assert (top1["resamples"], top1["undefined_resamples"]) == (1000, 0)
    assert written["protocol"] == "hear2021-2points"
    assert (written["fingerprint"], written["embeddings_fingerprint"]) == (
        "feedfeedfeedfeed",
        "0123456789abcdef",
    )
    assert written["clips"] == dict.fromkeys(FOLDS, 24)
    assert [fold["test"] for fold in written["folds"]] == list(FOLDS)
    assert {"python", "numpy", "torch", "scikit-learn", "scipy", "sed_eval", "heareval"} == set(
        written["versions"]
    )


def test_several_seeds_are_written_and_read(scene_folder, event_folder):
    for folder in (scene_folder(splits=FOLDS, split_mode="new_split_kfold"), event_folder(clips=16)):
        protocol = Protocol(grid="faster", grid_points=2, seed=4, seeds=3, device="cpu")
        result = evaluate_folder(folder, protocol)
        name = "hear2021-faster-2points-3seeds"
        write_results(folder, result, "feedfeedfeedfeed", EMBEDDINGS)
        written = json.loads((folder / layout.scores(name)).read_text())
        # Refuses scores that the predictions of all seeds and folds don't give.
        stored = read_stored(folder, name)
        assert (written["protocol"], written["seed"], written["seeds"]) == (name, 4, 3)
        assert [run["seed"] for run in written["more_seeds"]] == [5, 6]
        for i, (metric, score) in enumerate(written["scores"].items()):
            values = np.array([[fold.scores[i].value for fold in run.folds] for run in result.runs])
            assert score["score"] == pytest.approx(values.mean())
            assert score["seeds"] == pytest.approx(dict(zip("456", values.mean(axis=1), strict=True)))
            assert score["seed_std"] == pytest.approx(values.mean(axis=1).std(ddof=1))
            if values.shape[1] > 1:
                assert score["std"] == pytest.approx(values.mean(axis=0).std(ddof=1))
            tested = [fold.roles.test for fold in result.runs[0].folds]
            assert score["folds"] == pytest.approx(dict(zip(tested, values.mean(axis=0), strict=True)))
            low, high = score["interval_95"]
            drawn = recenter(score["score"], metric, stored.resample((metric,), BOOTSTRAP_SEED)[metric])
            assert (low, high) == pytest.approx(
                (confidence_interval(drawn).low, confidence_interval(drawn).high)
            )
        bases = {id(run[0].predictions.probabilities.base) for run in stored.runs}
        assert len(bases) == 1  # else each seed would hold what all of them said
        for run, read in zip(result.runs, stored.runs, strict=True):
            for fold, again in zip(run.folds, read, strict=True):
                assert np.array_equal(fold.predictions.probabilities, again.predictions.probabilities)
                chosen = getattr(again.predictions, "postprocessing", None)
                assert fold.model.validation.postprocessing == chosen


def test_one_test_split_has_no_spread(event_folder):
    written = scores_to_json(collect_scores(_evaluate(event_folder()), ""))
    assert written["scores"]["event_onset_200ms_fms"]["std"] is None
    assert set(written["scores"]["event_onset_200ms_fms"]["details"]["test"]) == {"precision", "recall"}
    assert written["folds"][0]["postprocessing"]["median_filter_ms"] == 250


def test_predictions_of_an_event_task(event_folder):
    folder = event_folder()
    result = _evaluate(folder)
    write_results(folder, result, "", EMBEDDINGS)
    with np.load(folder / layout.predictions(NAME), allow_pickle=False) as arrays:
        assert sorted(arrays) == [
            "fingerprint",
            "test/clips",
            "test/median_filter_ms",
            "test/min_duration_ms",
            "test/predictions",
            "test/targets",
            "test/timestamps_ms",
        ]
        assert arrays["test/clips"].tolist() == list(result.runs[0].folds[0].predictions.clips)
        assert arrays["test/predictions"].shape == arrays["test/targets"].shape == (5, 80, 3)
        assert arrays["test/timestamps_ms"].shape == (5, 80)


@pytest.mark.parametrize("kind", ["scene", "event"])
def test_a_rerun_differs_in_seconds_only(kind, scene_folder, event_folder):
    folder = scene_folder() if kind == "scene" else event_folder()
    runs = []
    for _ in range(2):
        write_results(folder, _evaluate(folder), "", EMBEDDINGS)
        text = json.dumps(_without_seconds(_strict_json(folder)))
        runs.append((text, (folder / layout.predictions(NAME)).read_bytes()))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("kind", ["scene", "event"])
def test_embeddings_that_are_all_equal_are_told(kind, scene_folder, event_folder):
    folder = scene_folder() if kind == "scene" else event_folder()
    told = "all clips of test have the same predictions: the embeddings may be the same for every clip"
    for is_constant in (False, True):
        for path in folder.glob("*.npy") if is_constant else ():
            if "timestamps" not in path.name:
                np.save(path, np.ones_like(np.load(path)))
        write_results(folder, _evaluate(folder), "", EMBEDDINGS)
        problems = _strict_json(folder)["problems"]
        assert any(problem.startswith(told) for problem in problems) == is_constant, problems


def test_undefined_scores_are_null_and_name_the_label(scene_folder):
    folder = scene_folder(evaluation=["top1_acc", "aucroc", "d_prime", "mAP"])
    labels = {clip: ["flute" if mine == [7] else mine[0]] for clip, mine in _read(folder, "test").items()}
    (folder / "test.json").write_text(json.dumps(labels))
    write_results(folder, _evaluate(folder), "", EMBEDDINGS)
    written = _strict_json(folder)
    assert written["scores"]["aucroc"]["score"] is None
    assert written["scores"]["d_prime"]["folds"]["test"] is None
    assert written["scores"]["d_prime"]["interval_95"] is None
    assert written["scores"]["top1_acc"]["score"] is not None
    assert written["problems"] == [
        "aucroc is undefined on test: no clip, or every clip, is labelled '7'",
        "d_prime is undefined on test: no clip, or every clip, is labelled '7'",
        "mAP on test: labels without clips count as 0: '7'",
    ]


def test_perfect_labels_are_named(scene_folder):
    folder = scene_folder(evaluation=["top1_acc", "d_prime"])
    for split in ("train", "valid", "test"):
        np.save(folder / f"{split}.npy", np.tile(10 * np.eye(3, dtype=np.float32), (8, 1)))
    written = scores_to_json(collect_scores(_evaluate(folder), ""))
    score = written["scores"]["d_prime"]
    # There is nothing to resample: JSON has no infinity, and an interval no end.
    assert (score["score"], score["std"], score["interval_95"], score["folds"]) == (
        "inf",
        None,
        None,
        {"test": "inf"},
    )
    assert written["test"]["test_d_prime"] == "inf"
    assert written["problems"] == [
        "d_prime is infinite on test: always or never right about 'drum', 'flute', '7'",
        "no 95 % interval of top1_acc: all resamples have the same score",
    ]


def test_a_mean_of_perfect_and_hopeless_is_undefined_for_that_reason(scene_folder):
    folder = scene_folder(evaluation=["d_prime"])
    task = read_task(folder)
    kind = find_kind(task)
    split = read_splits(kind, torch.device("cpu"))["test"]
    targets = kind.targets(split)
    # The first label is ranked perfectly, the second in reverse, the third by chance.
    probabilities = np.stack([targets[:, 0], 1 - targets[:, 1], np.full(len(targets), 0.5)], axis=1)
    predictions = LabelPredictions(split.clips, targets, probabilities.astype(np.float32))
    (score,) = kind.score("test", predictions)
    assert score.problems == ("d_prime is undefined on test: always or never right about 'drum', 'flute'",)


def _read(folder, split):
    return json.loads((folder / layout.split_json(split)).read_text())


def test_embeddings_that_were_replaced_under_the_run(scene_folder):
    folder = scene_folder()
    result = _evaluate(folder)
    (folder / "MANIFEST.json").write_text(json.dumps({"fingerprint": "another", "arrays": []}))
    with pytest.raises(HearevalError, match="got fingerprint another, expected 0123456789abcdef"):
        write_results(folder, result, "", EMBEDDINGS)
    assert not list(folder.glob("test.*predict*"))


def test_chroma_of_labels_that_are_no_semitones_is_told(scene_folder):
    """The metric takes the third label of the vocabulary for two semitones above the first."""
    folder = scene_folder(evaluation=["chroma_acc", "top1_acc"])
    scores = collect_scores(evaluate_folder(folder, Protocol(probe="knn-l1", device="cpu")), "")
    assert scores.problems == (
        "chroma_acc takes the labels of the vocabulary for consecutive semitones, as in 2021, but they are "
        "not consecutive numbers",
    )
