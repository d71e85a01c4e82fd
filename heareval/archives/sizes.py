"""Sizes in bytes: add and format them, round them to disk blocks, and ask servers for file sizes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

# The unit in which most file systems allocate space.
BLOCK_BYTES = 4096
UNITS = ("B", "kB", "MB", "GB", "TB")
# The time for all answers together; sizes that arrive later count as unknown.
PATIENCE_S = 4.0
TIMEOUT_S = 3.0
PARALLEL_REQUESTS = 32
# How often a server is asked that is busy or resets the connection, and the pause in between.
TRIES = 3
PAUSE_S = 1.0
BUSY = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Size:
    """A number of bytes, exact or estimated.

    Args:
        bytes: the number.
        is_exact: False if the number is an estimate.
        is_whole: False if something of unknown size has to be added.
    """

    bytes: int = 0
    is_exact: bool = True
    is_whole: bool = True

    def __add__(self, other: Size) -> Size:
        exact, whole = self.is_exact and other.is_exact, self.is_whole and other.is_whole
        return Size(self.bytes + other.bytes, exact, whole)

    def __str__(self) -> str:
        if not (self.bytes or self.is_whole):
            return "?"
        mark = "" if self.is_exact or not self.bytes else "~"
        return mark + readable(self.bytes) + ("" if self.is_whole else " + ?")

    def scaled(self, factor: float) -> Size:
        """Return this size times a factor, as an estimate."""
        return replace(self, bytes=round(self.bytes * factor), is_exact=False)


UNKNOWN = Size(0, is_exact=False, is_whole=False)


def total(sizes: Iterable[Size]) -> Size:
    """Return the sum of sizes.

    >>> str(total([Size(2_000_000_000), UNKNOWN]))
    '~2.0 GB + ?'
    """
    return sum(sizes, start=Size())


def readable(size: int) -> str:
    """Return a number of bytes in the unit that suits it.

    >>> readable(0), readable(999), readable(1449), readable(61_000_000_000)
    ('0', '999 B', '1.4 kB', '61.0 GB')
    """
    power = min((len(str(size)) - 1) // 3, len(UNITS) - 1)
    if not power:
        return f"{size} B" if size else "0"
    if f"{size / 1000**power:.1f}" == "1000.0" and power < len(UNITS) - 1:
        power += 1
    return f"{size / 1000**power:.1f} {UNITS[power]}"


def blocks(size: int) -> int:
    """Return the bytes that a file of this size occupies on disk.

    >>> blocks(0), blocks(1), blocks(4096), blocks(4097)
    (0, 4096, 4096, 8192)
    """
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


# --------------------------------------------------------------------------- files on servers


def sizes_on_the_web(
    addresses: Mapping[str, Sequence[str]], patience_s: float = PATIENCE_S
) -> dict[str, int]:
    """Ask servers for the sizes of files; return bytes by key, without those that do not arrive in time.

    Args:
        addresses: for each key, the URLs of one file, which are asked in turn until one answers.
        patience_s: how long to wait for all answers together, in seconds.
    """
    if not addresses:
        return {}
    request = json.dumps({key: list(urls) for key, urls in addresses.items()})
    # In a process, because a thread that hangs in a DNS lookup cannot be stopped.
    command = [sys.executable, "-m", "heareval.archives.sizes"]
    try:
        answer = subprocess.run(
            command, input=request.encode(), capture_output=True, timeout=patience_s, check=False
        ).stdout
    except subprocess.TimeoutExpired as error:
        answer = error.stdout or b""
    # The last line of a killed process may be incomplete.
    lines = answer.decode().split("\n")[:-1]
    return {key: size for key, size in map(json.loads, lines) if size is not None}


def content_length(urls: Sequence[str]) -> int | None:
    """Return the size of a file in bytes from the first server that sends it; None if none does."""
    import requests
    import urllib3

    for url in urls:
        for turn in range(TRIES):
            if turn:
                time.sleep(PAUSE_S)
            try:
                headers = {"Accept-Encoding": "identity"}
                with requests.head(url, headers=headers, allow_redirects=True, timeout=TIMEOUT_S) as answer:
                    length = answer.headers.get("Content-Length", "")
                    if answer.ok and length.isdecimal():
                        return int(length)
                    is_busy = answer.status_code in BUSY
            except requests.RequestException as error:
                is_busy = bool(error.args) and isinstance(error.args[0], urllib3.exceptions.ProtocolError)
            if not is_busy:
                break
    return None


def main() -> None:
    """Read the addresses from stdin; write a line `[key, bytes or null]` for each as soon as it is known."""
    addresses: dict[str, list[str]] = json.load(sys.stdin)
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        keys = {pool.submit(content_length, urls): key for key, urls in addresses.items()}
        for answer in as_completed(keys):
            sys.stdout.write(json.dumps([keys[answer], answer.result()]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
