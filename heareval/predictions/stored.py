"""Stored results: scores and predictions read back, and checked against each other.

Every number that follows from the predictions is computed again: the scores of all folds and seeds with
their details, and the targets from the labels of the clips. This takes a second or two for the largest
tasks. Only the ends of confidence intervals are not computed again, unless `recompute_scores` is asked for
them; they must lie around the score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heareval import layout
from heareval.errors import HearevalError, unknown_name
from heareval.formats.results_folder import EVALUATE_AGAIN, read_scores
from heareval.formats.scores import (
    ScoreEntry,
    Scores,
    defined_or_none,
    drop_intervals,
    interval_bounds,
)
from heareval.predictions.bootstrap import ScoredSplit
from heareval.predictions.chance import SplitLabels, find_chance_levels, find_split_labels
from heareval.predictions.claimed_protocol import find_protocol
from heareval.predictions.data import SplitRoles, Task, read_task
from heareval.predictions.kinds import AnyKind, AnyTrainedKind, PairwiseKind, find_kind
from heareval.predictions.metrics import find_metric
from heareval.predictions.metrics.metric import DetailedScore
from heareval.predictions.results import Predictions
from heareval.predictions.statistics import BOOTSTRAP_SEED, average_resamples, summarize_metric

# Machines may round the last digits of a score differently.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class StoredFold:
    """The stored predictions for one tested split.

    Args:
        scored: what metrics need to score them.
    """

    split: str
    predictions: Predictions
    scored: ScoredSplit


@dataclass(frozen=True)
class StoredResult:
    """The stored result of one submission, task and protocol.

    Args:
        folder: the embeddings folder.
        scores: the content of the scores file.
        runs: the tested splits for each seed.
    """

    folder: Path
    task: Task
    kind: AnyKind
    scores: Scores
    runs: tuple[tuple[StoredFold, ...], ...]

    @property
    def protocol(self) -> str:
        """Return the recorded name of the protocol."""
        return self.scores.protocol

    @property
    def has_probabilities(self) -> bool:
        """Return whether predictions of labels lie in 0 to 1; those of the linear probe may lie outside."""
        protocol = find_protocol(self.protocol)
        return protocol is None or protocol.probe != "linear"

    @property
    def trained_kind(self) -> AnyTrainedKind:
        """Return the kind of a task whose labels were predicted, which pairwise tasks have none of."""
        if isinstance(self.kind, PairwiseKind):
            raise ValueError(f"task {self.task.name} has no predicted labels")
        return self.kind

    @property
    def first_folds(self) -> list[ScoredSplit]:
        """Return the tested splits of the first seed, which diagnostics describe."""
        return [fold.scored for fold in self.runs[0]]

    def score(self, metric: str) -> float:
        """Return the score, the mean over folds and seeds, NaN where it is undefined."""
        return self.scores.scores[metric].value

    def resample(self, metrics: tuple[str, ...], seed: int) -> dict[str, NDArray[np.float64]]:
        """Return the scores of bootstrap resamples, `(resamples,)` each; equal seeds draw equal clips."""
        return average_resamples(metrics, [[fold.scored for fold in run] for run in self.runs], seed=seed)


def read_stored(folder: Path, protocol: str) -> StoredResult:
    """Return the result of a protocol in an embeddings folder.

    Raises:
        HearevalError: there is none, a file is damaged, or the embeddings, the predictions and the scores
            don't belong together.
    """
    if protocol not in (known := layout.scored_protocols(folder)):
        raise unknown_name(f"result in {folder}", protocol, known)
    path = folder / layout.scores(protocol)
    scores, task = read_scores(path), read_task(folder)
    for what, found, expected in (
        ("protocol", scores.protocol, protocol),
        ("embeddings_fingerprint", scores.embeddings_fingerprint, task.embeddings_fingerprint),
    ):
        if found != expected:
            raise HearevalError(f"{path}: {what}", got=found, expected=expected, remedy=EVALUATE_AGAIN)
    return match_stored(folder, scores, task)


def match_stored(folder: Path, scores: Scores, task: Task) -> StoredResult:
    """Return the result that a folder holds, checked against the labels of a task.

    Args:
        folder: the folder of the scores and predictions.
        scores: the scores in it.
        task: the task, which may be described in another folder.

    Raises:
        HearevalError: the predictions are damaged, or they, the scores and the task don't belong together.
    """
    path = folder / layout.scores(scores.protocol)
    _check_counts(path, scores, task)
    kind = find_kind(task)
    if scores.resampled_units != kind.resampled_units:
        got, expected = (str(each) for each in (scores.resampled_units, kind.resampled_units))
        raise HearevalError(f"{path}: resampled_units", got=got, expected=expected, remedy=EVALUATE_AGAIN)
    result = StoredResult(folder, task, kind, scores, _read_runs(kind, scores, path))
    _check_scores(result)
    return result


def read_checked_scores(path: Path) -> Scores:
    """Return the content of a scores file, checked against the predictions and labels that lie beside it.

    Without these, as in a copy of the scores file alone, only the numbers inside it are checked.

    Raises:
        HearevalError: a file is damaged, or the files don't belong together.
    """
    scores, folder = read_scores(path), path.parent
    for protocol in layout.scored_protocols(folder):
        if layout.scores(protocol) == path.name and _has_predictions(folder, protocol):
            return read_stored(folder, protocol).scores
    return scores


def _has_predictions(folder: Path, protocol: str) -> bool:
    return all((folder / name).exists() for name in (layout.predictions(protocol), layout.TASK_METADATA))


def _check_counts(path: Path, scores: Scores, task: Task) -> None:
    """Raise HearevalError if the scores file counts other clips or labels than the task has."""
    clips = {order.name: len(order.clips) for order in task.orders}
    counted = {split: number for split, number in scores.clips.items() if clips.get(split) != number}
    if counted:
        expected = ", ".join(f"{clips.get(split, 'no')} in {split}" for split in counted)
        got = ", ".join(f"{number} in {split}" for split, number in counted.items())
        raise HearevalError(f"{path}: clips", got=got, expected=expected, remedy=EVALUATE_AGAIN)
    # Results of the first versions don't count labels.
    if scores.labels not in (0, len(task.labels)):
        got, expected = str(scores.labels), f"{len(task.labels)}, as in {layout.VOCABULARY}"
        raise HearevalError(f"{path}: labels", got=got, expected=expected, remedy=EVALUATE_AGAIN)


def _read_runs(kind: AnyKind, scores: Scores, path: Path) -> tuple[tuple[StoredFold, ...], ...]:
    orders = {order.name for order in kind.task.orders}
    tested = [fold.test for fold in scores.runs[0].folds]
    for split in tested:
        if split not in orders:
            raise HearevalError(
                f"{path}: folds",
                got=f"split {split}",
                expected=", ".join(sorted(orders)),
                remedy=EVALUATE_AGAIN,
            )
    stored = kind.read_stored(path.parent, scores)
    return tuple(
        tuple(
            StoredFold(split, stored[split][seed], kind.prepare_scoring(stored[split][seed]))
            for split in tested
        )
        for seed in range(len(scores.runs))
    )


def recompute_scores(result: StoredResult, *, with_intervals: bool = True) -> dict[str, ScoreEntry]:
    """Return the scores that the stored predictions give, as an evaluation would write them.

    Args:
        with_intervals: whether to draw the bootstrap resamples of the intervals, which takes seconds.
    """
    scores, metrics = result.scores, result.scores.metrics
    scored = [[fold.scored for fold in run] for run in result.runs]
    rounds = _list_rounds(scores)
    resampled = average_resamples(metrics, scored, seed=BOOTSTRAP_SEED) if with_intervals else {}
    chance = find_chance_levels(metrics, find_split_labels(result.kind), rounds, scored)
    seeds, splits = [run.seed for run in scores.runs], [roles.test for roles in rounds]
    entries = {}
    for name in metrics:
        metric = find_metric(name)
        runs = [
            [
                DetailedScore(
                    metric.function(each.reference, each.predicted),
                    metric.details(each.reference, each.predicted),
                )
                for each in run
            ]
            for run in scored
        ]
        entry = summarize_metric(name, seeds, splits, runs, resampled.get(name))
        entries[name] = replace(entry, chance=defined_or_none(chance[name]))
    # Intervals that mean nothing are left out here as there.
    return dict(drop_intervals(replace(scores, scores=entries)).scores)


@dataclass(frozen=True)
class ComparedNumber:
    """A number of a result as it is written, and as the stored predictions give it; None is undefined.

    Args:
        metric: name of the metric.
        what: which number of the metric, such as `score` or `precision of test`.
    """

    metric: str
    what: str
    given: float | None
    recomputed: float | None

    @property
    def is_equal(self) -> bool:
        """Return whether both are the same, but for the rounding of machines."""
        return is_same_number(self.given, self.recomputed)


def compare_numbers(scores: Scores, recomputed: Mapping[str, ScoreEntry]) -> tuple[ComparedNumber, ...]:
    """Return all numbers of all metrics as they are written and as they were computed again."""
    return tuple(
        ComparedNumber(metric, what, given.get(what), computed.get(what))
        for metric, entry in scores.scores.items()
        for given, computed in [(_list_numbers(entry), _list_numbers(recomputed[metric]))]
        for what in {**computed, **given}
    )


def list_differences(scores: Scores, recomputed: Mapping[str, ScoreEntry]) -> list[ComparedNumber]:
    """Return the numbers that are written otherwise than they were computed again."""
    return [each for each in compare_numbers(scores, recomputed) if not each.is_equal]


def _list_numbers(entry: ScoreEntry) -> dict[str, float | None]:
    """Return all numbers of a metric by what they are; an interval without a bound ends in infinity."""
    ends = {} if entry.interval_95 is None else dict(enumerate(interval_bounds(entry.interval_95)))
    return {
        "score": entry.score,
        "lower end of the interval": ends.get(0),
        "upper end of the interval": ends.get(1),
        "std": entry.std,
        "seed_std": entry.seed_std,
        "chance": entry.chance,
        "resamples": entry.resamples,
        "undefined_resamples": entry.undefined_resamples,
        **{f"score of {split}": value for split, value in entry.folds.items()},
        **{f"score of seed {seed}": value for seed, value in (entry.seeds or {}).items()},
        **{
            f"{name} of {split}": value
            for split, details in entry.details.items()
            for name, value in details.items()
        },
    }


def _list_rounds(scores: Scores) -> list[SplitRoles]:
    return [SplitRoles(fold.test, fold.valid, fold.train) for fold in scores.runs[0].folds]


def _check_scores(result: StoredResult) -> None:
    """Raise HearevalError if the predictions give other scores than the scores file."""
    _check_rounds(result, _list_rounds(result.scores), find_split_labels(result.kind))
    for name in result.scores.metrics:
        metric = find_metric(name)
        if metric.kind != result.kind.name:
            raise _contradiction(
                result, name, f"a metric of {metric.kind} tasks", f"one of {result.kind.name} tasks"
            )
    for name, value in recompute_scores(result, with_intervals=False).items():
        score = result.scores.scores[name]
        for split, of_split in value.folds.items():
            _check_value(result, f"{name} of {split}", score.folds[split], of_split)
        for seed, of_seed in (value.seeds or {}).items():
            if score.seeds is not None:
                _check_value(result, f"{name} of seed {seed}", score.seeds[seed], of_seed)
        if score.chance is not None:
            _check_value(result, f"chance level of {name}", score.chance, value.chance)
        for split, details in value.details.items():
            for detail, number in details.items() if score.details.get(split) else ():
                what = f"{detail} of {name} of {split}"
                _check_value(result, what, score.details[split].get(detail), number)


def _check_rounds(result: StoredResult, rounds: Sequence[SplitRoles], labels: SplitLabels) -> None:
    known = ", ".join(labels.of_clips)
    for roles in rounds:
        for split in filter(None, (roles.valid, *roles.train)):
            if split not in labels.of_clips:
                raise _contradiction(result, f"round that tests {roles.test}", f"split {split}", known)


def _check_value(result: StoredResult, what: str, found: float | None, value: float | None) -> None:
    if not is_same_number(found, value):
        got = "null" if found is None else str(found)
        computed = math.nan if value is None else value
        raise _contradiction(result, what, got, f"{computed:.6f}, as computed from the stored predictions")


def is_same_number(found: float | None, computed: float | None) -> bool:
    """Return whether a stored number is the computed one, but for the rounding of machines.

    None is an undefined number, and where it is stored also an infinite one.

    >>> is_same_number(0.5, 0.5000001), is_same_number(0.5, 0.51), is_same_number(None, math.inf)
    (True, False, True)
    """
    if found is None:
        return computed is None or not math.isfinite(computed)
    return computed is not None and math.isclose(found, computed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _contradiction(result: StoredResult, what: str, got: str, expected: str) -> HearevalError:
    return HearevalError(
        f"{what} in {result.folder / layout.scores(result.protocol)}",
        got=got,
        expected=expected,
        remedy=EVALUATE_AGAIN,
    )
