"""Our scores beside published rows."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from heareval.commands import main
from heareval.errors import HearevalError
from heareval.formats.results_folder import write_scores
from heareval.formats.scores import ScoreEntry, Scores
from heareval.leaderboard.columns import BY_FOLDER
from heareval.leaderboard.parity import (
    KNOWN_DIFFERENCES,
    SEED_STD,
    TaskParity,
    Verdict,
    compare_with_row,
    find_row,
    parity_to_json,
)
from heareval.leaderboard.published import read_published
from tests.leaderboard.cards import make_result

ROOT = Path(__file__).parent.parent.parent
ROWS = read_published()
CREPE = find_row(ROWS, "CREPE")
ESC50 = 0.3005


def make_scores(score: float | None, half: float | None = 0.02, **changes: Any) -> Scores:
    """Return our scores on ESC-50, with an interval that is `half` to each side."""
    interval = None if score is None or half is None else (score - half, score + half)
    entry = ScoreEntry(score, interval_95=interval, resamples=1000 if interval else 0)
    return make_result(scores={"top1_acc": entry}, **changes).scores


def judge(*scores: Scores) -> TaskParity:
    (task,) = compare_with_row("mine", scores, CREPE).tasks
    return task


def test_the_tolerance_joins_the_interval_and_the_noise_of_seeds() -> None:
    task = judge(make_scores(0.31))
    assert task.seed_std == SEED_STD["esc50-v2.0.0-full"] == 0.004
    assert task.tolerance == pytest.approx(math.sqrt(0.02**2 + (2 * math.sqrt(2) * 0.004) ** 2))
    assert task.difference == pytest.approx(0.31 - ESC50)
    assert (task.ours, task.published, task.verdict) == (0.31, ESC50, Verdict.WITHIN_NOISE)


@pytest.mark.parametrize("side", [-1, 1])
def test_the_verdict_changes_at_the_tolerance(side: int) -> None:
    tolerance = judge(make_scores(0.3)).tolerance or 0
    assert judge(make_scores(ESC50 + side * 0.999 * tolerance)).verdict is Verdict.WITHIN_NOISE
    assert judge(make_scores(ESC50 + side * 1.001 * tolerance)).verdict is Verdict.DIFFERS


def test_more_seeds_of_ours_lessen_the_noise() -> None:
    one = make_scores(0.3, half=None)
    five = replace(
        one, protocol="hear2021-5seeds", runs=tuple(replace(one.runs[0], seed=s) for s in range(5))
    )
    assert judge(one).tolerance == pytest.approx(0.004 * 2 * math.sqrt(2))
    assert judge(five).tolerance == pytest.approx(0.004 * 2 * math.sqrt(1.2))
    assert judge(five).reason == "no interval, so the tolerance covers seeds only"


def test_measured_noise_stands_in_for_a_task_without_known_noise() -> None:
    entry = ScoreEntry(0.65, seed_std=0.01, seeds={"0": 0.64, "1": 0.66})
    result = make_result("tfds_gtzan", "1.0.0", scores={"top1_acc": entry})
    assert judge(result.scores).tolerance == pytest.approx(2 * 0.01 * math.sqrt(2))
    unknown = make_result("tfds_gtzan", "1.0.0", scores={"top1_acc": 0.65})
    assert judge(unknown.scores).tolerance == pytest.approx(0.05)
    assert judge(unknown.scores).reason == "the standard deviation over seeds is unknown"


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (make_scores(ESC50, protocol="probe-linear"), "protocol probe-linear instead of hear2021"),
        (make_scores(ESC50, protocol="hear2021-fast"), "protocol hear2021-fast instead of hear2021"),
        (make_scores(ESC50, protocol="hear2021-limit20"), "protocol hear2021-limit20 instead of hear2021"),
        (make_scores(ESC50, protocol="hear2021-4points-5seeds"), "protocol hear2021-4points-5seeds instead"),
        (make_scores(ESC50, mode="small"), "mode small instead of full"),
        (
            make_scores(ESC50, protocol="probe-linear", mode="small"),
            "protocol probe-linear instead of hear2021; mode small instead of full",
        ),
        (make_scores(ESC50, is_the_published_corpus=False), "not the published corpus"),
        (make_scores(None), "top1_acc is undefined"),
        (
            make_result("tfds_gtzan", "1.0.0", scores={"top1_acc": ScoreEntry(0.6)}).scores,
            "neither an interval",
        ),
        (make_result("beehive_states_fold0", "v2", "5h", scores={"aucroc": 0.6}).scores, "does not say how"),
    ],
    ids=["probe", "grid", "limit", "points", "mode", "several", "corpus", "undefined", "no noise", "beehive"],
)
def test_scores_that_are_not_comparable_get_no_verdict(scores: Scores, reason: str) -> None:
    task = judge(scores)
    assert task.verdict is Verdict.NOT_COMPARABLE
    assert reason in task.reason
    # Nothing is known to differ about what is not comparable at all.
    assert compare_with_row("mine", [scores], CREPE).known_differences == {}


def test_a_corpus_that_nobody_knows_is_judged_with_a_remark() -> None:
    task = judge(make_scores(ESC50, is_the_published_corpus=None))
    assert task.verdict is Verdict.WITHIN_NOISE
    assert "is unknown" in task.reason


def test_what_only_one_side_has_is_named() -> None:
    own = make_result("coughvid", "v2.0", scores={"top1_acc": 0.5}).scores
    parity = compare_with_row("mine", [make_scores(ESC50), own], CREPE)
    assert parity.only_ours == ("coughvid-v2.0-full",)
    assert len(parity.only_published) == 18
    assert "esc50-v2.0.0-full" not in parity.only_published
    # This row was printed without Beehive.
    gura = find_row(ROWS, "GURA Hubert")
    fold = make_result("beehive_states_fold0", "v2", "5h", scores={"aucroc": 0.6}).scores
    assert compare_with_row("mine", [fold], gura).only_ours == ("beehive_states_fold0-v2-5h",)


def test_what_is_known_to_differ_stands_in_the_changelog() -> None:
    changelog = " ".join((ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split())
    section = changelog[changelog.index("### Scores") :]
    for known in KNOWN_DIFFERENCES:
        assert known.text in section, known.text


def test_what_is_known_to_differ_concerns_some_tasks() -> None:
    def find(**changes: Any) -> str:
        return " ".join(compare_with_row("mine", [make_scores(ESC50, **changes)], CREPE).known_differences)

    assert "not dithered" in find()
    assert "tenth place" not in find()
    assert "On a GPU" not in find()
    assert "On a GPU" in find(device="cuda")
    assert "--from-published" in find(made_from={"tarball": "hear.tar.gz"})
    assert "--dtype" in find(unusual_embedding={"dtype": "float16"})
    lingua = make_result("vox_lingua_top10", "hear2021", scores={"top1_acc": 0.14}).scores
    known = compare_with_row("mine", [lingua, make_scores(ESC50)], CREPE).known_differences
    (tasks,) = (tasks for text, tasks in known.items() if "tenth place" in text)
    assert tasks == ("vox_lingua_top10-hear2021-full",)


def test_rows_are_found_by_name_and_source() -> None:
    assert find_row(ROWS, "crepe").name == "CREPE"
    assert find_row(ROWS, "HEAR-Naive (WavJEPA 2025)").source == "WavJEPA 2025"
    with pytest.raises(HearevalError, match=r"which 2 sources have, expected 'HEAR-Naive \(GRAM 2026\)' or"):
        find_row(ROWS, "HEAR-Naive")
    with pytest.raises(HearevalError, match="Did you mean OpenL3"):
        find_row(ROWS, "openl")


def test_the_noise_of_seeds_is_that_of_published_columns() -> None:
    assert SEED_STD.keys() <= BY_FOLDER.keys()


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    """Folder of embeddings with a submission that was scored on three tasks."""
    results = [
        make_result(scores={"top1_acc": 0.31, "mAP": 0.2}),
        make_result("speech_commands", "v0.0.2", "5h", scores={"top1_acc": 0.9}),
        make_result("speech_commands", "v0.0.2", "small", scores={"top1_acc": 0.9}),
    ]
    for result in results:
        folder = tmp_path / "mine" / result.task_folder
        folder.mkdir(parents=True)
        write_scores(folder, result.scores)
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["parity", *words])
    return done.exit_code, done.output


def test_the_command_prints_a_table(embeddings: Path) -> None:
    code, output = run("mine", "--row", "CREPE", "--embeddings-dir", str(embeddings))
    assert code == 0
    lines = output.splitlines()
    assert lines[:2] == ["ours: mine", "published: CREPE (HEAR leaderboard 2023)"]
    by_task = {line.split()[0]: " ".join(line.split()) for line in lines[3:6]}
    assert by_task["esc50-v2.0.0-full"] == (
        "esc50-v2.0.0-full top1_acc 0.3100 0.3005 +0.0095 0.2600 to 0.3600 0.0040 0.0513 "
        "within noise hear2021"
    )
    assert "differs" in by_task["speech_commands-v0.0.2-5h"]
    assert "not comparable" in by_task["speech_commands-v0.0.2-small"]
    assert "note: speech_commands-v0.0.2-small (hear2021): mode small instead of 5h" in lines
    assert any(line.startswith("known to differ: Resampled clips are not dithered.") for line in lines)


def test_the_command_prints_json(embeddings: Path) -> None:
    code, output = run("mine", "--row", "CREPE", "--embeddings-dir", str(embeddings), "--json")
    assert code == 0
    found = json.loads(output)
    verdicts = {each["task"]: each["verdict"] for each in found["tasks"]}
    assert verdicts == {
        "esc50-v2.0.0-full": "within noise",
        "speech_commands-v0.0.2-5h": "differs",
        "speech_commands-v0.0.2-small": "not comparable",
    }
    assert found["row"] == "CREPE"
    assert found["only_published"]


def test_the_command_lists_rows_and_refuses_others(embeddings: Path) -> None:
    code, output = run("--rows")
    assert code == 0
    assert len(output.splitlines()) == 50
    assert "HEAR-Naive (GRAM 2026): 11 tasks" in output.splitlines()
    for words, message in (
        (("mine", "--row", "CREP"), "Did you mean CREPE"),
        (("mine",), "got no --row"),
        (("--row", "CREPE"), "got no SUBMISSION"),
        (("mien", "--row", "CREPE", "--embeddings-dir", str(embeddings)), "Did you mean mine"),
    ):
        code, output = run(*words)
        assert code == 2
        assert message in output
        assert len(output.splitlines()) == 1


def test_json_of_infinite_scores_is_json() -> None:
    scores = make_result(scores={"top1_acc": ScoreEntry(math.inf)}).scores
    text = json.dumps(parity_to_json(compare_with_row("mine", [scores], CREPE)), allow_nan=False)
    assert json.loads(text)["tasks"][0]["ours"] == "inf"
