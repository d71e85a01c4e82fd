"""Comparison of two submissions, from the predictions that their evaluations stored.

Both submissions were tested on the same clips, so their differences are paired: the bootstrap intervals of
`bootstrap.py` resample the same clips for both, and `pvalues.py` computes two-sided p-values for equal
performance.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval import layout
from heareval.errors import HearevalError, unknown_name
from heareval.formats.scores import (
    NO_FINITE_RESAMPLES,
    ResampledUnits,
    defined_or_none,
    explain_no_interval,
    number_to_json,
)
from heareval.predictions.bootstrap import Interval, confidence_interval, recenter
from heareval.predictions.metrics import METRICS, find_metric
from heareval.predictions.metrics.resampled import ClipSums
from heareval.predictions.pvalues import bootstrap_p_value, permutation_p_value, permute_differences
from heareval.predictions.statistics import interval_ends
from heareval.predictions.stored import StoredResult, read_stored
from heareval.predictions.table import format_interval, format_number, new_table, render_lines

NO_INTERVAL = Interval(math.nan, math.nan, 0, 0)


@dataclass(frozen=True)
class Difference:
    """The difference of two scores.

    Args:
        task: name of the task's folder, or of the mean over several tasks.
        a: score of A; NaN for a mean over tasks.
        b: score of B; NaN for a mean over tasks.
        value: A's score minus B's. In a mean over tasks, a positive value means that A is better.
        p: two-sided p-value for equal performance.
        p_from: "permutation" or "bootstrap".
        no_interval: why there is no interval.
    """

    task: str
    protocol: str
    metric: str
    a: float
    b: float
    value: float
    interval: Interval
    p: float
    p_from: str
    no_interval: str = ""


@dataclass(frozen=True)
class Comparison:
    """The comparison of two submissions.

    Args:
        a: name of submission A.
        b: name of submission B.
        differences: by task, protocol and metric.
        overall: for each protocol the mean difference of the tasks' first metrics.
        not_compared: what could not be compared, and why.
        notes: remarks on what was compared.
    """

    a: str
    b: str
    differences: tuple[Difference, ...]
    overall: tuple[Difference, ...]
    not_compared: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Pair:
    """The results of both submissions on one task with one protocol."""

    task: str
    protocol: str
    a: StoredResult
    b: StoredResult

    @property
    def units(self) -> ResampledUnits:
        """Return what is resampled: test clips, or what a pairwise task resamples in their place."""
        return self.a.scores.units

    @property
    def seed(self) -> int:
        # Resamples of different tasks are independent, and don't depend on what is compared.
        return zlib.crc32(f"{self.task}/{self.protocol}".encode())


@dataclass(frozen=True)
class _ComparedTask:
    """The differences of one task, and its first metric's differences in resamples, `(resamples,)`."""

    differences: tuple[Difference, ...]
    resampled: NDArray[np.float64]


def find_submission(name: str, embeddings: Path) -> Path:
    """Return the folder of a submission.

    Args:
        name: name of a folder in the embeddings folder, or a path.

    Raises:
        HearevalError: there is no such submission.
    """
    if (embeddings / name).is_dir():
        return embeddings / name
    if Path(name).is_dir():
        return Path(name).absolute()
    known = [path.name for path in embeddings.glob("*") if path.is_dir() and not path.name.startswith(".")]
    if not known:
        remedy = "Name another with --embeddings-dir."
        raise HearevalError(f"embeddings folder {embeddings}", got="no submissions in it", remedy=remedy)
    raise unknown_name("submission", name, known)


