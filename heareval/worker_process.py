"""Run a worker process: it gets a job file, and reports progress and one result as JSON lines."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from heareval.errors import HearevalError
from heareval.spec import Progress, ignore_progress

# How long a worker may still close files after its result; a thread of a submission may never end.
EXIT_TIMEOUT_S = 20
# How long a silent worker has to write its traceback before it is killed.
TRACEBACK_TIMEOUT_S = 2.0
# Threads of GNU OpenMP, which PyTorch brings, spin this often before they sleep. The default of 300,000 makes
# work take three to five times as long when other processes use the cores, too.
THREAD_VARIABLES = {"GOMP_SPINCOUNT": "1000"}
# Characters of a line of the log that an error repeats, and the codes that colour it on a terminal.
SHOWN_LENGTH, ESCAPE_CODES = 300, re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)")
SIGNAL_NAMES = {each.value: each.name for each in signal.Signals}


class KilledForMemoryError(HearevalError):
    """Linux killed the worker because memory ran out."""


def run_worker(
    command: Sequence[str],
    job: dict[str, Any],
    log: Path,
    progress: Progress = ignore_progress,
    *,
    on_message: Callable[[dict[str, Any]], None] | None = None,
    silence_s: float | None = None,
    variables: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run `command JOB_FILE` and return the result that it reports.

    However the worker ends, all processes that it has started end with it.

    Args:
        command: the program and its first arguments.
        job: JSON values for the job file, which stays beside the log.
        log: where the worker's stderr goes; the id of this process is added to its name.
        progress: gets the worker's progress.
        on_message: gets every message that is neither progress nor the result.
        silence_s: a worker that reports nothing for this long is killed; None = no limit.
        variables: the worker's environment variables, besides THREAD_VARIABLES; None = those of this process.

    Raises:
        HearevalError: the worker reported an error, was silent for too long, or ended without a result; the
            error then repeats the end of its log.
        KilledForMemoryError: Linux killed it because memory ran out.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # Two runs may do the same step at the same time, with different job files.
    log = log.with_name(f"{log.stem}-{os.getpid()}.log")
    job_file = log.with_suffix(".job.json")
    job_file.write_text(json.dumps({**job, "parent": os.getpid()}, indent=1), encoding="utf-8")
    kills_before = _count_memory_kills()
    with (
        open(log, "wb") as stderr,
        subprocess.Popen(
            [*command, str(job_file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**THREAD_VARIABLES, **(os.environ if variables is None else variables)},
            text=True,
            # A separate process group contains the worker and all that it starts, but not us.
            start_new_session=True,
        ) as process,
    ):
        watchdog = _Watchdog(process, silence_s)
        try:
            result = _listen(process, log, progress, on_message, watchdog)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=EXIT_TIMEOUT_S)
        finally:
            watchdog.stop()
            _kill_group(process)
    if result is None:
        if watchdog.has_killed:
            raise watchdog.make_error(log)
        is_memory = process.returncode == -signal.SIGKILL and _count_memory_kills() > kills_before
        raise _make_exit_error(process.returncode, log, is_memory=is_memory)
    return result


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Kill a worker and all processes that it has started."""
    # macOS raises PermissionError if the group contains only zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class _Watchdog:
    """Kills a process that reports nothing for too long."""

    def __init__(self, process: subprocess.Popen[str], silence_s: float | None) -> None:
        self.process, self.silence_s, self.has_killed = process, silence_s, False
        self.timer: threading.Timer | None = None
        self.restart()

    def restart(self) -> None:
        """Restart the timer, after a message."""
        self.stop()
        if self.silence_s is not None:
            self.timer = threading.Timer(min(self.silence_s, threading.TIMEOUT_MAX), self._kill)
            self.timer.daemon = True
            self.timer.start()

    def stop(self) -> None:
        """Stop the timer."""
        if self.timer:
            self.timer.cancel()

    def _kill(self) -> None:
        self.has_killed = True
        # faulthandler writes the traceback of every thread on this signal.
        self.process.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(TRACEBACK_TIMEOUT_S)
        _kill_group(self.process)

    def make_error(self, log: Path) -> HearevalError:
        """Return the error for a process that was killed."""
        got = f"no message for {self.silence_s:g} s"
        remedy = f"Its log is {log}. Use a larger --timeout if it is only slow."
        return HearevalError("the worker process", got=got, expected="progress or a result", remedy=remedy)


def _listen(
    process: subprocess.Popen[str],
    log: Path,
    progress: Progress,
    on_message: Callable[[dict[str, Any]], None] | None,
    watchdog: _Watchdog,
) -> dict[str, Any] | None:
    """Return the worker's result; None if it ended without one."""
    for line in process.stdout or ():
        watchdog.restart()
        message = json.loads(line)
        if "error" in message:
            error = HearevalError(**message["error"])
            error.remedy = error.remedy or f"Its log is {log}"
            raise error
        if "result" in message:
            return dict(message["result"])
        if "done" in message:
            progress(message["done"], message["total"])
        elif on_message:
            on_message(message)
    return None


def _make_exit_error(code: int, log: Path, *, is_memory: bool) -> HearevalError:
    """Return the error for a worker that ended without a result."""
    line = _find_telling_line(log.read_text(errors="replace"))
    # Real-time signals have no names.
    ended = f"signal {SIGNAL_NAMES.get(-code, -code)}" if code < 0 else f"exit code {code}"
    reason = ", killed because memory ran out" if is_memory else ""
    got = f"{ended}{reason}{f', last output: {line}' if line else ''}"
    kind = KilledForMemoryError if is_memory else HearevalError
    return kind("the worker process", got=got, expected="a result", remedy=f"Its log is {log}")


def _find_telling_line(log: str) -> str:
    """Return the line of a log that best explains why a process ended, as plain text."""
    lines = log.splitlines()
    crashes = [i for i, line in enumerate(lines) if line.startswith("Fatal Python error")]
    if not crashes:
        return next(filter(None, map(_make_plain, reversed(lines))), "")
    # Python lists every thread; the place of the crash is the first line after "Current thread".
    after = itertools.dropwhile(lambda line: not line.startswith("Current thread"), lines[crashes[-1] :])
    return _make_plain(
        f"{lines[crashes[-1]]}, {next((line for line in after if line.startswith('  File')), '')}"
    )


def _make_plain(line: str) -> str:
    r"""Return a line without control characters and escape codes, cut to SHOWN_LENGTH.

    >>> _make_plain("\x1b[1;31mred\x1b[0m \x07bell")
    'red bell'
    """
    letters = "".join(c if c.isprintable() else " " for c in ESCAPE_CODES.sub("", line))
    words = " ".join(letters.split())
    return words if len(words) <= SHOWN_LENGTH else f"{words[:SHOWN_LENGTH]}..."


def _count_memory_kills() -> int:
    """Return how many processes Linux has killed since boot because memory ran out; elsewhere 0."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Ask Linux to send this process a signal when the thread that started it ends.

    Does nothing on other systems.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal_number)
