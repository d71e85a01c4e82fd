"""Progress of a run: bars on a terminal, lines in a log.

Steps run in separate processes. They write messages, one JSON object per line, to a pipe; a thread of the
runner reads them and updates the display.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TextIO

from heareval.errors import escape_controls
from heareval.spec import Progress
from heareval.terminal import fold

if TYPE_CHECKING:
    from rich import progress as bars

# Steps send at most one message in this time. A log gets at most one line per step in LINE_EVERY_S, plus this
# share of the time that the step has run, which makes about 60 lines a day.
REPORT_EVERY_S = 0.1
LINE_EVERY_S = 15.0
LINE_EVERY_SHARE = 0.1
# Linux writes up to this many bytes to a pipe in one piece. Longer messages are cut.
PIPE_BYTES = 4096
# JSON writes a character in up to twelve bytes.
MAX_ERROR_CHARS = PIPE_BYTES // 12 - 50

# What the progress of a step counts. Hundredths are of one thing, or of each training.
Unit = Literal["bytes", "clips", "files", "archives", "results", "hundredths", "hundredths of trainings"]

_channel: int | None = None
_is_hidden = False


def describe_progress(unit: Unit, done: int, total: int) -> str:
    """Return how far a step is, in words that say what is counted; a total of 0 bytes is not known.

    >>> describe_progress("clips", 40, 235), describe_progress("bytes", 1_500_000, 7_000_000)
    ('40 of 235 clips', '1.5 of 7.0 MB')
    >>> describe_progress("bytes", 1_500_000, 0)
    '1.5 MB'
    >>> describe_progress("hundredths of trainings", 340, 1200), describe_progress("hundredths", 1, 2)
    ('training 4 of 12', '50 %')
    """
    if unit == "bytes" and not total:
        return f"{done / 1e6:.1f} MB"
    if unit == "bytes":
        return f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
    if unit.startswith("hundredths") and done >= total:
        return "testing and resampling"
    if unit == "hundredths of trainings":
        return f"training {done // 100 + 1} of {total // 100}"
    if unit == "hundredths":
        return f"{100 * done // max(total, 1)} %"
    return f"{done} of {total} {unit}"


@dataclass
class StepOutcomes:
    """What became of the steps of a run.

    Args:
        finished: titles of the steps that finished, in order.
        failures: (title of the step, explanation in one line).
    """

    finished: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


def _send(message: dict[str, object]) -> None:
    if _channel is None:
        return
    line = (json.dumps(message) + "\n").encode()
    if len(line) > PIPE_BYTES:
        cut = {**message, "failed": str(message.get("failed", ""))[:MAX_ERROR_CHARS]}
        line = (json.dumps(cut) + "\n").encode()
    with contextlib.suppress(BrokenPipeError):
        os.write(_channel, line)


@contextlib.contextmanager
def report_step(title: str, unit: Unit) -> Iterator[Progress]:
    """Report the start and the end of a step; yields the function to call with (done, total) in between.

    Args:
        unit: what done and total count. A total of 0 bytes is not known.
    """
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total > 0 or now - last > REPORT_EVERY_S:
            last = now
            said = describe_progress(unit, done, total)
            _send({"step": title, "done": done, "total": total, "said": said})

    _send({"step": title})
    yield report
    _send({"step": title, "finished": True})


def report_failure(title: str, explanation: str) -> None:
    """Report that a step failed."""
    _send({"step": title, "failed": explanation})


def report_note(text: str) -> None:
    """Report something about the run as a whole, in one line."""
    _send({"note": text})


@contextlib.contextmanager
def hide_steps() -> Iterator[None]:
    """Show no steps while the block lasts; what becomes of them is still recorded.

    Example: `with hide_steps(), show_steps(3) as outcomes: ...`
    """
    global _is_hidden
    before, _is_hidden = _is_hidden, True
    try:
        yield
    finally:
        _is_hidden = before


@contextlib.contextmanager
def show_steps(count: int, stream: TextIO | None = None) -> Iterator[StepOutcomes]:
    """Show the steps of a run while the block lasts; yields what became of them so far.

    Args:
        count: how many steps there are to do.
        stream: where to show them; stderr by default.
    """
    global _channel
    outcomes = StepOutcomes()
    reading, _channel = os.pipe()
    display = _open_display(count, stream or sys.stderr)
    reader = threading.Thread(target=_read_messages, args=(reading, outcomes, display), daemon=True)
    reader.start()
    is_over = threading.Event()
    threading.Thread(target=_send_ticks, args=(is_over, _channel), daemon=True).start()
    try:
        yield outcomes
    finally:
        is_over.set()
        _send({"end": True})
        reader.join(timeout=5)
        os.close(_channel)
        _channel = None
        os.close(reading)


def _send_ticks(is_over: threading.Event, channel: int) -> None:
    """Send a message now and then, so that a step that says nothing for a while is seen to run."""
    while not is_over.wait(abs(LINE_EVERY_S)):
        with contextlib.suppress(OSError):
            os.write(channel, b'{"tick": true}\n')


def _read_messages(reading: int, outcomes: StepOutcomes, display: _Display) -> None:
    """Record and show messages until the last one, even if the display breaks."""
    with contextlib.suppress(OSError):
        display.open()
    with open(reading, encoding="utf-8", closefd=False) as lines:
        for line in lines:
            message = json.loads(line)
            if "end" in message:
                break
            if "note" in message:
                with contextlib.suppress(OSError, ValueError):
                    display.note(escape_controls(message["note"]))
                continue
            if "tick" in message:
                with contextlib.suppress(OSError, ValueError):
                    display.tick()
                continue
            title = message["step"]
            if "failed" in message:
                outcomes.failures.append((title, message["failed"]))
            elif "finished" in message:
                outcomes.finished.append(title)
            # A closed terminal or a full disk must not stop the steps, which wait for this thread.
            with contextlib.suppress(OSError, ValueError):
                display.show(escape_controls(title), message)
    with contextlib.suppress(OSError):
        display.close()


def _open_display(steps: int, stream: TextIO | None) -> _Display:
    # sys.stderr is None in a process without a console.
    if stream is None or _is_hidden:
        return _Display()
    return _Bars(steps, stream) if stream.isatty() else _Lines(steps, stream)


class _Display:
    """Shows nothing; the base of the others."""

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
            self.move(title, message)

    def move(self, title: str, message: Mapping[str, Any]) -> None:
        """Show how far a step is, by its message: `done`, `total` and `said`, once there are any."""

    def remove(self, title: str) -> None:
        """Show that a step failed."""

    def finish(self, title: str) -> None:
        """Show that a step finished."""

    def note(self, text: str) -> None:
        """Show a line about the run."""

    def tick(self) -> None:
        """Show that the steps still run, if nothing else does."""


class _Bars(_Display):
    """A bar for the whole run and one for each running step."""

    def __init__(self, steps: int, stream: TextIO) -> None:
        # Logs and reruns with nothing to do show no bars, for which rich is imported.
        from heareval.bars import count_title_columns, open_bars, shorten_title

        self.progress, self.shorten_title = open_bars(stream), shorten_title
        self.title_columns = count_title_columns(self.progress.console.width)
        self.steps, self.finished = steps, 0
        self.total = self._add("all", steps, f"0 of {steps} steps")
        self.bars: dict[str, bars.TaskID] = {}

    def _add(self, name: str, total: int | None, said: str) -> bars.TaskID:
        return self.progress.add_task(name, total=total, said=said, heard=self.progress.get_time())

    def _update(self, bar: bars.TaskID, said: str, **shown: Any) -> None:
        self.progress.update(bar, said=said, heard=self.progress.get_time(), **shown)

    def open(self) -> None:
        self.progress.start()

    def close(self) -> None:
        self.progress.stop()

    def note(self, text: str) -> None:
        # Rich would cut paths and commands in two.
        folded = fold(text, self.progress.console.width)
        self.progress.console.print(folded, markup=False, highlight=False, soft_wrap=True)

    def move(self, title: str, message: Mapping[str, Any]) -> None:
        if title not in self.bars:
            self.bars[title] = self._add(self.shorten_title(title, self.title_columns), None, "")
        # Nothing is known about a total of 0.
        shown = {"completed": message.get("done", 0), "total": message.get("total") or None}
        self._update(self.bars[title], message.get("said", ""), **shown)

    def remove(self, title: str) -> None:
        if title in self.bars:
            self.progress.remove_task(self.bars.pop(title))

    def finish(self, title: str) -> None:
        self.remove(title)
        self.finished += 1
        self._update(self.total, f"{self.finished} of {self.steps} steps", completed=self.finished)


class _Lines(_Display):
    """A line when a step finishes, and every few seconds while a long one runs."""

    def __init__(self, steps: int, stream: TextIO) -> None:
        self.stream, self.steps, self.finished = stream, steps, 0
        self.started: dict[str, float] = {}
        self.last_line: dict[str, float] = {}
        self.said: dict[str, str] = {}

    def move(self, title: str, message: Mapping[str, Any]) -> None:
        now = time.monotonic()
        self.started.setdefault(title, now)
        self.last_line.setdefault(title, now)
        self.said[title] = message.get("said", "")
        if self._is_due(title, now) and self.said[title]:
            self.last_line[title] = now
            self._write(f"{title}: {self.said[title]}")

    def _is_due(self, title: str, now: float) -> bool:
        pause_s = LINE_EVERY_S + LINE_EVERY_SHARE * (now - self.started[title])
        return now - self.last_line[title] > pause_s

    def tick(self) -> None:
        now = time.monotonic()
        for title, started in self.started.items():
            if self._is_due(title, now):
                self.last_line[title] = now
                said = f"{self.said[title]}, " if self.said[title] else ""
                self._write(f"{title}: {said}running for {now - started:.0f} s")

    def remove(self, title: str) -> None:
        self.started.pop(title, None)

    def finish(self, title: str) -> None:
        self.finished += 1
        seconds = time.monotonic() - self.started.pop(title, time.monotonic())
        self._write(f"[step {self.finished} of {self.steps}] {title}: {seconds:.1f} s")

    def note(self, text: str) -> None:
        self._write(text)

    def _write(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()
