"""Differences of scores on the same clips, with intervals and p-values.

Submissions were tested on the same clips, so their differences are paired: the bootstrap intervals of
`bootstrap.py` resample the same clips for all of them, and `pvalues.py` computes two-sided p-values for equal
performance.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval.formats.scores import NO_FINITE_RESAMPLES, ResampledUnits, explain_no_interval
from heareval.predictions.bootstrap import Interval, confidence_interval, recenter
from heareval.predictions.metrics import find_metric
from heareval.predictions.metrics.resampled import ClipSums
from heareval.predictions.pvalues import bootstrap_p_value, permutation_p_value, permute_pairs
from heareval.predictions.stored import StoredResult

# The metric of a mean over tasks.
FIRST_OF_EACH = "the first of each"
NO_INTERVAL = Interval(math.nan, math.nan, 0, 0)


@dataclass(frozen=True)
class Difference:
    """The difference of two scores.

    Args:
        task: name of the task's folder, or of the mean over several tasks.
        task_name: name of the task, or of that mean.
        a: score of A; NaN for a mean over tasks.
        b: score of B; NaN for a mean over tasks.
        value: A's score minus B's. In a mean over tasks, a positive value means that A is better.
        p: two-sided p-value for equal performance.
        p_from: "permutation" or "bootstrap".
        no_interval: why there is no interval.
    """

    task: str
    task_name: str
    protocol: str
    metric: str
    a: float
    b: float
    value: float
    interval: Interval
    p: float
    p_from: str
    no_interval: str = ""

    @property
    def is_mean(self) -> bool:
        """Return whether this is a mean over tasks."""
        return self.metric == FIRST_OF_EACH


@dataclass(frozen=True)
class ComparedTask:
    """The differences of one task, and its first metric's differences in resamples, `(resamples,)`."""

    differences: tuple[Difference, ...]
    resampled: NDArray[np.float64]


@dataclass(frozen=True)
class ComparedResults:
    """Results on one task with one protocol, each compared with each.

    Args:
        pairs: places of two results -> their differences, the first minus the second.
        mismatches: places of two results that can't be compared -> why.
    """

    pairs: Mapping[tuple[int, int], ComparedTask]
    mismatches: Mapping[tuple[int, int], str]


@dataclass(frozen=True)
class _Sampled:
    """A result in numbers, without its predictions.

    Args:
        scores: by metric.
        resampled: scores of bootstrap resamples by metric, `(resamples,)` each.
        sums: what each clip adds to the score of a metric, by seed and fold; [] if the score is not a ratio
            of sums.
    """

    scores: Mapping[str, float]
    resampled: Mapping[str, NDArray[np.float64]]
    sums: Mapping[str, list[list[ClipSums]]]


def compare_results(
    task: str, protocol: str, results: Sequence[StoredResult], *, draws: int = 1
) -> ComparedResults:
    """Compare each two results on a task.

    Args:
        task: name of the task's folder.
        draws: how many times the 1000 bootstrap resamples of `bootstrap.py` are drawn.
    """
    pairs: dict[tuple[int, int], ComparedTask] = {}
    reasons = {
        (a, b): _find_mismatch(results[a], results[b]) for a, b in combinations(range(len(results)), 2)
    }
    # Resamples of different tasks are independent, and don't depend on what is compared.
    seeds = [zlib.crc32(f"{task}/{protocol}{f'/{draw}' if draw else ''}".encode()) for draw in range(draws)]
    compared: set[int] = set()
    for place, result in enumerate(results):
        # Whatever can be compared with one result can be compared with each other.
        alike = [place, *(b for (a, b), reason in reasons.items() if a == place and not reason)]
        if place in compared or len(alike) == 1:
            continue
        compared.update(alike)
        sampled = {each: _sample(results[each], seeds) for each in alike}
        permuted = _permute(sampled, seeds[0])
        for a, b in combinations(alike, 2):
            pairs[a, b] = _compare_pair(
                task, protocol, result, sampled[a], sampled[b], permuted.get((a, b), {})
            )
    return ComparedResults(pairs, {pair: reason for pair, reason in reasons.items() if reason})


def _find_mismatch(a: StoredResult, b: StoredResult) -> str:
    """Return why two results can't be compared, "" if they can."""
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


