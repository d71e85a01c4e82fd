"""Whether one submission is better than another, from the predictions that both left.

Both were tested on the same clips, so their difference is looked at clip by clip. Its interval is that of the
bootstrap (`bootstrap.py`), which draws the same clips of both; p is that of `pvalues.py`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval import layout
from heareval.errors import HearevalError, unknown_name
from heareval.predictions.bootstrap import Interval, around, interval
from heareval.predictions.metrics import METRICS, find_metric
from heareval.predictions.metrics.drawn import ClipSums
from heareval.predictions.pvalues import bootstrap_p, permutation_p, swapped_differences
from heareval.predictions.results import interval_json
from heareval.predictions.stored import Stored, read_stored
from heareval.predictions.table import between, decimal, lines_of, new_table

NOTHING = Interval(math.nan, math.nan, 0, 0)


@dataclass(frozen=True)
class Difference:
    """How much a score of A is above that of B.

    Args:
        task: the task's folder name, or which tasks' mean it is.
        value: A's score less B's; of several tasks their mean, counted so that more is better for A.
        p: how probable so large a difference, of either sign, would be if A and B were alike.
        p_from: "permutation" or "bootstrap".
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


@dataclass(frozen=True)
class Comparison:
    """Two submissions compared.

    Args:
        differences: by task, protocol and metric.
        overall: by protocol, the mean difference of the tasks' first metrics.
        refused: what could not be compared, and why.
        notes: what else is to be known of what was.
    """

    a: str
    b: str
    differences: tuple[Difference, ...]
    overall: tuple[Difference, ...]
    refused: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Pair:
    """The results of both on one task and protocol, and the seed of its draws."""

    task: str
    protocol: str
    a: Stored
    b: Stored

    @property
    def seed(self) -> int:
        # Tasks draw independently, and the same whatever they are compared with.
        return zlib.crc32(f"{self.task}/{self.protocol}".encode())


