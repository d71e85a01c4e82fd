"""How load_model is called: without weights its own default holds, which may stand for trained ones."""

from __future__ import annotations

import functools
import os
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from heareval.embeddings.describe import Description
from heareval.embeddings.inside.errors import SubmissionError
from heareval.embeddings.inside.submission import call_load_model, find_default_weights
from heareval.embeddings.opening import fingerprint_submission
from heareval.embeddings.submission import Model
from heareval.embeddings.validate import Finding, Limits, run_checks
from tests.commands import command, only_line
from tests.embeddings.checking import findings_of, noticed
from tests.embeddings.clips import write_task
from tests.embeddings.zoo import GOOD, LOAD, START

Given = tuple[tuple[object, ...], dict[str, object]]


def of_api(model_file_path: str = "") -> Given:
    return (model_file_path,), {}


def of_none(checkpoint: str | None = None, device: str = "cpu") -> Given:
    return (checkpoint, device), {}


def of_file(path: Path = Path("pretrained.pt"), *, size: str = "base") -> Given:
    return (path, size), {}


def of_nothing() -> Given:
    return (), {}


def of_keywords(*, size: str = "base") -> Given:
    return (size,), {}


def of_any(*args: object, **options: object) -> Given:
    return args, options


def required(model_file_path: str, size: str = "base") -> Given:
    return (model_file_path, size), {}


def of_position(weights: str, /) -> Given:
    return (weights,), {}


@functools.wraps(required)
def decorated(*args: Any, **options: Any) -> Given:
    return required(*args, **options)


class OfClass:
    """A class may be the function: what is passed to its `__init__` is what it returns."""

    def __new__(cls, weights: str = "tuned") -> Given:  # type: ignore[misc]
        return (weights,), {}


@pytest.mark.parametrize(
    ("load_model", "options", "expected"),
    [
        (of_api, {}, (("",), {})),
        (of_none, {}, ((None, "cpu"), {})),
        (of_none, {"device": "cuda"}, ((None, "cuda"), {})),
        (of_file, {"size": "large"}, ((Path("pretrained.pt"), "large"), {})),
        (of_nothing, {}, ((), {})),
        (of_keywords, {"size": "large"}, (("large",), {})),
        (of_any, {"size": 3}, ((), {"size": 3})),
        (required, {}, (("", "base"), {})),
        (required, {"model_file_path": "a.pt"}, (("a.pt", "base"), {})),
        (of_position, {}, (("",), {})),
        (decorated, {}, (("", "base"), {})),
        (OfClass, {}, (("tuned",), {})),
        (functools.partial(of_none, device="cuda"), {}, ((None, "cuda"), {})),
    ],
)
def test_without_weights_the_default_holds(load_model: Any, options: dict[str, Any], expected: Given) -> None:
    assert call_load_model(types.SimpleNamespace(load_model=load_model), "", options) == expected


@pytest.mark.parametrize("load_model", [of_api, of_none, of_file, of_any, required, of_position, decorated])
def test_weights_are_given_by_position(load_model: Any) -> None:
    given, _ = call_load_model(types.SimpleNamespace(load_model=load_model), "w.pt", {})
    assert given[0] == "w.pt"


@pytest.mark.parametrize("load_model", [of_nothing, of_keywords])
def test_weights_for_a_model_that_takes_none_are_an_error(load_model: Any) -> None:
    module = types.SimpleNamespace(load_model=load_model)
    with pytest.raises(SubmissionError, match=r"load_model.*no parameter.*leave --model out"):
        call_load_model(module, "w.pt", {})


