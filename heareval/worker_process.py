"""A worker in a process of its own: a job file goes in, progress and one result come out as JSON lines."""

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
from heareval.spec import Progress

# A worker that has told its result may still close files; a thread of a submission may never end.
END_S = 20
# What a worker that is given up has for writing down where it was.
LAST_WORDS_S = 2.0
# GNU OpenMP, which PyTorch brings: its threads wait for each other awake, for so many turns, and then asleep.
# By itself it takes 300,000; where others use the cores, too, these cost three to five times the work.
PATIENCE = {"GOMP_SPINCOUNT": "1000"}
# Of a line of its log that an error repeats: letters, and what colours them on a terminal.
WORDS_LENGTH, ESCAPE_CODES = 300, re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)")
SIGNALS = {each.value: each.name for each in signal.Signals}


class KilledForMemoryError(HearevalError):
    """A worker that Linux killed because memory had run out."""


def run_worker(
    command: Sequence[str],
    job: dict[str, Any],
    log: Path,
    progress: Progress,
    *,
    tell: Callable[[dict[str, Any]], None] | None = None,
    silence_s: float | None = None,
    variables: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run `command JOB_FILE` and return what it reports under "result".

    Args:
        job: JSON values for the job file, which stays beside the log.
        log: where everything goes that the worker writes to stderr.
        tell: gets every message as it comes that is neither progress nor the end.
        silence_s: a worker that says nothing for so long is killed.
        variables: its environment variables, beside `PATIENCE`; None leaves ours.

    However it ends, the processes that it has started end with it.

    Raises:
        HearevalError: the worker's own error; or it was silent for too long, or ended without a result, with
            the last words of its log.
        KilledForMemoryError: Linux ended it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # Two runs may do the same step at once, each with its own scratch folder in its job.
    log = log.with_name(f"{log.stem}-{os.getpid()}.log")
    job_file = log.with_suffix(".job.json")
    job_file.write_text(json.dumps({**job, "parent": os.getpid()}, indent=1), encoding="utf-8")
    killed_before = _killed_for_memory()
    with (
        open(log, "wb") as complaints,
        subprocess.Popen(
            [*command, str(job_file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env={**PATIENCE, **(os.environ if variables is None else variables)},
            text=True,
            # A group of its own tells what it has started from what is ours.
            start_new_session=True,
        ) as process,
    ):
        watchdog = _Watchdog(process, silence_s)
        try:
            result = _listen(process, log, progress, tell, watchdog)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=END_S)
        finally:
            watchdog.stop()
            _kill_group(process)
    if result is None:
        if watchdog.has_bitten:
            raise watchdog.error(log)
        is_memory = process.returncode == -signal.SIGKILL and _killed_for_memory() > killed_before
        raise _death(process.returncode, log, is_memory=is_memory)
    return result


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Kill a worker, and what it has started and left."""
    # macOS permits no signal to a group of which only the dead are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class _Watchdog:
    """Kills a process that says nothing for too long."""

    def __init__(self, process: subprocess.Popen[str], silence_s: float | None) -> None:
        self.process, self.silence_s, self.has_bitten = process, silence_s, False
        self.timer: threading.Timer | None = None
        self.heard()

    def heard(self) -> None:
        """Begin to wait anew."""
        self.stop()
        if self.silence_s is not None:
            self.timer = threading.Timer(min(self.silence_s, threading.TIMEOUT_MAX), self._bite)
            self.timer.daemon = True
            self.timer.start()

    def stop(self) -> None:
        """Wait no more."""
        if self.timer:
            self.timer.cancel()

    def _bite(self) -> None:
        self.has_bitten = True
        # Upon this one Python writes down where each thread is.
        self.process.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(LAST_WORDS_S)
        _kill_group(self.process)

    def error(self, log: Path) -> HearevalError:
        """The error for a process that was killed."""
        got = f"no word in {self.silence_s:g} s"
        remedy = f"Its log is {log}. Take a larger --timeout if it is only slow."
        return HearevalError("the worker process", got=got, expected="an answer", remedy=remedy)


def _listen(
    process: subprocess.Popen[str],
    log: Path,
    progress: Progress,
    tell: Callable[[dict[str, Any]], None] | None,
    watchdog: _Watchdog,
) -> dict[str, Any] | None:
    """The worker's result; None if it ended without one."""
    for line in process.stdout or ():
        watchdog.heard()
        message = json.loads(line)
        if "error" in message:
            error = HearevalError(**message["error"])
            error.remedy = error.remedy or f"More is in {log}"
            raise error
        if "result" in message:
            return dict(message["result"])
        if "done" in message:
            progress(message["done"], message["total"])
        elif tell:
            tell(message)
    return None


def _death(code: int, log: Path, *, is_memory: bool) -> HearevalError:
    words = _last_words(log.read_text(errors="replace"))
    # Those of real time have no names.
    ended = f"signal {SIGNALS.get(-code, -code)}" if code < 0 else f"exit code {code}"
    why = ", killed because memory had run out" if is_memory else ""
    got = f"{ended}{why}{f', last words: {words}' if words else ''}"
    kind = KilledForMemoryError if is_memory else HearevalError
    return kind("the worker process", got=got, expected="a result", remedy=f"Its log is {log}")


def _last_words(log: str) -> str:
    """The line of a log that tells best why a process ended, as an error can repeat it."""
    lines = log.splitlines()
    crashes = [i for i, line in enumerate(lines) if line.startswith("Fatal Python error")]
    if not crashes:
        return next(filter(None, map(_plain, reversed(lines))), "")
    # Python tells of every thread; where the crash was stands first under "Current thread".
    after = itertools.dropwhile(lambda line: not line.startswith("Current thread"), lines[crashes[-1] :])
    return _plain(f"{lines[crashes[-1]]}, {next((line for line in after if line.startswith('  File')), '')}")


def _plain(line: str) -> str:
    r"""A line without what only a terminal understands, and not longer than a reader's patience.

    >>> _plain("\x1b[1;31mred\x1b[0m \x07bell")
    'red bell'
    """
    letters = "".join(c if c.isprintable() else " " for c in ESCAPE_CODES.sub("", line))
    words = " ".join(letters.split())
    return words if len(words) <= WORDS_LENGTH else f"{words[:WORDS_LENGTH]}..."


def _killed_for_memory() -> int:
    """How many processes Linux has killed for want of memory since it was started; elsewhere 0."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Ask Linux to send this process a signal when the thread that started it ends; elsewhere do nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal_number)
