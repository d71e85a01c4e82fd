"""What scripts and notebooks call: models as Python has them, and results as tables."""

from __future__ import annotations

import functools
import importlib
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import heareval
from heareval import api
from heareval.embeddings import baseline
from heareval.embeddings.inside.rounding import keep_rounding
from heareval.embeddings.live import LiveSubmission, find_word, open_live
from heareval.embeddings.submission_config import SubmissionArgs
from heareval.errors import HearevalError, RunError
from tests.commands import MODEL, SPOKEN
from tests.test_api import places_in, spoken, spoken_damaged

LINEAR = heareval.Protocol(probe="linear")
MODULE = f"""{MODEL}
class Api:
    load_model = staticmethod(load_model)
    get_scene_embeddings = staticmethod(get_scene_embeddings)
    get_timestamp_embeddings = staticmethod(get_timestamp_embeddings)
"""


@pytest.fixture
def my_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of the user in a folder that only this process searches."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "my_scripted_model.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    yield importlib.import_module("my_scripted_model")
    del sys.modules["my_scripted_model"]


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def open_function(function: Any, **asked: Any) -> LiveSubmission:
    with open_live(function, frozenset({"scene"}), **asked) as submission:
        return submission


# --------------------------------------------------------------------------- names


def test_what_has_a_name_is_told_by_it(my_model: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_word(baseline) == "heareval.embeddings.baseline"
    assert find_word("hf:facebook/wav2vec2-base-960h") == "hf:facebook/wav2vec2-base-960h"
    assert find_word(Path("models/mine.py")) == "models/mine.py"
    # A worker does not search that folder: the file tells it.
    file = str(Path(str(my_model.__file__)))
    assert find_word(my_model) == file
    assert find_word(my_model.Api) == f"{file}:Api"
    monkeypatch.chdir(Path(file).parent)
    assert find_word(my_model) == "my_scripted_model"


def test_what_a_worker_would_not_find_has_no_name(my_model: ModuleType) -> None:
    class Local:
        """A class inside a function."""

    assert find_word(Local) is None
    assert find_word(my_model.Api()) is None
    assert find_word(lambda audio: audio) is None
    assert find_word(sys.modules["__main__"]) is None
    # The module holds another class under this name.
    former, my_model.Api = my_model.Api, Local
    assert find_word(former) is None


# --------------------------------------------------------------------------- models of this process


@pytest.mark.slow
def test_a_model_of_this_process_gets_the_scores_of_the_same_module(
    my_model: ModuleType, prepared: Path, mirror: Path, tmp_path: Path, scratch: Path
) -> None:
    places = replace(places_in(prepared), embeddings=str(tmp_path / "embeddings"))
    named = heareval.evaluate(my_model, places, tasks=spoken(mirror), protocol=LINEAR)
    model = my_model.Model().train()
    here = heareval.evaluate(
        heareval.wrap(
            frames=lambda waves: my_model.get_timestamp_embeddings(waves, model)[0],
            sample_rate=16000,
            hop_ms=50,
            first_ms=25,
        ),
        places,
        tasks=spoken(mirror),
        protocol=LINEAR,
        name="mine",
    )
    assert [each.submission["name"] for each in here] == ["mine-unfingerprinted"]
    assert here[0].scores["top1_acc"].folds == named[0].scores["top1_acc"].folds
    assert not math.isnan(here[0].scores["top1_acc"].value)
    # Nothing of it is kept.
    assert [each.name for each in Path(places.embeddings).iterdir() if each.is_dir()] == [
        named[0].submission["name"]
    ]
    assert list(scratch.glob("heareval-live-*")) == []
    assert [name for name in sys.modules if name.startswith("heareval_live")] == []


def test_a_model_that_is_being_trained_goes_on_in_its_mode() -> None:
    class Net(torch.nn.Module):
        sample_rate = 22050

        def __init__(self) -> None:
            super().__init__()
            self.frozen = torch.nn.BatchNorm1d(1).eval()
            self.modes: list[bool] = []

        def forward(self, waves: torch.Tensor) -> torch.Tensor:
            self.modes.append(self.training)
            return waves[:, :3]

    net = Net().train()
    net.frozen.eval()
    with keep_rounding(torch):
        # PyTorch's old interface can't be read any more then.
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        submission = open_function(net, device="cpu")
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    # The first call measures the size; the second one is that of a job, which switches to evaluation.
    assert net.modes[-1] is False
    assert (net.training, net.frozen.training) == (True, False)
    assert (submission.name, submission.sample_rate) == ("Net-unfingerprinted", 22050)


def test_no_two_models_of_this_process_share_a_fingerprint() -> None:
    def embed(waves: torch.Tensor) -> Any:
        return np.asarray(waves[:, :3], np.float64)

    one, two = (open_function(embed, sample_rate=16000) for _ in range(2))
    assert one.fingerprint != two.fingerprint
    assert one.name == two.name == "embed-unfingerprinted"


@pytest.mark.parametrize(
    ("model", "asked", "message"),
    [
        (lambda waves: waves, {}, "model lambda: got a function, and no sample rate"),
        (3, {}, "model int: got an object of type int without load_model, expected a module, a path"),
        (lambda waves: waves, {"sample_rate": 12345}, "lambda.*sample_rate = 12345"),
        (lambda waves: waves[0], {"sample_rate": 16000}, r"expected a tensor of shape \(1, size\)"),
        (lambda waves: 1 / 0, {"sample_rate": 16000}, "load_model of lambda.*ZeroDivisionError"),
        (
            lambda waves: waves[:, :3],
            {"sample_rate": 16000, "weights": "w.pt"},
            "no parameter that could take",
        ),
    ],
)
def test_a_model_that_breaks_the_api_is_one_line(
    model: Callable[..., Any], asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(HearevalError, match=message):
        open_function(model, **asked)
    assert [name for name in sys.modules if name.startswith("heareval_live")] == []


class Frames(torch.nn.Module):
    """A model that returns frames, as many do."""

    def forward(self, waves: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(waves), 51, 128)


def test_a_module_that_returns_frames_is_told_how_to_be_wrapped(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HearevalError, match=r"model Frames: got a torch\.nn\.Module, and no sample rate"):
        open_function(Frames())
    message = (
        r"got \(1, 51, 128\), expected a tensor of shape \(1, size\)\. Frames need heareval\.wrap\(frames="
    )
    with pytest.raises(HearevalError, match=message):
        open_function(Frames(), sample_rate=16000)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"protocol": "probe-linear"},
            r"protocol: got 'probe-linear', .*heareval\.Protocol\(probe=\"linear\"\)",
        ),
        ({"tasks": 5}, 'tasks: got 5, expected names of tasks. Write tasks="esc50"'),
        ({"tasks": [5]}, "tasks: got 5, expected names of tasks"),
        ({"tasks": None}, "tasks: got None, expected names of tasks"),
        ({"mode": 5}, "mode: got 5, expected the name of a mode"),
        ({"mirror": 5}, "mirror: got 5, expected a folder or URL"),
        ({"limit": "x"}, "limit: got 'x', expected 1 or more clips"),
        (
            {"device": "gpu"},
            "device: got 'gpu', expected one of auto, cpu, cuda. Write device=.cuda. for a GPU",
        ),
        ({"device": torch.device("cpu")}, "device: got device.*expected one of auto, cpu, cuda"),
        ({"weights": 5}, "weights: got 5, expected a path or URL"),
        ({"options": "x"}, "options: got 'x', expected a dictionary"),
        ({"name": 5}, "name: got 5, expected a text"),
        ({"sample_rate": "16000"}, "sample_rate: got '16000', expected a number of Hz"),
        ({"embedding_format": "float16"}, "embedding_format: got 'float16', expected an EmbeddingFormat"),
        ({"settings": 5}, "settings: got 5, expected RunSettings"),
        ({"places": "embeddings"}, "places: got 'embeddings', expected Places"),
    ],
)
@pytest.mark.parametrize("model", ["heareval.embeddings.baseline", Frames()])
def test_a_wrong_argument_is_one_line(model: Any, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(HearevalError, match=message):
        heareval.evaluate(model, **{"tasks": "speech_commands", "mode": "demo", **asked})


@pytest.mark.parametrize("tasks", ["", [], [""], ","])
def test_no_tasks_are_not_the_default(tasks: Any, tmp_path: Path) -> None:
    for function in (heareval.prepare, functools.partial(heareval.evaluate, "heareval.embeddings.baseline")):
        with pytest.raises(HearevalError, match="tasks: got none, expected at least one of"):
            function(tasks=tasks, places=places_in(tmp_path))


def test_empty_names_are_one_line(tmp_path: Path) -> None:
    places, submission = places_in(tmp_path), SubmissionArgs(("heareval.embeddings.baseline",))
    with pytest.raises(
        HearevalError, match="mode of a request: got '', expected the name of a mode, or None"
    ):
        heareval.evaluate("heareval.embeddings.baseline", places, tasks="esc50", mode="")
    for tasks in ((), ""):
        with pytest.raises(HearevalError, match=r"tasks: got .*, expected names of tasks or folders"):
            api.embed(submission, places, tasks=tasks)
    with pytest.raises(HearevalError, match="submissions: got none, expected at least one model"):
        api.evaluate(api.EvaluationRequest(SubmissionArgs(()), api.CorpusRequest(("esc50",))), places)
    with pytest.raises(HearevalError, match="folders of embeddings: got none, expected at least one"):
        api.predict([], places=places)
    for read in (heareval.results, heareval.report):
        with pytest.raises(
            HearevalError, match="folder: got '', expected a path, or the name of a submission"
        ):
            read("")
    for name in ("work", "tasks", "tars", "embeddings"):
        with pytest.raises(HearevalError, match=f"{name} folder: got '', expected a folder, such as . for"):
            heareval.Places(**{name: ""})
    empty: Any = ""
    for use in (
        lambda: api.predict([empty], places=places),
        lambda: api.run_demo(empty),
        lambda: api.report(empty, places),
        lambda: api.report(tmp_path, places, out=empty),
        lambda: api.results(empty),
        lambda: api.make_card("mine", places, out=empty),
        lambda: api.export_cards([empty], "csv"),
        lambda: api.copy_references(empty, places),
    ):
        with pytest.raises(HearevalError, match=r"folder.*: got '', expected a folder, such as . for the"):
            use()
    for run in (heareval.evaluate, heareval.validate):
        with pytest.raises(HearevalError, match=r"^model: got '', expected a module, a file, or an object"):
            run("", places)
    (tmp_path / "embeddings" / "mine").mkdir(parents=True)
    with pytest.raises(HearevalError, match="unknown submission: got ''"):
        heareval.compare("", "mine", places)


@pytest.mark.parametrize("model", [None, 5, object(), ["my_model.py"], "", b"my_model.py"])
def test_what_is_no_model_is_one_line(model: Any, tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match="expected "):
        heareval.evaluate(model, places_in(tmp_path), tasks="spoken_digit")
    with pytest.raises(HearevalError, match="expected "):
        heareval.validate(model, places_in(tmp_path))


def test_a_model_that_fails_on_a_clip_is_told_and_leaves_nothing(
    prepared: Path, mirror: Path, scratch: Path
) -> None:
    def embed(waves: torch.Tensor) -> torch.Tensor:
        if len(waves) > 1:
            raise error
        return waves[:, :3]

    error: BaseException = ValueError("no such clip")
    asked: dict[str, Any] = {"tasks": spoken(mirror), "sample_rate": 16000, "protocol": LINEAR}
    with pytest.raises(HearevalError, match="ValueError: no such clip"):
        heareval.evaluate(embed, places_in(prepared), **asked)
    done = heareval.evaluate(embed, places_in(prepared), raise_error=False, **asked)
    assert (len(done), len(done.failures)) == (0, 1)
    assert "ValueError: no such clip" in done.failures[0]
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        heareval.evaluate(embed, places_in(prepared), **asked)
    assert list(scratch.glob("heareval-live-*")) == []


def test_a_function_has_no_embeddings_for_event_tasks(tmp_path: Path) -> None:
    """It is told before the corpus is made."""
    with pytest.raises(HearevalError, match=r"submission lambda.*embeddings for event tasks"):
        heareval.evaluate(
            lambda waves: waves[:, :3],
            places_in(tmp_path),
            tasks="dcase2016_task2",
            mode="demo",
            sample_rate=16000,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_name_is_not_validated() -> None:
    with pytest.raises(HearevalError, match="function that exists in this process only"):
        heareval.validate(lambda waves: waves)


# --------------------------------------------------------------------------- runs


@pytest.mark.slow
def test_short_forms_raise_the_errors_of_the_run(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"sample_rates": (16000,), "makes_tarballs": False}
    request = spoken_damaged(tmp_path)
    assert heareval.prepare(request, places_in(tmp_path), **asked).outcome.exit_code == 30
    request_of = {"tasks": request, "protocol": LINEAR}
    with pytest.raises(RunError, match=r"extract v1\.0\.9\.tar\.gz: archive "):
        heareval.evaluate("heareval.embeddings.baseline", places_in(tmp_path), **request_of)  # type: ignore[call-overload]
    assert not (tmp_path / "tars").exists()
    # No checksum is accepted here.
    with pytest.raises(RunError, match=r"fetch v1\.0\.9\.tar\.gz"):
        heareval.prepare(["spoken_digit"], places_in(tmp_path / "b"), mirror=tmp_path / "empty", **asked)


def test_tasks_may_be_named_in_every_way(mirror: Path, prepared: Path) -> None:
    for tasks in ("spoken_digits,", ["spoken_digits"]):
        with pytest.raises(HearevalError, match="Did you mean spoken_digit"):
            heareval.evaluate("heareval.embeddings.baseline", places_in(prepared), tasks=tasks)
    with pytest.raises(HearevalError, match="mode or mirror: got one beside a CorpusRequest"):
        heareval.prepare(spoken(mirror), mode="full")  # type: ignore[call-overload]


def test_requests_are_evaluated_as_before(prepared: Path, mirror: Path) -> None:
    """A request returns what heareval.api returns: failures are in the outcome."""
    args = heareval.SubmissionArgs(("no_such_model",))
    with pytest.raises(HearevalError, match="no_such_model: got no module named"):
        heareval.evaluate(heareval.EvaluationRequest(args, spoken(mirror)), places_in(prepared))
    done = heareval.prepare(spoken(mirror), places_in(prepared))
    assert isinstance(done, api.Prepared)
    assert [folder.name for folder in done.task_folders] == [SPOKEN]
