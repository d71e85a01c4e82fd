"""board.csv and board.json."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from heareval.formats.scores import ScoreEntry
from heareval.leaderboard.board import Board, Origin
from heareval.leaderboard.build import build_board
from heareval.leaderboard.exports import board_to_csv, dump_board
from heareval.leaderboard.published import DATA, read_published
from heareval.workflow.board import export_card
from tests.leaderboard.cards import make_card, make_result


def read_csv(board: Board) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(board_to_csv(board), newline="")))


def test_csv_holds_the_published_scores() -> None:
    lines = {line["model"]: line for line in read_csv(build_board({}, read_published()))}
    with (DATA / "leaderboard.csv").open(encoding="utf-8") as stream:
        for printed in csv.DictReader(stream):
            text = lines[printed["Model"]]["tfds_gtzan-1.0.0-full"]
            assert text == printed["GTZAN Genre"] or float(text) == float(printed["GTZAN Genre"])
    assert lines["RedRice ced_base"]["rank"] == "1"
    assert lines["GURA Hubert"]["beehive_states-v2-5h"] == lines["GURA Hubert"]["rank"] == ""


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("http://x","y")', "\uff1d1"]
)
def test_no_text_of_a_card_is_a_formula(text: str) -> None:
    card = make_card(text, text, pretraining_data=(text,), code_licence=text)
    (line,) = read_csv(build_board({Origin.SUBMITTED: [card]}))
    for column in ("model", "revision", "pretraining_data", "code_licence"):
        assert line[column] == f"'{text}"


def test_numbers_stay_numbers() -> None:
    results = [make_result("own", scores={"r2": -0.5}), make_result(protocol="pairwise-l1")]
    lines = read_csv(build_board({Origin.SUBMITTED: [make_card(results=results, parameters=5)]}))
    assert [line["protocol"] for line in lines] == ["hear2021", "pairwise-l1"]
    assert lines[0]["own-v2.0.0-full"] == "-0.5"
    assert lines[0]["parameters"] == "5"
    assert (lines[0]["esc50-v2.0.0-full"], lines[1]["esc50-v2.0.0-full"]) == ("", "0.8")


def test_json_holds_everything_and_is_json() -> None:
    entry = ScoreEntry(0.5, interval_95=(None, 0.6), resamples=9, chance=0.1)
    results = [make_result(scores={"top1_acc": entry, "d_prime": math.inf})]
    card = make_card("<script>\u202e", results=results, missing={"fsd50k": "no time"}, authors=("A",))
    board = build_board({Origin.SUBMITTED: [card]}, read_published(), title="A title")
    text = dump_board(board)
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (found["schema_version"], found["title"]) == (1, "A title")
    (table,) = found["tables"]
    row = table["rows"][0]
    assert row["origin"] == "as submitted, not recomputed"
    cell = row["cells"]["esc50-v2.0.0-full"]
    assert cell["metrics"]["top1_acc"]["interval_95"] == ["-inf", 0.6]
    assert cell["metrics"]["d_prime"]["score"] == "inf"
    assert row["missing"] == {"fsd50k-v1.0-full": "no time"}
    assert row["facts"]["authors"] == "A"
    assert (row["by_origin"]["rank"], row["together"]["rank"]) == (1, None)
    assert len(table["rows"]) == 51
    assert len(table["columns"]) == len(table["ranked"]["together"]) == 19
    assert set(found["definitions"]) == set(row["by_origin"])


def test_equal_boards_are_equal_files() -> None:
    boards = [build_board({Origin.SUBMITTED: [make_card()]}, read_published()) for _ in range(2)]
    assert board_to_csv(boards[0]) == board_to_csv(boards[1])
    assert dump_board(boards[0]) == dump_board(boards[1])


def test_only_a_card_with_a_published_column_has_a_row_of_2021() -> None:
    # The export refuses other cards; one of them must not stop the board.
    cards = [make_card(results=[make_result(mode=mode)]) for mode in ("full", "small")]
    assert [[each.path for each in export_card("key", card, None)] for card in cards] == [
        ["models/key.hear2021-csv.csv"],
        [],
    ]
