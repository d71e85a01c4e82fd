"""The journal of an embedding: one line for each batch, so that an interrupted run can resume."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FITTED, TOO_LARGE, SYNCED, ARRAY, BOOT = "fitted", "too_large", "synced", "array", "boot"
# The types of the values that follow the first word of a line.
VALUE_TYPES = {FITTED: [int, int], TOO_LARGE: [int, int], SYNCED: [], ARRAY: [str, int], BOOT: [str]}
# A power cut loses at most this much work. Syncing more often would slow fast models down.
SYNC_S = 10.0


class Journal:
    """The batches of an embedding that have been written, and those that did not fit into memory.

    Lines are JSON lists: [fitted or too_large, samples, clips], [array, name, bytes], [boot, id], [synced].
    A line is written after what it reports, so a killed process loses neither. After a reboot, which may be
    a power cut, only lines before the last "synced" count. No line counts if an array is missing or has
    another size.

    Args:
        path: the journal; it is created, or continued after the lines that count.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        self.lines, length = read_trusted_lines(content)
        arrays = ((path.with_name(line[1]), line[2]) for line in self.lines if line[0] == ARRAY)
        if not all(array.is_file() and array.stat().st_size == size for array, size in arrays):
            self.lines, length = [], 0
        with open(path, "ab") as stream:
            stream.truncate(length)
        self.synced = time.monotonic()
        self.note(BOOT, read_boot_id())

    @property
    def done(self) -> int:
        """The number of clips that are done."""
        return sum(line[2] for line in self.lines if line[0] == FITTED)

    @property
    def history(self) -> list[tuple[str, int]]:
        """What happened to each batch, `fitted` or `too_large`, and its samples."""
        return [(line[0], line[1]) for line in self.lines if line[0] in (FITTED, TOO_LARGE)]

    def note(self, *line: Any) -> None:
        """Append a line, in a single write."""
        self.lines.append(list(line))
        with open(self.path, "ab") as stream:
            stream.write(json.dumps(line).encode() + b"\n")

    def sync(self, arrays: Iterable[Path]) -> None:
        """Sync arrays and journal to disk and note it, unless that was done less than SYNC_S ago."""
        if time.monotonic() - self.synced < SYNC_S:
            return
        for path in (*arrays, self.path, self.path.parent):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        self.note(SYNCED)
        self.synced = time.monotonic()


def read_trusted_lines(content: bytes) -> tuple[list[list[Any]], int]:
    """Return the lines of a journal that count, and their length in bytes.

    Reading stops at the first damaged line.
    """
    lines: list[list[Any]] = []
    trusted, length, boot = (0, 0), 0, ""
    for text in content.splitlines(keepends=True):
        line = _parse_line(text)
        if not line:
            break
        length += len(text)
        lines.append(line)
        if line[0] == BOOT:
            boot = line[1]
        if line[0] == SYNCED:
            trusted = (len(lines), length)
    if boot == read_boot_id():
        trusted = (len(lines), length)
    return lines[: trusted[0]], trusted[1]


def _parse_line(text: bytes) -> list[Any]:
    """Return a line of a journal; [] if it is damaged."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not text.endswith(b"\n") or not isinstance(line, list) or not line or line[0] not in VALUE_TYPES:
        return []
    return line if [type(value) for value in line[1:]] == VALUE_TYPES[line[0]] else []


def read_boot_id() -> str:
    """Return an id that changes with each boot of the machine; a new one each time if there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"unknown {time.time_ns()}"
