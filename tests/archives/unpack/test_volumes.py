"""Zips in volumes: of the program zip, beyond 4 GiB, and damaged. Random damage to archives of every kind."""

from __future__ import annotations

import bisect
import gzip
import random
import shutil
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from heareval.archives.unpack import volumes
from heareval.archives.unpack.extract import extract
from heareval.errors import HearevalError
from tests.archives.unpack.test_extract import KINDS, packed, unpack

GIB = 1 << 30
# Random bytes do not compress, so the program zip needs several volumes of its smallest size.
CORPUS = {f"clips/{n}ü.wav": random.Random(n).randbytes(n * 2711) for n in range(12)}
FULL = 0xFFFFFFFF


@dataclass(frozen=True)
class Stored:
    """An uncompressed member, whose header begins `start` bytes after the beginning of the first volume."""

    name: bytes
    content: bytes
    start: int

    @property
    def facts(self) -> tuple[int, ...]:
        """CRC, compressed and uncompressed size."""
        return zlib.crc32(self.content), len(self.content), len(self.content)

    @property
    def whole(self) -> bytes:
        """Header, name and content."""
        fixed = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 2048, 0, 0, 33, *self.facts, len(self.name), 0)
        return fixed + self.name + self.content

    def entry(self, bounds: Sequence[int], is_wide: bool) -> bytes:
        """Return the entry in the directory; a wide one keeps all numbers in its zip64 field."""
        disk = bisect.bisect_right(bounds, self.start) - 1
        crc, size, _ = self.facts
        place, extra = self.start - bounds[disk], b""
        if is_wide:
            extra = struct.pack("<2H3QL", 1, 28, size, size, place, disk)
            size, disk, place = FULL, 0xFFFF, FULL
        fixed = struct.pack("<4s6H3L", b"PK\1\2", 45, 45, 2048, 0, 0, 33, crc, size, size)
        lengths = (len(self.name), len(extra), 0)
        return fixed + struct.pack("<5H2L", *lengths, disk, 0, 0, place) + self.name + extra


def in_a_row(tree: dict[str, bytes]) -> list[Stored]:
    """Return members one after another, after the signature at the beginning of the first volume."""
    members, start = [], 4
    for name, content in tree.items():
        members.append(Stored(name.encode(), content, start))
        start += len(members[-1].whole)
    return members


def split_zip(folder: Path, members: Sequence[Stored], bounds: Sequence[int], is_wide: bool) -> list[Path]:
    """Write volumes that begin at these offsets; between members they are sparse."""
    folder.mkdir(exist_ok=True)
    last, begin = len(bounds) - 1, max(member.start + len(member.whole) for member in members)
    disk = bisect.bisect_right(bounds, begin) - 1
    entries = b"".join(member.entry(bounds, is_wide) for member in members)
    n, size, place = len(members), len(entries), begin - bounds[disk]
    end = struct.pack("<4s4H2LH", b"PK\5\6", last, disk, n, n, size, place, 0)
    if is_wide:
        end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, last, disk, n, n, size, place)
        end += struct.pack("<4sLQL", b"PK\6\7", last, begin + size - bounds[last], last + 1)
        end += struct.pack("<4s4H2LH", b"PK\5\6", *[0xFFFF] * 4, FULL, FULL, 7) + b"comment"
    paths = [*(folder / f"a.z{n + 1:02}" for n in range(last)), folder / "a.zip"]
    for path, start, stop in zip(paths, bounds, [*bounds[1:], bounds[-1]], strict=True):
        path.touch()
        with open(path, "r+b") as stream:
            stream.truncate(stop - start)
    for member in members:
        write_across(paths, bounds, member.start, member.whole)
    write_across(paths, bounds, 0, b"PK\7\10")
    write_across(paths, bounds, begin, entries + end)
    return paths


def write_across(paths: Sequence[Path], bounds: Sequence[int], place: int, content: bytes) -> None:
    for path, start, stop in zip(paths, bounds, [*bounds[1:], 1 << 62], strict=True):
        piece = content[max(0, start - place) : max(0, stop - place)]
        if piece:
            with open(path, "r+b") as stream:
                stream.seek(max(place, start) - start)
                stream.write(piece)


def unpack_volumes(paths: Sequence[Path], folder: Path) -> dict[str, bytes]:
    return unpack(paths[-1], folder, paths[:-1])


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return split_zip(tmp_path / "zip", in_a_row(CORPUS), (0, 60_000, 120_000), is_wide=False)


# --------------------------------------------------------------------------- intact archives


