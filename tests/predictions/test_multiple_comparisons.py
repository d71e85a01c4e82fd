"""Three or more submissions compared: each pair as a call of two says, p as Holm's method corrects it."""

from __future__ import annotations

import json
import math
import re
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import heareval
from heareval.errors import HearevalError
from heareval.predictions.compare import compare
from heareval.predictions.differences import Difference
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.multiple_comparisons import (
    MultipleComparison,
    compare_each,
    format_multiple,
    multiple_to_json,
)
from heareval.predictions.protocol import Protocol
from heareval.predictions.pvalues import correct_by_holm
from heareval.predictions.writing import write_results
from heareval.scripting import results
from tests.commands import command, only_line
from tests.predictions.conftest import write_event_task, write_scene_task

NAME = "probe-linear"
NOISE = {"a": 0.0, "b": 0.5, "c": 2.0, "d": 8.0}


def evaluate(folder: Path, seed: int = 0) -> None:
    result = evaluate_folder(folder, Protocol(probe="linear", device="cpu", seed=seed))
    write_results(folder, result, f"fingerprint of seed {seed}", "0123456789abcdef")


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Submissions A to D, each noisier than the one before, with three tasks.

    p of the first metric is from permutations, from the bootstrap, and of a metric that is better when lower.
    """
    root = tmp_path_factory.mktemp("several")
    folds = {"splits": ("fold00", "fold01", "fold02"), "split_mode": "new_split_kfold"}
    tasks = [
        write_scene_task(root, "scene", **folds),
        write_scene_task(root, "ranked", evaluation=["mAP", "top1_acc"]),
        write_event_task(root, "event", clips=16, evaluation=["segment_1s_er", "event_onset_200ms_fms"]),
    ]
    rng = np.random.default_rng(0)
    for submission, noise in NOISE.items():
        for task in tasks:
            folder = root / "embeddings" / submission / task.name
            shutil.copytree(task, folder)
            for path in sorted(folder.glob("*.npy")):
                if "timestamps" not in path.name:
                    array = np.load(path)
                    np.save(path, (array + rng.normal(size=array.shape, scale=noise)).astype(np.float32))
            evaluate(folder)
    return root


@pytest.fixture
def root(once: Path, tmp_path: Path) -> Path:
    """The same, which a test may change."""
    shutil.copytree(once / "embeddings", tmp_path / "embeddings")
    return tmp_path


def folders(root: Path, names: str = "abcd") -> list[Path]:
    return [root / "embeddings" / name for name in names]


def values(difference: Difference) -> str:
    """All fields, of which NaN equals NaN."""
    return repr(difference)


# --------------------------------------------------------------------------- numbers


def test_each_pair_is_what_a_call_of_two_says(once: Path) -> None:
    """Differences, intervals and uncorrected p are identical, bit for bit."""
    found = compare_each(folders(once))
    assert found.submissions == tuple("abcd")
    for a, b in combinations(range(4), 2):
        two = compare(folders(once)[a], folders(once)[b])
        ours, means = (
            [
                values(each.difference)
                for matrix in some
                for each in matrix.pairs
                if (each.a, each.b) == (a, b)
            ]
            for some in (found.matrices, found.overall)
        )
        assert ours == [values(each) for each in two.differences]
        assert means == [values(each) for each in two.overall]
    # What the test compares is of every kind.
    assert {each["p_from"] for each in found.to_dicts()} == {"permutation", "bootstrap"}
    assert len(found.overall) == 1


def correct_slowly(p_values: list[float]) -> list[float]:
    """Holm's method as its paper has it: the smallest p times their number, the next times one fewer."""
    left, corrected, largest = dict(enumerate(p_values)), {}, 0.0
    while left:
        place = min(left, key=lambda each: left[each])
        largest = max(largest, min(1.0, left[place] * len(left)))
        corrected[place] = largest
        del left[place]
    return [corrected[place] for place in range(len(p_values))]


