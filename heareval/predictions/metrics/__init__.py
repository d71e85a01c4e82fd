"""The one table of metrics, by the names that `evaluation` in task_metadata.json uses.

To add a metric, write its function and its entry in the `METRICS` of clip.py, event.py or the
module of its relation between clips.
"""

from __future__ import annotations

from collections.abc import Mapping

from heareval.errors import unknown_name
from heareval.predictions.metrics import abx, clip, event, ratings, retrieval, same_different, triplets
from heareval.predictions.metrics.metric import DetailedScore, Metric

__all__ = ["METRICS", "DetailedScore", "Metric", "find_metric"]

METRICS: Mapping[str, Metric] = {
    **clip.METRICS,
    **event.METRICS,
    **ratings.METRICS,
    **triplets.METRICS,
    **same_different.METRICS,
    **retrieval.METRICS,
    **abx.METRICS,
}


def find_metric(name: str) -> Metric:
    """Return the metric with this name.

    Raises:
        HearevalError: no metric has this name; the message suggests the nearest.

    >>> find_metric("segment_1s_er").maximise
    False
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]
