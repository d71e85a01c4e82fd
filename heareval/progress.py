"""What the steps are doing, told to the person who waits: bars on a terminal, lines in a log.

Steps run in processes of their own; each line they write to one pipe becomes a bar's movement here.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

REPORT_S = 0.1
LINE_EVERY_S = 15.0
# What Linux writes to a pipe in one piece; of longer lines the explanation is cut.
PIPE_BYTES = 4096
# JSON writes a letter in up to twelve bytes.
MAX_ERROR_CHARS = PIPE_BYTES // 12 - 50

Report = Callable[[int, int], None]

_channel: int | None = None


@dataclass
class Account:
    """What happened in a run.

    Args:
        finished: titles of the steps that were done, in order.
        failures: (title of the step, one line of explanation).
    """

    finished: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


def _send(message: dict[str, object]) -> None:
    if _channel is None:
        return
    line = (json.dumps(message) + "\n").encode()
    if len(line) > PIPE_BYTES:
        line = (
            json.dumps({**message, "failed": str(message.get("failed", ""))[:MAX_ERROR_CHARS]}) + "\n"
        ).encode()
    with contextlib.suppress(BrokenPipeError):
        os.write(_channel, line)


@contextlib.contextmanager
def step(title: str) -> Iterator[Report]:
    """Announce a step; yields the function that tells (done, total)."""
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last > REPORT_S:
            last = now
            _send({"step": title, "done": done, "total": total})

    _send({"step": title})
    yield report
    _send({"step": title, "finished": True})


def failed(title: str, explanation: str) -> None:
    """Tell that a step ended with an error."""
    _send({"step": title, "failed": explanation})


@contextlib.contextmanager
def showing(steps: int, stream: TextIO | None = None) -> Iterator[Account]:
    """Show the steps of a run while the block lasts; yields the account of it.

    Args:
        steps: how many steps there are to do.
    """
    global _channel
    account = Account()
    reading, _channel = os.pipe()
    shown = threading.Thread(
        target=_follow, args=(reading, account, _display(steps, stream or sys.stderr)), daemon=True
    )
    shown.start()
    try:
        yield account
    finally:
        _send({"end": True})
        shown.join(timeout=5)
        os.close(_channel)
        _channel = None
        os.close(reading)


def _follow(reading: int, account: Account, display: _Display) -> None:
    """Keep the account to the end, even when there is nothing left to show it on."""
    with contextlib.suppress(OSError):
        display.open()
    with open(reading, encoding="utf-8", closefd=False) as lines:
        for line in lines:
            message = json.loads(line)
            if "end" in message:
                break
            title = message["step"]
            if "failed" in message:
                account.failures.append((title, message["failed"]))
            elif "finished" in message:
                account.finished.append(title)
            # A terminal that is gone or a full disk must not stop the steps, which wait for this thread.
            with contextlib.suppress(OSError, ValueError):
                display.show(title, message)
    with contextlib.suppress(OSError):
        display.close()


def _display(steps: int, stream: TextIO | None) -> _Display:
    if stream is None:
        return _Display()
    return _Bars(steps, stream) if stream.isatty() else _Lines(steps, stream)


class _Display:
    """Shows nothing; what the others have in common."""

    def open(self) -> None:
        """Begin to show."""

    def close(self) -> None:
        """Leave the terminal as it was."""

    def show(self, title: str, message: dict[str, Any]) -> None:
        """Show one message of a step."""
        if "failed" in message:
            self.remove(title)
        elif "finished" in message:
            self.finish(title)
        else:
            self.move(title, message.get("done", 0), message.get("total"))

    def move(self, title: str, done: int, total: int | None) -> None:
        """A step has come so far."""

    def remove(self, title: str) -> None:
        """A step has failed."""

    def finish(self, title: str) -> None:
        """A step is done."""


class _Bars(_Display):
    """A bar for the whole run and one for each step at work."""

    def __init__(self, steps: int, stream: TextIO) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=Console(file=stream), transient=True)
        self.total = self.progress.add_task("steps", total=steps)
        self.bars: dict[str, TaskID] = {}

    def open(self) -> None:
        self.progress.start()

    def close(self) -> None:
        self.progress.stop()

    def move(self, title: str, done: int, total: int | None) -> None:
        if title not in self.bars:
            self.bars[title] = self.progress.add_task(title, total=total)
        self.progress.update(self.bars[title], completed=done, total=total)

    def remove(self, title: str) -> None:
        if title in self.bars:
            self.progress.remove_task(self.bars.pop(title))

    def finish(self, title: str) -> None:
        self.remove(title)
        self.progress.advance(self.total)


class _Lines(_Display):
    """A line when a step is finished, and now and then while it lasts."""

    def __init__(self, steps: int, stream: TextIO) -> None:
        self.stream, self.steps, self.finished = stream, steps, 0
        self.begun: dict[str, float] = {}
        self.spoke: dict[str, float] = {}

    def move(self, title: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        self.begun.setdefault(title, now)
        if total and now - self.spoke.setdefault(title, now) > LINE_EVERY_S:
            self.spoke[title] = now
            self._say(f"{title}: {done} of {total}")

    def remove(self, title: str) -> None:
        self.begun.pop(title, None)

    def finish(self, title: str) -> None:
        self.finished += 1
        seconds = time.monotonic() - self.begun.pop(title, time.monotonic())
        self._say(f"[{self.finished}/{self.steps}] {title}: {seconds:.1f} s")

    def _say(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()
