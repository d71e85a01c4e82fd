"""Metrics by the names that `task_metadata.json: evaluation` uses."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from heareval.errors import unknown_name
from heareval.predictions.metrics import clip, drawn, event
from heareval.predictions.metrics.drawn import Redrawn
from heareval.predictions.metrics.event import Collar, Report


@dataclass(frozen=True)
class Metric:
    """A rule that turns predictions into a score.

    Args:
        kind: what it judges: (targets, predictions) of clips, or (reference, estimated) events.
        function: the score, quickly, for model selection.
        report: the score with its details, for publication; of events by sed_eval.
        redraw: what the score becomes when clips are drawn several times or not at all.
        maximise: whether more is better.
        ranks: whether clips are ranked in one list, where one that is drawn twice stands beside itself.
    """

    kind: Literal["clip", "event"]
    function: Callable[[Any, Any], float]
    report: Callable[[Any, Any], Report]
    redraw: Callable[[Any, Any, int], Redrawn]
    maximise: bool = True
    ranks: bool = False


def _clip_metric(
    function: Callable[[Any, Any], float], redraw: Callable[[Any, Any, int], Redrawn], *, ranks: bool = False
) -> Metric:
    def report(targets: Any, predictions: Any) -> Report:
        return Report(function(targets, predictions), {})

    return Metric("clip", function, report, redraw, ranks=ranks)


def _f_measure(collar: Collar) -> Metric:
    return Metric(
        "event",
        functools.partial(event.event_f_measure, collar=collar),
        functools.partial(event.report_f_measure, collar=collar),
        functools.partial(drawn.event_f_measure, collar=collar),
    )


METRICS = {
    "top1_acc": _clip_metric(clip.top1_accuracy, drawn.top1_accuracy),
    "pitch_acc": _clip_metric(clip.top1_accuracy, drawn.top1_accuracy),
    "chroma_acc": _clip_metric(clip.chroma_accuracy, drawn.chroma_accuracy),
    "mAP": _clip_metric(clip.mean_average_precision, drawn.mean_average_precision, ranks=True),
    "d_prime": _clip_metric(clip.mean_d_prime, drawn.mean_d_prime, ranks=True),
    "aucroc": _clip_metric(clip.mean_roc_auc, drawn.mean_roc_auc, ranks=True),
    "event_onset_200ms_fms": _f_measure(Collar(onset_s=0.2)),
    "event_onset_50ms_fms": _f_measure(Collar(onset_s=0.05)),
    "event_onset_offset_50ms_20perc_fms": _f_measure(Collar(onset_s=0.05, share_of_length=0.2)),
    "segment_1s_er": Metric(
        "event",
        event.segment_error_rate,
        event.report_error_rate,
        drawn.segment_error_rate,
        maximise=False,
    ),
}


def find_metric(name: str) -> Metric:
    """The metric of a name; an unknown one is an error that names the nearest."""
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]
