"""Published scores, as they ship with heareval."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from heareval.errors import HearevalError
from heareval.formats.columns2021 import TASKS_2021
from heareval.leaderboard.board import Origin
from heareval.leaderboard.columns import PAIRWISE_TASKS, PUBLISHED_COLUMNS, find_missing_name, make_column
from heareval.leaderboard.published import DATA, read_later, read_naive, read_official, read_published
from heareval.tasks.registry import all_tasks
from heareval.workflow.board import list_pairwise_tasks
from tests.leaderboard.cards import make_result

OFFICIAL, LATER = DATA / "leaderboard.csv", DATA / "published_later.csv"


def test_every_number_of_both_files_is_read() -> None:
    for path, name, whole in ((OFFICIAL, "csv_name", 1), (LATER, "later_name", 100)):
        columns = {getattr(each, name): each.column.key for each in PUBLISHED_COLUMNS}
        with path.open(encoding="utf-8") as stream:
            lines = list(csv.DictReader(stream))
        rows = read_official(path) if path == OFFICIAL else read_later(path)
        assert [row.name for row in rows] == [line.get("Model") or line["model"] for line in lines]
        for row, line in zip(rows, lines, strict=True):
            printed = {columns[key]: text for key, text in line.items() if key in columns and text}
            assert row.cells.keys() == printed.keys()
            for key, cell in row.cells.items():
                assert cell.score == pytest.approx(float(printed[key]) / whole, abs=1e-12)


def test_rows_say_where_they_were_printed_and_share_no_page() -> None:
    rows = read_published()
    assert len({row.key for row in rows}) == len(rows) == 50
    assert {row.origin for row in rows} == {Origin.PUBLISHED}
    naive = [row for row in rows if row.name == "HEAR-Naive"]
    assert [row.source for row in naive] == ["GRAM 2026", "WavJEPA 2025"]
    assert [row.cells["mridangam_tonic-v1.5-full"].score for row in naive] == [0.876, 0.937]
    assert read_naive()["mridangam_tonic-v1.5-full"] == 0.876
    crepe = next(row for row in rows if row.name == "CREPE")
    assert {"module", "code_url", "code_revision", "url", "submitted"} <= crepe.facts.keys()
    assert sum("code_revision" in row.facts for row in rows) == 29


@pytest.mark.parametrize("reader", [read_official, read_later])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("0.3005", "100.5").replace("28.6", "100.5"),
            "got '100.5', expected a num",
        ),
        (
            lambda text: text.replace("0.3005", "-1").replace("28.6", "-1"),
            "got '-1', expected a number from 0",
        ),
        (lambda text: text.replace("0.3005", "nan").replace("28.6", "nan"), "got 'nan', expected a number"),
        (
            lambda text: text.replace("0.3005", "=1+1").replace("28.6", "=1+1"),
            "got '=1.1', expected a number",
        ),
        (lambda text: text.replace("ESC-50", "ESC").replace("esc50", "esc"), "got no column"),
        (lambda text: text.replace(",0.3005,", ",").replace(",28.6,", ","), "another number of cells"),
        (lambda text: text.replace("\nwav2vec2,", "\nCREPE,").replace("AudioMAE", "SSAST"), "twice"),
    ],
    ids=["large", "negative", "NaN", "formula", "no column", "short line", "twice"],
)
def test_wrong_numbers_are_refused(reader, change, message, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "scores.csv"
    path.write_text(change((OFFICIAL if reader is read_official else LATER).read_text(encoding="utf-8")))
    with pytest.raises(HearevalError, match=message) as caught:
        reader(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_columns_are_tasks_of_heareval_and_show_their_first_metric() -> None:
    tasks = all_tasks()
    for each in PUBLISHED_COLUMNS:
        spec = tasks["beehive_states_fold0" if each.task == "beehive_states" else each.task]
        assert each.column.key == f"{each.task}-{spec.version}-{each.mode}"
        assert each.column.metric == spec.metrics[0]
        assert each.column.domain
    titles = list(dict.fromkeys(each.title for each in TASKS_2021))
    assert [each.csv_name for each in PUBLISHED_COLUMNS] == titles


def test_every_task_of_heareval_has_a_title_and_a_domain() -> None:
    for spec in all_tasks().values():
        result = make_result(spec.name, spec.version, spec.default_mode, scores={spec.metrics[0]: 0.5})
        column = make_column(result)
        assert column.domain, spec.name
        assert spec.name not in column.title


def test_scores_on_another_corpus_are_never_beside_published_ones() -> None:
    assert make_column(make_result()).key == "esc50-v2.0.0-full"
    other = make_column(make_result(is_the_published_corpus=False))
    assert (other.key, other.title) == ("esc50-v2.0.0-full-other-corpus", "ESC-50 (other corpus)")
    own = make_column(make_result(scores={"d_prime": 1.0}))
    assert (own.key, own.metric) == ("esc50-v2.0.0-full-by-d-prime", "d_prime")


def test_the_pairwise_tasks_are_those_of_heareval() -> None:
    assert set(list_pairwise_tasks()) == PAIRWISE_TASKS


def test_reasons_of_missing_tasks_find_their_column() -> None:
    columns = {each.column.key for each in PUBLISHED_COLUMNS}
    assert {find_missing_name(each.key) for each in TASKS_2021} == columns
