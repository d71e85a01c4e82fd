"""Degenerate scene tasks end with a score, or with one line that explains why there is none."""

import math

import numpy as np
import pytest

from heareval.errors import HearevalError
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.protocol import PROBES
from tests.predictions.degenerate import (
    FOLDS,
    GRID,
    LARGEST,
    SILENT,
    SPLITS,
    TINY,
    chosen,
    embed,
    evaluated,
    keep,
    one_row,
    predicted_by,
    protocol,
    relabel,
    scores_of,
    tried,
    written,
)

pytestmark = SILENT
KINDS = {
    "multiclass": {"evaluation": ["top1_acc", "mAP", "aucroc", "d_prime"]},
    "multilabel": {"evaluation": ["mAP", "aucroc", "d_prime"], "prediction_type": "multilabel"},
}
OTHERS = [probe for probe in PROBES if probe != "mlp"]


def _without(label, labels):
    return [each for each in labels if each != label] or ["drum"]


SCENES = {
    "one clip has a label": relabel(
        lambda part, i, mine: [7] if (part, i) == ("train", 0) else _without(7, mine)
    ),
    "no clip has a label": relabel(lambda part, i, mine: _without(7, mine)),
    "all clips have one label": relabel(lambda part, i, mine: ["drum"]),
    "training lacks a label": relabel(lambda part, i, mine: _without(7, mine) if part == "train" else mine),
    "validation lacks a label": relabel(lambda part, i, mine: _without(7, mine) if part == "valid" else mine),
    "test lacks a label": relabel(lambda part, i, mine: _without(7, mine) if part == "test" else mine),
    "two clips to train on": keep(train=2, valid=2, test=2),
    "one clip to validate": keep(valid=1),
    "one clip to test": keep(test=1),
    "one dimension": embed(lambda part, x: x[:, :1]),
    "constant": embed(lambda part, x: np.full_like(x, 3.3)),
    "constant in training": embed(lambda part, x: np.full_like(x, 3.3) if part == "train" else x),
    "duplicates": embed(lambda part, x: np.tile(x[:1], (len(x), 1))),
    "huge": embed(lambda part, x: x * np.float32(1e30)),
    "tiny": embed(lambda part, x: x * np.float32(1e-30)),
    "half precision at its end": embed(lambda part, x: np.where(x > 0, 65504, -65504).astype(np.float16)),
    "one huge clip to train on": one_row("train", 1e30),
    "one huge clip to validate": one_row("valid", 1e30),
    "one huge clip to test": one_row("test", 1e30),
}


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("case", list(SCENES))
def test_scenes_end_with_numbers(case, probe, scene_folder):
    kind = "multilabel" if SPLITS[probe] else "multiclass"
    folder = scene_folder(clips=12, **KINDS[kind], **TINY, **SPLITS[probe])
    SCENES[case](folder)
    results = written(folder, probe)
    assert 0 <= results["scores"][KINDS[kind]["evaluation"][0]]["score"] <= 1
    assert all(point["validation_score"] is not None for point in results["grid"])


@pytest.mark.parametrize("probe", PROBES)
def test_nothing_is_learned_from_embeddings_that_are_all_the_same(probe, scene_folder):
    folder = scene_folder(**KINDS["multiclass"], **TINY)
    SCENES["constant"](folder)
    scores = scores_of(evaluated(folder, probe))
    assert list(scores.values()) == pytest.approx([1 / 3, 1 / 3, 0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize("probe", OTHERS)
@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_a_common_factor_changes_nothing(probe, scale, scene_folder):
    folder = scene_folder(**KINDS["multiclass"])
    plain = evaluated(folder, probe)
    embed(lambda part, x: x * np.float32(scale))(folder)
    scaled = evaluated(folder, probe)
    assert tried(scaled) == tried(plain)
    assert scores_of(scaled) == scores_of(plain)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("one clip in each split", r"training data for test: splits train: got 1 embedding, expected at le"),
        ("no clip to test", r"test\.json: got no clips"),
        ("labels", r"train/train_\d+\.wav: got 3 labels, expected exactly one in a multiclass task"),
        (
            "ranked",
            r"scene can be selected on split valid: got d_prime undefined.*clips with and without .*'7'",
        ),
    ],
)
def test_scenes_that_are_refused(case, message, probe, scene_folder):
    change = {
        "one clip in each split": keep(train=1, valid=1, test=1),
        "no clip to test": keep(test=0),
        "labels": relabel(lambda part, i, mine: ["drum", "flute", 7]),
        "ranked": SCENES["validation lacks a label"],
    }
    folder = scene_folder(evaluation=["d_prime"], **TINY)
    change[case](folder)
    with pytest.raises(HearevalError, match=message):
        evaluated(folder, probe)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("train", r"selected on split valid: got top1_acc undefined.*expected a training that converges"),
        ("test", r"predictions for test/test_0\.wav: got NaN or infinity, expected finite numbers"),
    ],
)
def test_embeddings_that_overflow_in_the_network(part, message, scene_folder):
    folder = scene_folder(**KINDS["multiclass"], **TINY)
    one_row(part, LARGEST)(folder)
    with pytest.raises(HearevalError, match=message):
        evaluated(folder, "mlp")


