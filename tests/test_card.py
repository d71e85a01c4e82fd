"""`heareval card`, as its users type it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import heareval
from heareval.layout import Places
from tests.commands import command, only_line
from tests.predictions.test_cards import SCENE, write_submission

ABOUT = """
name = "My model, large"
revision = "v2"
release_date = 2025-06-01
pretraining_data = ["AudioSet"]
trained_on_evaluation_data = "no"
"""
FOLDER = Path("cards/My_model_large/v2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a card was made."""
    root = tmp_path_factory.mktemp("card")
    write_submission(root)
    (root / "about.toml").write_text(ABOUT)
    reasons = ("--missing", "fsd50k=too large", "--missing-others", "a test")
    done = command(root, "heareval", "card", "mine", "--about", "about.toml", *reasons)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{FOLDER}\n", "")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "root")
    return tmp_path / "root"


def test_a_card_has_what_was_said_and_what_was_measured(made: Path) -> None:
    card = json.loads((made / FOLDER / "card.json").read_text())
    assert card["model"]["release_date"] == "2025-06-01"
    assert card["model"]["sample_rate"] == 16000
    assert card["missing"]["fsd50k"] == "too large"
    assert card["missing"]["libricount"] == "a test"


def test_check_says_ok(made: Path) -> None:
    done = command(made, "heareval", "card", "--check", "cards")
    assert (done.returncode, done.stderr) == (0, "")
    first, *_ = done.stdout.split(";")
    assert first == f"{FOLDER}: ok"
    assert "of 3 of 3 results computed again" in done.stdout
    (checked,) = json.loads(command(made, "heareval", "card", "--check", str(FOLDER), "--json").stdout)
    assert (checked["is_recomputed"], checked["problems"], checked["lacking"]) == (True, [], [])
    numbers = {(each["metric"], each["what"]): each for each in checked["results"][0]["numbers"]}
    accuracy = numbers["top1_acc", "score"]
    assert accuracy["given"] == pytest.approx(accuracy["recomputed"], abs=1e-6)


def test_check_refuses_one_changed_probability(root: Path) -> None:
    (npz,) = (root / FOLDER / SCENE).glob("*.npz")
    with np.load(npz) as arrays:
        held = dict(arrays)
    held["test/predictions"][0, 0] += 0.25
    np.savez_compressed(npz, **held)
    done = command(root, "heareval", "card", "--check", str(FOLDER))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("refused: ")
    assert npz.name in line
    assert f"{FOLDER}: refused" in done.stdout


def test_check_ends_otherwise_where_references_are_lacking(root: Path) -> None:
    shutil.rmtree(root / "tasks" / SCENE)
    done = command(root, "heareval", "card", "--check", "cards")
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"not checked: references of {SCENE}: got no such folder in ")
    assert f"{FOLDER}: not checked; " in done.stdout
    # What is wrong counts more than what could not be checked.
    (root / FOLDER / "more").touch()
    assert command(root, "heareval", "card", "--check", "cards").returncode == 1


def test_exports(made: Path) -> None:
    done = command(
        made, "heareval", "card", "--export", "eval-results", "cards", "--protocol", "probe-linear"
    )
    assert [each["dataset"]["id"] for each in yaml.safe_load(done.stdout)] == ["esc50", "tones"]
    done = command(made, "heareval", "card", "--export", "every-eval-ever", "cards")
    assert json.loads(done.stdout)["model_info"]["name"] == "My model, large"
    words = ("--export", "hear2021-csv", "cards", "--protocol", "probe-linear")
    header, row = command(made, "heareval", "card", *words).stdout.splitlines()
    assert header.startswith("Model,URL,Submission Date,Beehive,")
    assert row.startswith('"My model, large",,2025-06-01,,')


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("min",), "unknown submission: got 'min', expected one of mine. Did you mean mine?"),
        (("mine",), "expected all tasks of the benchmark, or a reason for each that is missing"),
        (("mine", "other"), "SUBMISSION: got mine other, expected one for each card"),
        (("mine", "--missing", "esc50"), "--missing: got 'esc50', expected TASK=REASON"),
        (("mine", "--protocol", "hear2021"), "got 'hear2021', expected one of pairwise-l1, probe-linear"),
        (("mine", "--about", "none.toml"), "none.toml: got no such file"),
        (
            ("--check", "tasks"),
            "tasks: got no card.json in it, expected a card, NAME/REVISION, or a folder of",
        ),
        (("--check", "--export", "hear2021-csv", "cards"), "--check and --export: got both, expected one"),
        (("--export", "hear2021-csv", "cards"), "got no results with hear2021, expected some"),
    ],
)
def test_wrong_commands_get_one_line(made: Path, words: tuple[str, ...], told: str) -> None:
    done = command(made, "heareval", "card", *words, "--out", "none")
    assert done.returncode == 2
    assert told in only_line(done)
    assert not (made / "none").exists()


def test_the_same_as_functions(made: Path, tmp_path: Path) -> None:
    places = Places(tasks=str(made / "tasks"), embeddings=str(made / "embeddings"))
    folder = heareval.make_card("mine", places, out=tmp_path, missing_others="a test")
    (checked,) = heareval.check_cards([tmp_path], places)
    assert (checked.folder, checked.is_recomputed) == (folder, True)
    assert heareval.export_cards([folder], "hear2021-csv", protocol="probe-linear").count("\n") == 2
