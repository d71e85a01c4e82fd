"""Download one file from one URL, and resume where the download was cut off."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NoReturn

import requests
import urllib3

from heareval.errors import HearevalError
from heareval.spec import Download, Progress

TIMEOUT_S = (10, 60)  # to connect, and between two parts of the response
BLOCK_BYTES = 1 << 18
OK, PARTIAL, UNSATISFIABLE = 200, 206, 416
# ValueError is raised for a redirect to an invalid URL.
NO_ANSWER = (requests.RequestException, urllib3.exceptions.HTTPError, ValueError)
# An address that is wrong, or leads in circles, will not become another.
HOPELESS = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.TooManyRedirects,
)
# Twice the largest archive of the benchmark, that of maestro with 101 GB. Whatever is larger, or never ends,
# is something else, and would fill the disk.
MOST_BYTES = 200 * 10**9
UNANSWERED_REMEDY = "Check the network, or put the file into a folder, and give it with --mirror."
REFUSED_REMEDY = "It has moved: put the file into a folder, and give it with --mirror."
# In place of a validator: the part was decompressed on the way, so its size is no offset for the server.
DECOMPRESSED = "unpacked"


@dataclass(frozen=True)
class Patience:
    """When to give up a download.

    Args:
        tries: give up after this many failed attempts in a row.
        pause_s: pause after the first failed attempt; it doubles with each further one.
        least_bytes_per_s: an attempt that is slower has failed.
        window_s: end an attempt when this many seconds pass without a response, or at a lower speed. A server
            that asks for a longer pause (`Retry-After`) is asked again after this time.
        tries_to_connect: give up after this many attempts in a row that reach no server; None = `tries`.
        most_bytes: refuse a larger file.
    """

    tries: int
    pause_s: float
    least_bytes_per_s: float = 1000.0
    window_s: float = 120.0
    tries_to_connect: int | None = None
    most_bytes: int = MOST_BYTES


class RefusedError(HearevalError):
    """A server refuses to send a file: it does not have it, or not for everybody."""


class UnansweredError(HearevalError):
    """A server could not be reached, was busy, or broke off, however often it was asked."""


class _BusyError(requests.ConnectionError):
    """A server asks to come back later.

    Args:
        message: its answer.
        pause_s: the pause that it asks for, in seconds; 0 if it names none.
    """

    def __init__(self, message: str, pause_s: float) -> None:
        super().__init__(message)
        self.pause_s = pause_s


PATIENT = Patience(tries=5, pause_s=1.0)


def ask(url: str, headers: Mapping[str, str], patience: Patience) -> requests.Response:
    """Send a GET request; return the response once its headers are there.

    Raises:
        requests.Timeout: the headers took longer than `patience.window_s`.
    """
    future: futures.Future[requests.Response] = futures.Future()

    def send() -> None:
        try:
            future.set_result(requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S))
        except Exception as error:
            future.set_exception(error)

    # In a thread, which is left behind if it hangs, because requests only limits the time between bytes.
    threading.Thread(target=send, daemon=True).start()
    try:
        return future.result(patience.window_s)
    except futures.TimeoutError:
        raise requests.Timeout(f"no answer within {patience.window_s:g} s") from None


def fetch_part(url: str, part: Path, download: Download, progress: Progress, patience: Patience) -> bool:
    """Fetch a file to `part`; return whether it may be put together from several responses.

    Raises:
        RefusedError: the server refuses the file.
        UnansweredError: `patience` has run out.
        HearevalError: the file is larger than announced, or than `patience` allows. Nothing of it is left.
    """
    failures, furthest, started = 0, _size(part), time.monotonic()
    while True:
        resumed = _size(part) > 0
        try:
            if _fetch_rest(url, part, download, progress, patience):
                return resumed
        except NO_ANSWER as error:
            # If the server always starts over, only bytes beyond those of its best attempt count.
            new, now = _size(part) - furthest, time.monotonic()
            failures = 0 if new > patience.least_bytes_per_s * (now - started) else failures + 1
            furthest, started = furthest + max(0, new), now
            if failures >= _count_tries(error, patience):
                tries = f" ({failures} tries in a row)" if failures > 1 else ""
                raise UnansweredError(
                    f"download of {url}",
                    got=f"{_reason(error)}{tries}",
                    expected="the archive",
                    remedy=UNANSWERED_REMEDY,
                ) from error
            asked_s = min(getattr(error, "pause_s", 0.0), patience.window_s)
            time.sleep(max(asked_s, patience.pause_s * 2 ** max(0, failures - 1)))


def _count_tries(error: Exception, patience: Patience) -> int:
    """Return how many attempts in a row may fail like this one."""
    if isinstance(error, HOPELESS):
        return 1
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    is_unreachable = isinstance(error, requests.ConnectTimeout) or isinstance(
        cause, urllib3.exceptions.NewConnectionError
    )
    return (is_unreachable and patience.tries_to_connect) or patience.tries


def _reason(error: Exception) -> str:
    cause = error.args[0] if error.args else error
    reason = getattr(cause, "reason", cause)
    if isinstance(reason, urllib3.exceptions.ProxyError):
        # Its text shows the error in it as Python code.
        return f"no connection through the proxy: {str(reason.original_error).split(': ', 1)[-1]}"
    return str(reason).split(": ", 1)[-1]


def _fetch_rest(url: str, part: Path, download: Download, progress: Progress, patience: Patience) -> bool:
    """Request what is missing of `part` and append it; return False if `part` had to be removed instead."""
    stored = _validator_file(part).read_text("utf-8") if _validator_file(part).exists() else ""
    # Without a checksum, only the validator tells whether the rest belongs to the same edition.
    have = _size(part) if stored != DECOMPRESSED and (stored or download.expected_checksum) else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": stored} if stored else {})
    with ask(url, headers, patience) as answer:
        content_range = answer.headers.get("Content-Range", "")
        # Some servers declare the compression of a published .gz archive as their own.
        is_compressed = "Content-Encoding" in answer.headers and not download.file_name.endswith(
            (".gz", ".tgz")
        )
        if have and answer.status_code in (PARTIAL, UNSATISFIABLE):
            is_same = stored in ("", _read_validator(answer) or stored)
            if answer.status_code == UNSATISFIABLE and is_same and content_range in ("", f"bytes */{have}"):
                return True  # nothing is missing; the checksum will be verified
            if is_compressed or not is_same or not content_range.startswith(f"bytes {have}-"):
                part.unlink()
                return False
        _raise_for_status(url, answer, (OK, PARTIAL) if have else (OK,))
        if answer.status_code == OK:
            have = 0
            _start_over(part, DECOMPRESSED if is_compressed else _read_validator(answer))
        length = answer.headers.get("Content-Length", "")
        announced = have + int(length) if length.isdecimal() and not is_compressed else None
        limit = _SizeLimit(url, part, announced, patience.most_bytes)
        _append(limit, have, _read_blocks(answer, is_compressed, patience), progress)
        if answer.status_code == PARTIAL and not content_range.endswith(("/*", f"/{_size(part)}")):
            raise requests.ConnectionError(f"a response with {content_range} only")
    return True


@dataclass(frozen=True)
class _SizeLimit:
    """How much of a response may be written.

    Args:
        url: the address of the file.
        part: the file to write.
        announced: the bytes that the whole file has, by the response; None if it does not say.
        most_bytes: the most that any file may have.
    """

    url: str
    part: Path
    announced: int | None
    most_bytes: int

    def check(self, size: int) -> None:
        """Raise HearevalError, and remove what was written, if a file of this size is too large."""
        if size > self.most_bytes:
            self.refuse(f"more than {self.most_bytes / 1e9:g} GB", "no file of that size")
        if self.announced is not None and size > self.announced:
            self.refuse(f"more than the {self.announced} bytes that were announced", "the archive")

    def refuse(self, got: str, expected: str) -> NoReturn:
        """Remove what was written, and raise HearevalError."""
        self.part.unlink(missing_ok=True)
        remove_validator(self.part)
        raise HearevalError(
            f"download of {self.url}",
            got=got,
            expected=expected,
            remedy="The server sends something else: put the file into a folder, and give it with --mirror.",
        )


def _append(limit: _SizeLimit, have: int, blocks: Iterator[bytes], progress: Progress) -> None:
    limit.check(limit.announced or 0)
    with open(limit.part, "ab") as stream:
        for block in blocks:
            limit.check(have + len(block))
            try:
                stream.write(block)
                stream.flush()
            except OSError as error:
                # Without an announced size, nothing says that a larger disk would be enough.
                if limit.announced is None and error.errno == errno.ENOSPC:
                    limit.refuse(f"{have} bytes without an end, which fill the disk", "a size in its headers")
                raise
            have += len(block)
            progress(have, limit.announced or 0)


def _start_over(part: Path, validator: str) -> None:
    """Start a new part; remove the old one first, so that a kill cannot leave it with the new validator."""
    part.unlink(missing_ok=True)
    _validator_file(part).write_text(validator, "utf-8")


def _read_blocks(answer: requests.Response, is_compressed: bool, patience: Patience) -> Iterator[bytes]:
    """Yield the body as it arrives; raise requests.Timeout if it is too slow."""
    received, since = 0, time.monotonic()
    # read1 returns the bytes that have arrived, so none of them is lost if the connection breaks.
    while block := answer.raw.read1(BLOCK_BYTES, decode_content=is_compressed):
        yield block
        received, waited = received + len(block), time.monotonic() - since
        if waited > patience.window_s:
            if received < patience.least_bytes_per_s * waited:
                raise requests.Timeout(f"{received} bytes in {waited:.0f} s")
            received, since = 0, time.monotonic()


def _read_validator(answer: requests.Response) -> str:
    """Return the strong ETag or the date of a response, which identify the edition of the file; else ""."""
    validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    return "" if validator.startswith("W/") else validator


def remove_validator(part: Path) -> None:
    """Remove the file with the validator of a part, which is complete or was removed."""
    _validator_file(part).unlink(missing_ok=True)


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".validator")


def _raise_for_status(url: str, answer: requests.Response, wanted: Collection[int]) -> None:
    if answer.status_code >= 500 or answer.status_code == requests.codes.too_many_requests:
        raise _BusyError(f"HTTP {answer.status_code} {answer.reason}", read_retry_after(answer.headers))
    if answer.status_code not in wanted:
        raise RefusedError(
            f"download of {url}",
            got=f"HTTP {answer.status_code} {answer.reason}",
            expected="the archive",
            remedy=REFUSED_REMEDY,
        )


def read_retry_after(headers: Mapping[str, str]) -> float:
    """Return the pause in seconds that a response asks for, in seconds or until a date; 0 if there is none.

    >>> read_retry_after({"Retry-After": "30"}), read_retry_after({"Retry-After": "soon"})
    (30.0, 0.0)
    """
    asked = headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
