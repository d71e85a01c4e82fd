"""Chance levels against every permutation and scikit-learn, and sentences on labels that a split lacks."""

import itertools
import json

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import average_precision_score, roc_auc_score

from heareval.predictions.chance import describe_missing_labels, find_chance_levels, find_split_labels
from heareval.predictions.data import SplitRoles, read_task
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.kinds import find_kind
from heareval.predictions.metrics import METRICS
from heareval.predictions.metrics.clip import random_average_precision
from heareval.predictions.metrics.event import EventTable
from heareval.predictions.protocol import Protocol
from heareval.predictions.stored import read_checked_scores
from heareval.predictions.table import score_table
from heareval.predictions.writing import write_results

ROUND = SplitRoles("test", "valid", ("train",))


def _evaluated(folder):
    result = evaluate_folder(folder, Protocol(probe="linear"))
    return write_results(folder, result, "beef", "0123456789abcdef")


@pytest.mark.parametrize("positives", range(1, 7))
def test_a_label_permuted_at_random_on_average(positives):
    """Over all orders of six clips."""
    ranks = np.arange(6, 0, -1)
    targets = [np.isin(np.arange(6), chosen) for chosen in itertools.combinations(range(6), positives)]
    expected = np.mean([average_precision_score(target, ranks) for target in targets])
    assert random_average_precision(targets[0][:, None]) == pytest.approx(expected, abs=1e-12)
    if positives < 6:
        areas = [roc_auc_score(target, ranks) for target in targets]
        assert METRICS["aucroc"].chance(targets[0][:, None], None, 6, 0) == pytest.approx(np.mean(areas))
        assert METRICS["d_prime"].chance(targets[0][:, None], None, 6, 0) == 0.0


def test_labels_without_contrast_or_clips():
    targets = np.array([[1, 0], [1, 0]])
    assert np.isnan(METRICS["aucroc"].chance(targets, None, 2, 0))
    assert np.isnan(METRICS["d_prime"].chance(targets, None, 2, 0))
    # As in the score, a label that no clip has counts 0.
    assert METRICS["mAP"].chance(targets, None, 2, 0) == 0.5


def test_accuracies_of_the_most_common_training_label(scene_folder):
    folder = scene_folder()
    labels = json.loads((folder / "train.json").read_text())
    # 9 of 24 training clips are flutes, and 8 of 24 test clips.
    labels["train_0.wav"] = ["flute"]
    (folder / "train.json").write_text(json.dumps(labels))
    kind = find_kind(read_task(folder))
    marks = find_split_labels(kind).of_clips
    x = np.zeros((24, 1))
    dummy = DummyClassifier(strategy="most_frequent").fit(x, marks["train"].argmax(axis=1))
    expected = dummy.score(x, marks["test"].argmax(axis=1))
    path = write_results(
        folder, evaluate_folder(folder, Protocol(probe="linear")), "beef", "0123456789abcdef"
    )
    scores = read_checked_scores(path)
    assert scores.scores["top1_acc"].chance == expected == 8 / 24
    written = json.loads(path.read_text())["scores"]
    assert written["top1_acc"]["chance"] == 8 / 24
    head, row, *_ = score_table({path: scores}).splitlines()
    assert head.split()[:5] == ["submission", "task", "metric", "score", "chance"]
    assert row.split()[4] == "0.3333"
    # It is checked like every other number.
    written["top1_acc"]["chance"] = 0.1
    values = json.loads(path.read_text())
    values["scores"] = written
    path.write_text(json.dumps(values))
    with pytest.raises(Exception, match=r"chance level of top1_acc in .*got 0\.1, expected 0\.333333"):
        read_checked_scores(path)


