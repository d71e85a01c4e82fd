"""Figures of a board."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import spearmanr

from heareval.formats.card import Cost
from heareval.leaderboard.board import Board, Origin
from heareval.leaderboard.build import build_board
from heareval.leaderboard.figures import MAX_NAMED_POINTS, MIN_PAIRS, correlate, draw_figures, standardise
from heareval.leaderboard.published import read_published
from tests.leaderboard.cards import make_card, make_result


def make_board(
    names: tuple[str, ...] = ("a", "b", "c", "d", "e"), tasks: Sequence[str] = ("one", "two")
) -> Board:
    rng = np.random.default_rng(0)
    cards = [
        make_card(
            name,
            results=[
                make_result(task, scores={"acc": rng.random()}, cost=Cost("cpu", 10.0 * (number + 1), 5.0))
                for task in tasks
            ],
        )
        for number, name in enumerate(names)
    ]
    return build_board({Origin.RECOMPUTED: cards})


def read_texts(svg: bytes) -> str:
    return " ".join(" ".join(ElementTree.fromstring(svg).itertext()).split())


@pytest.mark.slow
def test_the_published_rows_have_a_heat_map_and_correlations() -> None:
    figures = {each.name: each for each in draw_figures(build_board({}, read_published()))}
    # Nobody knows what published rows cost.
    assert list(figures) == ["hear2021-heat-map", "hear2021-task-correlations", "hear2021-model-correlations"]
    text = read_texts(figures["hear2021-heat-map"].svg)
    assert "RedRice ced_base" in text
    assert "HEAR-Naive (GRAM 2026)" in text
    assert "87.8" in text, "the best beehive score"
    for each in figures.values():
        assert len(each.svg) < 450_000
        assert b"sans-serif" in each.svg
        assert each.description
        assert "hear2021" in each.title


def test_few_models_have_no_correlations() -> None:
    # Standardised over two models, their scores are 1 and -1 on every task.
    tasks = [f"task{number}" for number in range(MIN_PAIRS)]
    for models in (MIN_PAIRS - 1, MIN_PAIRS):
        board = make_board(tuple(f"model{number}" for number in range(models)), tasks)
        names = [each.name for each in draw_figures(board)]
        assert ("hear2021-model-correlations" in names) == (models == MIN_PAIRS)


def test_cost_is_drawn_where_it_is_known() -> None:
    figures = {each.name: each for each in draw_figures(make_board())}
    assert list(figures) == ["hear2021-heat-map", "hear2021-task-correlations", "hear2021-cost"]
    text = read_texts(figures["hear2021-cost"].svg)
    assert "seconds of embedding and prediction" in text
    assert "cpu" in text
    assert "mathdefault" not in text
    assert " 100 " in text


def test_of_many_models_only_those_are_named_that_no_cheaper_one_equals() -> None:
    board = make_board(tuple(f"model{number}." for number in range(MAX_NAMED_POINTS + 1)))
    (table,) = board.tables
    rows = sorted(table.rows, key=lambda row: sum(cell.cost_s or 0 for cell in row.cells.values()))
    best, front = 0.0, []
    for row in rows:
        mean = table.standings[row.key].mean or 0.0
        if mean > best:
            best, front = mean, [*front, row.name]
    text = read_texts(next(each.svg for each in draw_figures(board) if each.name == "hear2021-cost"))
    assert 1 < len(front) < len(rows)
    assert {row.name for row in rows if row.name in text} == set(front)


def test_a_small_board_has_few_figures_and_an_empty_one_none() -> None:
    assert list(draw_figures(make_board(("a",)))) == []
    assert "hear2021-heat-map" in [each.name for each in draw_figures(make_board(("a", "b")))]
    assert list(draw_figures(build_board({}))) == []


def test_names_of_strangers_are_drawn_as_text() -> None:
    names = ("<script>alert(1)</script>", "\u202eevil", "$\\frac{1}{0}$", "x" * 10_000, "模型")
    for each in draw_figures(make_board(names)):
        root = ElementTree.fromstring(each.svg)
        assert not [tag for tag in root.iter() if tag.tag.endswith("script")]
        text = read_texts(each.svg)
        assert "\u202e" not in text
        assert not re.search("x{60}", text)


def test_equal_boards_have_equal_figures() -> None:
    first, second = ([each.svg for each in draw_figures(make_board())] for _ in range(2))
    assert first == second


@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_those_of_scipy_over_complete_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, (14, 6)).astype(float)
    values[rng.random(values.shape) < 0.4] = np.nan
    values[:, 5] = np.where(np.isnan(values[:, 5]), np.nan, 1.0)
    rho, pairs = correlate(values)
    for first in range(6):
        for second in range(6):
            both = ~np.isnan(values[:, first]) & ~np.isnan(values[:, second])
            assert pairs[first, second] == both.sum()
            x, y = values[both, first], values[both, second]
            if both.sum() < MIN_PAIRS or np.ptp(x) == 0 or np.ptp(y) == 0:
                assert np.isnan(rho[first, second])
            else:
                assert rho[first, second] == pytest.approx(spearmanr(x, y).statistic)
    assert np.isnan(rho[5]).all()
    assert not np.isnan(rho[:5, :5]).all()


def test_standardised_scores_have_mean_0_and_deviation_1() -> None:
    values = np.random.default_rng(0).random((9, 3))
    values[2, 1] = np.nan
    found = standardise(values)
    np.testing.assert_allclose(np.nanmean(found, axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.nanstd(found, axis=0), 1)
    assert np.isnan(found[2, 1])
