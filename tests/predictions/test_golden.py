"""Agreement with the predictor of 2021 on given embeddings.

golden/ holds embeddings of three small tasks, in the order in which 2021 trained on them, and the test
scores that the predictor of 2021 reached on them with several seeds (one in the event task, whose training
took hours).

Tolerances follow from the spread of the golden scores alone, so that a noisier predictor doesn't pass more
easily.
"""

import json

import numpy as np
import pytest
import torch

from heareval.predictions.data import read_task
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.kinds import find_kind, read_splits
from heareval.predictions.protocol import Protocol
from tests.predictions.conftest import GOLDEN

CASES = ("multiclass", "multilabel", "events")
SCENE_METRICS = ("top1_acc", "mAP", "d_prime", "aucroc")
EVENT_METRICS = ("event_onset_200ms_fms", "segment_1s_er")
# Means further apart than this many standard errors of their difference don't agree.
STANDARD_ERRORS = 3


@pytest.mark.parametrize("case", CASES)
def test_order_is_that_of_2021(golden_folder, case):
    task = read_task(golden_folder(case))
    splits = read_splits(find_kind(task), torch.device("cpu"))
    for order in task.orders:
        with np.load(GOLDEN / case / f"{order.name}.npz") as stored:
            assert list(dict.fromkeys(stored["clips"].tolist())) == list(order.clip_names)
            assert np.array_equal(splits[order.name].x.numpy(), stored["embeddings"])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["multiclass", "multilabel"])
def test_scene_scores_are_within_three_standard_errors(golden_folder, case):
    seeds = 5
    ours, golden = _our_scores(golden_folder(case), seeds), _golden_scores(case)
    for metric in SCENE_METRICS:
        tolerance = _tolerance(golden[metric].std(ddof=1), seeds, len(golden[metric]))
        assert abs(ours[metric].mean() - golden[metric].mean()) <= tolerance, metric


@pytest.mark.slow
def test_event_scores_are_within_three_standard_errors(golden_folder):
    """There is one golden seed: its spread is taken to be the largest that scene scores of 2021 have."""
    seeds = 3
    ours, golden = _our_scores(golden_folder("events"), seeds), _golden_scores("events")
    tolerance = _tolerance(_largest_golden_spread(), seeds, 1)
    for metric in EVENT_METRICS:
        assert len(golden[metric]) == 1
        assert abs(ours[metric].mean() - golden[metric][0]) <= tolerance, metric


def test_the_tolerance_of_event_scores_is_small():
    assert _tolerance(_largest_golden_spread(), 3, 1) == pytest.approx(0.0426, abs=1e-4)


def _largest_golden_spread():
    """The largest standard deviation over seeds of golden scores between 0 and 1, as those of events are."""
    return max(
        _golden_scores(case)[metric].std(ddof=1)
        for case in ("multiclass", "multilabel")
        for metric in SCENE_METRICS
        if metric != "d_prime"
    )


def _tolerance(golden_std, our_seeds, golden_seeds):
    """Three standard errors of the difference of two means, if our scores vary as much as the golden ones."""
    return STANDARD_ERRORS * golden_std * np.sqrt(1 / our_seeds + 1 / golden_seeds)


def _our_scores(folder, seeds):
    """Our test scores by metric, one for each seed."""
    runs = evaluate_folder(folder, Protocol(seeds=seeds, device="cpu")).runs
    scores = [run.folds[0].scores for run in runs]
    return {
        metric.metric: np.array([of_run[i].value for of_run in scores]) for i, metric in enumerate(scores[0])
    }


def _golden_scores(case):
    """The test scores of 2021 by metric, one for each seed."""
    of_seeds = [
        seed["scores"]["test"] for seed in json.loads((GOLDEN / "reference.json").read_text())[case].values()
    ]
    return {
        name.removeprefix("test_"): np.array([scores[name] for scores in of_seeds])
        for name in of_seeds[0]
        if name.startswith("test_")
    }