def correct_by_closed_tests(p_values: list[float]) -> list[float]:
    """A hypothesis is rejected if Bonferroni rejects every set of hypotheses that it belongs to."""
    numbers = range(len(p_values))
    sets = [chosen for size in numbers for chosen in combinations(numbers, size + 1)]
    return [
        min(1.0, max(len(chosen) * min(p_values[i] for i in chosen) for chosen in sets if place in chosen))
        for place in numbers
    ]


@pytest.mark.parametrize("seed", range(5))
def test_holm_agrees_with_its_definitions(seed: int) -> None:
    p_values = list(np.round(np.random.default_rng(seed).beta(0.4, 2.0, size=7), 2))
    corrected = correct_by_holm(p_values)
    assert corrected == pytest.approx(correct_slowly(p_values))
    assert corrected == pytest.approx(correct_by_closed_tests(p_values))
    with_undefined = correct_by_holm([math.nan, *p_values])
    assert math.isnan(with_undefined[0])
    assert with_undefined[1:] == corrected


def test_p_is_corrected_over_the_pairs_of_each_metric(once: Path) -> None:
    found = compare_each(folders(once))
    for matrix in (*found.matrices, *found.overall):
        assert matrix.comparisons == 6
        expected = correct_slowly([each.difference.p for each in matrix.pairs])
        assert [each.p_holm for each in matrix.pairs] == pytest.approx(expected)
    assert any(each.p_holm > each.difference.p for matrix in found.matrices for each in matrix.pairs)


def test_many_pairs_can_still_be_significant(root: Path) -> None:
    """1000 resamples give no p below 0.002, which is not small any more if it is corrected for many pairs."""
    for name in "efgh":
        shutil.copytree(root / "embeddings" / "d", root / "embeddings" / name)
    found = compare_each(folders(root, "abcdefgh"))
    (ranked,) = (each for each in found.matrices if (each.task, each.metric) == ("ranked", "mAP"))
    best = min(ranked.pairs, key=lambda each: each.p_holm)
    assert (best.difference.p_from, best.difference.interval.resamples) == ("bootstrap", 2000)
    assert best.p_holm < 0.05


# --------------------------------------------------------------------------- what is missing


def test_pairs_without_p_are_told(root: Path) -> None:
    shutil.rmtree(root / "embeddings" / "b")
    shutil.copytree(root / "embeddings" / "a", root / "embeddings" / "b")
    found = compare_each(folders(root, "abc"))
    assert "no p, as all resamples have the same score: ranked (A and B)" in found.notes
    assert "no p, as none of its tasks has an interval: mean of 3 tasks (A and B)" in found.notes
    both = f"ranked, {NAME}; mean of 3 tasks, {NAME}"
    assert f"p corrected for 2 comparisons only: {both}" in found.notes
    assert f"p of the mean of {NAME} rests on tasks without an interval: event, ranked, scene" in found.notes
    (ranked,) = (each for each in found.matrices if (each.task, each.metric) == ("ranked", "mAP"))
    assert [math.isnan(each.p_holm) for each in ranked.pairs] == [True, False, False]
    line = matrix_lines(found, "ranked")[2]
    assert line.split()[2] == "-"


def test_a_task_that_one_lacks_is_compared_for_the_others(root: Path) -> None:
    shutil.rmtree(root / "embeddings" / "d" / "event")
    found = compare_each(folders(root))
    assert found.not_compared == (f"D has no scores of {NAME}: event",)
    assert f"p corrected for 3 comparisons only: event, {NAME}" in found.notes
    assert f"the mean of {NAME} leaves out tasks that lack differences: event" in found.notes
    assert [each.task for each in found.overall] == ["mean of 2 tasks"]
    assert matrix_lines(found, "event")[0].split() == ["score", "A", "B", "C"]
    shutil.rmtree(root / "embeddings" / "d" / "scene")
    found = compare_each(folders(root))
    assert found.overall == ()
    assert f"no mean of {NAME}: it needs two tasks with all differences" in found.notes