def compare(a: Path, b: Path) -> Comparison:
    """Compare all scores that two submissions have in common.

    Args:
        a: folder of submission A, with a folder of embeddings for each task.
        b: folder of submission B.

    Raises:
        HearevalError: there is nothing to compare, or a result is damaged.
    """
    scored_a, scored_b = _find_scored(a), _find_scored(b)
    for folder, scored in ((a, scored_a), (b, scored_b)):
        if not scored and layout.scored_protocols(folder):
            expected = "the folder of a submission, embeddings/SUBMISSION"
            raise HearevalError(f"{folder}", got="the scores of one task", expected=expected)
        if not scored:
            raise HearevalError(f"{folder}", got="no scores", remedy="Run `heareval evaluate` first.")
    not_compared = [
        *_describe_exclusive(a.name, scored_a - scored_b),
        *_describe_exclusive(b.name, scored_b - scored_a),
    ]
    notes: list[str] = []
    compared: list[_ComparedTask] = []
    for protocol, task in sorted(scored_a & scored_b):
        pair = _Pair(task, protocol, *(read_stored(folder / task, protocol) for folder in (a, b)))
        if reason := _find_mismatch(pair):
            not_compared.append(f"{task}, {protocol}: not compared: {reason}")
        else:
            compared.append(_compare_task(pair))
            notes += _describe_seeds(pair)
    overall = average_tasks(compared)
    differences = tuple(difference for task in compared for difference in task.differences)
    notes += [*_describe_intervals([*differences, *overall]), *_describe_means(compared, overall)]
    if not compared:
        got = "; ".join(not_compared) or "no scores"
        raise HearevalError(f"{a} and {b}", got=got, expected="scores of both on the same clips of a task")
    return Comparison(
        a.name,
        b.name,
        differences,
        overall,
        tuple(not_compared),
        tuple(dict.fromkeys(notes)),
    )


def _describe_seeds(pair: _Pair) -> list[str]:
    """Return a note if the results have different seeds, because the difference then includes their noise."""
    a, b = (result.scores.runs[0].seed for result in (pair.a, pair.b))
    if a == b:
        return []
    more = f" (and the next {len(pair.a.runs) - 1})" if len(pair.a.runs) > 1 else ""
    return [f"{pair.task}, {pair.protocol}: A has seed {a}, B has seed {b}{more}"]


def _describe_intervals(differences: Sequence[Difference]) -> list[str]:
    """Return a note for each reason why differences have no interval, with the tasks and metrics."""
    tasks: dict[str, dict[str, list[str]]] = {}
    for each in differences:
        if each.no_interval:
            tasks.setdefault(each.no_interval, {}).setdefault(each.task, []).append(each.metric)
    return [
        f"no 95 % interval, as {why}: "
        + ", ".join(f"{task} ({', '.join(dict.fromkeys(metrics))})" for task, metrics in by_task.items())
        for why, by_task in tasks.items()
    ]


def _describe_means(compared: Sequence[_ComparedTask], overall: Sequence[Difference]) -> list[str]:
    """Return a note for each protocol whose mean leaves out tasks, or has tasks without an interval."""
    notes = []
    for mean in overall:
        protocol = mean.protocol
        firsts = [task.differences[0] for task in compared if task.differences[0].protocol == protocol]
        if left_out := [each.task for each in firsts if not math.isfinite(each.value)]:
            notes.append(
                f"the mean of {protocol} leaves out undefined or infinite differences: {', '.join(left_out)}"
            )
        doubtful = [each.task for each in firsts if each.no_interval]
        if doubtful and mean.interval.resamples:
            notes.append(
                f"the interval of the mean of {protocol} rests on tasks without one: {', '.join(doubtful)}"
            )
    return notes


def _describe_exclusive(name: str, scored: set[tuple[str, str]]) -> list[str]:
    """Return a line for each protocol of which only one submission has scores, with the tasks."""
    tasks = {each: sorted(task for protocol, task in scored if protocol == each) for each, _ in scored}
    return [f"only {name} has scores of {each}: {', '.join(tasks[each])}" for each in sorted(tasks)]


def _find_scored(submission: Path) -> set[tuple[str, str]]:
    """Return the protocols and tasks that a submission has scores of; hidden folders are ignored."""
    tasks = [path for path in submission.glob("*") if path.is_dir() and not path.name.startswith(".")]
    return {(protocol, path.name) for path in tasks for protocol in layout.scored_protocols(path)}


