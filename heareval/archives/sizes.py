"""Bytes: as a disk counts them, as people say them, and as servers tell of files that are not fetched yet."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

import requests

# What most file systems give out at a time.
BLOCK_BYTES = 4096
UNITS = ("B", "kB", "MB", "GB", "TB")
# For all answers together; a size that comes later is one that nobody knows.
PATIENCE_S = 4.0
TIMEOUT_S = 3.0
AT_ONCE = 32


@dataclass(frozen=True)
class Size:
    """So many bytes.

    Args:
        is_exact: whether it will be these very bytes.
        is_whole: whether they are all; False when something of unknown size comes on top.
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
        """An estimate from this size by a rule of thumb."""
        return replace(self, bytes=round(self.bytes * factor), is_exact=False)


UNKNOWN = Size(0, is_exact=False, is_whole=False)


def total(sizes: Iterable[Size]) -> Size:
    """The sum of sizes.

    >>> str(total([Size(2_000_000_000), UNKNOWN]))
    '~2.0 GB + ?'
    """
    return sum(sizes, start=Size())


def readable(size: int) -> str:
    """Bytes as people say them.

    >>> readable(0), readable(999), readable(1449), readable(61_000_000_000)
    ('0', '999 B', '1.4 kB', '61.0 GB')
    """
    power = min((len(str(size)) - 1) // 3, len(UNITS) - 1)
    if not power:
        return f"{size} B" if size else "0"
    return f"{size / 1000**power:.1f} {UNITS[power]}"


def blocks(size: int) -> int:
    """Bytes that a file of this size takes on disk.

    >>> blocks(0), blocks(1), blocks(4096), blocks(4097)
    (0, 4096, 4096, 8192)
    """
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


# --------------------------------------------------------------------------- on the web


def sizes_on_the_web(
    addresses: Mapping[str, Sequence[str]], patience_s: float = PATIENCE_S
) -> dict[str, int]:
    """Bytes of each file by its key; those that no server tells in time are missing.

    Args:
        addresses: for each key the URLs of one file, asked in turn until one tells.
        patience_s: when to go on with what has been told so far.
    """
    if not addresses:
        return {}
    question = json.dumps({key: list(urls) for key, urls in addresses.items()})
    # A process can be ended at any moment; a thread that looks up a name in vain can't.
    command = [sys.executable, "-m", "heareval.archives.sizes"]
    try:
        answer = subprocess.run(
            command, input=question.encode(), capture_output=True, timeout=patience_s, check=False
        ).stdout
    except subprocess.TimeoutExpired as late:
        answer = late.stdout or b""
    # The end that a killed process cut off tells nothing.
    lines = answer.decode().split("\n")[:-1]
    return {key: size for key, size in map(json.loads, lines) if size is not None}


def content_length(urls: Sequence[str]) -> int | None:
    """Bytes of a file as the first of its servers tells that knows; None if none does."""
    for url in urls:
        try:
            headers = {"Accept-Encoding": "identity"}
            with requests.head(url, headers=headers, allow_redirects=True, timeout=TIMEOUT_S) as answer:
                length = answer.headers.get("Content-Length", "")
                if answer.ok and length.isdecimal():
                    return int(length)
        except requests.RequestException:
            continue
    return None


def main() -> None:
    """Answer the question on stdin: for each file a line `[key, bytes or null]`, as soon as it is known."""
    addresses: dict[str, list[str]] = json.load(sys.stdin)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        keys = {pool.submit(content_length, urls): key for key, urls in addresses.items()}
        for told in as_completed(keys):
            sys.stdout.write(json.dumps([keys[told], told.result()]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