def _sample(result: StoredResult, seeds: Sequence[int]) -> _Sampled:
    metrics = result.scores.metrics
    drawn = [result.resample(metrics, seed) for seed in seeds]
    return _Sampled(
        {metric: result.score(metric) for metric in metrics},
        {metric: np.concatenate([each[metric] for each in drawn]) for metric in metrics},
        {metric: _clip_sums(result, metric) for metric in metrics},
    )


def _permute(
    sampled: Mapping[int, _Sampled], seed: int
) -> dict[tuple[int, int], dict[str, NDArray[np.float64]]]:
    """Return the differences after swaps of clips, by two places and metric, of all scores that have them.

    Only sums over clips can be permuted, rankings of clips can't.
    """
    named = [
        (a, b, metric, (sums, sampled[b].sums[metric]))
        for a, b in combinations(sampled, 2)
        for metric, sums in sampled[a].sums.items()
        if sums and len(sums) == len(sampled[b].sums[metric])
    ]
    found: dict[tuple[int, int], dict[str, NDArray[np.float64]]] = {}
    # Results of other numbers of seeds are not stacked.
    for runs in {len(sums[0]) for *_, sums in named}:
        stacked = [each for each in named if len(each[-1][0]) == runs]
        permuted = permute_pairs([sums for *_, sums in stacked], seed=seed)
        for (a, b, metric, _), differences in zip(stacked, permuted, strict=True):
            found.setdefault((a, b), {})[metric] = differences
    return found


def _compare_pair(
    task: str,
    protocol: str,
    result: StoredResult,
    a: _Sampled,
    b: _Sampled,
    permuted: Mapping[str, NDArray[np.float64]],
) -> ComparedTask:
    differences, first = [], None
    for metric, score in a.scores.items():
        # The difference of two infinite scores is undefined.
        with np.errstate(invalid="ignore"):
            resampled = recenter(score - b.scores[metric], metric, a.resampled[metric] - b.resampled[metric])
        first = resampled if first is None else first
        without = Difference(
            task,
            result.task.metadata.name,
            protocol,
            metric,
            score,
            b.scores[metric],
            score - b.scores[metric],
            NO_INTERVAL,
            math.nan,
            "",
        )
        differences.append(_test_difference(without, result.scores.units, resampled, permuted.get(metric)))
    return ComparedTask(tuple(differences), np.array([]) if first is None else first)


def _test_difference(
    difference: Difference,
    units: ResampledUnits,
    resampled: NDArray[np.float64],
    permuted: NDArray[np.float64] | None,
) -> Difference:
    """Return a difference with its interval and p, or with the reason why it has none."""
    if not math.isfinite(difference.value):
        return difference
    if permuted is None:
        p, p_from = bootstrap_p_value(resampled), "bootstrap"
    else:
        p, p_from = permutation_p_value(difference.value, permuted), "permutation"
    interval = confidence_interval(resampled)
    low, high = (interval.low, interval.high) if interval.resamples else (-math.inf, math.inf)
    why = explain_no_interval(units, low, high, difference.value)
    if not interval.resamples:
        why = why or NO_FINITE_RESAMPLES
    if not why:
        return replace(difference, interval=interval, p=p, p_from=p_from)
    if p_from == "bootstrap":
        # The resamples that give no interval give no p either.
        return replace(difference, no_interval=why)
    return replace(difference, p=p, p_from=p_from, no_interval=why)


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


def average_tasks(tasks: Sequence[ComparedTask]) -> tuple[Difference, ...]:
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


def _average(protocol: str, tasks: Sequence[ComparedTask]) -> Difference:
    firsts = [task.differences[0] for task in tasks]
    signs = [1.0 if find_metric(first.metric).maximise else -1.0 for first in firsts]
    value = float(np.mean([sign * first.value for sign, first in zip(signs, firsts, strict=True)]))
    # Infinite differences of different signs have no mean.
    with np.errstate(invalid="ignore"):
        resampled = np.mean([sign * task.resampled for sign, task in zip(signs, tasks, strict=True)], axis=0)
    interval = confidence_interval(resampled)
    name = f"mean of {len(tasks)} tasks"
    mean = Difference(
        name,
        name,
        protocol,
        FIRST_OF_EACH,
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
