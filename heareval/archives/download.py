"""One file from one address, gone on with where it was cut off."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from heareval.errors import HearevalError
from heareval.spec import Download, Progress

TIMEOUT_S = (10, 60)  # to connect, and between two pieces of the answer
BLOCK_BYTES = 1 << 18
OK, PARTIAL, UNSATISFIABLE = 200, 206, 416
# ValueError: of a redirect to what is no address.
NO_ANSWER = (requests.RequestException, urllib3.exceptions.HTTPError, ValueError)
# Instead of a mark: a part unpacked on the way, whose size tells no place in what the server sends.
UNPACKED = "unpacked"


@dataclass(frozen=True)
class Patience:
    """How long a download is tried.

    Args:
        tries: attempts in a row that may bring next to nothing before it is given up.
        pause_s: pause after the first fruitless attempt; it doubles with each.
        least_bytes_per_s: an attempt that brings less is fruitless.
        window_s: how long an answer may take to begin, or be slower than that, before the attempt ends.
    """

    tries: int
    pause_s: float
    least_bytes_per_s: float = 1000.0
    window_s: float = 120.0


PATIENT = Patience(tries=5, pause_s=1.0)


def ask(url: str, headers: Mapping[str, str], patience: Patience) -> requests.Response:
    """The answer, once it has begun; a thread that waits for one without end is left behind."""
    future: futures.Future[requests.Response] = futures.Future()

    def ask() -> None:
        try:
            future.set_result(requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S))
        except Exception as error:
            future.set_exception(error)

    # What requests calls a timeout is one between two bytes.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return future.result(patience.window_s)
    except futures.TimeoutError:
        raise requests.Timeout(f"no answer within {patience.window_s:g} s") from None


def fetch_part(url: str, part: Path, download: Download, progress: Progress, patience: Patience) -> bool:
    """Fetch until the file is complete; returns whether it may come from several answers."""
    failures, furthest, began = 0, _size(part), time.monotonic()
    while True:
        resumed = _size(part) > 0
        try:
            if _fetch_rest(url, part, download, progress, patience):
                return resumed
        except NO_ANSWER as error:
            # Of a server that always starts over, only what goes beyond its best try is new.
            new, now = _size(part) - furthest, time.monotonic()
            failures = 0 if new > patience.least_bytes_per_s * (now - began) else failures + 1
            furthest, began = furthest + max(0, new), now
            if failures >= patience.tries:
                raise HearevalError(
                    f"download of {url}",
                    got=f"{_reason(error)} ({failures} tries in a row)",
                    expected="the archive",
                    remedy="Check the network, or put the file into a folder and name it with --mirror.",
                ) from error
            time.sleep(patience.pause_s * 2 ** max(0, failures - 1))


def _reason(error: Exception) -> str:
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", cause)).split(": ", 1)[-1]


def _fetch_rest(url: str, part: Path, download: Download, progress: Progress, patience: Patience) -> bool:
    """One request for what is missing of `part`, appended as it comes; False if `part` had to go."""
    mark = _mark_file(part).read_text("utf-8") if _mark_file(part).exists() else ""
    # Without a checksum only the mark tells whether the rest belongs to the same edition.
    have = _size(part) if mark != UNPACKED and (mark or download.wanted) else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": mark} if mark else {})
    with ask(url, headers, patience) as answer:
        place = answer.headers.get("Content-Range", "")
        # Some servers take the gzip that an archive is published with for theirs.
        is_packed = "Content-Encoding" in answer.headers and not download.file_name.endswith((".gz", ".tgz"))
        if have and answer.status_code in (PARTIAL, UNSATISFIABLE):
            is_same = mark in ("", _mark(answer) or mark)
            if answer.status_code == UNSATISFIABLE and is_same and place in ("", f"bytes */{have}"):
                return True  # nothing is missing; the checksum will tell
            if is_packed or not is_same or not place.startswith(f"bytes {have}-"):
                part.unlink()
                return False
        _raise_for_status(url, answer, (OK, PARTIAL) if have else (OK,))
        if answer.status_code == OK:
            have = 0
            _begin(part, UNPACKED if is_packed else _mark(answer))
        _append(part, have, answer, _blocks(answer, is_packed, patience), progress)
        if answer.status_code == PARTIAL and not place.endswith(("/*", f"/{_size(part)}")):
            raise requests.ConnectionError(f"an answer of {place} only")
    return True


def _append(
    part: Path, have: int, answer: requests.Response, blocks: Iterator[bytes], progress: Progress
) -> None:
    length = answer.headers.get("Content-Length", "")
    total = have + (int(length) if length.isdecimal() else 0)
    with open(part, "ab") as stream:
        for block in blocks:
            stream.write(block)
            have += len(block)
            progress(have, max(total, have))


def _begin(part: Path, mark: str) -> None:
    """Make a new start; the old bytes go first, so that a kill can't leave them beside the new mark."""
    part.unlink(missing_ok=True)
    _mark_file(part).write_text(mark, "utf-8")


def _blocks(answer: requests.Response, is_packed: bool, patience: Patience) -> Iterator[bytes]:
    """The body as it comes; an error if that is too slowly."""
    came, since = 0, time.monotonic()
    # read1 hands over what has come, so that a cut connection loses nothing of it.
    while block := answer.raw.read1(BLOCK_BYTES, decode_content=is_packed):
        yield block
        came, waited = came + len(block), time.monotonic() - since
        if waited > patience.window_s:
            if came < patience.least_bytes_per_s * waited:
                raise requests.Timeout(f"{came} bytes in {waited:.0f} s")
            came, since = 0, time.monotonic()


def _mark(answer: requests.Response) -> str:
    """A strong ETag or a date: it makes sure that the rest belongs to the same edition of the file."""
    mark = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    return "" if mark.startswith("W/") else mark


def forget_mark(part: Path) -> None:
    """Remove what was noted beside a part, which is whole now or gone."""
    _mark_file(part).unlink(missing_ok=True)


def _mark_file(part: Path) -> Path:
    return part.with_name(part.name + ".validator")


def _raise_for_status(url: str, answer: requests.Response, wanted: Collection[int]) -> None:
    if answer.status_code >= 500 or answer.status_code == requests.codes.too_many_requests:
        raise requests.ConnectionError(f"HTTP {answer.status_code} {answer.reason}")
    if answer.status_code not in wanted:
        raise HearevalError(
            f"download of {url}",
            got=f"HTTP {answer.status_code} {answer.reason}",
            expected="the archive",
            remedy="It has moved: put the file into a folder and name it with --mirror.",
        )


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
