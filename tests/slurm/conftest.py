"""A Slurm for all tests of batch scripts, and what they compare with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import checksums, prepare
from tests.http_server import serving
from tests.slurm.cluster import Cluster, running_slurm, why_not
from tests.slurm.jobs import PREPARE, SlowMirror


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two idle nodes."""
    if reason := why_not():
        pytest.skip(reason)
    with running_slurm(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> dict[str, str]:
    """The checksums of the tarballs that one machine makes without Slurm."""
    folder = tmp_path_factory.mktemp("alone")
    done = prepare(folder, mirror, *PREPARE[1:])
    assert done.returncode == 0, done.stderr
    return checksums(folder)


@pytest.fixture
def slow_mirror(mirror: Path) -> Iterator[SlowMirror]:
    """A mirror that can hold back what it sends."""
    with serving(mirror) as (address, behaviour):
        yield SlowMirror(address, behaviour, mirror / "MD5SUMS")
        behaviour.drip_s = 0
