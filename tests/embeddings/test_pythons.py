"""Jobs and checks with each Python that a submission may require, and its version of TensorFlow."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from heareval.embeddings.submission import Model
from heareval.embeddings.validate import Limits, format_row, run_checks
from tests.embeddings.clips import write_task
from tests.embeddings.elsewhere import embed, install, run_job
from tests.embeddings.tf_zoo import KINDS

pytestmark = [pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module", params=[f"3.{minor}" for minor in range(8, 14)])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter of that version with TensorFlow but without heareval."""
    found = shutil.which(f"python{request.param}")
    # An executable on PATH may be a shim of pyenv that only lists versions.
    if not found or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"no python{request.param} on the PATH")
    folder = tmp_path_factory.mktemp(f"python{request.param}")
    subprocess.run([found, "-m", "venv", str(folder)], check=True)
    install(str(folder / "bin" / "python"), "tensorflow-cpu")
    return str(folder / "bin" / "python")


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_and_checks(python: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_model.py").write_text(KINDS[kind])
    model = Model("my_model", python=python, device="cpu")
    described = run_job(model, tmp_path / "logs", do="describe", embedding_type="scene")
    assert (described["framework"], described["sample_rate"]) == ("tensorflow", 16000)
    task = write_task(tmp_path / "task", {"a": [16000] * 5}, "event")
    told = embed(model, task, tmp_path / "out")
    assert (told["clips"], told["device"], told["framework"]) == (5, "cpu", "tensorflow")
    times = np.load(tmp_path / "out" / "a.timestamps.npy")
    np.testing.assert_allclose(times[0], np.arange(20) * 50 + 25)
    assert np.load(tmp_path / "out" / "a.npy").shape == (5, 20, 8)
    findings, ran_on = run_checks(model, tmp_path / "logs", limits=Limits(long_s=60.0, speed=0.1))
    assert {finding.result for finding in findings} == {"ok"}, "\n".join(map(format_row, findings))
    assert ran_on["framework"] == "tensorflow"