@pytest.mark.skipif(shutil.which("zip") is None, reason="needs the program zip")
@pytest.mark.parametrize("level", ["-0", "-6"])
def test_volumes_of_the_real_program(tmp_path: Path, level: str) -> None:
    # It depends on how zip was built whether it marks names as UTF-8, so these are ASCII.
    tree = {name.replace("ü", "u"): content for name, content in CORPUS.items()}
    tree["notes.txt"] = b"a line\n" * 30_000
    for name, content in tree.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    command = ["zip", "-q", "-r", level, "-s", "64k", str(tmp_path / "a.zip"), "."]
    subprocess.run(command, cwd=tmp_path / "in", check=True, timeout=60)
    paths = [*sorted(tmp_path.glob("a.z[0-9]*")), tmp_path / "a.zip"]
    assert len(paths) >= 3
    assert unpack_volumes(paths, tmp_path / "out") == tree


@pytest.mark.parametrize("is_wide", [False, True])
@pytest.mark.parametrize("bounds", [(0,), (0, 60_000), (0, 4, 100_000), (0, 50, 51, 170_000, 179_900)])
def test_volumes_cut_anywhere(tmp_path: Path, bounds: tuple[int, ...], is_wide: bool) -> None:
    paths = split_zip(tmp_path / "zip", in_a_row(CORPUS), bounds, is_wide)
    assert unpack_volumes(paths, tmp_path / "out") == CORPUS


@pytest.mark.parametrize("is_wide", [False, True])
def test_the_directory_may_lie_in_two_volumes(tmp_path: Path, is_wide: bool) -> None:
    members = in_a_row(CORPUS)
    bound = members[-1].start + len(members[-1].whole) + 100
    paths = split_zip(tmp_path / "zip", members, (0, 60_000, bound), is_wide)
    assert unpack_volumes(paths, tmp_path / "out") == CORPUS


@pytest.mark.parametrize("is_wide", [False, True])
def test_members_beyond_4_gib(tmp_path: Path, is_wide: bool) -> None:
    """The files are sparse and occupy no space."""
    bounds = (0, 3 * GIB, 6 * GIB, 9 * GIB)
    # In the first volume, across two volumes, and in the last one, with offsets beyond 32 bits.
    places = (4, 6 * GIB - 1000, 9 * GIB + 5)
    members = [Stored(b"%d" % n, bytes([n]) * 5000, place) for n, place in enumerate(places)]
    paths = split_zip(tmp_path / "zip", members, bounds, is_wide)
    assert unpack_volumes(paths, tmp_path / "out") == {str(n): bytes([n]) * 5000 for n in range(3)}


def test_other_facts_of_entries_stay(three: list[Path]) -> None:
    with volumes.open_volumes(three) as stream, zipfile.ZipFile(stream) as archive:
        assert [info.date_time[:3] for info in archive.infolist()] == [(1980, 1, 1)] * len(CORPUS)
        assert archive.namelist() == list(CORPUS)
        assert archive.testzip() is None


# --------------------------------------------------------------------------- damaged archives


def refused(paths: Sequence[Path], message: str) -> None:
    out = paths[-1].parent / "out"
    with pytest.raises(HearevalError, match=message):
        unpack_volumes(paths, out)
    assert not list(out.iterdir())


def test_missing_volumes(three: list[Path]) -> None:
    refused([three[0], three[2]], r"a\.zip: got 2 volumes, expected the 3 volumes of this zip")
    refused([three[2]], r"a\.zip: got only its last volume, expected the 3 volumes of this zip")
    refused([*three[:2], three[0], three[2]], r"a\.zip: got 4 volumes, expected the 3 volumes of this zip")


def test_volumes_before_a_whole_zip(three: list[Path]) -> None:
    whole = packed(three[0].with_name("b.zip"), CORPUS)
    refused([three[0], whole], r"b\.zip: got 2 volumes, expected a zip in one file")


def test_swapped_volumes(three: list[Path]) -> None:
    refused(
        [three[1], three[0], three[2]], r"a\.z02: got something else .*, expected volume 1 of the 3 of a\.zip"
    )


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("lost", [100, 30_000, 60_000])
def test_cut_off_volumes(three: list[Path], n: int, lost: int) -> None:
    three[n].write_bytes(three[n].read_bytes()[: 60_000 - lost])
    refused(three, rf"a\.z0{n + 1}: got (fewer bytes|something else).*, expected volume {n + 1} of the 3")


def test_a_cut_off_last_volume(three: list[Path]) -> None:
    three[2].write_bytes(three[2].read_bytes()[:-30])
    refused(three, r"a\.zip: got a damaged directory \(no end record\), expected the last of 3 volumes")


