"""How far an embedding has come: a line for each batch, so that a killed run goes on where it was."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FITTED, TOO_LARGE, SYNCED, ARRAY, BOOT = "fitted", "too_large", "synced", "array", "boot"
# What lines hold behind their first word.
FORMS = {FITTED: [int, int], TOO_LARGE: [int, int], SYNCED: [], ARRAY: [str, int], BOOT: [str]}
# A power cut costs no more work than this; syncing more often would slow fast models down.
SYNC_S = 10.0


class Journal:
    """The batches of an embedding that are on disk, and those that did not fit into memory.

    Lines are [fitted or too_large, samples, clips] and [array, name, bytes]. A line is written after what it
    tells of, so a kill loses neither. After a power cut, which another boot of the machine tells, only what
    came before the last "synced" counts. Nothing counts if an array is not there as it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        self.lines, length = lines_that_count(content)
        arrays = ((path.with_name(line[1]), line[2]) for line in self.lines if line[0] == ARRAY)
        if not all(array.is_file() and array.stat().st_size == size for array, size in arrays):
            self.lines, length = [], 0
        with open(path, "ab") as stream:
            stream.truncate(length)
        self.synced = time.monotonic()
        self.note(BOOT, boot_id())

    @property
    def done(self) -> int:
        """How many clips are done."""
        return sum(line[2] for line in self.lines if line[0] == FITTED)

    @property
    def history(self) -> list[tuple[str, int]]:
        """What happened to each batch: fitted or too large, and its samples."""
        return [(line[0], line[1]) for line in self.lines if line[0] in (FITTED, TOO_LARGE)]

    def note(self, *line: Any) -> None:
        """Add a line, in one write."""
        self.lines.append(list(line))
        with open(self.path, "ab") as stream:
            stream.write(json.dumps(line).encode() + b"\n")

    def sync(self, arrays: Iterable[Path]) -> None:
        """Bring arrays to disk, and then what was noted of them; only now and then."""
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


def lines_that_count(content: bytes) -> tuple[list[list[Any]], int]:
    """What a journal tells, and the length of the part of it that may be trusted."""
    lines: list[list[Any]] = []
    trusted, length, boot = (0, 0), 0, ""
    for text in content.splitlines(keepends=True):
        line = _line(text)
        if not line:
            break
        length += len(text)
        lines.append(line)
        if line[0] == BOOT:
            boot = line[1]
        if line[0] == SYNCED:
            trusted = (len(lines), length)
    if boot == boot_id():
        trusted = (len(lines), length)
    return lines[: trusted[0]], trusted[1]


def _line(text: bytes) -> list[Any]:
    """A line of a journal; empty for anything else."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not text.endswith(b"\n") or not isinstance(line, list) or not line or line[0] not in FORMS:
        return []
    return line if [type(value) for value in line[1:]] == FORMS[line[0]] else []


def boot_id() -> str:
    """What changes when the machine is started anew; never the same where that is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"unknown {time.time_ns()}"
