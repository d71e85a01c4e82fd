"""Scores of a task over its folds and seeds: means, spreads and confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval.formats.scores import ScoreEntry, defined_or_none
from heareval.predictions.bootstrap import (
    Interval,
    ScoredSplit,
    confidence_interval,
    recenter,
    resample_scores,
)
from heareval.predictions.chance import find_chance_levels, find_split_labels
from heareval.predictions.kinds import Kind
from heareval.predictions.metrics.metric import DetailedScore
from heareval.predictions.results import Score, TaskResult

# Seed of the bootstrap resamples, the same for every seed of the protocol.
BOOTSTRAP_SEED = 0


def summarize_scores(result: TaskResult) -> dict[str, ScoreEntry]:
    """Return the score of each metric, with its spread and confidence interval, as results are written.

    The score is the mean over folds and seeds. Undefined numbers are None.
    """
    kind: Kind[Any] = result.kind
    scored = [[kind.prepare_scoring(fold.predictions) for fold in run.folds] for run in result.runs]
    metrics, rounds = result.task.metrics, [fold.roles for fold in result.runs[0].folds]
    resampled = average_resamples(metrics, scored, seed=BOOTSTRAP_SEED)
    chance = find_chance_levels(metrics, find_split_labels(kind), rounds, scored)
    seeds, splits = [run.seed for run in result.runs], [roles.test for roles in rounds]
    summarized = {}
    for number, metric in enumerate(metrics):
        of_runs = [[_detail(fold.scores[number]) for fold in run.folds] for run in result.runs]
        entry = summarize_metric(metric, seeds, splits, of_runs, resampled[metric])
        summarized[metric] = replace(entry, chance=defined_or_none(chance[metric]))
    return summarized


def _detail(score: Score) -> DetailedScore:
    return DetailedScore(score.value, score.details)


def average_resamples(
    metrics: Sequence[str], runs: Sequence[Sequence[ScoredSplit]], *, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return the scores of bootstrap resamples for each metric, means over folds and seeds, `(resamples,)`.

    Args:
        runs: the tested splits for each seed of the protocol. All seeds share the resamples.
        seed: seed of the resamples.
    """
    of_runs = [resample_scores(metrics, folds, seed=seed) for folds in runs]
    # Infinite scores of different signs have no mean.
    with np.errstate(invalid="ignore"):
        return {metric: np.mean([run[metric] for run in of_runs], axis=0) for metric in metrics}


def summarize_metric(
    metric: str,
    seeds: Sequence[int],
    splits: Sequence[str],
    runs: Sequence[Sequence[DetailedScore]],
    resampled: NDArray[np.float64] | None,
) -> ScoreEntry:
    """Return the score of one metric, with its spread and confidence interval, without its chance level.

    Args:
        seeds: the seeds of the runs.
        splits: names of the tested splits.
        runs: the score of each split, for each seed.
        resampled: scores of bootstrap resamples; None leaves out the interval.
    """
    # (seeds, folds)
    values = np.array([[score.value for score in run] for run in runs])
    is_finite = bool(np.isfinite(values).all())
    # Infinite scores of different signs have no mean.
    with np.errstate(invalid="ignore"):
        mean, of_folds, of_seeds = float(values.mean()), values.mean(axis=0), values.mean(axis=1)
        interval = (
            confidence_interval(recenter(mean, metric, resampled))
            if is_finite and resampled is not None
            else Interval(math.nan, math.nan, 0, 0)
        )
    has_seeds = len(runs) > 1
    return ScoreEntry(
        score=defined_or_none(mean),
        std=float(of_folds.std(ddof=1)) if is_finite and len(of_folds) > 1 else None,
        interval_95=interval_ends(interval),
        resamples=interval.resamples,
        undefined_resamples=interval.undefined,
        folds={split: defined_or_none(value) for split, value in zip(splits, of_folds, strict=True)},
        details={split: _average_details([run[place] for run in runs]) for place, split in enumerate(splits)},
        seed_std=float(of_seeds.std(ddof=1)) if has_seeds and is_finite else None,
        seeds={str(seed): defined_or_none(value) for seed, value in zip(seeds, of_seeds, strict=True)}
        if has_seeds
        else None,
    )


def _average_details(scores: Sequence[DetailedScore]) -> dict[str, float | None]:
    """Return the mean over seeds of a metric's details on one fold."""
    names = scores[0].details
    return {name: defined_or_none(float(np.mean([each.details[name] for each in scores]))) for name in names}


def interval_ends(interval: Interval) -> tuple[float | None, float | None] | None:
    """Return the ends of an interval, None where they are infinite; None if there is no interval."""
    if interval.resamples == 0:
        return None
    low, high = (end if math.isfinite(end) else None for end in (interval.low, interval.high))
    return low, high
