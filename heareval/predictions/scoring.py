"""From a network's logits to validation scores, predictions and test scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from heareval.errors import HearevalError
from heareval.predictions.data import Split, Task
from heareval.predictions.events import Postprocessing, best_postprocessing, find_events, postprocessing_grid
from heareval.predictions.metrics import METRICS, Metric, find_metric
from heareval.predictions.metrics.clip import (
    labels_told_apart,
    labels_without_contrast,
    labels_without_positives,
)
from heareval.predictions.metrics.event import EventTable
from heareval.predictions.results import Predictions, Score
from heareval.predictions.training import Judge, Validation


def check_metrics(task: Task) -> None:
    """Refuse a task whose metrics are unknown or of the other kind."""
    kind = "event" if task.is_event else "clip"
    for name in task.metrics:
        if find_metric(name).kind != kind:
            fitting = ", ".join(name for name, metric in METRICS.items() if metric.kind == kind)
            raise HearevalError(f"metric {name} of task {task.name}", expected=f"one of {fitting}")


def decided_by(task: Task) -> str:
    """What chooses the model on the validation split."""
    return "loss" if task.loss_decides else task.metrics[0]


def judge_of(task: Task, valid: Split) -> Judge:
    """How predictors of this task are compared on a validation split."""
    metric = find_metric(task.metrics[0])
    loss = functional.binary_cross_entropy_with_logits if task.is_multilabel else functional.cross_entropy
    grid = postprocessing_grid(task.postprocessing_grid) if task.is_event else ()
    score_probabilities = validation_on(task, valid)

    def score(logits: Tensor) -> Validation:
        return score_probabilities(probabilities_of(task, valid, logits))

    def validate(logits: Tensor) -> Validation:
        # A training that ran away: most metrics would still make a number of it.
        if not torch.isfinite(logits).all():
            return Validation(math.nan)
        if not task.loss_decides:
            return score(logits)
        # Scoring events can take longer than an epoch: left out where nothing remains to be chosen.
        chosen = score(logits).postprocessing if len(grid) > 1 else next(iter(grid), None)
        return Validation(float(loss(logits, valid.y)), chosen)

    return Judge(loss, validate, maximise=metric.maximise and not task.loss_decides)


def validation_on(task: Task, valid: Split) -> Callable[[NDArray[np.float32]], Validation]:
    """From probabilities of a validation split, shaped as in `Predictions`, to the first metric's score."""
    metric = find_metric(task.metrics[0])
    if task.is_event:
        return _event_validation(valid, metric, postprocessing_grid(task.postprocessing_grid))
    targets = targets_of(task, valid)
    return lambda probabilities: Validation(metric.function(targets, probabilities))


def _event_validation(
    valid: Split, metric: Metric, grid: Sequence[Postprocessing]
) -> Callable[[NDArray[np.float32]], Validation]:
    reference, timestamps_ms = event_facts(valid)

    def validate(probabilities: NDArray[np.float32]) -> Validation:
        best = best_postprocessing(
            probabilities,
            timestamps_ms,
            grid,
            lambda estimated: metric.function(reference, estimated),
            maximise=metric.maximise,
        )
        return Validation(best.score, best.postprocessing)

    return validate


def predictions_of(task: Task, split: Split, logits: Tensor) -> Predictions:
    """What the logits `(rows, labels)` say about the clips of a split."""
    return predictions_with(task, split, probabilities_of(task, split, logits))


def predictions_with(task: Task, split: Split, probabilities: NDArray[np.float32]) -> Predictions:
    """Probabilities with what else there is to know about the clips of a split.

    Raises:
        HearevalError: some are no numbers, of which metrics would still make a score.
    """
    bad = ~np.isfinite(probabilities).reshape(len(split.clips), -1).all(axis=1)
    if bad.any():
        raise HearevalError(
            f"what was predicted for {split.name}/{split.clips[int(bad.argmax())]}",
            got="NaN or infinity",
            expected="finite numbers",
            remedy="Look for embeddings far larger than others: `heareval validate` tells of some.",
        )
    return Predictions(
        clips=split.clips,
        targets=targets_of(task, split),
        probabilities=probabilities,
        timestamps_ms=split.timestamps_ms,
        events=split.events,
    )


