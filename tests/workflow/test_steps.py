"""What every step must say, and settings on their way through Luigi."""

from __future__ import annotations

import threading
from pathlib import Path

import luigi
import pytest

from heareval.embeddings.submission import Submission
from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.predictions.protocol import Protocol
from heareval.spec import Download, Progress
from heareval.workflow.configuration import load_config
from heareval.workflow.corpus import TaskJob
from heareval.workflow.machine import Machine
from heareval.workflow.step import NO_DISK_NEED, DataclassParameter, DiskNeed, Step


class Nameless(Step):
    """A step that says everything but its disk need."""

    title = "nameless"

    def work(self, progress: Progress) -> None:
        """Do nothing."""


class Complete(Nameless):
    """The same step with its disk need."""

    def disk_need(self, sizes: object) -> DiskNeed:
        return NO_DISK_NEED


def test_a_step_must_say_what_it_writes() -> None:
    """Otherwise a new step would silently be left out of every plan."""
    with pytest.raises(TypeError, match="disk_need"):
        Nameless(Places())
    assert Complete(Places()).disk_need(None) == NO_DISK_NEED


@pytest.mark.parametrize(
    "value",
    [
        Places(work="/w"),
        Machine(("0", "1"), 60.0, True),
        TaskJob("esc50", "full", accepted=(("master.zip", "0" * 32), ("b.zip", "1" * 32))),
        Download("https://example.org/a.zip", "", volumes=(Download("https://example.org/a.z01", "2" * 32),)),
        Submission("my_model", name="a", fingerprint="3" * 16, sample_rate=16000),
        Protocol(grid_points=2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_survive_as_luigi_parameters(value: object) -> None:
    parameter = DataclassParameter(type(value))
    text = parameter.serialize(value)
    assert parameter.parse(text) == value
    assert parameter.serialize(parameter.parse(text)) == text


class Output(Complete):
    """A step that makes a file."""

    path = luigi.Parameter()

    def complete(self) -> bool:
        return Path(self.path).exists()


class Needing(Output):
    """A step that needs another one."""

    def requires(self) -> Output:
        return Output(self.places, path=f"{self.path} before")

    def work(self, progress: Progress) -> None:
        Path(self.path).touch()


def wait_s(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set how long a step waits for its inputs."""
    monkeypatch.setitem(load_config()["heareval"], "input_wait_s", seconds)


def test_a_step_waits_for_what_another_machine_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_s("60", monkeypatch)
    step = Needing(Places(str(tmp_path)), path=str(tmp_path / "a"))
    later = threading.Timer(0.2, Path(step.requires().path).touch)
    later.start()
    step.run()
    assert step.complete()


def test_a_step_whose_inputs_do_not_appear_fails_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_s("0", monkeypatch)
    step = Needing(Places(str(tmp_path)), path=str(tmp_path / "a"))
    with pytest.raises(HearevalError, match=r"output of `nameless`: got nothing at .*a before for 0 s, exp"):
        step.run()
    assert not step.complete()
