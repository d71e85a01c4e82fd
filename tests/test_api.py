"""The pipeline as plain functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import heareval
from heareval import api, files
from heareval.api import CorpusRequest, EmbeddingFormat, Places
from heareval.errors import HearevalError, RunError
from heareval.formats.task_manifest import read_task_manifest
from tests.commands import SPOKEN


def spoken(mirror: Path, **changes: object) -> CorpusRequest:
    sums = {"mirrors": (str(mirror),), "accept_checksums": str(mirror / "MD5SUMS")}
    return CorpusRequest(**{"tasks": ("spoken_digit",), **sums, **changes})  # type: ignore[arg-type]


def spoken_damaged(tmp_path: Path) -> CorpusRequest:
    """A request whose archive has the checksum that it should have, but is no archive."""
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "v1.0.9.tar.gz").write_bytes(b"no archive")
    sums = tmp_path / "sums"
    sums.write_text(f"{files.file_checksum(empty / 'v1.0.9.tar.gz', 'md5')}  v1.0.9.tar.gz\n")
    return spoken(empty, accept_checksums=str(sums))


def places_in(folder: Path) -> Places:
    return Places(*(str(folder / name) for name in ("_workdir", "tasks", "tars", "embeddings")))


def test_names_come_from_the_api_when_they_are_used() -> None:
    code = "import sys, heareval; before = 'heareval.api' in sys.modules"
    code += "; heareval.prepare; print(before, 'heareval.api' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    assert all(getattr(heareval, name) is getattr(api, name) for name in heareval._API)
    with pytest.raises(AttributeError, match="'prepair'"):
        _ = heareval.prepair


def test_prepare_has_nothing_to_do(prepared: Path, mirror: Path) -> None:
    done = heareval.prepare(spoken(mirror), places_in(prepared))
    assert (done.outcome.exit_code, done.outcome.steps) == (0, 0)
    assert [folder.name for folder in done.task_folders] == [SPOKEN]
    assert sum(read_task_manifest(done.task_folders[0]).clips.values()) == 65


def test_a_folder_of_an_earlier_run_is_not_one_of_a_run_that_failed(prepared: Path, tmp_path: Path) -> None:
    places = replace(places_in(tmp_path), tasks=str(prepared / "tasks"))
    done = heareval.prepare(spoken_damaged(tmp_path), places)
    assert (Path(places.tasks) / SPOKEN).is_dir()
    assert done.outcome.exit_code == 30
    assert done.task_folders == ()


def test_plan_of_what_is_there(prepared: Path, mirror: Path) -> None:
    plan = heareval.plan(spoken(mirror), places_in(prepared))
    assert [(task.folder, task.state) for task in plan.tasks] == [(SPOKEN, "done")]
    assert plan.fits


def test_errors_are_exceptions(mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match="Did you mean spoken_digit"):
        heareval.prepare(spoken(mirror, tasks=("spoken_digits",)), places_in(tmp_path))
    with pytest.raises(HearevalError, match="got no such folder"):
        heareval.results(tmp_path / "nobody")
    with pytest.raises(HearevalError, match=r"other: got no such folder"):
        heareval.predict([tmp_path / "other"], places=places_in(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_fails_is_in_the_outcome(tmp_path: Path) -> None:
    done = heareval.prepare(spoken_damaged(tmp_path), places_in(tmp_path), sample_rates=(16000,))
    assert done.outcome.exit_code == 30
    ((title, explanation),) = done.outcome.failures
    assert title == "extract v1.0.9.tar.gz"
    assert "expected a readable archive" in explanation
    assert done.task_folders == ()
    error = RunError(done.outcome)
    assert str(error).startswith("extract v1.0.9.tar.gz: archive ")
    assert error.outcome is done.outcome


def test_requests_refuse_what_no_option_allows(tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match=r"unknown on_bad_audio: got 'skp'.*Did you mean skip"):
        CorpusRequest(("esc50",), on_bad_audio="skp")
    with pytest.raises(HearevalError, match="unknown engine: got 'sox'"):
        CorpusRequest(("esc50",), engine="sox")
    with pytest.raises(HearevalError, match="tasks of a request: got 'esc50', expected a tuple of names"):
        CorpusRequest("esc50")  # type: ignore[arg-type]
    with pytest.raises(HearevalError, match="unknown dtype: got 'float8'"):
        EmbeddingFormat("float8")
    with pytest.raises(HearevalError, match="unknown precision: got 'fp4'"):
        EmbeddingFormat(precision="fp4")
    with pytest.raises(HearevalError, match="chunk_s: got -1"):
        EmbeddingFormat(chunk_s=-1)
    for rates, got in (((123, 16000), "123"), ((), "none")):
        with pytest.raises(HearevalError, match=f"sample rates: got {got}, expected some of 16000, "):
            heareval.prepare(CorpusRequest(("esc50",)), places_in(tmp_path), sample_rates=rates)


def test_an_outcome_raises_what_failed(tmp_path: Path) -> None:
    done = heareval.prepare(spoken_damaged(tmp_path), places_in(tmp_path), sample_rates=(16000,))
    with pytest.raises(RunError, match=r"extract v1\.0\.9\.tar\.gz: archive "):
        done.outcome.raise_if_failed()


def test_names_of_the_api_are_listed() -> None:
    assert set(heareval._MODULES) <= set(dir(heareval))


def test_names_of_the_api_have_their_types() -> None:
    """Type checkers and editors read the stub, because names are imported when they are first used."""
    stub = Path(heareval.__file__).with_name("__init__.pyi")
    imports = [each for each in ast.parse(stub.read_text()).body if isinstance(each, ast.ImportFrom)]
    typed = {alias.asname: each.module for each in imports for alias in each.names}
    assert typed == heareval._MODULES
