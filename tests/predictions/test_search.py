"""The roles of splits, and the search for the best settings."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest

from heareval.errors import HearevalError
from heareval.formats.results_folder import read_scores
from heareval.predictions.data import SplitRoles, read_task
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.events import Postprocessing
from heareval.predictions.learners import mlp
from heareval.predictions.protocol import PROBES, Protocol, Settings
from heareval.predictions.results import FoldResult, ModelResult, Run, Validation
from heareval.predictions.search import assign_roles, describe_short_trainings
from heareval.predictions.table import score_table
from heareval.predictions.writing import write_results

FOLDS = ("fold02", "fold00", "fold03", "fold01")
TINY = Protocol(grid_points=2, device="cpu")


def _evaluate(folder, protocol=TINY):
    return evaluate_folder(folder, protocol)


def test_trainvaltest_has_one_round(scene_folder):
    assert assign_roles(read_task(scene_folder())) == (SplitRoles("test", "valid", ("train",)),)


def test_rounds_of_folds(scene_folder):
    rounds = assign_roles(read_task(scene_folder(splits=FOLDS, split_mode="presplit_kfold")))
    assert rounds == (
        SplitRoles("fold00", "fold01", ("fold02", "fold03")),
        SplitRoles("fold01", "fold02", ("fold00", "fold03")),
        SplitRoles("fold02", "fold03", ("fold00", "fold01")),
        SplitRoles("fold03", "fold00", ("fold01", "fold02")),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": ("fold00", "fold01"), "split_mode": "new_split_kfold"}, "got 2, expected at least 3"),
        ({"splits": ("train", "test")}, "expected train, valid, test"),
    ],
)
def test_splits_that_do_not_do(scene_folder, changes, message):
    with pytest.raises(HearevalError, match=message):
        assign_roles(read_task(scene_folder(**changes)))


def _model(best_epoch, max_epochs=10):
    settings = Settings(1, 0.1, "xavier_normal", max_epochs=max_epochs)
    return ModelResult(settings, Validation(0.5), best_epoch, max_epochs, 0.0)


def _run(grid, *folds):
    roles = SplitRoles("test", "valid", ("train",))
    return Run(0, tuple(grid), tuple(FoldResult(roles, model, (), None) for model in folds))


LATE, EARLY = _model(9), _model(6)
HINT = "For a quick look use --probe linear, which has no epochs"


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ([_run([EARLY, EARLY], EARLY)], ""),
        ([_run([LATE, EARLY, EARLY], EARLY)], ""),
        (
            [_run([EARLY, LATE], LATE)],
            "1 of 2 trainings were still improving at their last epoch, the chosen",
        ),
        ([_run([LATE, EARLY], EARLY)], "1 of 2 trainings were still improving at their last epoch: with"),
        ([_run([EARLY] * 9, EARLY, LATE, LATE)], "2 of 11 trainings .* epoch, 2 of the 3 tested ones among"),
        (
            [_run([LATE], LATE), _run([EARLY], EARLY)],
            "1 of 2 trainings .* epoch, 1 of the 2 tested ones among",
        ),
        # Stopped by patience, or with other epochs: 498 is the last validation of 500.
        ([_run([_model(498, 500)], _model(498, 500))], "1 of 1 trainings"),
        ([_run([_model(495, 500)], _model(495, 500))], ""),
        # Without any defined validation.
        ([_run([_model(0)], _model(0))], ""),
    ],
)
def test_trainings_that_end_too_early_are_told(runs, told):
    found = describe_short_trainings(runs)
    assert len(found) == bool(told)
    for sentence in found:
        assert re.match(told, sentence)
        assert sentence.endswith(HINT)


def test_shortened_grids_are_told_and_linear_probes_have_no_epochs(scene_folder):
    """On spoken_digit 20 steps ranked the worse embedding first."""
    slow = {"lr": [1e-4], "max_epochs": [3], "initialization": ["xavier_normal"]}
    folder = scene_folder(evaluation_params={"task_specific_param_grid": slow})
    for protocol, sentences in ((Protocol(device="cpu"), 1), (Protocol(probe="linear"), 0)):
        path = write_results(folder, evaluate_folder(folder, protocol), "beef", "0123456789abcdef")
        problems = json.loads(path.read_text())["problems"]
        assert [HINT in problem for problem in problems] == [True] * sentences
        assert score_table({path: read_scores(path)}).count(HINT) == sentences


def test_a_grid_with_fewer_points_than_the_name_says_is_told(scene_folder):
    """All four are tried; the name of the published protocol names no number."""
    folder = scene_folder()
    for points, told in ((5, 1), (4, 0), (8, 0)):
        protocol = Protocol(grid_points=points, device="cpu")
        path = write_results(folder, evaluate_folder(folder, protocol), "beef", "0123456789abcdef")
        results = json.loads(path.read_text())
        sentence = "4 grid points were tried, all that this task has, not 5 as in the protocol's name"
        assert len(results["grid"]) == 4
        assert results["problems"].count(sentence) == told


def test_scene_task(scene_folder):
    result = _evaluate(scene_folder())
    assert [score.metric for score in result.runs[0].folds[0].scores] == ["top1_acc", "mAP"]
    assert all(score.value > 0.5 for score in result.runs[0].folds[0].scores)
    assert len(result.runs[0].grid) == 2
    assert result.runs[0].folds[0].model == max(result.runs[0].grid, key=lambda point: point.validation.score)
    assert result.clips == {"train": 24, "valid": 24, "test": 24}


def test_event_task(event_folder):
    result = _evaluate(event_folder())
    f_measure, error_rate = result.runs[0].folds[0].scores
    assert f_measure.value > 0.3
    assert set(f_measure.details) == {"precision", "recall"}
    assert 0 <= error_rate.value < 1
    assert result.runs[0].folds[0].model.validation.postprocessing in (
        Postprocessing(250, 125),
        Postprocessing(250, 250),
    )
    assert result.runs[0].folds[0].predictions.probabilities.shape == (5, 80, 3)


def test_grid_is_searched_in_the_first_round_only(scene_folder, monkeypatch):
    trained = []

    def spy(trainings, *arguments, **options):
        trained.extend(([split.name for split in one.train], one.settings) for one in trainings)
        return fit_all(trainings, *arguments, **options)

    fit_all = mlp.fit_all
    monkeypatch.setattr(mlp, "fit_all", spy)
    result = _evaluate(scene_folder(splits=FOLDS, split_mode="new_split_kfold"))
    assert [names for names, _ in trained] == [
        *[["fold02", "fold03"]] * 2,
        ["fold00", "fold03"],
        ["fold00", "fold01"],
        ["fold01", "fold02"],
    ]
    assert {settings for _, settings in trained[2:]} == {result.runs[0].folds[0].model.settings}
    assert result.runs[0].folds[0].model in result.runs[0].grid


def test_loss_decides_where_the_task_says_so(event_folder):
    result = _evaluate(
        event_folder(
            use_scoring_for_early_stopping=False,
            evaluation_params={
                "event_postprocessing_grid": {"median_filter_ms": [150], "min_duration": [50]},
                "task_specific_param_grid": {"hidden_dim": [16], "max_epochs": [6], "lr": [0.0032, 0.0001]},
            },
        )
    )
    assert result.decided_by == "loss"
    assert result.runs[0].folds[0].model == min(result.runs[0].grid, key=lambda point: point.validation.score)
    assert result.runs[0].folds[0].model.validation.postprocessing == Postprocessing(150, 50)


def _with_score(trained, score):
    result = dataclasses.replace(trained.result, validation=Validation(score))
    return dataclasses.replace(trained, result=result)


def test_undefined_scores_never_choose_a_model(scene_folder, monkeypatch):
    scores = iter([math.nan, 0.1, math.nan])

    def undefined_sometimes(*arguments, **options):
        for number, trained in fit_all(*arguments, **options):
            yield number, _with_score(trained, next(scores))

    fit_all = mlp.fit_all
    monkeypatch.setattr(mlp, "fit_all", undefined_sometimes)
    result = _evaluate(scene_folder(), Protocol(grid_points=3))
    assert result.runs[0].folds[0].model.validation.score == 0.1


def test_of_equal_scores_the_first_drawn_wins_whatever_is_done_first(scene_folder, monkeypatch):
    def backwards(*arguments, **options):
        for number, trained in reversed(list(fit_all(*arguments, **options))):
            yield number, _with_score(trained, 0.0 if number == 0 else 0.5)

    fit_all = mlp.fit_all
    monkeypatch.setattr(mlp, "fit_all", backwards)
    (run,) = _evaluate(scene_folder(), Protocol(grid_points=3)).runs
    assert [point.validation.score for point in run.grid] == [0.0, 0.5, 0.5]
    assert run.folds[0].model.settings == run.grid[1].settings


@pytest.mark.parametrize("kind", ["scene", "folds", "event"])
def test_seeds_are_evaluations_one_after_another(kind, scene_folder, event_folder):
    folds = {"splits": FOLDS, "split_mode": "presplit_kfold"} if kind == "folds" else {}
    folder = event_folder() if kind == "event" else scene_folder(**folds)
    protocol = Protocol(grid="faster", grid_points=2, seed=3, device="cpu")
    together = _evaluate(folder, dataclasses.replace(protocol, seeds=2))
    assert [run.seed for run in together.runs] == [3, 4]
    for run in together.runs:
        (alone,) = _evaluate(folder, dataclasses.replace(protocol, seed=run.seed)).runs
        assert [point.settings for point in run.grid] == [point.settings for point in alone.grid]
        for fold, other in zip(run.folds, alone.folds, strict=True):
            assert np.array_equal(fold.predictions.probabilities, other.predictions.probabilities)
            assert (fold.roles.test, fold.scores) == (other.roles.test, other.scores)


@pytest.mark.parametrize("kind", ["scene", "folds", "event"])
def test_stacks_score_as_networks_alone(kind, scene_folder, event_folder):
    folds = {"splits": FOLDS, "split_mode": "presplit_kfold"} if kind == "folds" else {}
    # Far apart, so that none is nearly as good as the best.
    grid = {
        "lr": [0.0032, 0.0001],
        "initialization": ["xavier_normal"],
        "hidden_dim": [32],
        "max_epochs": [9],
    }
    changes = {**folds, "evaluation_params": {"task_specific_param_grid": grid}}
    folder = (event_folder if kind == "event" else scene_folder)(**changes)
    protocol = Protocol(grid_points=4, seeds=2, device="cpu")
    alone, stacked = (evaluate_folder(folder, protocol, max_stacked=most) for most in (1, 16))
    for one, other in zip(alone.runs, stacked.runs, strict=True):
        assert [point.settings for point in one.grid] == [point.settings for point in other.grid]
        for fold, again in zip(one.folds, other.folds, strict=True):
            assert fold.model.settings == again.model.settings
            assert fold.predictions.probabilities == pytest.approx(again.predictions.probabilities, abs=0.01)
            for score, of_stack in zip(fold.scores, again.scores, strict=True):
                assert score.value == pytest.approx(of_stack.value, abs=0.05)


def test_nothing_to_choose_from(scene_folder):
    folder = scene_folder(evaluation=["aucroc"])
    labels = {clip: ["drum"] for clip in json.loads((folder / "valid.json").read_text())}
    (folder / "valid.json").write_text(json.dumps(labels))
    with pytest.raises(
        HearevalError, match=r"on split valid: got aucroc undefined.*label 'drum', 'flute', '7'"
    ):
        _evaluate(folder)


def test_nothing_to_choose_from_in_a_later_round(scene_folder):
    folder = scene_folder(evaluation=["aucroc"], splits=FOLDS, split_mode="new_split_kfold")
    labels = {clip: ["drum"] for clip in json.loads((folder / "fold03.json").read_text())}
    (folder / "fold03.json").write_text(json.dumps(labels))
    with pytest.raises(HearevalError, match="can be selected on split fold03"):
        _evaluate(folder)


def test_training_that_runs_away(scene_folder):
    grid = {"hidden_dim": [16], "max_epochs": [6], "lr": [1e38]}
    with pytest.raises(HearevalError, match="expected a training that converges"):
        _evaluate(scene_folder(evaluation_params={"task_specific_param_grid": grid}))


def test_constant_embeddings_still_score(scene_folder):
    folder = scene_folder()
    for split in ("train", "valid", "test"):
        np.save(folder / f"{split}.npy", np.zeros((24, 8), np.float32))
    assert _evaluate(folder).runs[0].folds[0].scores[0].value == pytest.approx(1 / 3)


def test_too_few_training_rows(scene_folder):
    with pytest.raises(HearevalError, match="got 1 embedding, expected at least 2"):
        _evaluate(scene_folder(clips=1))


def test_splits_of_different_embedding_sizes(scene_folder):
    folder = scene_folder()
    np.save(folder / "valid.npy", np.zeros((24, 9), np.float32))
    with pytest.raises(HearevalError, match="expected the same size"):
        _evaluate(folder)


def test_metric_of_the_other_kind(scene_folder):
    with pytest.raises(HearevalError, match=r"metric segment_1s_er of task scene: expected one of top1_acc"):
        _evaluate(scene_folder(evaluation=["segment_1s_er"]))


@pytest.mark.parametrize("probe", PROBES)
def test_progress_rises_to_its_total(probe, scene_folder):
    reported = []
    protocol = TINY if probe == "mlp" else Protocol(probe=probe, device="cpu")
    folder = scene_folder(splits=FOLDS, split_mode="presplit_kfold")
    evaluate_folder(folder, protocol, lambda *facts: reported.append(facts))
    done = [done for done, _ in reported]
    assert done == sorted(done)
    (total,) = {total for _, total in reported}
    assert reported[-1] == (total, total)
    if probe == "mlp":
        # Two grid points in the first round, then one training in each of the others.
        assert total == 500
