"""Tasks that hardly are one end with a number, or in one line that says why not; nothing else is printed."""

import json
import math

import numpy as np
import pytest

from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.predictions.probes import evaluate_with_probe
from heareval.predictions.protocol import PROBES, Protocol
from heareval.predictions.report import make_report
from heareval.predictions.results import write_results
from heareval.predictions.selection import evaluate_folder
from heareval.predictions.stored import read_stored

pytestmark = [
    pytest.mark.filterwarnings("error"),
    # Of dcase_util, which sed_eval needs.
    pytest.mark.filterwarnings("ignore:pkg_resources is deprecated"),
]
FOLDS = {"splits": ("fold00", "fold01", "fold02", "fold03"), "split_mode": "new_split_kfold"}
# What a fold is in the first round.
PARTS = {"fold00": "test", "fold01": "valid", "fold02": "train", "fold03": "train"}
KINDS = {
    "multiclass": {"evaluation": ["top1_acc", "mAP", "aucroc", "d_prime"]},
    "multilabel": {"evaluation": ["mAP", "aucroc", "d_prime"], "prediction_type": "multilabel"},
}
GRID = {
    "hidden_layers": [0, 1],
    "hidden_dim": [16],
    "max_epochs": [4],
    "lr": [0.01],
    "initialization": ["xavier_normal"],
    "patience": [3],
}
TINY = {"evaluation_params": {"task_specific_param_grid": GRID}}
LARGEST = np.finfo(np.float32).max
OTHERS = [probe for probe in PROBES if probe != "mlp"]


def _protocol(probe):
    network = {"grid": "faster", "grid_points": 2} if probe == "mlp" else {}
    return Protocol(probe=probe, device="cpu", **network)


def _evaluated(folder, probe):
    evaluate = evaluate_folder if probe == "mlp" else evaluate_with_probe
    return evaluate(folder, _protocol(probe), lambda done, total: None)


def _test_scores(result):
    """The first tested split's scores, by metric."""
    return {score.metric: score.value for score in result.folds[0].scores}


def _probabilities(result):
    """What was said about the first tested split."""
    return result.folds[0].predictions.probabilities


def _tried(result):
    """Validation scores of everything that was tried."""
    return [point.validation_score for point in result.grid]


def _results(folder, probe):
    """What an evaluation writes, as strict JSON, after it was read back and reported."""
    path = write_results(folder, _evaluated(folder, probe), "beef", "0123456789abcdef")
    results = json.loads(path.read_text(), parse_constant=_refuse)
    for metric, score in results["scores"].items():
        for split, value in score["folds"].items():
            told = any(f"{metric} " in problem and split in problem for problem in results["problems"])
            assert value is not None or told
        if score["interval_95"] is not None:
            low, high = score["interval_95"]
            assert low is None or low <= score["score"]
            assert high is None or score["score"] <= high
    stored = read_stored(folder, results["protocol"])
    json.dumps(make_report(stored, Places()).values, allow_nan=False)
    return results


def _refuse(text):
    raise ValueError(f"{text} is no JSON")


def _chosen(result):
    """The validation score of what was tested first."""
    return result.folds[0].model.validation_score


def _splits(folder):
    for split in _read(folder / "task_metadata.json")["splits"]:
        yield split, PARTS.get(split, split)


def _read(path):
    return json.loads(path.read_text())


def _relabel(change):
    """Gives clips what `change(part, number, labels)` says."""

    def relabel(folder):
        for split, part in _splits(folder):
            path = folder / f"{split}.json"
            clips = {clip: change(part, i, mine) for i, (clip, mine) in enumerate(_read(path).items())}
            path.write_text(json.dumps(clips))

    return relabel


def _embed(change):
    """Puts `change(part, embeddings)` in the embeddings' place."""

    def embed(folder):
        for split, part in _splits(folder):
            path = folder / f"{split}.npy"
            x = change(part, np.load(path))
            np.save(path, x if x.dtype == np.float16 else x.astype(np.float32))

    return embed


def _keep(**clips):
    """Leaves the first clips of some parts."""

    def keep(folder):
        for split, part in _splits(folder):
            count = clips.get(part, 24)
            (folder / f"{split}.json").write_text(
                json.dumps(dict(list(_read(folder / f"{split}.json").items())[:count]))
            )
            for path in (folder / f"{split}.npy", folder / f"{split}.timestamps.npy"):
                if path.is_file():
                    np.save(path, np.load(path)[:count])

    return keep


def _without(label, labels):
    return [each for each in labels if each != label] or ["drum"]


def _one_row(part, value):
    """The first embedding of a part has this value everywhere."""
    return _embed(lambda mine, x: np.concatenate([np.full_like(x[:1], value), x[1:]]) if mine == part else x)


