"""Boards put together from cards and published rows."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from heareval.formats.card import Cost
from heareval.formats.scores import ScoreEntry
from heareval.leaderboard.board import Board, Origin, Row
from heareval.leaderboard.build import MAX_COLUMNS, build_board
from heareval.leaderboard.columns import TaskFacts
from heareval.leaderboard.exports import board_to_json
from heareval.leaderboard.published import read_published
from heareval.leaderboard.slugs import MAX_CHARS, make_slug
from tests.leaderboard.cards import make_card, make_result


def only_row(board: Board) -> Row:
    ((row,),) = (table.rows for table in board.tables)
    return row


def test_a_row_says_what_its_card_says() -> None:
    entry = ScoreEntry(
        0.8, interval_95=(0.7, None), resamples=9, chance=0.02, seed_std=0.01, seeds={"0": 0.8, "1": 0.8}
    )
    results = [
        make_result(
            scores={"top1_acc": entry, "mAP": 0.7, "d_prime": None}, cost=Cost("gpu", 10.0, 5.0, 2**30, 7.5)
        )
    ]
    card = make_card(
        "CREPE",
        "1.0",
        results,
        {"nsynth_pitch-5h": "no time", "mine": "lost"},
        parameters=3,
        authors=("A", "B"),
    )
    row = only_row(build_board({Origin.RECOMPUTED: [card]}))
    assert (row.key, row.name, row.revision, row.origin) == ("crepe-1-0", "CREPE", "1.0", Origin.RECOMPUTED)
    assert row.facts == {"parameters": 3, "authors": "A, B"}
    assert row.missing == {"nsynth_pitch-v2.2.3-5h": "no time", "mine": "lost"}
    cell = row.cells["esc50-v2.0.0-full"]
    assert (cell.score, cell.clips, cell.seeds, cell.cost_s, cell.device) == (0.8, 40, 1, 15.0, "gpu")
    assert (cell.memory_bytes, cell.joules) == (2**30, 7.5)
    assert list(cell.metrics) == ["top1_acc", "mAP"]
    value = cell.metrics["top1_acc"]
    assert (value.interval_95, value.chance, value.seed_std) == ((0.7, math.inf), 0.02, 0.01)
    assert row.provenance["card"] == "c" * 12
    assert "; seeds 0" in row.provenance["esc50-v2.0.0-full"]
    assert "references rrr" in row.provenance["esc50-v2.0.0-full"]


def test_scores_of_other_labels_are_not_ranked() -> None:
    """Two users' tasks may have one name, and as many clips."""
    result = make_result("birds", "v1")
    cards = [
        make_card(name, results=[each, make_result()])
        for name, each in (("a", result), ("b", replace(result, references="s" * 12)))
    ]
    (table,) = build_board({Origin.RECOMPUTED: cards}).tables
    assert table.incomparable == {"birds-v1-full"}
    assert all("birds-v1-full" not in each.task_ranks for each in table.standings.values())
    (note,) = table.notes
    assert "(a: 40 clips of test, references rrrrrrrrrrrr; b: 40 clips of test, references ssss" in note
    assert board_to_json(Board("", (table,)))["tables"][0]["notes"] == [note]
    (alike,) = build_board({Origin.RECOMPUTED: cards[:1]}).tables
    assert (alike.incomparable, alike.notes) == (frozenset(), ())


def test_protocols_have_tables_of_their_own() -> None:
    results = [make_result(), make_result(protocol="pairwise-l1", scores={"map_at_r": 0.2})]
    board = build_board({Origin.RECOMPUTED: [make_card(results=results)]})
    assert [table.protocol for table in board.tables] == ["hear2021", "pairwise-l1"]
    assert [[row.cells["esc50-v2.0.0-full"].score for row in table.rows] for table in board.tables[:1]] == [
        [0.8]
    ]
    assert {row.key for table in board.tables for row in table.rows} == {"model-v1"}


