"""Random names of members: written inside the folder, or refused with one line."""

from __future__ import annotations

import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as draw

from heareval.archives.unpack import parts
from heareval.archives.unpack.extract import extract
from heareval.errors import HearevalError
from tests.archives.unpack.test_extract import header, rar_member, write_rar, write_tar

FAST, LONG = 60, int(os.environ.get("HEAREVAL_FUZZ_EXAMPLES", "3000"))
COMMON = {
    "derandomize": True,
    "database": None,
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}
PIECES = draw.sampled_from(
    ("a", "b.wav", "..", ".", "", "/", "\\", "C:", "-x", "~", "%2e%2e", "ä", "a\u0308", "\u202e", " ", "\n")
) | draw.text(max_size=4)
LONG_NAMES = draw.sampled_from(("n" * 255, "n" * 256, "ü" * 128, "d/" * 2100 + "f"))
NAMES = draw.lists(PIECES, min_size=1, max_size=6).map("/".join) | draw.text(max_size=12) | LONG_NAMES
KINDS = ("a.zip", "a.tar", "a.rar")


def write(path: Path, names: list[str]) -> Path:
    """Write an archive with a file of each name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as out:
            for name in names:
                out.writestr(zipfile.ZipInfo(name or "x"), b"content")
        return path
    if path.suffix == ".tar":
        return write_tar(path, *(header(name, tarfile.REGTYPE) for name in names))
    return write_rar(path, *(rar_member(name, b"content") for name in names))


def unpack_in_every_way(archive: Path, box: Path) -> None:
    """Unpack an archive whole, scan it, and extract none of its members."""
    count = extract(archive, box / "whole")
    assert count == sum(path.is_file() for path in (box / "whole").rglob("*"))
    parts.scan(archive, box / "scanned", headers=True)
    parts.extract_some(archive, box / "some", set())
    # Rar archives are always unpacked whole.
    assert archive.suffix == ".rar" or not [path for path in (box / "some").rglob("*") if path.is_file()]


def check(kind: str, names: list[str]) -> None:
    """Check that files are written below the folder, or refused in one line with the archive's name."""
    with tempfile.TemporaryDirectory() as name:
        box, complaint = Path(name), ""
        try:
            archive = write(box / kind, names)
        except (UnicodeEncodeError, ValueError):
            return  # names that no archive of this kind can hold
        try:
            unpack_in_every_way(archive, box)
        except HearevalError as error:
            complaint = str(error)
        assert not complaint or (str(archive) in complaint and "\n" not in complaint)
        assert {path.name for path in box.iterdir()} <= {kind, "whole", "scanned", "some"}
        assert not [path for path in box.rglob("*") if path.is_symlink()]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=FAST, **COMMON)
@given(names=draw.lists(NAMES, min_size=1, max_size=4))
def test_names_of_members(kind: str, names: list[str]) -> None:
    check(kind, names)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=LONG, **COMMON)
@given(names=draw.lists(NAMES, min_size=1, max_size=4))
def test_many_names_of_members(kind: str, names: list[str]) -> None:
    check(kind, names)