SCENES = {
    "one clip has a label": _relabel(
        lambda part, i, mine: [7] if (part, i) == ("train", 0) else _without(7, mine)
    ),
    "no clip has a label": _relabel(lambda part, i, mine: _without(7, mine)),
    "all clips have one label": _relabel(lambda part, i, mine: ["drum"]),
    "training lacks a label": _relabel(lambda part, i, mine: _without(7, mine) if part == "train" else mine),
    "validation lacks a label": _relabel(
        lambda part, i, mine: _without(7, mine) if part == "valid" else mine
    ),
    "test lacks a label": _relabel(lambda part, i, mine: _without(7, mine) if part == "test" else mine),
    "two clips to train on": _keep(train=2, valid=2, test=2),
    "one clip to validate": _keep(valid=1),
    "one clip to test": _keep(test=1),
    "one dimension": _embed(lambda part, x: x[:, :1]),
    "constant": _embed(lambda part, x: np.full_like(x, 3.3)),
    "constant in training": _embed(lambda part, x: np.full_like(x, 3.3) if part == "train" else x),
    "duplicates": _embed(lambda part, x: np.tile(x[:1], (len(x), 1))),
    "huge": _embed(lambda part, x: x * np.float32(1e30)),
    "tiny": _embed(lambda part, x: x * np.float32(1e-30)),
    "half precision at its end": _embed(lambda part, x: np.where(x > 0, 65504, -65504).astype(np.float16)),
    "one huge clip to train on": _one_row("train", 1e30),
    "one huge clip to validate": _one_row("valid", 1e30),
    "one huge clip to test": _one_row("test", 1e30),
}


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("case", list(SCENES))
def test_scenes_end_with_numbers(case, probe, scene_folder):
    for kind, splits in (("multiclass", {}), ("multilabel", FOLDS)):
        folder = scene_folder(kind, clips=12, **KINDS[kind], **TINY, **splits)
        SCENES[case](folder)
        results = _results(folder, probe)
        first = results["scores"][KINDS[kind]["evaluation"][0]]
        assert 0 <= first["score"] <= 1
        assert all(point["validation_score"] is not None for point in results["grid"])


@pytest.mark.parametrize("probe", PROBES)
def test_nothing_is_learned_from_embeddings_that_are_all_the_same(probe, scene_folder):
    folder = scene_folder(**KINDS["multiclass"], **TINY)
    SCENES["constant"](folder)
    scores = _test_scores(_evaluated(folder, probe))
    assert list(scores.values()) == pytest.approx([1 / 3, 1 / 3, 0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize("probe", OTHERS)
@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_a_common_factor_changes_nothing(probe, scale, scene_folder):
    folder = scene_folder(**KINDS["multiclass"])
    plain = _evaluated(folder, probe)
    _embed(lambda part, x: x * np.float32(scale))(folder)
    scaled = _evaluated(folder, probe)
    assert _tried(scaled) == _tried(plain)
    assert _test_scores(scaled) == _test_scores(plain)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("one clip in each split", r"training data for test: splits train: got 1 embedding, expected at le"),
        ("no clip to test", r"test\.json: got no clips"),
        ("labels", r"train/train_\d+\.wav in the multiclass task scene: got 3 labels, expected exactly one"),
        (
            "ranked",
            r"scene can be chosen on split valid: got d_prime undefined.*clips with and without .*'7'",
        ),
    ],
)
def test_scenes_that_are_refused(case, message, probe, scene_folder):
    change = {
        "one clip in each split": _keep(train=1, valid=1, test=1),
        "no clip to test": _keep(test=0),
        "labels": _relabel(lambda part, i, mine: ["drum", "flute", 7]),
        "ranked": SCENES["validation lacks a label"],
    }
    folder = scene_folder(evaluation=["d_prime"], **TINY)
    change[case](folder)
    with pytest.raises(HearevalError, match=message):
        _evaluated(folder, probe)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("train", r"chosen on split valid: got top1_acc undefined.*expected a training that converges"),
        ("test", r"what was predicted for test/test_0\.wav: got NaN or infinity, expected finite numbers"),
    ],
)
def test_embeddings_that_overflow_in_the_network(part, message, scene_folder):
    folder = scene_folder(**KINDS["multiclass"], **TINY)
    _one_row(part, LARGEST)(folder)
    with pytest.raises(HearevalError, match=message):
        _evaluated(folder, "mlp")


def test_a_grid_point_that_overflows_never_wins(scene_folder):
    folder = scene_folder(**KINDS["multiclass"], **TINY)
    _one_row("valid", LARGEST)(folder)
    result = _evaluated(folder, "mlp")
    assert [math.isnan(score) for score in _tried(result)] == [True, False]
    assert _chosen(result) == _tried(result)[1]


def test_estimates_beyond_single_precision(scene_folder):
    folder = scene_folder(**KINDS["multiclass"])
    _embed(lambda part, x: x * np.float32(1e-35))(folder)
    _one_row("test", LARGEST)(folder)
    with pytest.raises(HearevalError, match=r"what was predicted for test/test_0\.wav: got NaN or infinity"):
        _evaluated(folder, "linear")


@pytest.mark.parametrize("probe", PROBES)
def test_the_last_batch_is_never_one_clip(probe, scene_folder):
    """Batches of 8 and a clip more; where training embeddings stay on disk, too."""
    grid = {**GRID, "hidden_layers": [2], "batch_size": [8]}
    folder = scene_folder(clips=25, evaluation_params={"task_specific_param_grid": grid})
    evaluate = evaluate_folder if probe == "mlp" else evaluate_with_probe
    found = [
        evaluate(folder, _protocol(probe), lambda done, total: None, in_memory=in_memory)
        for in_memory in (True, False)
    ]
    assert _test_scores(found[0]) == _test_scores(found[1])
    assert (_probabilities(found[0]) == _probabilities(found[1])).all()


@pytest.mark.parametrize("probe", PROBES)
def test_a_vocabulary_of_one_label(probe, scene_folder):
    for kind in KINDS:
        folder = scene_folder(kind, clips=8, **KINDS[kind], **TINY)
        (folder / "labelvocabulary.csv").write_text("idx,label\n0,drum\n")
        _relabel(lambda part, i, mine: ["drum"])(folder)
        results = _results(folder, probe)
        assert results["scores"]["mAP"]["score"] == 1.0
        assert results["scores"]["d_prime"]["score"] is None


@pytest.mark.parametrize("probe", PROBES)
def test_a_hundred_thousand_dimensions(probe, scene_folder):
    folder = scene_folder(clips=12, **KINDS["multiclass"], **TINY)
    _embed(lambda part, x: np.tile(x, (1, 12_500)))(folder)
    assert 0 <= _test_scores(_evaluated(folder, probe))["top1_acc"] <= 1
