"""Submissions by tasks in one table, in every format."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import html5lib
import pytest

from heareval.errors import HearevalError
from heareval.formats.scores import FoldEntry, RunEntry, ScoreEntry, Scores
from heareval.leaderboard.overview import FORMS, OverviewRequest, format_overview, make_overview
from heareval.scripting import Results
from tests.leaderboard.cards import make_result

LATEX = re.compile(r"(?<!\\)[_&%$#{}]")


def make_scores(name: str, task: str = "esc50", score: float = 0.8, **changes: Any) -> Scores:
    values = {"version": "v2.0.0", "mode": "full", "scores": {"top1_acc": score, "mAP": score / 2}, **changes}
    return make_result(task, submission={"name": name}, **values).scores


SPEECH = {"task": "speech_commands", "version": "v0.0.2", "mode": "5h"}
COUNT = {"task": "libricount", "version": "v1.0.0-hear2021", "mode": "full"}
# B lacks a task, C has all.
SEVERAL = (
    make_scores("a", score=0.8),
    make_scores("a", score=0.5, **SPEECH),
    make_scores("a", score=0.4, **COUNT),
    make_scores("b", score=0.9),
    make_scores("b", score=0.6, **SPEECH),
    make_scores("c", score=0.85),
    make_scores("c", score=0.6, **SPEECH),
    make_scores("c", score=0.5, **COUNT),
)


def show(scores: tuple[Scores, ...], form: str, width: int = 80, **request: Any) -> str:
    overview = make_overview(scores, lambda _: ("error",), OverviewRequest(**request))
    return format_overview(overview, form, width=width)


def test_means_are_of_complete_rows_and_the_best_is_marked() -> None:
    lines = list(csv.DictReader(io.StringIO(show(SEVERAL, "csv"))))
    assert [(line["submission"], line["rank"]) for line in lines] == [("c", "1"), ("a", "2"), ("b", "")]
    assert [line["mean"] for line in lines] == ["65.0000", "56.6667", ""]
    assert [line["mean speech"] for line in lines] == ["55.0000", "45.0000", ""]
    assert [line["mean environment"] for line in lines] == ["85.0000", "80.0000", "90.0000"]
    assert "mean music" not in lines[0]
    text = show(SEVERAL, "text", width=120)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line[:2] in ("a ", "b ", "c ")}
    assert rows["a"] == ["80.0", "40.0", "50.0", "45.0", "80.0", "56.7", "2"]
    # Equal scores are both the best.
    assert rows["b"] == ["90.0*", "-", "60.0*", "-", "90.0", "-", "-"]
    assert rows["c"] == ["85.0", "50.0*", "60.0*", "55.0", "85.0", "65.0", "1*"]


def test_a_line_names_the_tasks_that_means_and_ranks_cover() -> None:
    own = [make_scores(name, f"own{n}", version="v1") for n in range(3) for name in ("a", "b")]
    lone = [make_scores("b", f"lone{n}", version="v1") for n in range(2)]
    few = (*own[:-1], *lone, make_scores("c", "own0", version="v1"))
    cases = (
        # More than half of the submissions have these, but not those that one or two of four have.
        (
            (*few, make_scores("d", "own0", version="v1"), make_scores("d", "own1", version="v1")),
            "means and ranks cover only own0 full, own1 full",
        ),
        # A task of the benchmark counts, however few have it, and nothing else does.
        ((*few, make_scores("a", score=0.5)), "ranks cover only ESC-50"),
        (SEVERAL, "means and ranks cover all tasks"),
        (SEVERAL[:3], "means cover all tasks"),
        ((lone[0], make_scores("a", "own0", version="v1")), "ranks cover no task"),
    )
    for scores, line in cases:
        assert f"\n{line}\n" in f"{show(scores, 'text')}\n"
        for form in ("md", "latex", "html"):
            assert f"; {line}" in show(scores, form)
    # One task, and one submission on one task, need no line.
    assert "cover" not in show(SEVERAL[:1], "text") + show((SEVERAL[0], SEVERAL[3]), "text")


def test_lower_may_be_better() -> None:
    scores = tuple(make_scores(name, scores={"error": score}) for name, score in (("a", 0.3), ("b", 0.2)))
    text = show(scores, "text")
    assert re.search(r"^b +20\.0\* +1\*$", text, re.MULTILINE)
    assert "note: lower is better: ESC-50" in text


def test_scores_of_different_clips_are_not_compared() -> None:
    old = make_scores("old", "kinds", 0.8, version="v1")
    model = old.runs[0].folds[0].model
    folds = tuple(FoldEntry(name, "fold00", ("fold02",), model) for name in ("fold01", "fold00"))
    clips = {"fold00": 30, "fold01": 30, "fold02": 30}
    new = make_scores(
        "new", "kinds", 0.9, version="v1", clips=clips, runs=(RunEntry(0, {"lr": 0.01}, folds, (model,)),)
    )
    others = [make_scores(name, score=score) for name, score in (("old", 0.5), ("new", 0.4))]
    scores = (old, new, *others, make_scores("third", "kinds", version="v1"), make_scores("third", score=0.3))
    table = json.loads(show(scores, "json"))
    note = (
        "kinds full has no best score and counts for no rank or mean, because the submissions were tested on "
        "different clips (old, third: 40 clips of test; new: 30 clips of fold00, 30 clips of fold01)"
    )
    assert note in table["notes"]
    assert table["tables"][0]["ranked_tasks"] == ["esc50-v2.0.0-full"]
    rows = table["tables"][0]["rows"]
    assert [(row["submission"], row["rank"], row["mean"]) for row in rows] == [
        ("old", 1, 50),
        ("new", 2, 40),
        ("third", 3, 30),
    ]
    shown = [line for line in show(scores, "text").splitlines() if line[:3] in ("old", "new", "thi")]
    assert [line.count("*") for line in shown] == [2, 0, 0]
    # A table of that task alone has no ranks at all.
    text = show((old, new), "text")
    assert "*" not in text.replace("* is the best", "")
    assert re.search(r"^old +80\.0 +-$", text, re.MULTILINE)
    # As long as all were tested alike, nothing is said.
    assert "different clips" not in show((old, *others), "text")


def test_one_submission_on_one_task_has_neither_rank_nor_mean() -> None:
    head = show((make_scores("a"),), "md").splitlines()[0]
    assert head == "| submission | ESC-50 |"


def test_a_wide_table_is_stacked() -> None:
    name = "a_submission_with_a_name_that_is_much_too_long_for_a_terminal+804e33"
    scores = tuple(
        make_scores(each, f"a_task_of_my_own_{number}", 0.01 * number, version="1", mode="full")
        for number in range(12)
        for each in ("b", name)
    )
    for width in (80, 60):
        text = show(scores, "text", width=width, has_intervals=True)
        assert max(map(len, text.splitlines())) <= width
        shown = re.findall(r"\d\.\d \[", text)
        assert len(shown) == 24
        assert text.count("804e33") > 2
    wide = show(scores, "text", width=400)
    assert wide.count("submission") - wide.count("a_submission") == 1


def test_another_metric_and_one_protocol() -> None:
    knn = make_scores("a", protocol="probe-knn-l1")
    assert json.loads(show((*SEVERAL, knn), "json"))["tables"][1]["protocol"] == "probe-knn-l1"
    only = json.loads(show((*SEVERAL, knn), "json", protocol="probe-knn-l1"))
    assert [table["protocol"] for table in only["tables"]] == ["probe-knn-l1"]
    other = make_scores("a", scores={"pitch_acc": 0.5}, **SPEECH)
    shown = json.loads(show((SEVERAL[0], other), "json", metric="mAP"))
    (cell,) = shown["tables"][0]["rows"][0]["tasks"].values()
    assert (cell["metric"], cell["score"]) == ("mAP", 0.4)
    assert shown["notes"] == ["1 task has no mAP"]
    with pytest.raises(HearevalError, match="unknown metric: got 'map', expected one of mAP, top1_acc"):
        show(SEVERAL, "text", metric="map")
    with pytest.raises(HearevalError, match="unknown protocol: got 'hear2020'"):
        show(SEVERAL, "text", protocol="hear2020")
    with pytest.raises(HearevalError, match="unknown format: got 'markdown'"):
        show(SEVERAL, "markdown")


def test_names_of_strangers_stay_text_in_every_format() -> None:
    name = "=1+1|<b>_x_</b>`&%$#{}~^\\\x1b[31m\n*y*"
    scores = (make_scores(name), make_scores("b"))
    shown = {form: show(scores, form) for form in FORMS}
    assert all("\x1b" not in text for text in shown.values())
    tree = html5lib.parse(shown["html"], namespaceHTMLElements=False)
    assert [each.text for each in tree.iter("b")] == ["80.0", "1", "80.0", "1"]
    rows = [line for line in shown["md"].splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}
    row = next(line for line in shown["latex"].splitlines() if "=1+1" in line)
    escaped = row.replace(r"\textbackslash{}", "").replace(r"\textasciitilde{}", "")
    escaped = (
        escaped.replace(r"\textasciicircum{}", "").replace("\\textbf{80.0}", "").replace("\\textbf{1}", "")
    )
    assert LATEX.findall(escaped) == ["&", "&"]
    assert {line["submission"] for line in csv.DictReader(io.StringIO(shown["csv"], newline=""))} >= {"b"}
    assert "'=1+1" in shown["csv"]


def test_results_are_a_sequence_with_tables(tmp_path: Path) -> None:
    results = Results(SEVERAL, ("esc50: no room",))
    assert (len(results), results[0], list(results)[-1]) == (8, SEVERAL[0], SEVERAL[-1])
    assert repr(results).endswith("failed: esc50: no room")
    assert "<b>90.0</b>" in results._repr_html_()
    for name, form in (("csv", "csv"), ("markdown", "md"), ("latex", "latex")):
        text = getattr(results, f"to_{name}")(tmp_path / name, has_intervals=True)
        assert text == show(SEVERAL, form, has_intervals=True)
        assert (tmp_path / name).read_bytes().decode().rstrip("\n") == text.rstrip("\n")
    joined = Results(SEVERAL[:3]) + Results(SEVERAL[3:], results.failures)
    assert joined == results
    first, second = results.to_dicts()[:2]
    assert (first["submission"], first["task"], first["metric"]) == ("a", "esc50", "top1_acc")
    assert (first["score"], first["low"], first["clips"]) == (0.8, 0.75, 40)
    assert second["metric"] == "mAP"


def test_a_frame_has_a_row_for_each_metric() -> None:
    frame = Results(SEVERAL).to_frame()
    assert frame.shape == (16, 14)
    assert set(frame["task_folder"]) >= {"esc50-v2.0.0-full"}
    # Nothing has several seeds.
    assert frame["seed_std"].isna().all()
    assert {str(frame[name].dtype) for name in ("score", "low", "chance", "std", "seed_std")} == {"float64"}
    empty = make_scores("a", scores={"d_prime": ScoreEntry(math.inf), "mAP": None})
    assert list(Results((empty,)).to_frame()["score"].fillna(0)) == [math.inf, 0]
    assert len(Results(()).to_frame()) == 0
    best = frame[frame.metric == "top1_acc"].groupby("task").score.max()
    assert best.to_dict() == {"esc50": 0.9, "libricount": 0.5, "speech_commands": 0.6}


def test_without_pandas_the_error_names_what_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(HearevalError, match=r"expected pandas to be installed.*use to_dicts\(\)"):
        Results(SEVERAL).to_frame()
