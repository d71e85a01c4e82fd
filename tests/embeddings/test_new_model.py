"""The model that `heareval new-model` writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heareval.embeddings.new_model import write_model
from heareval.errors import HearevalError
from tests.commands import command, only_line


def test_a_new_model_passes_every_check(tmp_path: Path) -> None:
    done = command(tmp_path, "heareval", "new-model", "my_first")
    assert done.returncode == 0, done.stderr
    # It says what to type next; a shorter clip than the longest saves time.
    written, checking, evaluating = done.stdout.splitlines()
    assert written == "my_first.py is written; next:"
    assert evaluating.split()[:3] == ["heareval", "evaluate", "my_first"]
    checked = command(tmp_path, *checking.split(), "--long-seconds", "30", "--json")
    assert checked.returncode == 0, checked.stderr
    results = {each["check"]: each["result"] for each in json.loads(checked.stdout)["checks"]}
    assert len(results) > 25
    assert set(results.values()) == {"ok"}, results
    text = (tmp_path / "my_first.py").read_text()
    assert "MODEL_NAME" not in text
    assert "heareval validate my_first" in text


@pytest.mark.parametrize("name", ["my-model", "3d", "class", "json", "heareval", "models/mine", ""])
def test_a_name_that_python_cannot_import_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(HearevalError, match="name of a model: got "):
        write_model(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("x = 1")
    (tmp_path / "package").mkdir()
    line = only_line(command(tmp_path, "heareval", "new-model", "mine.py"))
    assert line == "error: mine.py already exists. Choose another name."
    assert "package already exists" in only_line(command(tmp_path, "heareval", "new-model", "package"))
    assert (tmp_path / "mine.py").read_text() == "x = 1"
