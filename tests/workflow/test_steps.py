"""What every step must say, and settings on their way through Luigi."""

from __future__ import annotations

import pytest

from heareval.embeddings.submission import Submission
from heareval.layout import Places
from heareval.predictions.protocol import Protocol
from heareval.spec import Download, Progress
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
