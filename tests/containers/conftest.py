"""What the tests of containers share: an engine, an image, and what a machine without containers makes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.commands import checksums, command
from tests.containers.engine import Engine, find_image, running_engine

# Synthetic corpora, made offline.
DEMO_WORDS = ("prepare", "speech_commands", "nsynth_pitch", "--mode", "demo")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with running_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    return find_image(engine, tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="session")
def demo_checksums(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The checksums of the tarballs that this machine makes without containers."""
    folder = tmp_path_factory.mktemp("demo")
    done = command(folder, "heareval", *DEMO_WORDS)
    assert done.returncode == 0, done.stderr
    return checksums(folder)