@pytest.mark.parametrize(
    ("mark", "place", "value", "message"),
    [
        (b"PK\6\6", 0, b"pk", "no zip64 end record where its locator points"),
        (b"PK\1\2", 0, b"pk", "no entry at byte 1002 of it"),
        (b"PK\1\2", 32, b"\1", "its last entry is cut off"),
    ],
)
def test_damaged_directories(tmp_path: Path, mark: bytes, place: int, value: bytes, message: str) -> None:
    paths = split_zip(tmp_path / "zip", in_a_row(CORPUS), (0, 60_000, 120_000), is_wide=True)
    content = bytearray(paths[2].read_bytes())
    place += content.rindex(mark)
    content[place : place + len(value)] = value
    paths[2].write_bytes(content)
    refused(paths, rf"a\.zip: got a damaged directory \({message}\), expected the last of 3 volumes")


def test_a_missing_file_is_an_error_of_the_system(three: list[Path]) -> None:
    three[1].unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.z02"):
        unpack_volumes(three, three[0].parent / "out")


# --------------------------------------------------------------------------- random damage

SMALL = {"a/b.txt": b"hello" * 99, "c.wav": bytes(700), "d": random.Random(0).randbytes(300)}
ODD_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, FULL)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return the content with bytes changed, removed or doubled, extreme numbers, or a path inserted."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        place, size = draw.randrange(len(data) + 1), draw.choice((1, 4, 20))
        what = draw.randrange(6)
        if what == 0:
            data[place : place + 1] = draw.randbytes(1)
        elif what == 1:
            data[place : place + 4] = struct.pack("<L", draw.choice(ODD_NUMBERS))
        elif what == 2:
            del data[place : place + size]
        elif what == 3:
            data[place:place] = data[place : place + size]
        elif what == 4:
            data[place : place + 4] = b"../x"
        elif draw.random() < 0.3:
            del data[place:]
    return bytes(data)


def with_true_tar_sums(content: bytes) -> bytes:
    """Return a tar with correct header checksums, so that damage to headers goes unnoticed."""
    data = bytearray(content)
    for place in range(0, len(data) - 511, 512):
        if data[place + 257 : place + 262] == b"ustar":
            data[place + 148 : place + 156] = b" " * 8
            data[place + 148 : place + 156] = b"%06o\0 " % sum(data[place : place + 512])
    return bytes(data)


def with_true_rar_sums(content: bytes) -> bytes:
    """Return a RAR 5 archive with correct header checksums."""
    data, place = bytearray(content), 8
    while place + 7 < len(data) and 0 < (size := data[place + 4]) < 128:
        head = data[place + 4 : place + 5 + size]
        data[place : place + 4] = struct.pack("<L", zlib.crc32(head))
        # This finds the content only where numbers are short, as in the small archives here.
        place += 5 + size + (data[place + 7] if data[place + 6] & 2 else 0)
    return bytes(data)


def survives(name: str, contents: Sequence[bytes], box: Path) -> bool:
    """Return whether volumes unpack; otherwise they must be refused. Nothing may be written elsewhere."""
    folder = box / "1/2/3"
    folder.mkdir(parents=True)
    paths = [*(folder / f"a.z{n:02}" for n in range(1, len(contents))), folder / name]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    is_good = True
    try:
        extract(paths[-1], folder / "out", volumes=paths[:-1])
    except HearevalError:
        is_good = False
    outside = {path for path in box.rglob("*") if folder / "out" not in path.parents}
    assert outside <= {box / "1", box / "1/2", folder, folder / "out", *paths}
    assert not any(path.is_symlink() for path in box.rglob("*"))
    shutil.rmtree(box)
    return is_good


REPAIRS: dict[str, Callable[[bytes], bytes]] = {
    "a.tar": with_true_tar_sums,
    "a.tar.gz": lambda content: gzip.compress(with_true_tar_sums(content), 1),
    "a.rar": with_true_rar_sums,
}


def fuzz(name: str, folder: Path, rounds: range) -> None:
    """Damage archives, every second time with correct checksums; some must unpack, some be refused."""
    source = packed(folder / name, SMALL).read_bytes()
    whole = [source]
    if name == "split.zip":
        whole = [p.read_bytes() for p in split_zip(folder / "split", in_a_row(SMALL), (0, 500, 900), True)]
    good = 0
    for seed in rounds:
        draw, contents = random.Random(seed), list(whole)
        n = draw.randrange(len(contents))
        repair = REPAIRS.get(name) if seed % 2 else None
        inner = gzip.decompress(contents[n]) if repair and name == "a.tar.gz" else contents[n]
        contents[n] = repair(damaged(inner, draw)) if repair else damaged(inner, draw)
        good += survives(name, contents, folder / "box")
    assert 0 < good < len(rounds)


@pytest.mark.parametrize("name", [*KINDS, "split.zip"])
def test_random_damage(tmp_path: Path, name: str) -> None:
    fuzz(name, tmp_path, range(200))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*KINDS, "split.zip"])
def test_much_random_damage(tmp_path: Path, name: str) -> None:
    fuzz(name, tmp_path, range(10_000, 20_000))
