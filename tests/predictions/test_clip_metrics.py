"""Every clip metric against scikit-learn, scipy or a plain count."""

import warnings

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from heareval.errors import HearevalError
from heareval.predictions.metrics import METRICS, find_metric
from heareval.predictions.metrics.clip import (
    chroma_accuracy,
    labels_without_contrast,
    labels_without_positives,
    mean_average_precision,
    mean_d_prime,
    mean_roc_auc,
    separable_labels,
    top1_accuracy,
)


@pytest.fixture(params=["distinct", "ties", "constant"])
def case(request):
    """Multilabel targets (clips, labels) and predictions, with ever more ties."""
    rng = np.random.default_rng(4)
    targets = (rng.random((60, 7)) < 0.3).astype(np.uint8)
    predictions = rng.random((60, 7)).astype(np.float32)
    if request.param == "ties":
        predictions = np.round(predictions, 1)
    return targets, np.zeros_like(predictions) if request.param == "constant" else predictions


def test_map_is_scikit_learns(case):
    assert mean_average_precision(*case) == pytest.approx(average_precision_score(*case), abs=1e-12)


def test_auc_is_scikit_learns(case):
    assert mean_roc_auc(*case) == pytest.approx(roc_auc_score(*case), abs=1e-12)


def test_d_prime_follows_from_scikit_learns_auc(case):
    expected = np.mean(np.sqrt(2) * norm.ppf(roc_auc_score(*case, average=None)))
    assert mean_d_prime(*case) == pytest.approx(expected, abs=1e-10)


def test_label_without_positives():
    targets, predictions = np.eye(4)[:, :4].copy(), np.random.default_rng(0).random((4, 4))
    targets[:, 2] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert mean_average_precision(targets, predictions) == average_precision_score(targets, predictions)
    assert np.isnan(mean_roc_auc(targets, predictions))
    assert np.isnan(mean_d_prime(targets, predictions))
    assert labels_without_positives(targets).tolist() == [2]


def test_label_on_every_clip():
    targets = np.array([[1, 0], [1, 1]])
    assert np.isnan(mean_roc_auc(targets, np.array([[0.1, 0.2], [0.3, 0.4]])))
    assert labels_without_contrast(targets).tolist() == [0]


def test_d_prime_of_a_perfect_label_is_infinite():
    targets, predictions = np.array([[1, 0], [0, 1], [0, 0]]), np.array([[0.9, 0.5], [0.1, 0.4], [0.2, 0.1]])
    assert mean_d_prime(targets, predictions) == np.inf
    assert separable_labels(targets, predictions).tolist() == [0]


def test_top1_accuracy_by_a_plain_loop(case):
    targets, predictions = case
    right = [
        list(t).index(max(t)) == list(p).index(max(p)) for t, p in zip(targets, predictions, strict=True)
    ]
    assert top1_accuracy(targets, predictions) == np.mean(right)


def test_chroma_accuracy_forgives_octaves():
    targets, predictions = np.eye(88)[[0, 30, 87, 40]], np.eye(88)[[12, 6, 86, 40]]
    assert chroma_accuracy(targets, predictions) == 0.75
    assert top1_accuracy(targets, predictions) == 0.25


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.kind == "scene"])
def test_shapes_are_checked(name):
    with pytest.raises(HearevalError, match=r"got \(3, 2\) and \(3, 4\)"):
        METRICS[name].function(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(HearevalError, match="at least one clip"):
        METRICS[name].function(np.zeros((0, 2)), np.zeros((0, 2)))


def test_unknown_metric_suggests_the_nearest():
    with pytest.raises(HearevalError, match="Did you mean aucroc"):
        find_metric("auroc")
