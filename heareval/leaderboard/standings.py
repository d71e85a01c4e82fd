"""Where models stand among others: ranks, means, Borda points, the aggregate of 2021, s(m), rank intervals.

Everything that a board ranks by is computed here, once. Scores are arrays `(models, tasks)`, NaN where a task
is missing, and higher is better: `orient_scores` turns the others around.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from heareval.leaderboard.board import Column, Row, Standing
from heareval.leaderboard.columns import BY_FOLDER

RESAMPLES = 1000
SEED = 0
# Relative deviations below it are rounding.
ROUNDING = 1e-12
# Ends of a 95 % interval.
LOW, HIGH = 0.025, 0.975

# What a page says about the numbers of a Standing, by the name of the attribute.
DEFINITIONS: Mapping[str, str] = {
    "rank": (
        "Models are ranked by their Borda points; equal points share a rank. A model is ranked only if no "
        "ranked task is missing. The ranked tasks are those of the published benchmark that any of the "
        "models was scored on; if there are none, those that more than half of the models were scored on. A "
        "task on which the models were tested on different clips is not ranked."
    ),
    "rank_interval": (
        "The 95 % interval of the rank over a thousand resamples of the ranked tasks. The best rank is 1 "
        "plus the number of models whose lowest Borda points exceed this model's highest; the worst rank "
        "counts the models in the same way from below. One task has no interval. Test clips and seeds are "
        "not resampled."
    ),
    "mean": (
        "The mean score over the ranked tasks, times 100. There is none if a task is missing, or if lower "
        "scores are better on some tasks."
    ),
    "borda": (
        "On each ranked task, the number of models with a score minus the model's rank, summed over tasks. A "
        "missing task gives 0, as much as the last place."
    ),
    "official": (
        "The aggregate of 2021: missing scores are imputed (scikit-learn's IterativeImputer), the scores of "
        "each ranked task are standardised over models and clipped to -1 to 1, and averaged over tasks. It "
        "rests on imputed scores if a task is missing, and it ranks nothing here."
    ),
    "relative": (
        "s(m): the share of the way from HEAR-Naive to the best model, in percent, averaged over the ranked "
        "tasks for which GRAM 2026 printed a score of HEAR-Naive. Scores below HEAR-Naive count as 0. There "
        "is none if one of these tasks is missing. The best model is that of the rows that are ranked "
        "together: those of one group, or all rows of the table if the reader asks for it. All values change "
        "if a better row is added."
    ),
    "task_ranks": (
        "The rank of the score among the models that have one; equal scores share their mean rank. There is "
        "none if the models were tested on different clips."
    ),
}


def compute_standings(
    rows: Sequence[Row],
    columns: Sequence[Column],
    naive: Mapping[str, float],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Standing]:
    """Return the standing of every row among these rows, by the key of the row.

    `DEFINITIONS` says how each number is computed.

    Args:
        columns: all columns of the table; `choose_ranked` says which of them the ranking is about.
        naive: scores of HEAR-Naive by the key of the column, as they are printed.
        resamples: number of resamples of the tasks.
    """
    if not rows:
        return {}
    scores = orient_scores(rows, columns)
    ranked_keys = choose_ranked(rows, columns)
    ranked = [place for place, column in enumerate(columns) if column.key in ranked_keys]
    ranks = rank_scores(scores)
    incomparable = find_incomparable(rows, columns)
    ranks[:, [column.key in incomparable for column in columns]] = np.nan
    points = score_borda(ranks[:, ranked])
    is_complete = ~np.isnan(scores[:, ranked]).any(axis=1) & bool(ranked)
    borda = points.sum(axis=1)
    places = rank_totals(borda[is_complete])
    intervals = bound_ranks(points[is_complete], resamples=resamples, seed=seed)
    overall = {
        int(row): (int(place), (int(best), int(worst)))
        for row, place, (best, worst) in zip(np.flatnonzero(is_complete), places, intervals, strict=True)
    }
    has_mean = not any(columns[place].is_lower_better for place in ranked)
    means = 100 * scores[:, ranked].mean(axis=1) if has_mean and ranked else np.full(len(rows), np.nan)
    official = aggregate_officially(scores[:, ranked])
    relative = relate_to_naive(scores[:, ranked], _orient_naive([columns[each] for each in ranked], naive))
    keys = [column.key for column in columns]
    return {
        row.key: Standing(
            rank=overall[number][0] if number in overall else None,
            # One task is always drawn again: an interval would claim that the rank is certain.
            rank_interval=overall[number][1] if number in overall and len(ranked) > 1 else None,
            mean=_none_if_nan(means[number]),
            borda=float(borda[number]),
            official=_none_if_nan(official[number]),
            relative=_none_if_nan(relative[number]),
            task_ranks={
                key: rank for key, rank in zip(keys, ranks[number].tolist(), strict=True) if rank == rank
            },
        )
        for number, row in enumerate(rows)
    }


def choose_ranked(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[str, ...]:
    """Return the keys of the columns that the ranking of some rows is about.

    A model with a further task must not make all others incomplete. So these are the columns of the published
    benchmark that any row has; without any, the columns that more than half of the rows have. Columns whose
    scores can't be compared are left out.
    """
    incomparable = find_incomparable(rows, columns)
    columns = [column for column in columns if column.key not in incomparable]
    counts = {column.key: sum(column.key in row.cells for row in rows) for column in columns}
    published = tuple(key for key, count in counts.items() if key in BY_FOLDER and count)
    return published or tuple(key for key, count in counts.items() if 2 * count > len(rows))


def find_incomparable(rows: Sequence[Row], columns: Sequence[Column]) -> frozenset[str]:
    """Return the keys of the columns whose scores are of different clips.

    Tasks of users may change under the same name, and tasks of two users may share one.
    """
    tested = {
        column.key: {row.cells[column.key].tested for row in rows if column.key in row.cells} - {""}
        for column in columns
    }
    return frozenset(key for key, several in tested.items() if len(several) > 1)


def orient_scores(rows: Sequence[Row], columns: Sequence[Column]) -> NDArray[np.float64]:
    """Return scores `(rows, columns)`, NaN where missing, negative where lower is better."""
    signs = [-1.0 if column.is_lower_better else 1.0 for column in columns]
    scores = np.full((len(rows), len(columns)), np.nan)
    for number, row in enumerate(rows):
        for place, column in enumerate(columns):
            if column.key in row.cells:
                scores[number, place] = signs[place] * row.cells[column.key].score
    return scores


def rank_scores(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each score within its column: 1 is best, ties share the mean rank, NaN stays.

    >>> rank_scores(np.array([[0.9], [0.5], [np.nan], [0.9]])).ravel().tolist()
    [1.5, 3.0, nan, 1.5]
    """
    ranks = np.full(scores.shape, np.nan)
    for place, column in enumerate(scores.T):
        known = ~np.isnan(column)
        ascending = np.sort(-column[known])
        before = np.searchsorted(ascending, -column[known], side="left")
        until = np.searchsorted(ascending, -column[known], side="right")
        ranks[known, place] = (before + until + 1) / 2
    return ranks


