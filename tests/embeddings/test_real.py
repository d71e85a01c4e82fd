"""Real models from a package index, wrapped for the HEAR API, with validate and embed."""

from __future__ import annotations

import importlib.util
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from heareval.embeddings.submission import Model
from heareval.embeddings.validate import Limits, format_row, has_passed, run_checks
from tests.embeddings.clips import write_task
from tests.embeddings.elsewhere import embed, install, run_job

pytestmark = [pytest.mark.network, pytest.mark.slow]
WRAPPERS = Path(__file__).with_name("real")


@dataclass(frozen=True)
class Real:
    """A wrapper, and the packages that it needs besides those of the tests (such as librosa and numba)."""

    module: str
    framework: str
    sample_rate: int
    packages: tuple[str, ...]
    size: int


MODELS = (
    Real("torchcrepe_hear", "torch", 16000, ("torchcrepe==0.0.24", "resampy==0.4.3"), 256),
    Real("resemblyzer_hear", "torch", 16000, ("resemblyzer==0.1.4", "webrtcvad-wheels"), 256),
    Real("basic_pitch_hear", "tensorflow", 22050, ("basic-pitch==0.4.0", "tf_keras"), 440),
)


def python_for(model: Real, folder: Path) -> str:
    """Return an interpreter with a model's packages and ours: torch is not downloaded again."""
    venv.create(folder, with_pip=True)
    inside = next(folder.glob("lib/python*/site-packages"))
    (inside / "host.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(folder / "bin" / "python")
    install(python, "--no-deps", *model.packages)
    return python


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.module)
def test_a_real_model(model: Real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(model.framework) is None:
        pytest.skip(f"needs {model.framework}")
    monkeypatch.chdir(WRAPPERS)
    ready = Model(model.module, python=python_for(model, tmp_path / "venv"), device="cpu")
    described = run_job(ready, tmp_path / "logs", do="describe", embedding_type="scene")
    assert (described["framework"], described["sample_rate"]) == (model.framework, model.sample_rate)
    rate = model.sample_rate
    task = write_task(tmp_path / "task", {"a": [rate] * 3}, "event", rate)
    assert embed(ready, task, tmp_path / "out")["clips"] == 3
    embeddings, times = (np.load(tmp_path / "out" / name) for name in ("a.npy", "a.timestamps.npy"))
    assert embeddings.shape == (*times.shape, model.size)
    assert 900 < times.max() <= 1000
    findings, ran_on = run_checks(ready, tmp_path / "logs", limits=Limits(long_s=10.0))
    assert has_passed(findings), "\n".join(map(format_row, findings))
    assert ran_on["framework"] == model.framework
