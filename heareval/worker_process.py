"""A worker in a process of its own: a job file goes in, progress and one result come out as JSON lines."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heareval.errors import HearevalError
from heareval.spec import Progress

# A worker that has told its result may still close files; a thread of a submission may never end.
END_S = 20


def run_worker(command: Sequence[str], job: dict[str, Any], log: Path, progress: Progress) -> dict[str, Any]:
    """Run `command JOB_FILE` and return what it reports under "result".

    Args:
        job: JSON values for the job file, which stays beside the log.
        log: where everything goes that the worker writes to stderr.

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
        try:
            result = _listen(process, log, progress)
            if result is not None:
                process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            process.kill()
        except BaseException:
            process.kill()
            raise
    if result is None:
        raise _death(process.returncode, log)
    return result


def _listen(process: subprocess.Popen[str], log: Path, progress: Progress) -> dict[str, Any] | None:
    """The worker's result; None if it ended without one."""
    for line in process.stdout or ():
        message = json.loads(line)
        if "error" in message:
            error = HearevalError(**message["error"])
            error.remedy = error.remedy or f"More is in {log}"
            raise error
        if "result" in message:
            return dict(message["result"])
        progress(message["done"], message["total"])
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
