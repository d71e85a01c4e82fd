"""Nearest neighbours and ridge against scikit-learn, and evaluations with them."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from heareval import layout
from heareval.commands import main
from heareval.errors import HearevalError
from heareval.predictions.data import read_task
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.kinds import find_kind, read_splits
from heareval.predictions.learners import LEARNERS, knn
from heareval.predictions.learners.knn import NEIGHBOURS, KnnSettings, fit_knn
from heareval.predictions.learners.linear import LinearSettings, fit_ridge
from heareval.predictions.metrics import METRICS
from heareval.predictions.protocol import PROBES, Protocol, settings_for_fingerprint
from heareval.predictions.stored import read_stored
from heareval.predictions.writing import write_results

FOLDS = {"splits": ("fold00", "fold01", "fold02"), "split_mode": "new_split_kfold"}
OTHERS = [probe for probe in PROBES if probe != "mlp"]


def _evaluated(folder, probe, **options):
    protocol = Protocol(probe=probe, device="cpu", **options)
    return evaluate_folder(folder, protocol)


def _rows(seed, rows=60, dim=7, labels=4):
    rng = np.random.default_rng(seed)
    return rng.normal(2, 3, (rows, dim)).astype(np.float32), rng.integers(labels, size=rows)


@pytest.mark.parametrize(("distance", "metric"), [("cosine", "cosine"), ("l1", "manhattan")])
def test_votes_are_scikit_learns(distance, metric):
    (x, y), (asked, _) = _rows(0), _rows(1, 25)
    settings = [KnnSettings("", k, len(x)) for k in NEIGHBOURS]
    fitted = fit_knn(torch.from_numpy(x), torch.from_numpy(np.eye(4)[y]), distance)
    for one, said in zip(settings, fitted.predict(torch.from_numpy(asked), settings), strict=True):
        judge = KNeighborsClassifier(one.neighbours, metric=metric, algorithm="brute").fit(x, y)
        assert said.numpy() == pytest.approx(judge.predict_proba(asked), abs=1e-6)


def test_zeros_are_as_far_from_everything():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    fitted = fit_knn(x, torch.eye(3), "cosine")
    (said,) = fitted.predict(torch.tensor([[2.0, 0.1], [-3.0, 0.0]]), [KnnSettings("", 2, 3)])
    assert said.tolist() == [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]]


@pytest.mark.parametrize(("rows", "dim"), [(60, 7), (20, 45), (5000, 3)])
def test_ridge_is_scikit_learns(rows, dim):
    (x, y), (asked, _) = _rows(0, rows, dim), _rows(1, 25, dim)
    x[:, 0] = asked[:, 0] = 0.1
    targets = np.eye(4)[y]
    scaler = StandardScaler().fit(x.astype(np.float64))
    fitted = fit_ridge(torch.from_numpy(x), torch.from_numpy(targets))
    settings = [LinearSettings("", strength, rows) for strength in (10.0, 0.1, 1e-3)]
    for one, said in zip(settings, fitted.predict(torch.from_numpy(asked), settings), strict=True):
        judge = Ridge(one.strength * rows).fit(scaler.transform(x.astype(np.float64)), targets)
        expected = judge.predict(scaler.transform(asked.astype(np.float64)))
        assert said.numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("probe", OTHERS)
@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_scenes_are_told_better_than_by_chance(probe, kind, scene_folder):
    evaluation = ["top1_acc"] if kind == "multiclass" else ["mAP"]
    result = _evaluated(scene_folder(prediction_type=kind, evaluation=evaluation, **FOLDS), probe)
    assert [fold.roles.test for fold in result.runs[0].folds] == list(FOLDS["splits"])
    assert np.mean([fold.scores[0].value for fold in result.runs[0].folds]) > 0.6
    best = max(one.validation.score for one in result.runs[0].grid)
    first = next(one for one in result.runs[0].grid if one.validation.score == best)
    assert result.runs[0].folds[0].model.settings == first.settings
    for fold in result.runs[0].folds:
        assert dict(vars(fold.model.settings), training_rows=24) == vars(first.settings)
        assert (fold.model.epochs, fold.model.best_epoch) == (None, None)


@pytest.mark.parametrize("probe", OTHERS)
def test_events_are_found_and_their_results_read_back(probe, event_folder):
    folder = event_folder()
    result = _evaluated(folder, probe)
    assert result.runs[0].folds[0].scores[0].value > 0.5
    write_results(folder, result, "beef", "0123456789abcdef")
    stored = read_stored(folder, f"probe-{probe}")
    assert stored.scores.runs[0].settings["probe"] == probe
    assert stored.scores.runs[0].settings["training_rows"] == 400
    assert (
        stored.runs[0][0].predictions.postprocessing
        == result.runs[0].folds[0].model.validation.postprocessing
    )


def test_what_is_tested_is_what_the_neighbours_say(scene_folder):
    folder = scene_folder()
    result = _evaluated(folder, "knn-l1")
    splits = read_splits(find_kind(read_task(folder)), torch.device("cpu"))
    train, test = splits["train"], splits["test"]
    k = result.runs[0].folds[0].model.settings.neighbours
    judge = KNeighborsClassifier(k, p=1, algorithm="brute").fit(train.x, train.y)
    assert result.runs[0].folds[0].predictions.probabilities == pytest.approx(
        judge.predict_proba(test.x), abs=1e-6
    )
    for one in result.runs[0].grid:
        judge = KNeighborsClassifier(one.settings.neighbours, p=1, algorithm="brute").fit(train.x, train.y)
        said = judge.predict_proba(splits["valid"].x)
        targets = np.eye(3)[splits["valid"].y]
        assert one.validation.score == METRICS["top1_acc"].function(targets, said)


def test_many_frames_are_drawn_from(event_folder, monkeypatch):
    folder = event_folder()
    monkeypatch.setattr(knn, "MAX_FRAMES", 150)
    monkeypatch.setattr(knn, "DISTANCES_AT_ONCE", 150 * 7)
    results = [_evaluated(folder, "knn-cosine", seed=seed) for seed in (0, 0, 1)]
    said = [result.runs[0].folds[0].predictions.probabilities for result in results]
    assert results[0].runs[0].grid[0].settings.training_rows == 150
    assert (said[0] == said[1]).all()
    assert (said[0] != said[2]).any()


def test_fewer_rows_than_neighbours(scene_folder):
    result = _evaluated(scene_folder(clips=3), "knn-cosine")
    assert [one.settings.neighbours for one in result.runs[0].grid] == [1, 3]


def test_an_undefined_score_never_wins(scene_folder):
    folder = scene_folder(evaluation=["aucroc"])
    labels = {
        clip: ["flute" if mine == [7] else mine[0]] for clip, mine in _read(folder / "valid.json").items()
    }
    (folder / "valid.json").write_text(json.dumps(labels))
    with pytest.raises(HearevalError, match=r"no model of scene can be selected on split valid.*label '7'"):
        _evaluated(folder, "linear")


def _read(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("probe", OTHERS)
def test_probes_have_names_and_fingerprints_of_their_own(probe):
    protocol = Protocol(probe=probe)
    assert layout.scores(protocol.recorded_name) == f"test.probe-{probe}.predicted-scores.json"
    fingerprints = [json.dumps(settings_for_fingerprint(Protocol(probe=each))) for each in PROBES]
    assert len(set(fingerprints)) == len(PROBES)
    with pytest.raises(HearevalError, match=f"probe {probe}: got settings of the network"):
        Protocol(probe=probe, grid_points=2)


def test_the_fingerprint_of_the_network_knows_no_probe():
    assert settings_for_fingerprint(Protocol()) == {
        "protocol": "hear2021",
        "grid": "default",
        "grid_points": 8,
        "order": "fixed",
        "seed": 0,
        "seeds": 1,
        "deterministic": True,
    }


def test_settings_of_the_network_are_refused_on_the_command_line(scene_folder):
    run = CliRunner().invoke(main, ["predict", str(scene_folder()), "--probe", "knn-l1", "--grid", "fast"])
    assert run.exit_code == 2
    assert "probe knn-l1: got settings of the network" in run.stderr
    assert "Traceback" not in run.stderr


def test_every_probe_that_a_protocol_can_name_is_a_learner():
    assert tuple(LEARNERS) == PROBES
