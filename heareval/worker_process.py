"""A worker in a process of its own: a job file goes in, progress and one result come out as JSON lines."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from heareval.errors import HearevalError

Progress = Callable[[int, int], None]


def run_worker(command: Sequence[str], job: dict[str, Any], log: Path, progress: Progress) -> dict[str, Any]:
    """Run `command JOB_FILE` and return what it reports under "result".

    Args:
        job: JSON values for the job file.
        log: where everything goes that the worker writes to stderr.

    Raises:
        HearevalError: the worker's own error, or its death with the last words of its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as job_file,
        open(log, "wb") as complaints,
    ):
        json.dump(job, job_file)
        job_file.flush()
        with subprocess.Popen(
            [*command, job_file.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as process:
            try:
                result = _listen(process, progress)
            except BaseException:
                process.kill()
                raise
    if process.returncode:
        raise _death(process.returncode, log)
    return result


def _listen(process: subprocess.Popen[str], progress: Progress) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for line in process.stdout or ():
        message = json.loads(line)
        if "error" in message:
            error = message["error"]
            raise HearevalError(
                error["what"],
                got=error.get("got", ""),
                expected=error.get("expected", ""),
                remedy=error.get("remedy", ""),
            )
        if "done" in message:
            progress(message["done"], message["total"])
        result = message.get("result", result)
    return result


def _death(code: int, log: Path) -> HearevalError:
    lines = log.read_text(errors="replace").strip().splitlines()
    ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return HearevalError(
        "the worker process",
        got=f"{ended}{f', last words: {lines[-1]}' if lines else ''}",
        expected="a result",
        remedy=f"Its log is {log}",
    )