def test_a_grid_point_that_runs_away_never_wins(scene_folder):
    grid = {**GRID, "hidden_layers": [1], "lr": [1e38, 0.01]}
    result = evaluated(scene_folder(evaluation_params={"task_specific_param_grid": grid}), "mlp")
    (defined,) = [score for score in tried(result) if not math.isnan(score)]
    assert len(tried(result)) == 2
    assert chosen(result) == defined


def test_estimates_beyond_single_precision(scene_folder):
    folder = scene_folder(**KINDS["multiclass"])
    embed(lambda part, x: x * np.float32(1e-35))(folder)
    one_row("test", LARGEST)(folder)
    with pytest.raises(HearevalError, match=r"predictions for test/test_0\.wav: got NaN or infinity"):
        evaluated(folder, "linear")


@pytest.mark.parametrize("probe", PROBES)
def test_the_last_batch_is_never_one_clip(probe, scene_folder):
    """Batches of 8 and a clip more; where training embeddings stay on disk, too."""
    grid = {**GRID, "hidden_layers": [2], "batch_size": [8]}
    folder = scene_folder(clips=25, evaluation_params={"task_specific_param_grid": grid})
    found = [evaluate_folder(folder, protocol(probe), in_memory=in_memory) for in_memory in (True, False)]
    assert scores_of(found[0]) == scores_of(found[1])
    assert (predicted_by(found[0]) == predicted_by(found[1])).all()


@pytest.mark.parametrize("probe", PROBES)
def test_a_vocabulary_of_one_label(probe, scene_folder):
    for kind in KINDS:
        folder = scene_folder(kind, clips=8, **KINDS[kind], **TINY)
        (folder / "labelvocabulary.csv").write_text("idx,label\n0,drum\n")
        relabel(lambda part, i, mine: ["drum"])(folder)
        results = written(folder, probe)
        assert results["scores"]["mAP"]["score"] == 1.0
        assert results["scores"]["d_prime"]["score"] is None


@pytest.mark.parametrize("probe", PROBES)
def test_a_hundred_thousand_dimensions(probe, scene_folder):
    folder = scene_folder(clips=12, **KINDS["multiclass"], **TINY)
    embed(lambda part, x: np.tile(x, (1, 12_500)))(folder)
    assert 0 <= scores_of(evaluated(folder, probe))["top1_acc"] <= 1


def test_folds_that_are_told_perfectly_and_never(scene_folder):
    folder = scene_folder(evaluation=["top1_acc", "d_prime"], **FOLDS)
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,drum\n1,flute\n")
    relabel(lambda part, i, mine: [("drum", "flute")[i % 2]])(folder)
    # In the validation split of the first round, which the second one tests, the labels change places.
    embed(lambda part, x: np.tile(np.eye(2)[:: -1 if part == "valid" else 1], (12, 1)))(folder)
    score = written(folder, "linear")["scores"]["d_prime"]
    assert (score["score"], score["interval_95"]) == (None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 1),
        ("check_val_every_n_epoch", 0),
        ("max_epochs", 0),
        ("hidden_dim", 0),
        ("hidden_layers", -1),
        ("patience", 0),
        ("hidden_dim", 16.5),
        ("lr", float("nan")),
        ("dropout", 1.0),
        ("dropout", None),
        ("lr", "0.1"),
        ("patience", True),
    ],
)
def test_settings_that_train_nothing(name, value, scene_folder):
    grid = {**GRID, name: [value]}
    with pytest.raises(HearevalError, match=rf"{name}.*{value}"):
        evaluated(scene_folder(evaluation_params={"task_specific_param_grid": grid}), "mlp")
