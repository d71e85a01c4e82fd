"""Measure what a board of a thousand models takes: standings, the whole board, its exports and figures.

python -m benchmarks.leaderboard --models 1000 --tasks 40

A plain loop computes the same rank intervals of a small board, and must agree.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from heareval.leaderboard.board import Board, Cell, Column, MetricValue, Origin, ProtocolTable, Row
from heareval.leaderboard.exports import board_to_csv, dump_board
from heareval.leaderboard.figures import draw_figures
from heareval.leaderboard.standings import (
    HIGH,
    LOW,
    RESAMPLES,
    bound_ranks,
    choose_ranked,
    compute_standings,
    rank_scores,
    score_borda,
)

SMALL_MODELS, SMALL_TASKS, SMALL_RESAMPLES = 30, 12, 200


def time_work(work: Callable[[], object], turns: int) -> float:
    """Return the median seconds of some turns."""
    seconds = []
    for _ in range(turns):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def draw_scores(models: int, tasks: int, missing: float) -> np.ndarray:
    """Return scores `(models, tasks)` of models that differ; a share of them is missing, as NaN."""
    rng = np.random.default_rng(0)
    scores = 0.4 * rng.random((models, 1)) + 0.6 * rng.random((models, tasks))
    return np.where(rng.random(scores.shape) < missing, np.nan, scores)


def make_rows(scores: np.ndarray) -> list[Row]:
    """Return the rows of scores."""
    return [
        Row(
            f"model-{number}",
            f"Model {number}",
            "1",
            Origin.RECOMPUTED,
            cells={
                f"task{place}": Cell({"acc": MetricValue(float(score), (score - 0.02, score + 0.02))})
                for place, score in enumerate(line)
                if not np.isnan(score)
            },
        )
        for number, line in enumerate(scores)
    ]


def bound_ranks_slowly(points: np.ndarray, resamples: int) -> list[tuple[int, int]]:
    """Return rank intervals by loops over resamples, models and pairs of models."""
    models, tasks = points.shape
    draws = np.random.default_rng(0).multinomial(tasks, [1 / tasks] * tasks, size=resamples)
    bounds = []
    for model in range(models):
        totals = []
        for draw in draws:
            totals.append(sum(int(times) * points[model, task] for task, times in enumerate(draw)))
        totals.sort()
        low, high = int(LOW * (resamples - 1)), int(np.ceil(HIGH * (resamples - 1)))
        total = points[model].sum()
        bounds.append((min(totals[low], total), max(totals[high], total)))
    return [
        (1 + sum(low > mine[1] for low, _ in bounds), models - sum(high < mine[0] for _, high in bounds))
        for mine in bounds
    ]


def compare_with_a_loop() -> None:
    """Print how much longer a plain loop takes for the rank intervals of a small board."""
    points = score_borda(rank_scores(draw_scores(SMALL_MODELS, SMALL_TASKS, 0)))
    fast = bound_ranks(points, resamples=SMALL_RESAMPLES, seed=0)
    slow = bound_ranks_slowly(points, SMALL_RESAMPLES)
    if [tuple(each) for each in fast.tolist()] != slow:
        raise SystemExit("the plain loop has other rank intervals")
    fast_s = time_work(lambda: bound_ranks(points, resamples=SMALL_RESAMPLES, seed=0), 5)
    slow_s = time_work(lambda: bound_ranks_slowly(points, SMALL_RESAMPLES), 1)
    print(  # noqa: T201
        f"{SMALL_MODELS} models x {SMALL_TASKS} tasks x {SMALL_RESAMPLES} resamples: {1000 * fast_s:.1f} ms, "
        f"a plain loop {slow_s / fast_s:.0f} x, the same intervals"
    )


def main() -> None:
    """Print what each part takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--turns", type=int, default=3)
    words = parser.parse_args()
    compare_with_a_loop()
    columns = [Column(f"task{place}", f"Task {place}", "", "acc") for place in range(words.tasks)]
    scores = draw_scores(words.models, words.tasks, 0)
    points = score_borda(rank_scores(scores))
    rows, some = make_rows(scores), make_rows(draw_scores(words.models, words.tasks, 0.1))
    standings = compute_standings(rows, columns, {})
    ranked = choose_ranked(rows, columns)
    table = ProtocolTable(
        "hear2021", tuple(columns), tuple(rows), standings, standings, {"recomputed": ranked}, ranked
    )
    board = Board("Benchmark", (table,))
    print(f"{words.models} models x {words.tasks} tasks x {RESAMPLES} resamples:")  # noqa: T201
    works: dict[str, Callable[[], object]] = {
        "rank intervals": lambda: bound_ranks(points, resamples=RESAMPLES, seed=0),
        "all standings, nothing missing": lambda: compute_standings(rows, columns, {}),
        "all standings, a tenth missing and imputed": lambda: compute_standings(some, columns, {}),
        "board.csv": lambda: board_to_csv(board),
        "board.json": lambda: dump_board(board),
        "figures": lambda: list(draw_figures(board)),
    }
    for name, work in works.items():
        print(f"  {name}: {time_work(work, words.turns):.2f} s")  # noqa: T201


if __name__ == "__main__":
    main()