@dataclass(frozen=True)
class _Common:
    """Protocols and tasks that both have scores of, and lines about those that only one has."""

    tasks: tuple[tuple[str, str], ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class _Task:
    """One task compared: its metrics' differences, and resampled ones of the first, `(resamples,)`."""

    differences: tuple[Difference, ...]
    resampled: NDArray[np.float64]


def find_submission(name: str, embeddings: Path) -> Path:
    """The folder of a submission: a name in the embeddings folder, or a path."""
    if (embeddings / name).is_dir():
        return embeddings / name
    if Path(name).is_dir():
        return Path(name).absolute()
    there = [path.name for path in embeddings.glob("*") if path.is_dir() and not path.name.startswith(".")]
    if not there:
        remedy = "Name another with --embeddings-dir."
        raise HearevalError(f"embeddings folder {embeddings}", got="no submissions in it", remedy=remedy)
    raise unknown_name("submission", name, there)


def compare(a: Path, b: Path) -> Comparison:
    """Everything that both submissions have scores of, compared.

    Args:
        a: folder of a submission, which holds a folder of embeddings for each task.
        b: that of the other.
    """
    for each in (a, b):
        if not _scored(each):
            raise HearevalError(f"{each}", got="no scores", remedy="Make them with `heareval evaluate`.")
    common = _in_common(a, b)
    refused, notes = list(common.refused), []
    found: list[_Task] = []
    for protocol, task in common.tasks:
        pair = _Pair(task, protocol, *(read_stored(each / task, protocol) for each in (a, b)))
        if reason := _unlike(pair):
            refused.append(f"{task}, {protocol}: not compared: {reason}")
        else:
            found.append(_compared(pair))
            notes += _other_seeds(pair)
    if not found:
        got = "; ".join(refused) or "no scores"
        raise HearevalError(f"{a} and {b}", got=got, expected="scores of both on the same clips of a task")
    return Comparison(
        a.name,
        b.name,
        tuple(difference for task in found for difference in task.differences),
        overall(found),
        tuple(refused),
        tuple(dict.fromkeys(notes)),
    )


def _other_seeds(pair: _Pair) -> list[str]:
    """A line about results of different seeds: their difference has that chance in it, too."""
    firsts = [stored.results["seed"] for stored in (pair.a, pair.b)]
    if firsts[0] == firsts[1]:
        return []
    more = f" (and the next {len(pair.a.runs) - 1})" if len(pair.a.runs) > 1 else ""
    return [f"{pair.task}, {pair.protocol}: A is of seed {firsts[0]}, B of seed {firsts[1]}{more}"]


def _in_common(a: Path, b: Path) -> _Common:
    of_a, of_b = _scored(a), _scored(b)
    refused = [*_only(a.name, of_a - of_b), *_only(b.name, of_b - of_a)]
    return _Common(tuple(sorted(of_a & of_b)), tuple(refused))


def _only(name: str, scored: set[tuple[str, str]]) -> list[str]:
    """A line for each protocol that only one has scores of, with the tasks."""
    tasks = {each: sorted(task for protocol, task in scored if protocol == each) for each, _ in scored}
    return [f"only {name} has scores of {each}: {', '.join(tasks[each])}" for each in sorted(tasks)]


def _scored(submission: Path) -> set[tuple[str, str]]:
    """The protocols and tasks that a submission has scores of."""
    tasks = [path for path in submission.glob("*") if path.is_dir()]
    return {(protocol, path.name) for path in tasks for protocol in layout.scored_protocols(path)}


def _unlike(pair: _Pair) -> str:
    """Why two results can't be compared, "" if they can."""
    a, b = pair.a, pair.b
    if tuple(a.results["scores"]) != tuple(b.results["scores"]):
        return "other metrics"
    if [fold.split for fold in a.runs[0]] != [fold.split for fold in b.runs[0]]:
        return "other tested splits"
    for one, other in zip(a.runs[0], b.runs[0], strict=True):
        if one.predictions.clips != other.predictions.clips:
            return f"other clips in {one.split}"
        if not _same_truth(one.judged.truth, other.judged.truth):
            return f"other labels in {one.split}"
    return "other labels" if a.task.labels != b.task.labels else ""


def _same_truth(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    return all(np.array_equal(column, asdict(other)[name]) for name, column in asdict(one).items())


def _compared(pair: _Pair) -> _Task:
    metrics = tuple(pair.a.results["scores"])
    drawn_a, drawn_b = (stored.resampled(metrics, pair.seed) for stored in (pair.a, pair.b))
    # The difference of two infinite scores is undefined, which is told.
    with np.errstate(invalid="ignore"):
        resampled = {
            name: around(pair.a.score(name) - pair.b.score(name), name, drawn_a[name] - drawn_b[name])
            for name in metrics
        }
    differences = tuple(_difference(pair, name, resampled[name]) for name in metrics)
    return _Task(differences, resampled[metrics[0]])


def _difference(pair: _Pair, metric: str, resampled: NDArray[np.float64]) -> Difference:
    a, b = pair.a.score(metric), pair.b.score(metric)
    if math.isnan(a - b):
        return Difference(pair.task, pair.protocol, metric, a, b, math.nan, NOTHING, math.nan, "")
    p, p_from = _p_of(pair, metric, a - b, resampled)
    return Difference(pair.task, pair.protocol, metric, a, b, a - b, interval(resampled), p, p_from)


def overall(tasks: Sequence[_Task]) -> tuple[Difference, ...]:
    """For each protocol with several tasks the mean difference of their first metrics.

    Draws of the tasks are independent of each other; where less is better, B's score less A's is meant.
    """
    found = []
    for protocol in dict.fromkeys(task.differences[0].protocol for task in tasks):
        firsts = [task for task in tasks if task.differences[0].protocol == protocol]
        defined = [task for task in firsts if not math.isnan(task.differences[0].value)]
        if len(defined) > 1:
            found.append(_mean_difference(protocol, defined))
    return tuple(found)


def _mean_difference(protocol: str, tasks: Sequence[_Task]) -> Difference:
    firsts = [task.differences[0] for task in tasks]
    signs = [1.0 if find_metric(first.metric).maximise else -1.0 for first in firsts]
    value = float(np.mean([sign * first.value for sign, first in zip(signs, firsts, strict=True)]))
    # Of a task that is infinitely better and one that is infinitely worse there is no mean.
    with np.errstate(invalid="ignore"):
        resampled = np.mean([sign * task.resampled for sign, task in zip(signs, tasks, strict=True)], axis=0)
    return Difference(
        f"mean of {len(tasks)} tasks",
        protocol,
        "the first of each",
        math.nan,
        math.nan,
        value,
        interval(resampled),
        bootstrap_p(resampled),
        "bootstrap",
    )


def _p_of(pair: _Pair, metric: str, value: float, resampled: NDArray[np.float64]) -> tuple[float, str]:
    """The p value and where it comes from; sums over clips can be swapped, ranks of clips can't."""
    a, b = (_sums(stored, metric) for stored in (pair.a, pair.b))
    if a and b and len(a) == len(b):
        return permutation_p(value, swapped_differences(a, b, seed=pair.seed)), "permutation"
    return bootstrap_p(resampled), "bootstrap"


def _sums(stored: Stored, metric: str) -> list[list[ClipSums]]:
    """What each clip adds to the score, for each seed and fold; empty if the score is no ratio of sums."""
    asked = [[fold.judged for fold in run] for run in stored.runs]
    redraw = find_metric(metric).redraw
    sums = [[redraw(one.truth, one.said, one.clips).sums for one in run] for run in asked]
    return [[each for each in run if each is not None] for run in sums if None not in run]


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON values; undefined numbers are null."""
    return {
        "a": comparison.a,
        "b": comparison.b,
        "differences": [_difference_json(each) for each in comparison.differences],
        "overall": [_difference_json(each) for each in comparison.overall],
        "not_compared": list(comparison.refused),
        "notes": list(comparison.notes),
    }


def _difference_json(difference: Difference) -> dict[str, Any]:
    numbers = {
        name: _number(getattr(difference, field))
        for name, field in (("a", "a"), ("b", "b"), ("difference", "value"), ("p", "p"))
    }
    return {
        "task": difference.task,
        "protocol": difference.protocol,
        "metric": difference.metric,
        **numbers,
        "p_from": difference.p_from,
        **interval_json(difference.interval),
    }


def comparison_table(comparison: Comparison) -> str:
    """The comparison for people: a row for each metric, then for the mean, then what was left out."""
    numbers = ("A", "B", "A - B", "95 % interval", "p")
    table = new_table(("task", "metric"), numbers, ("p from", "protocol"))
    for each in (*comparison.differences, *comparison.overall):
        single = each.p_from == "" or not math.isnan(each.a)
        scores = [decimal(_number(score)) if single else "" for score in (each.a, each.b)]
        shown = (decimal(_number(each.value)), between(interval_json(each.interval)["interval_95"]))
        p = "" if math.isnan(each.p) else decimal(each.p)
        table.add_row(each.task, each.metric, *scores, *shown, p, each.p_from, each.protocol)
    lower = dict.fromkeys(
        each.metric
        for each in comparison.differences
        if each.metric in METRICS and not METRICS[each.metric].maximise
    )
    notes = [f"note: {name}: lower is better" for name in lower]
    who = [f"A: {comparison.a}", f"B: {comparison.b}"]
    return "\n".join(
        [
            *who,
            *lines_of(table),
            *notes,
            *(f"note: {line}" for line in (*comparison.notes, *comparison.refused)),
        ]
    )


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