def test_origins_share_no_rank_unless_asked() -> None:
    good, bad = make_result(scores={"top1_acc": 0.9}), make_result(scores={"top1_acc": 0.1})
    board = build_board(
        {
            Origin.RECOMPUTED: [make_card("bad", results=[bad])],
            Origin.SUBMITTED: [make_card("good", results=[good])],
        }
    )
    (table,) = board.tables
    # Recomputed scores come first, whoever claims better ones.
    assert [row.name for row in table.rows] == ["bad", "good"]
    assert [table.standings[row.key].rank for row in table.rows] == [1, 1]
    assert [table.standings_together[row.key].rank for row in table.rows] == [2, 1]
    assert table.ranked == {
        "recomputed": ("esc50-v2.0.0-full",),
        "as submitted, not recomputed": ("esc50-v2.0.0-full",),
    }


def test_rows_are_sorted_best_first_and_incomplete_ones_come_last() -> None:
    board = build_board({}, read_published())
    (table,) = board.tables
    ranks = [table.standings[row.key].rank for row in table.rows]
    assert ranks[:13] == sorted(rank for rank in ranks[:13] if rank)
    assert set(ranks[13:]) == {None}
    assert len(table.columns) == 19
    assert table.standings_together == table.standings


def test_the_beehive_folds_are_one_column() -> None:
    folds = [
        make_result(f"beehive_states_fold{fold}", "v2", "5h", scores={"aucroc": score, "mAP": 0.5})
        for fold, score in enumerate((0.4, 0.8))
    ]
    row = only_row(build_board({Origin.RECOMPUTED: [make_card(results=folds)]}))
    cell = row.cells["beehive_states-v2-5h"]
    assert cell.score == pytest.approx(0.6)
    assert cell.clips == 80
    assert list(cell.metrics)[:3] == ["aucroc", "mAP", "aucroc of fold0"]
    assert cell.metrics["aucroc"].interval_95 is None
    assert cell.metrics["aucroc of fold1"].interval_95 == pytest.approx((0.75, 0.85))
    results = [folds[0], make_result()]
    for missing, reason in (({}, ""), ({"beehive_states_fold1": "no time"}, ": no time")):
        row = only_row(build_board({Origin.RECOMPUTED: [make_card(results=results, missing=missing)]}))
        assert list(row.cells) == ["esc50-v2.0.0-full"]
        assert row.missing == {"beehive_states-v2-5h": f"beehive_states_fold1 has no scores{reason}"}


def test_a_row_lacks_what_its_protocol_could_score() -> None:
    missing = {
        "beehive_states_fold0": "no rar",
        "beehive_states_fold1": "no rar",
        "timbre_similarity": "late",
    }
    results = [
        make_result(),
        make_result("esc50_retrieval", protocol="pairwise-l1", scores={"map_at_r": 0.5}),
    ]
    board = build_board({Origin.RECOMPUTED: [make_card(results=results, missing=missing)]})
    by_protocol = {table.protocol: table.rows[0].missing for table in board.tables}
    assert by_protocol == {
        "hear2021": {"beehive_states-v2-5h": "no rar"},
        "pairwise-l1": {"timbre_similarity": "late"},
    }


def test_undefined_and_infinite_scores_are_missing_with_a_reason() -> None:
    results = [
        make_result("a", scores={"d_prime": math.inf}),
        make_result("b", scores={"mAP": None, "aucroc": 0.5}),
        make_result("c", scores={"aucroc": 0.5, "d_prime": math.inf}),
    ]
    row = only_row(build_board({Origin.RECOMPUTED: [make_card(results=results)]}))
    assert row.missing == {"a-v2.0.0-full": "d_prime is infinite", "b-v2.0.0-full": "mAP is undefined"}
    assert row.cells["c-v2.0.0-full"].metrics["d_prime"].score == math.inf


def test_a_card_that_is_there_twice_and_one_that_is_incredible_are_left_out() -> None:
    huge = make_card("huge", results=[make_result(scores={"mine": 1e300})])
    board = build_board(
        {Origin.RECOMPUTED: [make_card(), make_card()], Origin.SUBMITTED: [make_card(), huge]},
        refused=["another is left out."],
    )
    assert [row.origin for table in board.tables for row in table.rows] == [Origin.RECOMPUTED]
    assert board.refused[0] == "another is left out."
    assert [sentence.split(": ")[1] for sentence in board.refused[1:]] == [
        "'model' 'v1' is there twice.",
        "'model' 'v1' is there twice.",
        "'mine' of esc50-v2.0.0-full is 1e+300.",
    ]


