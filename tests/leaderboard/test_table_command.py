"""`heareval table`, as its users type it, on real results."""

from __future__ import annotations

import csv
import io
import json
import shutil
import xml.etree.ElementTree
from pathlib import Path

import pytest

import heareval
from heareval.errors import HearevalError
from heareval.leaderboard.overview import name_submission
from tests.commands import command, only_line
from tests.predictions.test_cards import LINEAR, SCENE, edit_json, write_submission


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two submissions, one of which lacks a task."""
    root = tmp_path_factory.mktemp("table")
    write_submission(root)
    shutil.copytree(root / "embeddings" / "mine", root / "embeddings" / "yours")
    shutil.rmtree(root / "embeddings" / "yours" / SCENE)
    for scores in (root / "embeddings" / "yours").glob("*/test.*scores.json"):
        edit_json(scores, lambda values: values["submission"].update(name="yours"))
    return root


def test_all_submissions_are_shown(made: Path) -> None:
    done = command(made, "heareval", "table", "--format", "csv")
    assert done.returncode == 0, done.stderr
    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {line["submission"] for line in lines} == {"mine", "yours"}
    assert all(line[SCENE] == "" for line in lines if line["submission"] == "yours")
    whole = json.loads(command(made, "heareval", "table", "embeddings", "--format", "json").stdout)
    stored = json.loads(next((made / "embeddings" / "mine" / SCENE).glob("test.*scores.json")).read_text())
    rows = [row for table in whole["tables"] for row in table["rows"]]
    (cell,) = (row["tasks"][SCENE] for row in rows if SCENE in row["tasks"])
    assert cell["score"] == stored["scores"][cell["metric"]]["score"]
    assert cell["interval_95"] == stored["scores"][cell["metric"]]["interval_95"]


def test_it_fits_the_terminal_and_takes_names_and_paths(made: Path) -> None:
    done = command(made, "heareval", "table", "mine", "embeddings/yours", "--intervals", COLUMNS="60")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 60
    assert {line.split()[0] for line in done.stdout.splitlines() if line} >= {"mine", "yours"}
    one = command(made, "heareval", "table", f"embeddings/mine/{SCENE}", "--format", "md")
    assert "yours" not in one.stdout
    assert one.stdout.startswith("| submission | ")


def test_python_takes_names_and_paths(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    places = heareval.Places(embeddings="embeddings")

    def name_submissions(*folders: str) -> list[str]:
        return list(
            dict.fromkeys(name_submission(each) for each in heareval.results(*folders, places=places))
        )

    assert name_submissions("yours") == name_submissions("embeddings/yours") == ["yours"]
    assert name_submissions() == ["mine", "yours"]
    monkeypatch.chdir(made.parent)
    assert len(heareval.results("mine", places=heareval.Places(embeddings=str(made / "embeddings")))) > 0
    with pytest.raises(HearevalError, match="theirs: got no such folder"):
        heareval.results("theirs", places=places)


def test_a_heat_map_is_drawn(made: Path) -> None:
    line = only_line(command(made, "heareval", "table", "--figure", "map.svg"))
    assert line.startswith("error: heat map: got scores of pairwise-l1, probe-linear, expected one protocol")
    done = command(made, "heareval", "table", "--figure", "map.svg", "--protocol", LINEAR)
    assert (done.returncode, done.stderr) == (0, "heat map: map.svg\n")
    assert xml.etree.ElementTree.parse(made / "map.svg").getroot().tag.endswith("svg")
    line = only_line(command(made, "heareval", "table", "mine", "--figure", "one.svg", "--protocol", LINEAR))
    assert line == "error: heat map: got one submission, expected two or more to compare"
    assert not (made / "one.svg").exists()


def test_what_is_not_there_is_one_line(made: Path) -> None:
    assert "theirs: got no such folder" in only_line(command(made, "heareval", "table", "theirs"))
    line = only_line(command(made, "heareval", "table", "--metric", "accuracy"))
    assert line.startswith("error: unknown metric: got 'accuracy', expected one of ")
    assert "unknown protocol" in only_line(command(made, "heareval", "table", "--protocol", "hear2020"))
