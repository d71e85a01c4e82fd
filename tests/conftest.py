"""Corpora that several tests share, made once per run and only if asked for."""

from __future__ import annotations

import functools
import gc
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heareval.spec import LISTED, Archives, TaskSpec
from tests import stand_ins
from tests.commands import prepare

# A process per core runs the tests, so more threads would only wait for each other. torch reads it on import.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Compiled modules are kept while tests are collected, also where Python keeps none (PYTHONDONTWRITEBYTECODE):
# else each process of xdist would take seconds to compile the tests, in every run.
KEEPS_NONE = sys.dont_write_bytecode
sys.dont_write_bytecode = False

# Nothing of what is imported and collected is garbage; looking for it takes seconds in each process.
gc.disable()

ArchivesOf = Callable[[TaskSpec, str], Archives]
# The corpora that the tests of whole commands work with.
OPEN_CORPORA = ("speech_commands", "nsynth_pitch", "dcase2016_task2", "spoken_digit")
# Those with unusual archives: rar, zip in volumes, single files, none with a published checksum.
UNUSUAL_CORPORA = ("beehive", "fsd50k", "crema_d", "gtzan")
# Corpora that are published as single files -> the folder of these.
LISTED_FOLDERS = {"crema_d": "AudioWAV", "timbre_similarity": "sounds"}


# Tests that unpack rar archives among others.
WITH_RAR = {"test_extract.py", "test_names.py", "test_volumes.py", "test_unusual_archives.py"}


# Files that take long: they come first, so that no process is left alone with one in the end.
LONG_FILES = (
    *("test_submissions.py", "test_prepare.py", "test_memory.py", "test_resume.py", "test_evaluate.py"),
    *(
        "test_environment.py",
        "test_unusual_archives.py",
        "test_bad_audio.py",
        "test_plan.py",
        "test_adopt.py",
    ),
    *(
        "test_clean.py",
        "test_some_sounds.py",
        "test_worker_process.py",
        "test_gpus.py",
        "test_validate.py",
        "test_places.py",
    ),
)


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist take the files in their order; it would begin with those that have most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_finish() -> None:
    """From here on keep what was asked for: models that tests write and change must not be found compiled.

    Tests make garbage, too.
    """
    sys.dont_write_bytecode = KEEPS_NONE
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first; pass over what needs the system's libarchive where that is not installed."""
    ranks = {name: rank for rank, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))
    try:
        importlib.import_module("libarchive")
    except (ImportError, OSError, AttributeError):
        skip = pytest.mark.skip(reason="no libarchive: apt install libarchive13, or brew install libarchive")
        for item in items:
            if item.path.name in WITH_RAR:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def archives_of(tmp_path_factory: pytest.TempPathFactory) -> ArchivesOf:
    """The extracted stand-in archives of a task and mode."""
    folder = tmp_path_factory.mktemp("extracted")

    @functools.cache
    def extracted(corpus: str) -> Path:
        for archive, tree in stand_ins.CORPORA[corpus]().items():
            stand_ins.write_tree(tree, folder / corpus / archive)
        return folder / corpus

    @functools.cache
    def gunshots() -> Path:
        return stand_ins.gunshot_recordings(folder / "gunshots")

    def archives(task: TaskSpec, mode: str) -> Archives:
        if (task.name, mode) == ("gunshot_triangulation", "full"):
            return {download.folder: gunshots() for download in task.modes[mode].downloads}
        corpus = extracted(stand_ins.corpus_of(task.name))
        found = {download.folder: corpus / download.file_name for download in task.modes[mode].downloads}
        return (
            {**found, LISTED: corpus / LISTED_FOLDERS[corpus.name]}
            if corpus.name in LISTED_FOLDERS
            else found
        )

    return archives


def _packed(folder: Path, corpora: tuple[str, ...]) -> Path:
    for corpus in corpora:
        for archive, tree in stand_ins.CORPORA[corpus]().items():
            stand_ins.pack(tree, folder / archive)
    stand_ins.md5sums(folder)
    return folder


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of stand-in archives and their MD5SUMS."""
    return _packed(tmp_path_factory.mktemp("mirror"), OPEN_CORPORA)


@pytest.fixture(scope="session")
def unusual_mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of the corpora with unusual archives."""
    return _packed(tmp_path_factory.mktemp("unusual_mirror"), UNUSUAL_CORPORA)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Path:
    """spoken_digit, prepared from the stand-ins at the four rates."""
    folder = tmp_path_factory.mktemp("prepared")
    done = prepare(folder, mirror, "spoken_digit")
    assert done.returncode == 0, done.stderr
    return folder
