"""Names of submissions are short enough for file names, also with the suffixes of scratch files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from heareval.embeddings.opening import open_submission
from heareval.embeddings.submission import Model
from tests.commands import MODEL, SPOKEN, command

LONG = "m" * 240


@pytest.mark.parametrize("command_name", ["embed", pytest.param("validate", marks=pytest.mark.slow)])
def test_a_long_module_is_cut(prepared: Path, tmp_path: Path, command_name: str) -> None:
    (tmp_path / f"{LONG}.py").write_text(MODEL)
    tasks = ("--tasks-dir", str(prepared / "tasks"))
    words = tasks if command_name == "embed" else ("--long-seconds", "10", "--json")
    done = command(tmp_path, "heareval", command_name, LONG, *words)
    assert "too long" not in done.stderr
    if command_name == "embed":
        (folder,) = (tmp_path / "embeddings").glob("m*")
        assert (folder / SPOKEN / "fold00.npy").is_file()
        assert len(folder.name) == 150
    else:
        assert json.loads(done.stdout)["checks"][0]["result"] == "ok"


@pytest.mark.slow
def test_shortened_names_differ_and_are_counted_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = "\u4e2d" * 80
    (tmp_path / f"{module}.py").write_text(MODEL)
    names = [
        open_submission(Model(module, options=options), "scene", tmp_path / "cache").name
        for options in ("{}", '{"size": 3}')
    ]
    assert len(set(names)) == 2
    for name in names:
        assert name.startswith("\u4e2d" * 30)
        assert 140 < len(name.encode()) <= 150