def test_results_on_other_labels_are_not_compared(root: Path) -> None:
    folder = root / "embeddings" / "b" / "scene"
    labels = json.loads((folder / "fold01.json").read_text())
    first, second = list(labels)[:2]
    labels[first], labels[second] = labels[second], labels[first]
    (folder / "fold01.json").write_text(json.dumps(labels))
    evaluate(folder)
    found = compare_each(folders(root, "abc"))
    assert found.not_compared == tuple(
        f"scene, {NAME}: {pair} not compared: other labels in fold01" for pair in ("A and B", "B and C")
    )
    assert matrix_lines(found, "scene")[0].split() == ["score", "A", "C"]
    for task in ("event", "ranked"):
        shutil.rmtree(root / "embeddings" / "b" / task)
        shutil.rmtree(root / "embeddings" / "c" / task)
    shutil.rmtree(root / "embeddings" / "c" / "scene")
    with pytest.raises(HearevalError, match=r"got no scores. Run `heareval evaluate` first"):
        compare_each(folders(root, "abc"))


def test_other_seeds_are_told(root: Path) -> None:
    assert not any("seed" in note for note in compare_each(folders(root)).notes)
    evaluate(root / "embeddings" / "c" / "scene", seed=3)
    assert f"scene, {NAME}: A, B and D have seed 0, C has seed 3" in compare_each(folders(root)).notes


def test_the_same_submission_twice_is_an_error(root: Path) -> None:
    line = only_line(command(root, "heareval", "compare", "a", "b", "embeddings/a"))
    assert line == "error: submissions to compare: got a twice, expected different ones"


def test_submissions_of_one_name_are_told_by_their_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(root / "embeddings" / "a", root / "other" / "b")
    monkeypatch.chdir(root)
    found = compare_each([*folders(root, "ab"), root / "other" / "b"])
    assert found.submissions == ("embeddings/a", "embeddings/b", "other/b")


# --------------------------------------------------------------------------- text


def matrix_lines(found: MultipleComparison, task: str, columns: int | None = None) -> list[str]:
    """The lines of a task's matrix, without its title."""
    parts = format_multiple(found, columns).split("\n\n")
    (part,) = (part for part in parts if part.startswith(f"{task}, "))
    return part.splitlines()[1:]


def test_a_matrix_has_differences_above_its_diagonal_and_p_below(once: Path) -> None:
    found = compare_each(folders(once))
    shown = [each for each in found.matrices if each.is_shown]
    assert [(each.task, each.metric) for each in shown] == [
        ("event", "segment_1s_er"),
        ("ranked", "mAP"),
        ("scene", "top1_acc"),
    ]
    lines = [line.split() for line in matrix_lines(found, "scene")]
    assert lines[0] == ["score", "A", "B", "C", "D"]
    for each in shown[2].pairs:
        # A row has a letter, a score, and no cell on the diagonal.
        difference, p = lines[1 + each.a][1 + each.b], lines[1 + each.b][2 + each.a]
        mark = "**" if each.p_holm < 0.01 else "*" if each.p_holm < 0.05 else ""
        assert difference == f"{100 * each.difference.value:+.1f}{mark}"
        assert p == f"{each.p_holm:.4f}"
        assert lines[1 + each.a][1] == f"{100 * each.difference.a:.1f}"
    assert any(each.p_holm < 0.05 for each in shown[2].pairs)
    text = format_multiple(found)
    assert "corrected for 6 comparisons by Holm's method" in " ".join(text.split())
    assert text.startswith("A: a\nB: b\nC: c\nD: d\n")
    better = "in the mean, a positive difference means that the row is better"
    assert f"note: segment_1s_er: lower is better; {better}" in text.splitlines()


@pytest.mark.parametrize("columns", [30, 44, 80])
def test_text_fits_the_terminal_and_loses_nothing(once: Path, columns: int) -> None:
    found = compare_each(folders(once))
    text = format_multiple(found, columns)
    assert max(map(len, text.splitlines())) <= columns
    assert sorted(re.findall(r"[+-]\d+\.\d\**|\d\.\d{4}", text)) == sorted(
        re.findall(r"[+-]\d+\.\d\**|\d\.\d{4}", format_multiple(found))
    )


