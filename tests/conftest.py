"""Corpora that several tests share, made once per run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import stand_ins
from tests.commands import prepare


@pytest.fixture(scope="session")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`<archive name>/` for each stand-in archive, as if extracted."""
    folder = tmp_path_factory.mktemp("extracted")
    for make in stand_ins.CORPORA.values():
        for archive, tree in make().items():
            stand_ins.write_tree(tree, folder / archive)
    return folder


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of stand-in archives and their MD5SUMS."""
    folder = tmp_path_factory.mktemp("mirror")
    for make in stand_ins.CORPORA.values():
        for archive, tree in make().items():
            stand_ins.pack(tree, folder / archive)
    stand_ins.md5sums(folder)
    return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Path:
    """spoken_digit, prepared from the stand-ins at the four rates."""
    folder = tmp_path_factory.mktemp("prepared")
    done = prepare(folder, mirror, "spoken_digit")
    assert done.returncode == 0, done.stderr
    return folder