def _find_mismatch(pair: _Pair) -> str:
    """Return why two results can't be compared, "" if they can."""
    a, b = pair.a, pair.b
    if a.scores.metrics != b.scores.metrics:
        return "other metrics"
    if [fold.split for fold in a.runs[0]] != [fold.split for fold in b.runs[0]]:
        return "other tested splits"
    for fold_a, fold_b in zip(a.runs[0], b.runs[0], strict=True):
        if fold_a.predictions.clips != fold_b.predictions.clips:
            return f"other clips in {fold_a.split}"
        if not _are_equal(fold_a.scored.reference, fold_b.scored.reference):
            return f"other labels in {fold_a.split}"
    return "other labels" if a.task.labels != b.task.labels else ""


def _are_equal(a: Any, b: Any) -> bool:
    """Return whether two references are equal: arrays, or frozen dataclasses of arrays."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return all(np.array_equal(getattr(a, each.name), getattr(b, each.name)) for each in fields(a))


def _compare_task(pair: _Pair) -> _ComparedTask:
    metrics = pair.a.scores.metrics
    resampled_a, resampled_b = (result.resample(metrics, pair.seed) for result in (pair.a, pair.b))
    # The difference of two infinite scores is undefined.
    with np.errstate(invalid="ignore"):
        resampled = {
            name: recenter(
                pair.a.score(name) - pair.b.score(name), name, resampled_a[name] - resampled_b[name]
            )
            for name in metrics
        }
    differences = tuple(_make_difference(pair, name, resampled[name]) for name in metrics)
    return _ComparedTask(differences, resampled[metrics[0]])


def _make_difference(pair: _Pair, metric: str, resampled: NDArray[np.float64]) -> Difference:
    a, b = pair.a.score(metric), pair.b.score(metric)
    without = Difference(pair.task, pair.protocol, metric, a, b, a - b, NO_INTERVAL, math.nan, "")
    if not math.isfinite(a - b):
        return without
    p, p_from = _p_value(pair, metric, a - b, resampled)
    interval = confidence_interval(resampled)
    low, high = (interval.low, interval.high) if interval.resamples else (-math.inf, math.inf)
    why = explain_no_interval(pair.units, low, high, a - b)
    if not interval.resamples:
        why = why or NO_FINITE_RESAMPLES
    if not why:
        return replace(without, interval=interval, p=p, p_from=p_from)
    if p_from == "bootstrap":
        # The resamples that give no interval give no p either.
        return replace(without, no_interval=why)
    return replace(without, p=p, p_from=p_from, no_interval=why)


def average_tasks(tasks: Sequence[_ComparedTask]) -> tuple[Difference, ...]:
    """Return the mean difference of the first metrics for each protocol with several compared tasks.

    Tasks whose difference is undefined or infinite are left out. Resamples of different tasks are
    independent. Where lower is better, B's score minus A's is averaged. If no task has an interval, the mean
    has neither an interval nor a p: resamples that say nothing about a task say nothing about several.
    """
    means = []
    for protocol in dict.fromkeys(task.differences[0].protocol for task in tasks):
        defined = [
            task
            for task in tasks
            if task.differences[0].protocol == protocol and math.isfinite(task.differences[0].value)
        ]
        if len(defined) > 1:
            means.append(_average(protocol, defined))
    return tuple(means)


def _average(protocol: str, tasks: Sequence[_ComparedTask]) -> Difference:
    firsts = [task.differences[0] for task in tasks]
    signs = [1.0 if find_metric(first.metric).maximise else -1.0 for first in firsts]
    value = float(np.mean([sign * first.value for sign, first in zip(signs, firsts, strict=True)]))
    # Infinite differences of different signs have no mean.
    with np.errstate(invalid="ignore"):
        resampled = np.mean([sign * task.resampled for sign, task in zip(signs, tasks, strict=True)], axis=0)
    interval = confidence_interval(resampled)
    mean = Difference(
        f"mean of {len(tasks)} tasks",
        protocol,
        "the first of each",
        math.nan,
        math.nan,
        value,
        # If A and B never differ, the resamples don't either.
        NO_INTERVAL if math.isclose(interval.low, interval.high, abs_tol=1e-9) else interval,
        bootstrap_p_value(resampled),
        "bootstrap",
    )
    if all(first.no_interval for first in firsts):
        return replace(mean, interval=NO_INTERVAL, p=math.nan, no_interval="none of the tasks has one")
    return mean


def _p_value(
    pair: _Pair, metric: str, difference: float, resampled: NDArray[np.float64]
) -> tuple[float, str]:
    """Return the p-value and its source. Only sums over clips can be permuted, rankings of clips can't."""
    a, b = (_clip_sums(result, metric) for result in (pair.a, pair.b))
    if a and b and len(a) == len(b):
        permuted = permute_differences(a, b, seed=pair.seed)
        return permutation_p_value(difference, permuted), "permutation"
    return bootstrap_p_value(resampled), "bootstrap"


