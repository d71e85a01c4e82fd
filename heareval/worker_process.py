"""A worker in a process of its own: a job file goes in, progress and one result come out as JSON lines."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from heareval.errors import HearevalError
from heareval.spec import Progress

# A worker that has told its result may still close files; a thread of a submission may never end.
END_S = 20


def run_worker(
    command: Sequence[str],
    job: dict[str, Any],
    log: Path,
    progress: Progress,
    *,
    tell: Callable[[dict[str, Any]], None] | None = None,
    silence_s: float | None = None,
) -> dict[str, Any]:
    """Run `command JOB_FILE` and return what it reports under "result".

    Args:
        job: JSON values for the job file, which stays beside the log.
        log: where everything goes that the worker writes to stderr.
        tell: gets every message as it comes that is neither progress nor the end.
        silence_s: a worker that says nothing for so long is killed.

    Raises:
        HearevalError: the worker's own error, or its end without a result, with the last words of its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # Two runs may do the same step at once, each with its own scratch folder in its job.
    log = log.with_name(f"{log.stem}-{os.getpid()}.log")
    job_file = log.with_suffix(".job.json")
    job_file.write_text(json.dumps({**job, "parent": os.getpid()}, indent=1), encoding="utf-8")
    with (
        open(log, "wb") as complaints,
        subprocess.Popen(
            [*command, str(job_file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as process,
    ):
        watchdog = _Watchdog(process, silence_s)
        try:
            result = _listen(process, log, progress, tell, watchdog)
            if result is not None:
                process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            process.kill()
        except BaseException:
            process.kill()
            raise
        finally:
            watchdog.stop()
    if result is None:
        raise watchdog.error(log) if watchdog.has_bitten else _death(process.returncode, log)
    return result


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
            self.timer = threading.Timer(self.silence_s, self._bite)
            self.timer.daemon = True
            self.timer.start()

    def stop(self) -> None:
        """Wait no more."""
        if self.timer:
            self.timer.cancel()

    def _bite(self) -> None:
        self.has_bitten = True
        self.process.kill()

    def error(self, log: Path) -> HearevalError:
        """The error for a process that was killed."""
        got, remedy = f"no word in {self.silence_s:g} s", f"Its log is {log}"
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


def _death(code: int, log: Path) -> HearevalError:
    lines = log.read_text(errors="replace").strip().splitlines()
    ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return HearevalError(
        "the worker process",
        got=f"{ended}{f', last words: {lines[-1]}' if lines else ''}",
        expected="a result",
        remedy=f"Its log is {log}",
    )


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Ask Linux to send this process a signal when the thread that started it ends; elsewhere do nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal_number)
