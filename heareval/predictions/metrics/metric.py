"""The types that every metric is described by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from heareval.predictions.metrics.resampled import BootstrapScorer, LabelScore


@dataclass(frozen=True)
class DetailedScore:
    """A score with the numbers it is made of, such as precision and recall."""

    value: float
    details: Mapping[str, float]


def no_details(reference: Any, predicted: Any) -> Mapping[str, float]:
    """Return the details of a score that consists of one number."""
    return {}


@dataclass(frozen=True)
class Metric:
    """A rule that turns references and predictions into a score.

    Its functions take targets and predictions `(clips, labels)` if `kind` is "scene", tables of reference and
    estimated events if it is "event", and a relation between clips and what was measured of it if it is
    "pairwise".

    Args:
        kind: the kind of tasks that the metric scores.
        function: computes the score quickly, for model selection.
        report: computes the score with its details, for publication; event metrics use sed_eval.
        chance: computes the score of predictions that know nothing about the clips, from references,
            predictions, the number of clips and the index of the label that is most common in training.
        details: computes the details of `report` quickly, to check those of stored results.
        resample: prepares scores of bootstrap resamples from references, predictions and the number of clips;
            pairwise metrics resample units, such as speakers, and take the number of units.
        maximise: whether a higher score is better.
        is_biased_by_copies: whether resamples, which hold some clips twice, score higher or lower on average
            than the clips that they were drawn from. Metrics that rank clips do; shares of clips don't. The
            resampled scores are then recentred; see `bootstrap.recenter`.
        score_label: scores one label in resamples, if the metric is the mean over labels of a score of the
            label's ranked clips. Metrics that are can share the rankings.
        scores_absent_labels_as_0: whether a label that no clip has counts 0 instead of being undefined.
    """

    kind: Literal["scene", "event", "pairwise"]
    function: Callable[[Any, Any], float]
    report: Callable[[Any, Any], DetailedScore]
    resample: Callable[[Any, Any, int], BootstrapScorer]
    chance: Callable[[Any, Any, int, int], float]
    details: Callable[[Any, Any], Mapping[str, float]] = no_details
    maximise: bool = True
    is_biased_by_copies: bool = False
    score_label: LabelScore | None = None
    scores_absent_labels_as_0: bool = False


def make_report(
    function: Callable[[Any, Any], float], details: Callable[[Any, Any], Mapping[str, float]] = no_details
) -> Callable[[Any, Any], DetailedScore]:
    """Return the report of a metric: its function with its details.

    >>> make_report(lambda reference, predicted: 0.5)(None, None)
    DetailedScore(value=0.5, details={})
    """
    return lambda reference, predicted: DetailedScore(
        function(reference, predicted), details(reference, predicted)
    )
