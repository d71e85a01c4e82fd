"""Rules that hold for every task there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from heareval.errors import HearevalError
from heareval.formats.domains import DOMAINS
from heareval.formats.task_description import KEY_ORDER
from heareval.predictions.metrics import find_metric
from heareval.spec import TaskSpec
from heareval.tasks.corpora import esc50
from heareval.tasks.metadata import select_clips
from heareval.tasks.registry import all_tasks, select
from heareval.tasks.splits import labels_of
from tests.conftest import ArchivesOf

ROOT = Path(__file__).parent.parent


@pytest.fixture(params=all_tasks().values(), ids=lambda task: task.name)
def task(request: pytest.FixtureRequest) -> TaskSpec:
    return request.param


# Nobody ever published a checksum of these.
WITHOUT_CHECKSUM = {"genres.tar.gz", "music_speech.tar.gz", "summaryTable.csv"}


def test_declared_whole(task: TaskSpec) -> None:
    assert task.default_mode in task.modes
    assert set(task.settings) <= set(KEY_ORDER)
    for name, mode in task.modes.items():
        assert task.splits_of(name).names
        assert mode.downloads
        assert mode.clips or name in ("small", "demo")
        assert len({download.folder for download in mode.downloads}) == len(mode.downloads)


def test_checksums_are_pinned_or_the_exception_is_documented(task: TaskSpec) -> None:
    archives = [f for mode in task.modes.values() for d in mode.downloads for f in d.files]
    for archive in archives:
        assert archive.file_name
        assert len(archive.checksum) in ((0,) if archive.file_name in WITHOUT_CHECKSUM else (32, 64))
    tale = (ROOT / "docs" / "tasks.md").read_text().split("## Archives")[1]
    for name in WITHOUT_CHECKSUM & {archive.file_name for archive in archives}:
        assert name in tale


# Clips of pairwise tasks have no labels, see tests/tasks/test_pairwise_corpora.py.
@pytest.mark.parametrize(
    "task", [task for task in all_tasks().values() if not task.is_pairwise], ids=lambda task: task.name
)
def test_every_label_in_every_split(task: TaskSpec, archives_of: ArchivesOf) -> None:
    """Clips are drawn without complaint; only where notes sound at once may a split lack some."""
    mode = task.default_mode
    drawn = select_clips(task, mode, task.read_recordings(archives_of(task, mode), mode))
    assert not drawn.dropped
    splits = task.splits_of(mode).names
    labels = {split: set().union(*map(labels_of, drawn.of_split(split))) for split in splits}
    assert all(labels.values())
    has_all_labels = not drawn.warnings and len({frozenset(each) for each in labels.values()}) == 1
    assert has_all_labels or task.name == "maestro"
    every_key = [{clip.split_key for clip in drawn.of_split(split)} for split in splits]
    keeps_groups_apart = sum(map(len, every_key)) == len(set().union(*every_key))
    # The publishers of these have drawn the splits.
    assert keeps_groups_apart or task.splits.mode == "presplit_kfold" or task.name == "fsd50k"


def test_metrics_are_known_and_fit(task: TaskSpec) -> None:
    assert task.metrics
    for name in task.metrics:
        assert find_metric(name).kind == ("pairwise" if task.is_pairwise else task.embedding_type)


def test_has_a_row_in_the_documentation(task: TaskSpec) -> None:
    page = (ROOT / "docs" / "tasks.md").read_text()
    rows = [line for line in page.splitlines() if f"| `{task.name}` |" in line]
    assert len(rows) == 1, f"docs/tasks.md: got {len(rows)} rows of {task.name}, expected one"
    assert rows[0].count(" | ") == 6
    for mode in task.modes:
        assert mode in rows[0]


def test_words_of_the_command_line() -> None:
    assert [(task.name, mode) for task, mode in select(("spoken_digit", "open"), None)] == [
        ("spoken_digit", "full"),
        ("dcase2016_task2", "full"),
        ("nsynth_pitch", "5h"),
        ("speech_commands", "5h"),
    ]
    published = [task.name for task, _ in select(("all",), None)]
    related = [task.name for task, _ in select(("pairwise",), None)]
    assert (len(published), len(related)) == (21, 9)
    assert sorted(published + related) == list(all_tasks())
    assert [task.name for task, _ in select(("everything",), None)] == list(all_tasks())
    # Every task of the benchmark is in one of the domains that the leaderboard shows.
    domains = [
        task.name for group in ("speech", "environment", "music") for task, _ in select((group,), None)
    ]
    assert sorted(domains) == published
    assert set(DOMAINS) == set(all_tasks())
    assert [mode for _, mode in select(("speech_commands",), "all")] == ["5h", "full", "small"]
    with pytest.raises(HearevalError, match="Did you mean dcase2016_task2"):
        select(("dcase2016_task",), None)


def test_a_corpus_module_without_a_task_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(esc50, "TASK")
    with pytest.raises(HearevalError, match=r"corpora\.esc50: task: got no TASK"):
        all_tasks.__wrapped__()