def test_two_tasks_of_one_name_are_not_ranked_together() -> None:
    mine = make_card("mine", results=[make_result("own", scores={"mAP": 0.5})])
    yours = make_card("yours", results=[make_result("own", scores={"error": 0.5})])
    reverse = make_card("x", results=[make_result("own", scores={"mAP": 0.5}, lower_is_better=("mAP",))])
    (table,) = build_board({Origin.RECOMPUTED: [mine, yours, reverse]}).tables
    by_name = {row.name: row for row in table.rows}
    assert by_name["mine"].cells
    assert by_name["yours"].missing == {"own-v2.0.0-full": "scored by error, while the column shows mAP"}
    assert "whether a lower mAP is better" in by_name["x"].missing["own-v2.0.0-full"]


def test_tasks_beyond_the_columns_are_named() -> None:
    results = [make_result(f"own{number:03}") for number in range(MAX_COLUMNS + 7)]
    board = build_board({Origin.SUBMITTED: [make_card(results=[*results, make_result()])]})
    assert len(board.tables[0].columns) == MAX_COLUMNS
    assert board.tables[0].columns[0].title == "ESC-50"
    assert board.refused == ("hear2021: 8 tasks that few models were scored on have no column.",)


HOSTILE = [
    "<script>alert(1)</script>",
    "../../../etc/passwd",
    "=HYPERLINK(1)",
    "\u202eevil",
    "a" * 10_000,
    "模型",
    "..",
    "CON",
    "a b",
    "a-b",
    "a.b",
]


def test_pages_have_safe_and_distinct_names() -> None:
    cards = [make_card(name, revision) for name in HOSTILE for revision in ("1", "2")]
    (table,) = build_board({Origin.SUBMITTED: cards}).tables
    keys = [row.key for row in table.rows]
    assert len(set(keys)) == len(keys) == len(cards)
    assert all(re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", key) and len(key) <= MAX_CHARS for key in keys)
    # The order of cards must not decide what their pages are called.
    (other,) = build_board({Origin.SUBMITTED: cards[::-1]}).tables
    assert {row.name + row.revision: row.key for row in other.rows} == {
        row.name + row.revision: row.key for row in table.rows
    }


def test_no_name_takes_the_page_of_another_model() -> None:
    pair = [make_card("a b", "c"), make_card("a", "b c")]
    (table,) = build_board({Origin.SUBMITTED: pair}).tables
    keys = {row.key for row in table.rows}
    assert len(keys) == 2
    for key in keys:
        (table,) = build_board(
            {Origin.SUBMITTED: [*pair, make_card("a b c", key.removeprefix("a-b-c-"))]}
        ).tables
        assert len({row.key for row in table.rows}) == 3
        assert keys <= {row.key for row in table.rows}


@pytest.mark.parametrize(
    "entry",
    [
        ScoreEntry(0.5, interval_95=(0.4, 1e308), resamples=9),
        ScoreEntry(0.5, chance=-1e300),
        ScoreEntry(0.5, seed_std=1e10),
    ],
    ids=["interval", "chance", "std"],
)
def test_incredible_numbers_beside_a_score_are_left_out(entry: ScoreEntry) -> None:
    board = build_board({Origin.SUBMITTED: [make_card(results=[make_result(scores={"top1_acc": entry})])]})
    assert board.tables == ()
    assert "'top1_acc' of esc50-v2.0.0-full is " in board.refused[0]


def test_a_card_never_takes_the_page_of_a_published_row() -> None:
    published = read_published()
    row = published[0]
    board = build_board({Origin.SUBMITTED: [make_card(row.name, row.source)]}, published)
    keys = [each.key for each in board.tables[0].rows]
    assert len(set(keys)) == len(keys) == len(published) + 1
    assert make_slug(row.name, row.source) == row.key


def test_columns_say_what_the_caller_knows() -> None:
    def describe(task: str, mode: str) -> TaskFacts:
        return TaskFacts(f"{task} in {mode}", "MIT", "Somebody")

    (table,) = build_board({Origin.RECOMPUTED: [make_card()]}, describe_task=describe).tables
    (column,) = table.columns
    assert (column.description, column.licence, column.citation) == ("esc50 in full", "MIT", "Somebody")
    (table,) = build_board({}, read_published(), describe_task=describe).tables
    assert table.columns[0].description == "beehive_states_fold0 in 5h"
