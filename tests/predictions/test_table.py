"""Scores as people read them."""

import json

from heareval.formats.results_folder import read_scores
from heareval.predictions.table import MAX_PROBLEM_CHARS, new_table, render_lines, score_table


def _write(tmp_path, name, changes=(), **score):
    folder = tmp_path / name / "esc50-v1-full"
    folder.mkdir(parents=True)
    model = {"settings": {}, "validation_score": 0.5, "postprocessing": None, "seconds": 1.0}
    run = {
        "settings": {},
        "folds": [{"test": "test", "valid": "valid", "train": ["train"], **model}],
        "grid": [model],
    }
    values = {
        "fingerprint": "feed",
        "embeddings_fingerprint": "beef",
        "seed": 0,
        **run,
        "more_seeds": [{"seed": seed, **run} for seed in range(1, len(score.get("seeds", "0")))],
        "scores": {"top1_acc": {"score": 0.5, "std": None, "folds": {"test": 0.5}, **score}},
        "clips": {"test": 40},
        "problems": [],
        "protocol": "hear2021",
        "is_the_published_corpus": True,
    }
    path = folder / "test.predicted-scores.json"
    path.write_text(json.dumps({**values, **dict(changes)}))
    return path


def _table(paths):
    return score_table({path: read_scores(path) for path in paths})


def test_intervals_are_shown_where_there_are_any(tmp_path):
    paths = [_write(tmp_path, "new", interval_95=[0.4, 0.65], resamples=1000), _write(tmp_path, "old")]
    head, new, old = _table(paths).splitlines()
    assert "95 % interval" in head
    assert new.split() == [
        "new",
        "esc50-v1-full",
        "top1_acc",
        "0.5000",
        "0.4000",
        "to",
        "0.6500",
        "40",
        "hear2021",
    ]
    assert old.split() == ["old", "esc50-v1-full", "top1_acc", "0.5000", "40", "hear2021"]
    assert "seeds" not in head


def test_the_spread_of_several_seeds_has_a_column(tmp_path):
    head, row = _table(
        [_write(tmp_path, "new", seed_std=0.02 * 0.5**0.5, seeds={"0": 0.49, "1": 0.51})]
    ).splitlines()
    assert "std of seeds" in head
    assert "0.0141" in row


def test_a_result_has_one_note_however_many_problems_it_has(tmp_path):
    problems = [f"mAP is undefined on fold{i:02}" for i in range(60)]
    many = {"problems": problems, "unusual_embedding": {"dtype": "float16"}}
    paths = [
        _write(tmp_path, "many", many.items()),
        _write(tmp_path, "one", {"problems": problems[:1]}.items()),
        _write(tmp_path, "none"),
    ]
    first, second = _table(paths).splitlines()[4:]
    assert first == (
        "note: many on esc50-v1-full: embeddings with dtype = float16; mAP is undefined on fold00; "
        f"59 more under `problems` in {paths[0]}"
    )
    assert second == "note: one on esc50-v1-full: mAP is undefined on fold00"
    folded = score_table({path: read_scores(path) for path in paths[1:]}, 40).splitlines()
    assert folded[-2:] == ["note: one on esc50-v1-full: mAP is", "  undefined on fold00"]


def test_a_problem_of_many_labels_is_cut(tmp_path):
    problem = f"mAP on test: labels without clips count as 0: {', '.join(map(str, range(527)))}"
    path = _write(tmp_path, "many", {"problems": [problem]}.items())
    note = _table([path]).splitlines()[-1]
    assert note == (
        f"note: many on esc50-v1-full: {problem[:MAX_PROBLEM_CHARS]}...; the rest under `problems` in {path}"
    )


def test_an_infinite_score_is_shown_as_such(tmp_path):
    table = _table([_write(tmp_path, "perfect", score="inf", folds={"test": "inf"})])
    row = table.splitlines()[-1]
    assert row.split() == ["perfect", "esc50-v1-full", "top1_acc", "inf", "40", "hear2021"]


def test_names_are_shown_as_they_are(tmp_path):
    """Brackets and colons are markup for the library that aligns the table."""
    names = ["my[v2]model", "[bold]", "a:warning:b"]
    rows = _table([_write(tmp_path, name) for name in names]).splitlines()[1:]
    assert [row.split()[0] for row in rows] == names


