"""Fetching from mirrors and from a real server that truncates, lies and fails."""

from __future__ import annotations

import fcntl
import hashlib
import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from heareval import files
from heareval.archives import fetch
from heareval.archives.download import Patience
from heareval.errors import HearevalError
from heareval.progress import show_steps
from heareval.spec import Download
from tests.http_server import Behaviour, serving

CONTENT = b"PK" + random.Random(0).randbytes(2_999_998)
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Behaviour]]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.zip").write_bytes(CONTENT)
    with serving(tmp_path / "served") as address_and_behaviour:
        yield address_and_behaviour


def get(download: Download, folder: Path, mirrors: tuple[str, ...] = (), tries: int = 3) -> Path:
    target = folder / "downloads" / download.file_name
    target.parent.mkdir(parents=True, exist_ok=True)
    opened = fetch.open_mirrors(mirrors)
    fetch.fetch(download, target, opened, patience=Patience(tries, 0.01))
    return target


def leftovers(target: Path) -> list[str]:
    return [p.name for p in target.parent.iterdir() if p != target and not p.name.endswith(".lock")]


def test_whole_file(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    target = get(Download(f"{server[0]}/a.zip", MD5), tmp_path)
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == []


def test_a_run_that_waits_for_another_one_says_so(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()

    class Log(io.StringIO):
        def write(self, text: str) -> int:
            if "waiting" in text:
                other.close()
            return super().write(text)

    with files.open_lock(tmp_path / "downloads" / ".a.zip.lock") as other:
        files.lock(other, fcntl.LOCK_EX)
        with show_steps(1, stream := Log()):
            get(Download(f"{server[0]}/a.zip", MD5), tmp_path)
    assert stream.getvalue() == "fetch a.zip: waiting for another run, which fetches it\n"


def test_resumes_where_the_connection_was_cut(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.cut_after = [700_001, 900_000, 1]
    target = get(Download(f"{address}/a.zip", MD5), tmp_path)
    assert target.read_bytes() == CONTENT
    assert [r[2] for r in behaviour.requests] == ["", "bytes=700001-", "bytes=1600001-", "bytes=1600002-"]
    assert sum(r[3] for r in behaviour.requests) == len(CONTENT)


def test_goes_on_with_what_a_killed_run_left(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "a.zip.part").write_bytes(CONTENT[:2_000_000])
    assert get(Download(f"{address}/a.zip", MD5), tmp_path).read_bytes() == CONTENT
    assert [r[3] for r in behaviour.requests] == [1_000_000]


def test_starts_over_without_range(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.cut_after, behaviour.ranges = [1000], False
    assert get(Download(f"{address}/a.zip", MD5), tmp_path).read_bytes() == CONTENT


def test_starts_over_when_the_file_changed_between_two_tries(
    server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    address, behaviour = server
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "a.zip.part").write_bytes(b"another edition")
    (tmp_path / "downloads" / "a.zip.part.validator").write_text('"old"')
    assert get(Download(f"{address}/a.zip", MD5), tmp_path).read_bytes() == CONTENT
    assert len(behaviour.requests) == 1


def test_starts_over_when_the_pieces_do_not_fit(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "a.zip.part").write_bytes(b"another edition")
    assert get(Download(f"{address}/a.zip", MD5), tmp_path).read_bytes() == CONTENT
    assert [r[2] for r in behaviour.requests] == ["bytes=15-", ""]


def test_server_errors_are_tried_again(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.statuses = [503, 500]
    assert get(Download(f"{address}/a.zip", MD5), tmp_path).read_bytes() == CONTENT


def test_gives_up_with_one_line(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    behaviour.statuses = [503] * 9
    with pytest.raises(HearevalError, match=r"a\.zip: got HTTP 503 .*3 tries in a row.*--mirror"):
        get(Download(f"{address}/a.zip", MD5), tmp_path)
    assert len(behaviour.statuses) == 6


def test_not_found_is_not_tried_again(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match=r"b\.zip: got HTTP 404"):
        get(Download(f"{server[0]}/b.zip", MD5), tmp_path)


def test_wrong_checksum(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match=rf"got MD5 {MD5}, expected 0000.*--accept-checksums"):
        get(Download(f"{server[0]}/a.zip", "0" * 32), tmp_path)
    assert leftovers(tmp_path / "downloads" / "a.zip") == []


def test_sha256_where_it_was_published(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    download = Download(f"{server[0]}/a.zip", hashlib.sha256(CONTENT).hexdigest())
    assert get(download, tmp_path).read_bytes() == CONTENT


NOWHERE = "http://127.0.0.1:9/a.zip"


@pytest.mark.parametrize("place", ["a.zip", "corpus/a.zip"])
def test_mirror_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "mirror" / "corpus").mkdir(parents=True)
    (tmp_path / "mirror" / place).write_bytes(CONTENT)
    assert get(Download(NOWHERE, MD5), tmp_path, (str(tmp_path / "mirror"),)).read_bytes() == CONTENT


def test_mirror_url(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    assert get(Download(NOWHERE, MD5), tmp_path, (server[0],)).read_bytes() == CONTENT


def test_a_name_that_urls_encode(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    """The file has its real name in mirrors, whether folder or URL, and on this machine."""
    (tmp_path / "served" / "G#4 a.zip").write_bytes(CONTENT)
    for folder, url, mirror in (
        ("published", f"{server[0]}/G%234%20a.zip", ()),
        ("from_url", "http://127.0.0.1:9/G%234%20a.zip", (server[0],)),
        ("from_folder", "http://127.0.0.1:9/G%234%20a.zip", (str(tmp_path / "served"),)),
    ):
        target = get(Download(url, MD5), tmp_path / folder, mirror)
        assert target.name == "G#4 a.zip"
        assert target.read_bytes() == CONTENT


def test_mirror_without_the_archive(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    with pytest.raises(
        HearevalError, match=rf"a\.zip: got .*refused.*Also tried: {tmp_path}/mirror \(no such file\)"
    ):
        get(Download(NOWHERE, MD5), tmp_path, (str(tmp_path / "mirror"),))


def test_damaged_archive_in_a_mirror(tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a.zip").write_bytes(CONTENT[:-1])
    with pytest.raises(HearevalError, match=rf"mirror/a\.zip: got MD5 \w+, expected {MD5}"):
        get(Download(NOWHERE, MD5), tmp_path, (str(tmp_path / "mirror"),))


def test_no_such_mirror(tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match=r"mirror .*/nowhere: got no such folder"):
        get(Download(NOWHERE, MD5), tmp_path, (str(tmp_path / "nowhere"),))


def test_accepted_checksums(tmp_path: Path) -> None:
    (tmp_path / "sums").write_text(f"{MD5}  folder/a.zip\n{'ab' * 32} *b.zip\n\n")
    assert fetch.read_accepted_checksums(tmp_path / "sums") == {"a.zip": MD5, "b.zip": "ab" * 32}
    (tmp_path / "sums").write_text("hello\n")
    with pytest.raises(HearevalError, match="sums, line 1: got 'hello'"):
        fetch.read_accepted_checksums(tmp_path / "sums")
    with pytest.raises(HearevalError, match="no-file: got No such file"):
        fetch.read_accepted_checksums(tmp_path / "no-file")


def test_next_address_when_the_first_is_gone(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, _ = server
    download = Download(
        "http://127.0.0.1:9/a.zip", MD5, other_urls=(f"{address}/gone/a.zip", f"{address}/a.zip")
    )
    assert get(download, tmp_path).read_bytes() == CONTENT
    nowhere = Download(f"{address}/gone/a.zip", MD5, other_urls=(f"{address}/lost/a.zip",))
    with pytest.raises(
        HearevalError,
        match=r"lost/a\.zip: got HTTP 404 .* Also tried: http.*/gone/a\.zip \(HTTP 404 Not Found\)\. ",
    ):
        get(nowhere, tmp_path / "again")


def test_any_file_will_do_where_no_checksum_was_published(
    server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    assert get(Download(f"{server[0]}/a.zip", ""), tmp_path).read_bytes() == CONTENT
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a.zip").write_bytes(b"mine")
    found = get(Download(f"{server[0]}/a.zip", ""), tmp_path / "again", (str(tmp_path / "mirror"),))
    assert found.read_bytes() == b"mine"


def test_deep_mirror_and_names_that_several_corpora_share(tmp_path: Path) -> None:
    for folder, content in (("corpus/sounds", CONTENT), ("other/b", b"another corpus")):
        (tmp_path / "mirror" / folder).mkdir(parents=True)
        (tmp_path / "mirror" / folder / "dev.zip").write_bytes(content)
    mirrors = (str(tmp_path / "mirror"),)
    assert get(Download("http://127.0.0.1:9/dev.zip", MD5), tmp_path, mirrors).read_bytes() == CONTENT


def test_a_page_of_a_host_that_is_gone(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    (tmp_path / "served" / "b.zip").write_bytes(b"<html>domain for sale</html>")
    (tmp_path / "served" / "old").mkdir()
    (tmp_path / "served" / "old" / "b.zip").write_bytes(CONTENT)
    page, good = f"{server[0]}/b.zip", f"{server[0]}/old/b.zip"
    with pytest.raises(HearevalError, match=r"b\.zip: got a file that begins with b'<h', expected"):
        get(Download(page, ""), tmp_path)
    assert get(Download(page, "", other_urls=(good,)), tmp_path / "again").read_bytes() == CONTENT


def test_a_good_archive_in_a_later_mirror(tmp_path: Path) -> None:
    for folder, content in (("first", b"damaged"), ("second", CONTENT)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.zip").write_bytes(content)
    mirrors = (str(tmp_path / "first"), str(tmp_path / "second"))
    assert get(Download("http://127.0.0.1:9/a.zip", MD5), tmp_path, mirrors).read_bytes() == CONTENT
    with pytest.raises(HearevalError, match=r"first/a\.zip: got MD5"):
        get(Download("http://127.0.0.1:9/a.zip", MD5), tmp_path / "again", mirrors[:1])
    (tmp_path / "second" / "a.zip").write_bytes(b"worse")
    others = (*mirrors, "http://127.0.0.1:9")
    with pytest.raises(
        HearevalError,
        match=r"first/a\.zip: got MD5 .* Also tried: \S+second \(MD5 \w+\), http://127.0.0.1:9 \(.*refused",
    ):
        get(Download("http://127.0.0.1:9/a.zip", MD5), tmp_path / "more", others)


def listed(address: str, count: int) -> list[Download]:
    return [Download(f"{address}/{i}.wav", hashlib.sha256(bytes([i])).hexdigest()) for i in range(count)]


def test_listed_files(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    address, behaviour = server
    for i in range(20):
        (tmp_path / "served" / f"{i}.wav").write_bytes(bytes([i]))
    reported = []
    args = (tmp_path / "files", [], lambda done, total: reported.append((done, total)))
    wrong = [*listed(address, 12), Download(f"{address}/13.wav", "0" * 64)]
    with pytest.raises(HearevalError, match=r"13\.wav: got SHA-256 .*, expected 0000"):
        fetch.fetch_listed(wrong, *args)
    fetched = {p.name for p in (tmp_path / "files").glob("*.wav")}
    assert fetched
    behaviour.requests.clear()
    first = fetch.fetch_listed(listed(address, 20), *args)
    # Files that an earlier attempt fetched are not requested again.
    assert not fetched & {request[1].lstrip("/") for request in behaviour.requests}
    assert reported[-1] == (20, 20)
    assert {p.name: p.read_bytes() for p in (tmp_path / "files").glob("*")} == {
        f"{i}.wav": bytes([i]) for i in range(20)
    }
    assert fetch.fetch_listed(listed(address, 20)[::-1], *args) == first
    # A file that a crash of the machine truncated is fetched again.
    (tmp_path / "files" / "7.wav").write_bytes(b"")
    assert fetch.fetch_listed(listed(address, 20), *args) == first


def test_one_of_many_that_fails(
    server: tuple[str, Behaviour], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, behaviour = server
    monkeypatch.setattr(fetch, "PATIENT", Patience(3, 0.01))
    for i in range(30):
        (tmp_path / "served" / f"{i}.wav").write_bytes(bytes([i]))
    behaviour.failing = {"/12.wav": 503}
    with pytest.raises(HearevalError, match=r"12\.wav: got HTTP 503 .*\(3 tries in a row\)"):
        fetch.fetch_listed(listed(address, 30), tmp_path / "files", [])
    kept = {path.name for path in (tmp_path / "files").iterdir()}
    assert kept >= {f"{i}.wav" for i in range(12)}
    assert "12.wav" not in kept
    behaviour.failing = {}
    behaviour.requests.clear()
    fetch.fetch_listed(listed(address, 30), tmp_path / "files", [])
    assert len(behaviour.requests) == 30 - len(kept)
    assert len(list((tmp_path / "files").iterdir())) == 30