def test_chroma_of_the_most_common_pitch():
    assert METRICS["chroma_acc"].chance(np.eye(24)[[0, 12, 5, 7]], None, 4, 12) == 0.5


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.kind == "event"])
def test_events_moved_to_other_clips(name):
    metric, rng = METRICS[name], np.random.default_rng(1)
    onsets_ms = rng.uniform(0, 3000, 30)
    table = EventTable(np.repeat(np.arange(6), 5), rng.integers(2, size=30), onsets_ms, onsets_ms + 400)
    scores = []
    for shift in range(1, 6):
        clips = np.array([(clip + shift) % 6 for clip in table.clip])
        scores.append(metric.function(table, EventTable(clips, table.label, table.onset_ms, table.offset_ms)))
    # No events at all have an F-measure of 0 and an error rate of 1.
    expected = max(0.0, np.mean(scores)) if metric.maximise else min(1.0, np.mean(scores))
    assert metric.chance(table, table, 6, 0) == pytest.approx(expected)
    is_worse = metric.chance(table, table, 6, 0) < metric.function(table, table)
    assert is_worse == metric.maximise
    # A clip alone can't exchange its events.
    one = table.select(table.clip == 0)
    assert metric.chance(one, one, 1, 0) == (0.0 if metric.maximise else 1.0)


def test_chance_levels_are_means_over_folds_and_seeds(event_folder):
    folder = event_folder(splits=("fold00", "fold01", "fold02"), split_mode="new_split_kfold")
    protocol = Protocol(grid="faster", grid_points=1, seeds=2, device="cpu")
    result = evaluate_folder(folder, protocol)
    kind = find_kind(result.task)
    labels = find_split_labels(kind)
    rounds = [fold.roles for fold in result.runs[0].folds]
    runs = [[kind.prepare_scoring(fold.predictions) for fold in run.folds] for run in result.runs]
    alone = [
        find_chance_levels(["segment_1s_er"], labels, [roles], [[fold]])["segment_1s_er"]
        for run in runs
        for fold, roles in zip(run, rounds, strict=True)
    ]
    assert len(set(alone)) > 1
    joint = find_chance_levels(["segment_1s_er"], labels, rounds, runs)
    assert joint == {"segment_1s_er": pytest.approx(np.mean(alone))}


def _relabel(folder, split, change):
    labels = json.loads((folder / f"{split}.json").read_text())
    changed = {clip: change(i, mine) for i, (clip, mine) in enumerate(labels.items())}
    (folder / f"{split}.json").write_text(json.dumps(changed))


def test_labels_that_training_and_validation_lack_are_told(scene_folder, event_folder):
    """As in a small mode whose training has no silence, and whose validation hardly anything else."""
    folder = scene_folder()
    _relabel(folder, "train", lambda i, mine: ["drum"] if mine == [7] else mine)
    _relabel(folder, "valid", lambda i, mine: [7] if i else ["flute"])
    path = write_results(
        folder, evaluate_folder(folder, Protocol(probe="linear")), "beef", "0123456789abcdef"
    )
    scores = read_checked_scores(path)
    assert scores.problems == (
        "train lacks '7', which 23 of 24 clips of valid and 8 of 24 clips of test have",
        "valid lacks 'drum', which 8 of 24 clips of test have",
    )
    note = score_table({path: scores}).splitlines()[-1]
    assert note.endswith(f"{scores.problems[0]}; 1 more under `problems` in {path}")
    events = event_folder()
    _relabel(events, "train", lambda i, mine: [each for each in mine if each["label"] != "drum"])
    kind = find_kind(read_task(events))
    (told,) = describe_missing_labels(find_split_labels(kind), [ROUND])
    assert told.startswith("train lacks 'drum', which ")


def test_folds_name_the_round_and_many_labels_are_cut(scene_folder):
    folder = scene_folder(clips=24, prediction_type="multilabel", evaluation=["mAP"])
    names = ["drum", "flute", "7", *(f"label {i}" for i in range(8))]
    (folder / "labelvocabulary.csv").write_text(
        "idx,label\n" + "".join(f"{i},{name}\n" for i, name in enumerate(names))
    )
    _relabel(folder, "test", lambda i, mine: names[3:] if i == 0 else mine)
    labels = find_split_labels(find_kind(read_task(folder)))
    assert describe_missing_labels(labels, [ROUND]) == (
        "train lacks 'label 0', 'label 1', 'label 2', 'label 3', 'label 4' and 3 more labels, "
        "which 1 of 24 clips of test have",
    )
    (told,) = describe_missing_labels(labels, [SplitRoles("test", "valid", ("train", "valid"))])
    assert told.startswith("training for test lacks 'label 0'")
