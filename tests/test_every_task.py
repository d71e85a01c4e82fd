"""Rules that hold for every task there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from heareval.errors import HearevalError
from heareval.predictions.metrics import METRICS
from heareval.spec import TaskSpec
from heareval.tasks import corpora
from heareval.tasks.metadata import KEY_ORDER
from heareval.tasks.registry import all_tasks, select

ROOT = Path(__file__).parent.parent


@pytest.fixture(params=all_tasks().values(), ids=lambda task: task.name)
def task(request: pytest.FixtureRequest) -> TaskSpec:
    return request.param


def test_declared_whole(task: TaskSpec) -> None:
    assert task.default_mode in task.modes
    assert task.splits.names
    assert set(task.settings) <= set(KEY_ORDER)
    for mode in task.modes.values():
        assert mode.downloads
        for download in mode.downloads:
            assert len(download.checksum) in (32, 64)
            assert download.file_name
        assert len({download.folder for download in mode.downloads}) == len(mode.downloads)


def test_metrics_are_known_and_fit(task: TaskSpec) -> None:
    assert task.metrics
    for name in task.metrics:
        assert METRICS[name].kind == {"scene": "clip", "event": "event"}[task.embedding_type]


def test_has_a_row_in_the_documentation(task: TaskSpec) -> None:
    rows = [
        line for line in (ROOT / "docs" / "tasks.md").read_text().splitlines() if f"| `{task.name}` |" in line
    ]
    assert len(rows) == 2
    for mode in task.modes:
        assert mode in rows[0]


def test_corpus_modules_are_short() -> None:
    for path in Path(corpora.__path__[0]).glob("[!_]*.py"):
        assert path.read_text().count("\n") <= 90, path


def test_words_of_the_command_line() -> None:
    assert [(task.name, mode) for task, mode in select(("spoken_digit", "open"), None)] == [
        ("spoken_digit", "full"),
        ("dcase2016_task2", "full"),
        ("nsynth_pitch", "5h"),
        ("speech_commands", "5h"),
    ]
    assert [mode for _, mode in select(("speech_commands",), "all")] == ["5h", "full", "small"]
    with pytest.raises(HearevalError, match="Did you mean dcase2016_task2"):
        select(("dcase2016_task",), None)
