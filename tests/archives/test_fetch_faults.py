"""Downloads from servers that truncate, lie, stall or change their content: the right bytes, or one error."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest

from heareval.archives import download, fetch, sizes
from heareval.archives.download import Patience
from heareval.errors import HearevalError
from heareval.spec import Download
from tests.disks import enlarge, small_disk
from tests.http_server import Behaviour, serving

CONTENT = b"PK" + random.Random(1).randbytes(99_998)
OTHER = b"PK" + random.Random(2).randbytes(99_998)
MD5, OTHER_MD5 = (hashlib.md5(content).hexdigest() for content in (CONTENT, OTHER))
# Every byte counts as progress, so a connection may break after any of them.
ANY_PROGRESS = Patience(tries=3, pause_s=0.0, least_bytes_per_s=0.0)
SHORT = Patience(tries=2, pause_s=0.0, least_bytes_per_s=4000, window_s=0.2)
NOWHERE = "http://127.0.0.1:9/a.zip"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Behaviour]]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.zip").write_bytes(CONTENT)
    with serving(tmp_path / "served") as address_and_behaviour:
        yield address_and_behaviour


def get(url: str, folder: Path, checksum: str = MD5, patience: Patience = ANY_PROGRESS) -> bytes:
    """Return the bytes of a download, after checking that it leaves no other files."""
    target = folder / "downloads" / url.rpartition("/")[2]
    target.parent.mkdir(parents=True, exist_ok=True)
    fetch.fetch(Download(url, checksum), target, [], patience=patience)
    assert {path.name for path in target.parent.iterdir()} == {target.name, f".{target.name}.lock"}
    return target.read_bytes()


def leave_part(folder: Path, content: bytes, mark: str = "") -> None:
    """Write what a killed run would leave."""
    (folder / "downloads").mkdir()
    (folder / "downloads" / "a.zip.part").write_bytes(content)
    if mark:
        (folder / "downloads" / "a.zip.part.validator").write_text(mark)


def part_of(folder: Path) -> bytes:
    return (folder / "downloads" / "a.zip.part").read_bytes()


def sent(behaviour: Behaviour) -> int:
    return sum(request[3] for request in behaviour.requests)


# --------------------------------------------------------------------------- broken connections


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_cuts_at_any_byte(seed: int, chunked: bool, server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    draw = random.Random(seed)
    behaviour.chunked = chunked
    behaviour.cut_after = [draw.randrange(1, 20_000) for _ in range(draw.randrange(1, 12))]
    assert get(f"{address}/a.zip", tmp_path) == CONTENT
    assert sent(behaviour) == len(CONTENT)


@pytest.mark.parametrize("ranges", [True, False])
def test_resets_at_any_byte(ranges: bool, server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    draw = random.Random(3)
    behaviour.resets, behaviour.ranges = True, ranges
    for turn in range(12):
        behaviour.cut_after = sorted(draw.randrange(1, 90_000) for _ in range(4))
        assert get(f"{address}/a.zip", tmp_path / str(turn)) == CONTENT


def test_without_range_what_never_gets_further_ends(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.ranges, behaviour.cut_after = False, [10, 20] * 50
    with pytest.raises(HearevalError, match=r"a\.zip: got IncompleteRead.* \(3 tries in a row\)"):
        get(f"{address}/a.zip", tmp_path)
    assert len(behaviour.requests) == 5


# --------------------------------------------------------------------------- wrong responses


@pytest.mark.parametrize("shift", [-500, 1, 5000])
@pytest.mark.parametrize("checksum", [MD5, ""])
def test_an_answer_from_another_place_is_not_appended(
    shift: int, checksum: str, server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    address, behaviour = server
    behaviour.shift, behaviour.cut_after = shift, [40_000]
    assert get(f"{address}/a.zip", tmp_path, checksum) == CONTENT
    assert [r[2] for r in behaviour.requests] == ["", "bytes=40000-", ""]


def test_answers_of_less_than_the_rest(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.cut_after, behaviour.most_bytes = [40_000], 25_000
    assert get(f"{address}/a.zip", tmp_path) == CONTENT
    assert sent(behaviour) == len(CONTENT)


WRONG_LENGTHS = itertools.product(("100050", "", "many", "-1", "7, 8", "100000, 100000"), (True, False))
HOPELESS = [("7, 8", True), ("7, 8", False), ("100050", False)]


@pytest.mark.parametrize(("length", "ranges"), sorted({*WRONG_LENGTHS} - {*HOPELESS}))
def test_wrong_lengths(length: str, ranges: bool, server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.headers, behaviour.ranges = {"Content-Length": length}, ranges
    assert get(f"{address}/a.zip", tmp_path) == CONTENT


@pytest.mark.parametrize(("length", "ranges"), HOPELESS)
def test_lengths_that_no_download_can_have(
    length: str, ranges: bool, server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    address, behaviour = server
    behaviour.headers, behaviour.ranges = {"Content-Length": length}, ranges
    with pytest.raises(HearevalError, match=r"a\.zip: got .*\(3 tries in a row\)"):
        get(f"{address}/a.zip", tmp_path)


def test_more_than_was_announced(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.headers = {"Content-Length": "60000"}
    with pytest.raises(HearevalError, match=rf"a\.zip: got MD5 \w+, expected {MD5}"):
        get(f"{address}/a.zip", tmp_path)


@pytest.mark.parametrize(
    ("place", "checksum"), [("bytes */99", MD5), ("bytes */100500", MD5), ("", MD5), ("bytes */100000", "")]
)
def test_a_part_of_a_longer_file(
    place: str, checksum: str, server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    address, behaviour = server
    leave_part(tmp_path, OTHER + bytes(500), '"old"')
    behaviour.headers, behaviour.tags, behaviour.if_range = {"Content-Range": place}, False, False
    assert get(f"{address}/a.zip", tmp_path, checksum) == CONTENT
    assert [r[2] for r in behaviour.requests] == ["bytes=100500-", ""]


def test_a_whole_part_is_not_fetched_again(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    leave_part(tmp_path, CONTENT)
    assert get(f"{address}/a.zip", tmp_path) == CONTENT
    assert sent(behaviour) == 0


@pytest.mark.parametrize("status", [204, 206, 300, 302, 304, 416])
def test_answers_that_are_no_file(status: int, server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.statuses = [status]
    with pytest.raises(HearevalError, match=rf"a\.zip: got HTTP {status} .*, expected the archive"):
        get(f"{address}/a.zip", tmp_path)


# --------------------------------------------------------------------------- editions


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("tags", [True, False])
@pytest.mark.parametrize("checksum", [OTHER_MD5, ""])
def test_never_a_mixture_of_editions(
    checksum: str, tags: bool, if_range: bool, server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    address, behaviour = server
    behaviour.tags, behaviour.if_range = tags, if_range
    behaviour.editions, behaviour.cut_after = [CONTENT, OTHER], [30_000]
    assert get(f"{address}/a.zip", tmp_path, checksum) == OTHER


def test_a_file_that_changes_with_every_answer(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.tags, behaviour.if_range = False, False
    behaviour.editions, behaviour.cut_after = [CONTENT, OTHER] * 50, [30_000, 99_000] * 50
    with pytest.raises(HearevalError, match=r"a\.zip: got "):
        get(f"{address}/a.zip", tmp_path)


@pytest.mark.parametrize("checksum", [MD5, ""])
@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize(("part", "mark"), [(OTHER[:500], ""), (OTHER + OTHER, '"old"'), (OTHER, '"old"')])
def test_what_a_killed_run_left_of_another_edition(
    part: bytes, mark: str, if_range: bool, checksum: str, server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    server[1].if_range = if_range
    leave_part(tmp_path, part, mark)
    assert get(f"{server[0]}/a.zip", tmp_path, checksum) == CONTENT


def test_without_a_checksum_a_mark_is_enough_to_go_on(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.cut_after = [30_000, 20_000]
    assert get(f"{address}/a.zip", tmp_path, "") == CONTENT
    assert sent(behaviour) == len(CONTENT)


# --------------------------------------------------------------------------- statuses and redirects


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_busy_servers(status: int, server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.statuses, behaviour.cut_after = [status] * 2, [30_000]
    assert get(f"{address}/a.zip", tmp_path) == CONTENT
    assert sent(behaviour) == len(CONTENT)
    behaviour.statuses = [status] * 9
    with pytest.raises(HearevalError, match=rf"a\.zip: got HTTP {status} .*\(3 tries in a row\)"):
        get(f"{address}/a.zip", tmp_path / "again")
    assert len(behaviour.statuses) == 6


def test_giving_up_keeps_what_came(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    for failing in ({"/a.zip": 503}, {"/a.zip": 404}, {"/a.zip": 401}):
        leave_part(tmp_path, CONTENT[:70_000])
        behaviour.failing = failing
        with pytest.raises(HearevalError, match=r"a\.zip: got HTTP"):
            get(f"{address}/a.zip", tmp_path)
        assert part_of(tmp_path) == CONTENT[:70_000]
        shutil.rmtree(tmp_path / "downloads")


def test_redirects(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    with serving(tmp_path / "served") as (elsewhere, theirs):
        behaviour.redirects = {f"/{i}/a.zip": f"/{i - 1}/a.zip" for i in range(1, 5)}
        behaviour.redirects["/0/a.zip"] = f"{elsewhere}/a.zip"
        theirs.cut_after = [1000, 40_000]
        assert get(f"{address}/4/a.zip", tmp_path) == CONTENT
        assert sent(theirs) == len(CONTENT)
        assert sent(behaviour) == 0


@pytest.mark.parametrize("place", ["/loop/a.zip", "ftp://127.0.0.1/a.zip", "http://", "http://[/a.zip"])
def test_redirects_to_nowhere(place: str, server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.redirects = {"/loop/a.zip": place}
    with pytest.raises(HearevalError, match=r"a\.zip: got \S.*, expected the archive"):
        get(f"{address}/loop/a.zip", tmp_path)


def test_redirect_to_a_page(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    (tmp_path / "served" / "page").write_bytes(b"<html>Log in first</html>")
    behaviour.redirects = {"/a.zip": "/page"}
    with pytest.raises(HearevalError, match=rf"a\.zip: got MD5 \w+, expected {MD5}"):
        get(f"{address}/a.zip", tmp_path)
    with pytest.raises(HearevalError, match=r"a\.zip: got a file that begins with b'<h'"):
        get(f"{address}/a.zip", tmp_path, "")


@pytest.mark.parametrize("asked", ["1", pytest.param("a date", marks=pytest.mark.slow)])
def test_a_pause_that_a_busy_server_asks_for(
    asked: str, server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    address, behaviour = server
    behaviour.statuses = [503]
    # A date has whole seconds.
    behaviour.retry_after = (
        asked if asked == "1" else format_datetime(datetime.now(timezone.utc) + timedelta(seconds=2))
    )
    started = time.time()
    assert get(f"{address}/a.zip", tmp_path) == CONTENT
    assert time.time() - started >= 1


@pytest.mark.parametrize("asked", ["3600", "never", "-5", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_pause_that_is_too_long_or_nonsense(
    asked: str, server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    address, behaviour = server
    behaviour.statuses, behaviour.retry_after = [429], asked
    assert get(f"{address}/a.zip", tmp_path, patience=SHORT) == CONTENT


# --------------------------------------------------------------------------- mirrors


def get_from(
    mirrors: list[str], folder: Path, patience: Patience = ANY_PROGRESS, url: str = NOWHERE
) -> bytes:
    target = folder / "downloads" / "a.zip"
    fetch.fetch(Download(url, MD5), target, fetch.open_mirrors(mirrors), patience=patience)
    return target.read_bytes()


@pytest.mark.parametrize("fault", ["busy", "reset", "cut"])
def test_a_mirror_that_fails_at_first(fault: str, server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    if fault == "busy":
        behaviour.statuses = [503, 429]
    elif fault == "reset":
        behaviour.hangups = 2
    else:
        behaviour.cut_after, behaviour.resets = [30_000, 20_000], True
    assert get_from([address], tmp_path) == CONTENT


def test_a_proxy_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    expected = (
        "got no connection through the proxy: Failed to establish a new connection: "
        r"\[Errno 111\] Connection refused \(3 tries in a row\), expected the archive"
    )
    with pytest.raises(HearevalError, match=expected):
        get("http://somewhere.invalid/a.zip", tmp_path)


def test_an_error_tells_what_each_mirror_answered(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    (tmp_path / "folder").mkdir()
    behaviour.failing, behaviour.statuses = {"/busy/a.zip": 503}, []
    mirrors = [f"{address}/busy", f"{address}/other", str(tmp_path / "folder")]
    tried = (
        rf"Also tried: {address}/busy \(HTTP 503 Service Unavailable \(3 tries in a row\)\), "
        rf"{address}/other \(HTTP 404 Not Found\), {tmp_path}/folder \(no such file\)\."
    )
    with pytest.raises(HearevalError, match=rf"a.zip: got .*refused.*, expected the archive. {tried}"):
        get_from(mirrors, tmp_path)


def test_a_mirror_that_breaks_off_for_good_is_no_dead_end(
    server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    """The publisher goes on where the mirror stopped."""
    address, behaviour = server
    with serving(tmp_path / "served") as (mirror, theirs):
        theirs.cut_after, theirs.resets = [60_000], True
        never_again = Patience(tries=1, pause_s=0.0, least_bytes_per_s=10**9)
        assert get_from([mirror], tmp_path, never_again, f"{address}/a.zip") == CONTENT
        assert sent(theirs) == 60_000
    assert sent(behaviour) == 40_000


def test_a_mirror_that_is_down_delays_one_of_many_files(
    server: tuple[str, Behaviour], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _ = server
    monkeypatch.setattr(fetch, "PATIENT", Patience(tries=3, pause_s=0.0))
    monkeypatch.setattr(fetch, "PARALLEL_DOWNLOADS", 1)
    for number in range(5):
        (tmp_path / "served" / f"{number}.wav").write_bytes(bytes([number]))
    listed = [Download(f"{address}/{i}.wav", hashlib.md5(bytes([i])).hexdigest()) for i in range(5)]
    with serving(tmp_path) as (mirror, theirs):
        theirs.statuses = [503] * 99
        fetch.fetch_listed(listed, tmp_path / "files", fetch.open_mirrors([mirror]))
        assert 99 - len(theirs.statuses) == 3 + 4


def test_an_old_host_that_is_busy_is_asked_again(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.statuses = [503]
    download_ = Download(f"{address}/a.zip", MD5, other_urls=(NOWHERE,))
    fetch.fetch(download_, tmp_path / "downloads" / "a.zip", [], patience=ANY_PROGRESS)


def test_a_mirror_without_an_address_is_not_asked_again(tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match=r"Also tried: ftp://x \(No connection adapters .*'\)\. "):
        get_from(["ftp://x"], tmp_path)


# --------------------------------------------------------------------------- sizes


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in (folder / "downloads").iterdir() if not path.name.endswith(".lock")]


@pytest.mark.parametrize("checksum", [MD5, ""])
@pytest.mark.parametrize("chunked", [True, False])
def test_endless_bodies(chunked: bool, checksum: str, server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.endless, behaviour.chunked = True, chunked
    behaviour.headers = {"Content-Length": ""}
    patience = replace(ANY_PROGRESS, most_bytes=1_500_000)
    with pytest.raises(
        HearevalError, match=r"a\.zip: got more than 0\.0015 GB, expected no file of that size"
    ):
        get(f"{address}/a.zip", tmp_path, checksum, patience)
    assert left_behind(tmp_path) == []


def test_a_size_beyond_all_bounds_is_refused_at_once(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.headers = {"Content-Length": str(10**15)}
    with pytest.raises(HearevalError, match=r"a\.zip: got more than 200 GB, expected no file"):
        get(f"{address}/a.zip", tmp_path)
    assert left_behind(tmp_path) == []


def test_chunks_beyond_the_announced_size(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.chunked, behaviour.headers = True, {"Content-Length": "60000"}
    with pytest.raises(HearevalError, match=r"a\.zip: got more than the 60000 bytes that were announced"):
        get(f"{address}/a.zip", tmp_path)
    assert left_behind(tmp_path) == []


def test_a_small_answer_that_unpacks_to_a_large_one(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    (tmp_path / "served" / "a.zip").write_bytes(bytes(3_000_000))
    behaviour.coding = "gzip"
    with pytest.raises(HearevalError, match=r"a\.zip: got more than 0\.0015 GB"):
        get(f"{address}/a.zip", tmp_path, patience=replace(ANY_PROGRESS, most_bytes=1_500_000))
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("fault", ["busy", pytest.param("reset", marks=pytest.mark.slow)])
def test_the_size_from_a_server_that_fails_at_first(fault: str, server: tuple[str, Behaviour]) -> None:
    address, behaviour = server
    if fault == "busy":
        behaviour.statuses = [503]
    else:
        behaviour.hangups = 1
    assert sizes.content_length([f"{address}/a.zip"]) == len(CONTENT)
    behaviour.statuses = [404]
    assert sizes.content_length([f"{address}/a.zip"]) is None


# --------------------------------------------------------------------------- slow servers


@pytest.mark.parametrize("chunked", [False, True])
def test_a_stalling_server_is_given_up(chunked: bool, server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.drip_bytes, behaviour.drip_s, behaviour.chunked = 1, 0.02, chunked
    with pytest.raises(HearevalError, match=r"a\.zip: got \d+ bytes in \d+ s \(2 tries in a row\)"):
        get(f"{address}/a.zip", tmp_path, patience=SHORT)
    # The client has given up long before the server is done, and what it has received is used.
    behaviour.drip_s = behaviour.drip_bytes = 0
    assert len(behaviour.requests) == 2
    have = len(part_of(tmp_path))
    assert 0 < have < len(CONTENT) // 10
    behaviour.requests.clear()
    assert get(f"{address}/a.zip", tmp_path) == CONTENT
    assert sent(behaviour) == len(CONTENT) - have


def test_endless_headers_are_given_up(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.header_drip_s = 0.1
    with pytest.raises(HearevalError, match=r"a\.zip: got no answer within 0.2 s \(2 tries in a row\)"):
        get(f"{address}/a.zip", tmp_path, patience=SHORT)
    # The headers take longer than both tries; only after them does the server note a request.
    assert behaviour.requests == []
    # As a mirror, such a server is passed over, and its answer told.
    target = tmp_path / "downloads" / "a.zip"
    nowhere = Download("http://127.0.0.1:9/a.zip", MD5)
    with pytest.raises(HearevalError, match=rf"refused.*Also tried: {address} \(no answer within 0.2 s"):
        fetch.fetch(nowhere, target, fetch.open_mirrors([address]), patience=SHORT)


def test_a_slow_line_is_waited_for(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    """For three times the window, at far more than the least speed, so that a busy machine may be slower."""
    address, behaviour = server
    behaviour.drip_bytes, behaviour.drip_s = 1000, 0.015
    patience = Patience(tries=2, pause_s=0.0, least_bytes_per_s=100, window_s=0.5)
    assert get(f"{address}/a.zip", tmp_path, patience=patience) == CONTENT
    assert len(behaviour.requests) == 1


def test_the_default_patience_allows_20_kilobytes_per_second() -> None:
    assert download.PATIENT.least_bytes_per_s * 10 <= 20_000
    assert download.PATIENT.window_s >= download.TIMEOUT_S[1]


# --------------------------------------------------------------------------- compression


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("checksum", [MD5, ""])
@pytest.mark.parametrize("cuts", [[], [50_000], [100, 60_000, 90_000]])
def test_a_server_that_compresses_unasked(
    cuts: list[int], checksum: str, chunked: bool, server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    address, behaviour = server
    behaviour.coding, behaviour.chunked, behaviour.cut_after = "gzip", chunked, list(cuts)
    assert get(f"{address}/a.zip", tmp_path, checksum) == CONTENT
    # The size of a decompressed part is no offset in the compressed response.
    assert [r[2] for r in behaviour.requests] == [""] * (len(cuts) + 1)


def test_a_server_that_compresses_the_rest_only(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    leave_part(tmp_path, CONTENT[:60_000])
    behaviour.coding = "gzip"
    assert get(f"{address}/a.zip", tmp_path) == CONTENT


@pytest.mark.parametrize("cuts", [[], [500, 700]])
def test_an_archive_that_the_server_calls_compressed(
    cuts: list[int], server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    """The publisher compressed it, not the server: the checksum is that of the .gz."""
    address, behaviour = server
    content = gzip.compress(CONTENT, mtime=0)
    (tmp_path / "served" / "a.tar.gz").write_bytes(content)
    behaviour.headers, behaviour.cut_after = {"Content-Encoding": "x-gzip"}, list(cuts)
    assert get(f"{address}/a.tar.gz", tmp_path, hashlib.md5(content).hexdigest()) == content
    assert sent(behaviour) == len(content)


# --------------------------------------------------------------------------- kills and full disks

CHILD = """
import sys
from pathlib import Path
from heareval.spec import Download
from heareval.archives import fetch
url, checksum, target = sys.argv[1:]
fetch.fetch(Download(url, checksum), Path(target), [])
"""


@pytest.mark.parametrize("checksum", [MD5, ""])
def test_killed_and_run_again(checksum: str, server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.drip_bytes, behaviour.drip_s = 10_000, 0.1
    target = tmp_path / "downloads" / "a.zip"
    words = [sys.executable, "-c", CHILD, f"{address}/a.zip", checksum, str(target)]
    part = target.with_name("a.zip.part")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as child:
        while not (part.exists() and part.stat().st_size > 20_000):
            assert child.poll() is None, child.communicate()[1]
            time.sleep(0.01)
        # The server sends no more, so the child cannot finish before the kill.
        behaviour.drip_s = 60.0
        child.kill()
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    behaviour.drip_s, behaviour.requests = 0, []
    assert get(f"{address}/a.zip", tmp_path, checksum) == CONTENT
    assert sent(behaviour) == len(CONTENT) - have


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kilobytes."""
    with small_disk(tmp_path / "disk", 1 << 16) as folder:
        yield folder


def test_an_endless_body_fills_no_disk(server: tuple[str, Behaviour], tmp_path: Path, disk: Path) -> None:
    address, behaviour = server
    behaviour.endless, behaviour.chunked = True, True
    with pytest.raises(HearevalError, match=r"got \d+ bytes without an end, which fill the disk"):
        get(f"{address}/a.zip", disk)
    assert left_behind(disk) == []


def test_a_disk_that_fills_up(server: tuple[str, Behaviour], tmp_path: Path, disk: Path) -> None:
    address, behaviour = server
    with pytest.raises(OSError, match="No space left on device"):
        get(f"{address}/a.zip", disk)
    assert len(behaviour.requests) == 1
    have = len(part_of(disk))
    assert part_of(disk) == CONTENT[:have] != b""
    enlarge(disk, 1 << 20)
    behaviour.requests.clear()
    assert get(f"{address}/a.zip", disk) == CONTENT
    assert sent(behaviour) == len(CONTENT) - have
