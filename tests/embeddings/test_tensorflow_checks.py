"""Every check of `heareval validate` on submissions of TensorFlow 2."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from heareval.embeddings.inside.checks.table import CHECKS
from heareval.embeddings.submission import Model
from heareval.embeddings.validate import Limits, run_checks
from tests.embeddings.checking import findings_of, noticed
from tests.embeddings.tf_zoo import GOOD, KINDS, ZOO

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="needs TensorFlow: pip install 'heareval[tensorflow]'",
)


def weights(folder: Path) -> str:
    """Write weights of the good submission; return the path."""
    np.save(folder / "ones.npy", np.ones(8, np.float32))
    return str(folder / "ones.npy")


@pytest.mark.parametrize("name", ZOO)
def test_a_broken_model_is_caught_by_the_check_for_it(name: str, folder: Path) -> None:
    broken = ZOO[name]
    model = weights(folder) if broken.check == "weights" else ""
    findings = findings_of(folder, broken.source, model)
    assert noticed(findings) == {broken.check: broken.result}, findings
    assert list(findings) == list(CHECKS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_model_passes_everything(kind: str, folder: Path) -> None:
    findings = findings_of(folder, KINDS[kind], "" if kind == "keras" else weights(folder))
    assert {finding["result"] for finding in findings.values()} == {"ok"}, findings
    assert findings["model"]["measured"].endswith("(tensorflow)")
    assert findings["types"]["measured"] == "float32"
    assert findings["device"]["measured"] == "cpu:0 (no GPU here: run it on one to be sure)"


@pytest.mark.parametrize("kind", KINDS)
def test_untrained_weights_are_told_by_that_name(kind: str, folder: Path) -> None:
    source = KINDS[kind].replace("tf.ones(8)", "tf.random.normal([8])").replace('"ones"', '"random_normal"')
    measured = findings_of(folder, source)["reload"]["measured"]
    assert measured.startswith("untrained weights: 1 of 1 differ from load to load, such as "), measured


def test_weights_of_keras(folder: Path) -> None:
    findings_of(folder, KINDS["keras"])
    file = str(folder / "ones.weights.h5")
    importlib.import_module("in_the_zoo").load_model().save_weights(file)
    findings = findings_of(folder, KINDS["keras"], file)
    assert findings["weights"]["measured"].startswith("loaded; garbage is refused")


def test_another_object_than_a_model_is_an_error(folder: Path) -> None:
    measured = findings_of(folder, ZOO["no_module"].source)["model"]["measured"]
    expected = "got a in_the_zoo.Model, expected a torch.nn.Module or a tf.Module"
    assert measured == f"model Model: {expected}"


def test_a_missing_gpu_is_one_finding(folder: Path) -> None:
    findings = findings_of(folder, GOOD, device="cuda")
    assert noticed(findings) == {"model": "failed"}
    assert findings["model"]["measured"].startswith("device cuda: got no GPU that tensorflow 2.")


def test_all_checks_in_another_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "in_the_zoo.py").write_text(GOOD)
    findings, ran_on = run_checks(
        Model("in_the_zoo", weights(folder)), folder / "logs", limits=Limits(long_s=60.0)
    )
    assert {finding.result for finding in findings} == {"ok"}, findings
    assert (ran_on["framework"], ran_on["device"]) == ("tensorflow", "cpu")
    assert ran_on["tensorflow"].startswith("2.")
