"""Fixtures that the tests of checks share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# They need packages that only test_real.py installs.
collect_ignore_glob = ["real/*"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which a submission `in_the_zoo` is found."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("in_the_zoo", None)