def probabilities_of(task: Task, split: Split, logits: Tensor) -> NDArray[np.float32]:
    """Probabilities `(clips, labels)` or `(clips, timestamps, labels)` of logits `(rows, labels)`."""
    rows = torch.sigmoid(logits) if task.is_multilabel else torch.softmax(logits, dim=1)
    return by_clip(task, split, rows)


def by_clip(task: Task, split: Split, rows: Tensor) -> NDArray[np.float32]:
    """Rows `(rows, labels)` of a split in the shape of `Predictions`."""
    return np.asarray(rows.cpu().numpy().reshape(_shape(task, split)))


def targets_of(task: Task, split: Split) -> NDArray[np.uint8]:
    """The split's labels as 0 and 1, in the shape of its probabilities."""
    y = split.y if task.is_multilabel else functional.one_hot(split.y, len(task.labels))
    return np.asarray(y.cpu().numpy().astype(np.uint8).reshape(_shape(task, split)))


def _shape(task: Task, split: Split) -> tuple[int, ...]:
    frames = () if split.timestamps_ms is None else (split.timestamps_ms.shape[1],)
    return (len(split.clips), *frames, len(task.labels))


def score_predictions(
    task: Task, split: Split, predictions: Predictions, postprocessing: Postprocessing | None
) -> tuple[Score, ...]:
    """The task's metrics on a split, events by sed_eval."""
    if postprocessing is None:
        return tuple(_clip_score(task, split.name, name, predictions) for name in task.metrics)
    reference, timestamps_ms = event_facts(split)
    estimated = find_events(predictions.probabilities, timestamps_ms, postprocessing)
    return tuple(_event_score(split.name, name, reference, estimated) for name in task.metrics)


def _event_score(split: str, name: str, reference: EventTable, estimated: EventTable) -> Score:
    report = find_metric(name).report(reference, estimated)
    lacking = "no reference events" + (" of some length" if len(reference) else "")
    problems = (f"{name} is undefined on {split}: {lacking}",) if math.isnan(report.value) else ()
    return Score(name, report.value, report.details, problems)


def _clip_score(task: Task, split: str, name: str, predictions: Predictions) -> Score:
    targets, probabilities = predictions.targets, predictions.probabilities
    value = find_metric(name).function(targets, probabilities)
    problems = []
    if math.isnan(value):
        lacking = _names(task, labels_without_contrast(targets))
        mixed = _names(task, labels_told_apart(targets, probabilities))
        # Infinite for one label and minus infinite for another: their mean is nothing.
        reason = (
            f"no clip, or every clip, is labelled {lacking}"
            if lacking
            else f"always or never right about {mixed}"
        )
        problems.append(f"{name} is undefined on {split}: {reason}")
    elif math.isinf(value):
        perfect = _names(task, labels_told_apart(targets, probabilities))
        problems.append(f"{name} is infinite on {split}: always or never right about {perfect}")
    elif name == "mAP" and len(missing := labels_without_positives(targets)):
        problems.append(f"{name} counts 0 on {split} for what no clip is labelled: {_names(task, missing)}")
    return Score(name, value, {}, tuple(problems))


def undecided(task: Task, valid: Split, by: str) -> HearevalError:
    """The error for a task whose validation split gives no model a defined score."""
    return HearevalError(
        f"no model of {task.name} can be chosen on split {valid.name}",
        got=f"{by} undefined at every validation",
        expected=_lacking(task, valid, by) or "a training that converges",
    )


def _lacking(task: Task, valid: Split, by: str) -> str:
    """What a split would need for a score to be defined, "" if it has it: the truth itself then has one."""
    if by == "loss":
        return ""
    if task.is_event:
        reference, _ = event_facts(valid)
        is_defined = not math.isnan(find_metric(by).function(reference, reference))
        return "" if is_defined else "reference events of some length"
    targets = targets_of(task, valid)
    if not math.isnan(find_metric(by).function(targets, targets.astype(np.float32))):
        return ""
    return f"clips with and without the label {_names(task, labels_without_contrast(targets))}"


def _names(task: Task, labels: NDArray[np.int64]) -> str:
    return ", ".join(repr(task.labels[label]) for label in labels)


def event_facts(split: Split) -> tuple[EventTable, NDArray[np.float64]]:
    """The reference events and timestamps of an event task's split."""
    if split.events is None or split.timestamps_ms is None:
        raise HearevalError(f"split {split.name}", got="no events", expected="an event task")
    return split.events, split.timestamps_ms