# The scale of its embeddings is 3 with trained weights, and 1 without.
TRAINED = GOOD.replace(LOAD, "        model.scale.data.fill_(float(open(model_file_path).read()))")
MODELS = {
    "of_api": ("", 1.0),
    "of_file": ('def load_model(model_file_path="trained.txt"):', 3.0),
    "of_none": ('def load_model(path=None):\n    model_file_path = path or "trained.txt"', 3.0),
    "of_nothing": ('def load_model():\n    model_file_path = "trained.txt"', 3.0),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_model(folder: Path, name: str) -> None:
    head = MODELS[name][0]
    (folder / f"{name}.py").write_text(TRAINED.replace('def load_model(model_file_path=""):', head or "#"))
    if not head:
        (folder / f"{name}.py").write_text(TRAINED)
    (folder / "trained.txt").write_text("3.0")


def first_row(folder: Path, name: str) -> np.ndarray:
    row: np.ndarray = np.load(folder / "embeddings" / name / "task" / "test.npy")[0]
    return row


@pytest.mark.slow
def test_embeddings_are_those_of_the_default_weights(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks" / "task", {"train": [8000], "valid": [8000], "test": [8000]})
    for name in MODELS:
        write_model(tmp_path, name)
        done = command(tmp_path, "heareval", "embed", name)
        assert done.returncode == 0, done.stderr
    for name, (_, scale) in MODELS.items():
        np.testing.assert_allclose(first_row(tmp_path, name), scale * first_row(tmp_path, "of_api"), 1e-5)
    # The file that the signature names is an input like any other.
    (tmp_path / "trained.txt").write_text("5.0")
    assert "1 step done" in command(tmp_path, "heareval", "embed", "of_file").stdout
    np.testing.assert_allclose(first_row(tmp_path, "of_file"), 5 * first_row(tmp_path, "of_api"), 1e-5)
    done = command(tmp_path, "heareval", "embed", "of_nothing", "--model", "trained.txt")
    assert "load_model of the submission: got no parameter that could take the weights" in only_line(done)


@pytest.mark.parametrize(
    ("load_model", "weights", "expected"),
    [
        (of_api, "", None),
        (required, "", None),
        (of_position, "", None),
        (of_none, "w.pt", None),
        (of_none, "", []),
        (of_nothing, "", []),
        (of_any, "", []),
        (of_file, "", ["pretrained.pt"]),
    ],
)
def test_a_default_of_its_own_is_told_with_its_files(
    here: Path, load_model: Any, weights: str, expected: list[str] | None
) -> None:
    (here / "pretrained.pt").write_text("")
    found = find_default_weights(
        {"weights_path": weights, "options": {}}, types.SimpleNamespace(load_model=load_model)
    )
    assert found == (expected if expected is None else [str(here / name) for name in expected])


def test_a_folder_may_be_the_default(here: Path) -> None:
    def of_folder(path: str = "saved") -> None: ...

    (here / "saved" / "variables").mkdir(parents=True)
    (here / "saved" / "variables" / "data").write_text("")
    job = {"weights_path": "", "options": {}}
    found = find_default_weights(job, types.SimpleNamespace(load_model=of_folder))
    assert found == [str(here / "saved" / "variables" / "data")]


def test_a_default_folder_covers_linked_folders(here: Path) -> None:
    def of_folder(path: str = "saved") -> None: ...

    for place in ("saved", "disk2"):
        (here / place).mkdir()
        (here / place / "data").write_text("")
    (here / "saved" / "variables").symlink_to("../disk2")
    (here / "disk2" / "loop").symlink_to("../saved")
    os.mkfifo(here / "disk2" / "fifo")
    job = {"weights_path": "", "options": {}}
    found = find_default_weights(job, types.SimpleNamespace(load_model=of_folder))
    assert found == [str(here / "saved" / "data"), str(here / "saved" / "variables" / "data")]


def test_only_a_default_of_its_own_changes_the_fingerprint() -> None:
    """Embeddings that 0.1.0 made with "" stay complete where "" is still what load_model gets."""
    given, default = (
        fingerprint_submission(
            Description(Path("any"), 16000, is_default, {"torch": "2.1"}, {"my_model.py": "0" * 64}),
            "",
            "{}",
            (),
        )
        for is_default in (False, True)
    )
    assert given == "7c14867b0cec362e"
    assert default != given


# --------------------------------------------------------------------------- validate

RANDOM = GOOD.replace("torch.ones(8)", "torch.rand(8)")
# What makes a second load in the same process tell another story than a new process.
SEEDED_ON_IMPORT = RANDOM.replace("\nclass Model", "\ntorch.manual_seed(0)\n\nclass Model")
LOADED_ON_IMPORT = RANDOM.replace("def load_model(", "def make(") + (
    "\nmodel = make()\ndef load_model(model_file_path=''):\n    return model\n"
)
RANDOM_HEAD = GOOD.replace(
    "        self.scale", "        self.head = torch.nn.Linear(8, 3)\n        self.scale"
)


def validate(folder: Path, source: str) -> dict[str, Finding]:
    """Return the findings of other processes."""
    (folder / "mine.py").write_text(source)
    findings, _ = run_checks(Model("mine"), folder / "logs", limits=Limits(long_s=1.0))
    return {finding.check: finding for finding in findings}


def failed(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if finding.result in ("failed", "warning")}


@pytest.mark.slow
def test_untrained_weights_are_told_by_that_name(here: Path) -> None:
    findings = validate(here, LOADED_ON_IMPORT)
    assert failed(findings) == {"reload"}
    told = "untrained weights: 1 of 1 differ from load to load, such as scale; embeddings differ by "
    assert findings["reload"].measured.startswith(told)
    assert findings["weights"].measured == "none given: load_model uses its default, model_file_path = ''"


@pytest.mark.slow
def test_weights_that_every_process_makes_alike_are_no_fault(here: Path) -> None:
    findings = validate(here, SEEDED_ON_IMPORT)
    assert not failed(findings), findings
    assert findings["reload"].result == "ok"


def test_untrained_weights_that_no_embedding_depends_on_are_no_fault(folder: Path) -> None:
    findings = findings_of(folder, RANDOM_HEAD)
    assert {finding["result"] for finding in findings.values()} == {"ok"}, findings


def test_random_embeddings_of_trained_weights_are_another_fault(folder: Path) -> None:
    drawn = "    if not hasattr(model, 'noise'): model.noise = float(torch.rand(1))\n"
    source = GOOD.replace(START, drawn + START).replace("* model.scale", "* model.scale * model.noise")
    findings = findings_of(folder, source)
    assert noticed(findings) == {"reload": "failed"}
    assert "untrained" not in findings["reload"]["measured"]