def _scores_of_many(tmp_path):
    """Results of several seeds of two models, one with a long name."""
    seeds = {"seeds": {"0": 0.5, "1": 0.5}, "seed_std": 0.0, "interval_95": [0.4, 0.65], "resamples": 1000}
    paths = [_write(tmp_path, name, **seeds) for name in ("first", "a.submission.with.a.long.name")]
    return {path: read_scores(path) for path in paths}


def test_a_narrow_terminal_gets_a_stacked_table(tmp_path):
    results = _scores_of_many(tmp_path)
    wide = score_table(results)
    assert score_table(results, 200) == wide
    lines = score_table(results, 80).splitlines()
    assert max(map(len, lines)) <= 80
    # What all rows share is said once, the name of a column with words above each other.
    assert lines[:3] == ["task: esc50-v1-full", "metric: top1_acc", "protocol: hear2021"]
    assert lines.count("first") + sum(line.startswith("first ") for line in lines) == 1
    # No cell is lost.
    stacked = score_table(results, 80).replace(":", "")
    assert set(stacked.split()) | {"submission"} == set(wide.split())


def test_numbers_stand_alone_where_little_fits(tmp_path):
    lines = score_table(_scores_of_many(tmp_path), 62).splitlines()
    assert max(map(len, lines)) <= 62
    at = lines.index("a.submission.with.a.long.name")
    assert lines[at + 1].startswith("  0.5000")


def test_text_above_its_rows_keeps_the_name_of_its_column():
    """A comparison on 80 columns: the task is said once, and how p was computed is not taken for a name."""
    table = new_table(("task", "metric"), ("A - B", "95 % interval", "p"), ("p from", "protocol"))
    ways = (("top1_acc", "permutation"), ("mAP", "bootstrap"), ("aucroc", "bootstrap"), ("d_prime", ""))
    for task in ("kinds-v1-full", "a-task-with-a-long-name-v1-full"):
        for metric, way in ways:
            table.add_row(task, metric, "0.0100", "-0.0500 to 0.0700", "0.2000" if way else "", way, "p")
    wide = render_lines(table)
    assert render_lines(table, 200) == wide
    lines = render_lines(table, 55)
    assert max(map(len, lines)) <= 55
    assert [line.split()[0] if "0.01" in line else line for line in lines[2:]] == [
        *(
            "kinds-v1-full",
            "  p from: permutation",
            "top1_acc",
            "  p from: bootstrap",
            "mAP",
            "aucroc",
            "d_prime",
        ),
        *("a-task-with-a-long-name-v1-full", "  p from: permutation", "top1_acc", "  p from: bootstrap"),
        *("mAP", "aucroc", "d_prime"),
    ]


def test_the_most_important_note_is_shown(tmp_path):
    infinite = [f"top1_acc is infinite on fold0{n}: always or never right about 'a'" for n in range(2)]
    undefined = "top1_acc is undefined on fold02: no clip, or every clip, is labelled 'a'"
    missing = "no 95 % interval of mAP: all resamples have the same score"
    opposite = {"score": None, "folds": {"test": None}}
    cases = (
        # Why there is no interval is not hidden by what the table shows already.
        ({"score": "inf", "folds": {"test": "inf"}}, [*infinite, missing], f"{missing}; 2 more"),
        # An undefined score is explained by the fold without a score.
        (opposite, [*infinite, undefined, missing], f"{undefined}; 3 more"),
        ({"score": 0.5}, ["mAP counts 0", missing], "mAP counts 0; 1 more"),
    )
    for number, (score, problems, note) in enumerate(cases):
        path = _write(tmp_path, f"model{number}", {"problems": problems}.items(), **score)
        assert f"note: model{number} on esc50-v1-full: {note} under `problems`" in _table([path])


def test_a_mean_of_infinite_scores_of_both_signs_is_explained(tmp_path):
    problems = [f"top1_acc is infinite on fold0{n}: always or never right about 'a'" for n in range(2)]
    model = {"settings": {}, "validation_score": 0.5, "postprocessing": None, "seconds": 1.0}
    folds = {
        f"fold0{n}": {"test": f"fold0{n}", "valid": "valid", "train": ["train"], **model} for n in range(2)
    }
    changes = {"problems": problems, "folds": [*folds.values()], "clips": dict.fromkeys(folds, 20)}
    opposite = {"fold00": "inf", "fold01": "-inf"}
    table = _table([_write(tmp_path, "model", changes.items(), score=None, folds=opposite)])
    assert " undefined " in table.splitlines()[1]
    assert (
        "note: model on esc50-v1-full: top1_acc is undefined, the mean of infinity and minus infinity: "
        f"{problems[0]}; 1 more"
    ) in table