def test_the_example_in_the_docs_explains_its_numbers_as_the_command_does(once: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    explained = format_multiple(compare_each(folders(once, "abc"))).splitlines()[3:6]
    assert explained[0].startswith("above the diagonal")
    assert explained[2].endswith("Holm's method")
    assert "".join(f"    {line}\n" for line in explained) in page


def test_the_command_and_python_say_the_same(root: Path) -> None:
    names = ("a", "b", "c")
    found = heareval.compare(*folders(root, "abc"))
    done = command(root, "heareval", "compare", *names)
    assert done.returncode == 0
    assert done.stderr.startswith("[step 1 of 1] comparison of 3 submissions: ")
    assert done.stdout == f"{format_multiple(found)}\n" == f"{found}\n"
    printed = json.loads(command(root, "heareval", "compare", *names, "--json").stdout)
    assert printed == multiple_to_json(found)
    assert printed["submissions"] == {"A": "a", "B": "b", "C": "c"}
    assert printed["differences"] + printed["overall"] == found.to_dicts()
    places = heareval.Places(embeddings=str(root / "embeddings"))
    assert heareval.compare(*names, places=places) == found
    # Two submissions may be followed by the places, as before.
    two = heareval.compare("a", "b", places)
    assert two == heareval.compare("a", "b", places=places)
    assert two.differences == compare(*folders(root, "ab")).differences


def test_rows_are_those_of_two_submissions_too(once: Path) -> None:
    two = compare(*folders(once, "ab"))
    rows = two.to_dicts()
    assert [each["p_holm"] for each in rows] == [each["p"] for each in rows]
    of_three = [
        each
        for each in compare_each(folders(once, "abc")).to_dicts()
        if each["submission"] + each["other"] == "ab"
    ]
    own = {"p_holm", "comparisons"}
    assert [{key: each[key] for key in each if key not in own} for each in rows] == [
        {key: each[key] for key in each if key not in own} for each in of_three
    ]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_progress_counts_results(root: Path) -> None:
    told: list[tuple[int, int]] = []
    compare_each(folders(root, "abc"), lambda done, total: told.append((done, total)))
    tasks = len(list((root / "embeddings" / "a").iterdir()))
    assert told == [(3 * task, 3 * tasks) for task in range(tasks)]


def test_frames_of_scores_and_comparisons_can_be_merged(once: Path) -> None:
    pytest.importorskip("pandas")
    scores = results(*folders(once, "a")).to_frame()
    for found in (compare(*folders(once, "ab")), compare_each(folders(once, "abc"))):
        frame = found.to_frame()
        keys = ["task", "task_folder", "protocol", "metric"]
        of_a = frame[(frame["submission"] == "a") & (frame["task_folder"] != "")]
        merged = of_a.merge(scores, on=keys, validate="many_to_one", suffixes=("", "_of_scores"))
        assert len(merged) == len(of_a) > 0
        assert list(merged["score"]) == list(merged["score_of_scores"])
        means = frame[frame["task_folder"] == ""]
        assert means["task"].str.startswith("mean of ").all()
        # Means have no scores, but their columns are numbers.
        for column in ("score", "other_score", "difference", "low", "high", "p", "p_holm"):
            assert frame[column].dtype == means[column].dtype == "float64"


def test_tables_for_papers(once: Path) -> None:
    pytest.importorskip("pandas")
    for found in (compare(*folders(once, "ab")), compare_each(folders(once, "abc"))):
        frame = found.to_frame()
        assert list(frame["difference"]) == [each["difference"] for each in found.to_dicts()]
        text = found.to_markdown()
        tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
        assert all(len({line.count("|") for line in lines}) == 1 for lines in tables)
        assert len(tables) == (1 if len({*frame["other"]}) == 1 else 4)
        assert "* A: a\n* B: b" in text
        assert "Note: segment\\_1s\\_er: lower is better" in text