def _clip_sums(result: StoredResult, metric: str) -> list[list[ClipSums]]:
    """Return what each clip adds to the score, by seed and fold; [] if the score is not a ratio of sums."""
    rule = find_metric(metric)
    if rule.score_label is not None:
        # Rankings take a second to prepare, and have no sums.
        return []
    sums = [
        [rule.resample(one.scored.reference, one.scored.predicted, one.scored.clips).sums for one in run]
        for run in result.runs
    ]
    return [[each for each in run if each is not None] for run in sums if None not in run]


def comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values; undefined numbers are null."""
    return {
        "a": comparison.a,
        "b": comparison.b,
        "differences": [_difference_to_json(each) for each in comparison.differences],
        "overall": [_difference_to_json(each) for each in comparison.overall],
        "not_compared": list(comparison.not_compared),
        "notes": list(comparison.notes),
    }


def _difference_to_json(difference: Difference) -> dict[str, Any]:
    ends = interval_ends(difference.interval)
    return {
        "task": difference.task,
        "protocol": difference.protocol,
        "metric": difference.metric,
        "a": number_to_json(defined_or_none(difference.a)),
        "b": number_to_json(defined_or_none(difference.b)),
        "difference": number_to_json(defined_or_none(difference.value)),
        "p": defined_or_none(difference.p),
        "p_from": difference.p_from,
        "no_interval": difference.no_interval,
        "interval_95": ends and list(ends),
        "resamples": difference.interval.resamples,
        "undefined_resamples": difference.interval.undefined,
    }


def comparison_table(comparison: Comparison, columns: int | None = None) -> str:
    """Return a comparison as text: a row for each metric, then for the means, then notes.

    Args:
        columns: width of the terminal; None if it is none.
    """
    numbers = ("A", "B", "A - B", "95 % interval", "p")
    table = new_table(("task", "metric"), numbers, ("p from", "protocol"))
    for each in (*comparison.differences, *comparison.overall):
        is_mean = each.p_from != "" and math.isnan(each.a)
        scores = ["" if is_mean else format_number(defined_or_none(score)) for score in (each.a, each.b)]
        interval = format_interval(interval_ends(each.interval))
        p = "" if math.isnan(each.p) else format_number(each.p)
        value = format_number(defined_or_none(each.value))
        table.add_row(each.task, each.metric, *scores, value, interval, p, each.p_from, each.protocol)
    lower_is_better = dict.fromkeys(
        each.metric for each in comparison.differences if not METRICS[each.metric].maximise
    )
    notes = [
        *(f"{name}: lower is better" for name in lower_is_better),
        *comparison.notes,
        *comparison.not_compared,
    ]
    header = [f"A: {comparison.a}", f"B: {comparison.b}"]
    return "\n".join([*header, *render_lines(table, columns), *(f"note: {note}" for note in notes)])
