"""Standings, judged by slow plain implementations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata, zscore

from heareval.leaderboard import standings
from heareval.leaderboard.board import Column, Row
from heareval.leaderboard.columns import PUBLISHED_COLUMNS
from heareval.leaderboard.published import OFFICIAL_SOURCE, read_naive, read_published
from heareval.leaderboard.standings import choose_ranked, compute_standings
from tests.leaderboard.cards import make_columns, make_rows


def draw_scores(rng: np.random.Generator, models: int, tasks: int, missing: float) -> NDArray[np.float64]:
    # Few different scores, so that there are ties.
    scores = rng.integers(0, 6, (models, tasks)) / 5
    return np.where(rng.random((models, tasks)) < missing, np.nan, scores)


def judge_ranks(rows: Sequence[Row], column: Column) -> dict[str, float]:
    scored = [row for row in rows if column.key in row.cells]
    sign = 1 if column.is_lower_better else -1
    ranks = rankdata([sign * row.cells[column.key].score for row in scored], method="average")
    return {row.key: float(rank) for row, rank in zip(scored, ranks, strict=True)}


def judge_borda(rows: Sequence[Row], columns: Sequence[Column]) -> dict[str, float]:
    points = dict.fromkeys((row.key for row in rows), 0.0)
    for column in columns:
        ranks = judge_ranks(rows, column)
        for key, rank in ranks.items():
            points[key] += len(ranks) - rank
    return points


def judge_relative(
    row: Row, rows: Sequence[Row], columns: Sequence[Column], naive: dict[str, float]
) -> float:
    shares = []
    for column in (each for each in columns if each.key in naive):
        sign = -1 if column.is_lower_better else 1
        base = sign * naive[column.key]
        best = max(sign * each.cells[column.key].score for each in rows if column.key in each.cells)
        if column.key not in row.cells:
            return math.nan
        gained = sign * row.cells[column.key].score - base
        shares.append(max(0.0, gained / (best - base)) if best > base else 0.0)
    return 100 * sum(shares) / len(shares)


def judge_intervals(points: NDArray[np.float64], resamples: int, seed: int) -> list[tuple[int, int]]:
    """Loop over resamples, models and pairs of models."""
    models, tasks = points.shape
    draws = np.random.default_rng(seed).multinomial(tasks, [1 / tasks] * tasks, size=resamples)
    bounds = []
    for model in range(models):
        totals = sorted(
            sum(int(times) * points[model, task] for task, times in enumerate(draw)) for draw in draws
        )
        total = float(points[model].sum())
        low = min(total, totals[math.floor(0.025 * (resamples - 1))])
        bounds.append((low, max(total, totals[math.ceil(0.975 * (resamples - 1))])))
    return [
        (
            1 + sum(other_low > high for other_low, _ in bounds),
            models - sum(other_high < low for _, other_high in bounds),
        )
        for low, high in bounds
    ]


@pytest.mark.parametrize("seed", range(4))
def test_ranks_borda_and_mean_are_those_of_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lower = (1,) if seed % 2 else ()
    columns, rows = make_columns(5, lower), make_rows(draw_scores(rng, 12, 5, 0.15 if seed else 0))
    ranked = [column for column in columns if column.key in choose_ranked(rows, columns)]
    found = compute_standings(rows, columns, {}, resamples=50)
    borda = judge_borda(rows, ranked)
    complete = [row for row in rows if all(column.key in row.cells for column in ranked)]
    assert complete
    for column in columns:
        assert {
            key: standing.task_ranks[column.key]
            for key, standing in found.items()
            if column.key in standing.task_ranks
        } == judge_ranks(rows, column)
    for row in rows:
        standing = found[row.key]
        assert standing.borda == borda[row.key]
        if row not in complete:
            assert (standing.rank, standing.rank_interval, standing.mean) == (None, None, None)
            continue
        assert standing.rank == 1 + sum(borda[other.key] > borda[row.key] for other in complete)
        low, high = standing.rank_interval or (0, 0)
        assert low <= standing.rank <= high
        if any(column.is_lower_better for column in ranked):
            assert standing.mean is None
        else:
            scores = [row.cells[column.key].score for column in ranked]
            assert standing.mean == pytest.approx(100 * sum(scores) / len(scores))


@pytest.mark.parametrize("seed", range(3))
def test_rank_intervals_are_those_of_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ranks = standings.rank_scores(draw_scores(rng, 9, 6, 0) + 0.2 * np.arange(9)[:, None])
    points = standings.score_borda(ranks)
    bounds = standings.bound_ranks(points, resamples=200, seed=seed)
    assert [tuple(each) for each in bounds.tolist()] == judge_intervals(points, 200, seed)
    # The intervals say something: not all models could be anywhere.
    assert len(set(map(tuple, bounds.tolist()))) > 1


def test_one_model_and_models_that_are_equal() -> None:
    columns = make_columns(3)
    (alone,) = compute_standings(make_rows(np.full((1, 3), 0.5)), columns, {}).values()
    assert (alone.rank, alone.rank_interval, alone.borda, alone.official) == (1, (1, 1), 0.0, 0.0)
    equal = compute_standings(make_rows(np.full((4, 3), 0.1)), columns, {}).values()
    assert {(each.rank, each.rank_interval, each.official) for each in equal} == {(1, (1, 4), 0.0)}
    assert compute_standings([], columns, {}) == {}
    (nothing,) = compute_standings(make_rows(np.full((1, 3), np.nan)), columns, {}).values()
    assert (nothing.rank, nothing.mean, nothing.official, nothing.relative) == (None, None, None, None)


def test_a_task_of_one_model_does_not_make_the_others_incomplete() -> None:
    scores = np.array([[0.5, 0.9], [0.6, np.nan], [0.4, np.nan]])
    found = compute_standings(make_rows(scores), make_columns(2), {})
    assert [each.rank for each in found.values()] == [2, 1, 3]
    assert found["model-0"].task_ranks == {"task0": 2.0, "task1": 1.0}
    assert choose_ranked(make_rows(scores), make_columns(2)) == ("task0",)


def test_the_official_aggregate_is_zscored_and_clipped() -> None:
    scores = np.random.default_rng(1).random((8, 4))
    expected = np.clip(zscore(scores, axis=0), -1, 1).mean(axis=1)
    np.testing.assert_allclose(standings.aggregate_officially(scores), expected, rtol=1e-12)


def test_imputed_scores_stay_inside_the_official_aggregate() -> None:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    scores = np.random.default_rng(2).random((10, 1)) + 0.1 * np.random.default_rng(3).random((10, 4))
    scores[3, 1] = scores[5, 0] = np.nan
    imputed = IterativeImputer(random_state=0).fit_transform(scores)
    expected = np.clip(zscore(imputed, axis=0), -1, 1).mean(axis=1)
    np.testing.assert_allclose(standings.aggregate_officially(scores), expected, rtol=1e-9)
    found = compute_standings(make_rows(scores), make_columns(4), {})
    assert found["model-3"].official == pytest.approx(expected[3])
    assert found["model-3"].mean is None
    assert "task1" not in found["model-3"].task_ranks


def test_tasks_on_which_all_are_equal_count_as_0() -> None:
    nan = math.nan
    scores = np.array([[0.1, nan, 0.7], [0.1, nan, 0.7], [0.1, 0.3, 0.7]])
    assert standings.aggregate_officially(scores).tolist() == [0, 0, 0]
    # 0.1 three times has a mean of 0.10000000000000002.
    assert standings.aggregate_officially(np.full((3, 1), 0.1)).tolist() == [0, 0, 0]


def test_relative_scores() -> None:
    rng = np.random.default_rng(4)
    columns, rows = make_columns(4, (2,)), make_rows(rng.random((6, 4)))
    # No model is better than this one on the last task.
    naive = {"task0": 0.3, "task2": 0.7, "task3": 2.0}
    found = compute_standings(rows, columns, naive)
    for row in rows:
        assert found[row.key].relative == pytest.approx(judge_relative(row, rows, columns, naive))


def test_the_34_published_rows() -> None:
    columns = [each.column for each in PUBLISHED_COLUMNS]
    rows = [row for row in read_published() if row.source == OFFICIAL_SOURCE]
    naive = dict(read_naive())
    found = compute_standings(rows, columns, naive)
    complete = {row.key for row in rows if len(row.cells) == 19}
    assert len(rows) == 34
    assert {key for key, standing in found.items() if standing.rank is not None} == complete
    assert len(complete) == 13
    assert {key for key, standing in found.items() if standing.mean is not None} == complete
    borda = judge_borda(rows, columns)
    for row in rows:
        standing = found[row.key]
        assert standing.borda == borda[row.key]
        expected = judge_relative(row, rows, columns, naive)
        assert (math.isnan(expected) and standing.relative is None) or standing.relative == pytest.approx(
            expected
        )
    best = min(complete, key=lambda key: found[key].rank or 99)
    assert best.startswith("redrice-ced-base")
    ranks = np.array(
        [[row.cells[column.key].score for column in columns] for row in rows if row.key in complete]
    )
    assert found[best].mean == pytest.approx(100 * ranks.mean(axis=1).max())


def test_every_number_has_a_definition() -> None:
    assert standings.DEFINITIONS.keys() == standings.Standing.__dataclass_fields__.keys()
    assert f"{standings.RESAMPLES}" == "1000"
    assert "a thousand resamples" in standings.DEFINITIONS["rank_interval"]