def score_borda(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Borda points: on each task the number of models with a score minus the rank, 0 where missing.

    A task that few models have tried decides little: its last place gives 0 as well.

    >>> score_borda(np.array([[1.0, 1.0], [2.0, np.nan]])).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    models = (~np.isnan(ranks)).sum(axis=0)
    return np.where(np.isnan(ranks), 0.0, models - ranks)


def rank_totals(totals: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return ranks of totals: 1 plus the number of higher ones.

    >>> rank_totals(np.array([3.0, 5.0, 5.0])).tolist()
    [3, 1, 1]
    """
    return 1 + len(totals) - np.searchsorted(np.sort(totals), totals, side="right")


def bound_ranks(points: NDArray[np.float64], *, resamples: int, seed: int) -> NDArray[np.int64]:
    """Return the best and the worst rank of each model, `(models, 2)`, over resampled tasks.

    Tasks are drawn with replacement. The 2.5 % and 97.5 % quantiles of a model's total bound it; they are
    widened to its total over all tasks, so that a model's rank lies within its bounds. A model's best rank is
    1 plus the number of models whose lower bound exceeds its upper bound; its worst rank leaves out those
    below it.

    Args:
        points: `(models, tasks)` points, such as Borda's.
    """
    models, tasks = points.shape
    if not models:
        return np.empty((0, 2), np.int64)
    rng = np.random.default_rng(seed)
    # How often each task is drawn. Points are multiples of a half, so all sums are exact.
    draws = rng.multinomial(tasks, np.full(tasks, 1 / tasks), size=resamples).astype(np.float64)
    totals = draws @ points.T
    total = points.sum(axis=1)
    low = np.minimum(np.quantile(totals, LOW, axis=0, method="lower"), total)
    high = np.maximum(np.quantile(totals, HIGH, axis=0, method="higher"), total)
    best = 1 + models - np.searchsorted(np.sort(low), high, side="right")
    worst = models - np.searchsorted(np.sort(high), low, side="left")
    return np.stack([best, worst], axis=1)


def aggregate_officially(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the official aggregate of 2021 for each model, NaN for models without any score.

    Missing scores are imputed with scikit-learn's IterativeImputer, each task is standardised over models and
    clipped to -1 to 1, and the tasks are averaged. A task on which all models are equal counts as 0.

    >>> aggregate_officially(np.array([[0.9, 0.3], [0.5, 0.2]])).round(6).tolist()
    [1.0, -1.0]
    """
    is_scored = ~np.isnan(scores).all(axis=1)
    aggregate = np.full(len(scores), np.nan)
    known = scores[np.ix_(is_scored, ~np.isnan(scores).all(axis=0))]
    if not known.size:
        return aggregate
    filled = _impute(known)
    centred, deviation = filled - filled.mean(axis=0), filled.std(axis=0)
    # Equal scores can have a deviation that is rounding alone.
    is_equal = deviation <= ROUNDING * np.abs(filled).max(axis=0)
    z_scores = np.where(is_equal, 0.0, centred / np.where(is_equal, 1.0, deviation))
    aggregate[is_scored] = np.clip(z_scores, -1, 1).mean(axis=1)
    return aggregate


def _impute(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isnan(scores).any():
        return scores
    # scikit-learn takes a second to import, and calls the imputer experimental.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer
    from threadpoolctl import threadpool_limits

    from heareval.leaderboard.ridge import FastBayesianRidge

    # Its many small products are slower on several threads, and might then be rounded in another way.
    with warnings.catch_warnings(), threadpool_limits(1):
        # It may need more than its ten rounds, in 2021 as well.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Its default is BayesianRidge, which would take nearly all of the time.
        return np.asarray(IterativeImputer(FastBayesianRidge(), random_state=0).fit_transform(scores))


def relate_to_naive(scores: NDArray[np.float64], naive: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return s(m) of each model: 0 is HEAR-Naive and 100 the best model on every task.

    s(m) = 100/|T| sum over T of max(0, (s_t(m) - s_t(naive)) / (s_t(best) - s_t(naive))), where T are the
    tasks with a score of HEAR-Naive. A task on which no model is better than HEAR-Naive adds 0. NaN where a
    model lacks a task of T, or T is empty.

    Args:
        naive: `(tasks,)` scores of HEAR-Naive; NaN where there is none.

    >>> relate_to_naive(np.array([[0.8, 0.3], [0.6, 0.4]]), np.array([0.4, np.nan])).round(6).tolist()
    [100.0, 50.0]
    """
    known = ~np.isnan(naive) & ~np.isnan(scores).all(axis=0)
    if not known.any():
        return np.full(len(scores), np.nan)
    gained = scores[:, known] - naive[known]
    possible = np.nanmax(gained, axis=0)
    shares = np.where(possible > 0, np.maximum(gained, 0) / np.where(possible > 0, possible, 1), 0 * gained)
    return np.asarray(100 * shares.mean(axis=1))


def _orient_naive(columns: Sequence[Column], naive: Mapping[str, float]) -> NDArray[np.float64]:
    return np.array(
        [naive.get(column.key, np.nan) * (-1.0 if column.is_lower_better else 1.0) for column in columns]
    )


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
