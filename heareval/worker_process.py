"""Run a worker process: it gets a job file, and reports progress and one result through a pipe of its own.

A message is a line with the job's `token` and a JSON object, written to the file descriptor `channel` of the
job. Whatever the worker and its children print goes to the log, from the moment they start. Other lines that
a model may write to the descriptor are skipped.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from heareval import files
from heareval.errors import HearevalError
from heareval.spec import Progress, ignore_progress
from heareval.worker_supervisor import PR_SET_PDEATHSIG, call_prctl

# How long a worker may still close files after its result; a thread of a submission may never end.
EXIT_TIMEOUT_S = 20
# How long a silent worker has to write its traceback before it is killed.
TRACEBACK_TIMEOUT_S = 2.0
# How long a supervisor may take to end all that it supervises; more than it allows itself.
STOP_TIMEOUT_S = 20.0
# Threads of GNU OpenMP, which PyTorch brings, spin this often before they sleep. The default of 300,000 makes
# work take three to five times as long when other processes use the cores, too.
THREAD_VARIABLES = {"GOMP_SPINCOUNT": "1000"}
# Characters of a line of the log that an error repeats, and the codes that colour it on a terminal.
SHOWN_LENGTH, ESCAPE_CODES = 300, re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)")
SIGNAL_NAMES = {each.value: each.name for each in signal.Signals}
# The end of a log that is searched for the reason of a crash: 100 threads of 100 frames take less.
SEARCHED_BYTES = 1 << 20
# A longer log loses all but its end. Its size is looked at once per interval, and when a message comes.
MAX_LOG_BYTES, LOG_INTERVAL_S = 100_000_000, 1.0
# No message is longer; what a model writes to the channel may be.
MAX_MESSAGE_BYTES = 1 << 24
READ_BYTES = 1 << 16


class KilledForMemoryError(HearevalError):
    """Linux killed the worker because memory ran out."""


class SilentWorkerError(HearevalError):
    """The worker was killed because it reported nothing for too long."""


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

    However the worker ends, all processes that it has started end with it; `worker_supervisor.py` says how.

    Args:
        command: the program and its first arguments.
        job: JSON values for the job file, which stays beside the log.
        log: where the worker's output goes; the host and the id of this process are added to its name. A log
            of more than MAX_LOG_BYTES is cut to its end.
        progress: gets the worker's progress.
        on_message: gets every message that is neither progress nor the result.
        silence_s: a worker that reports nothing for this long is killed; None = no limit.
        variables: the worker's environment variables, besides THREAD_VARIABLES; None = those of this process.

    Raises:
        HearevalError: the worker reported an error, or ended without a result; the error then repeats the end
            of its log.
        SilentWorkerError: it was silent for too long.
        KilledForMemoryError: Linux killed it because memory ran out.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # Two runs may do the same step at the same time, with different job files.
    log = log.with_name(f"{log.stem}-{files.name_process()}.log")
    job_file, token = log.with_suffix(".job.json"), secrets.token_hex(8)
    kills_before = _count_memory_kills()
    receiver, sender = _open_pipe()
    with contextlib.closing(Channel(receiver, token)) as channel:
        try:
            told = {**job, "channel": sender, "token": token}
            job_file.write_text(json.dumps(told, indent=1), encoding="utf-8")
            process = _start(command, job_file, log, sender, variables)
        finally:
            os.close(sender)
        try:
            result = _listen(process, channel, log, progress, on_message, silence_s)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=EXIT_TIMEOUT_S)
        finally:
            stop_supervised(process)
    if result is None:
        is_memory = process.returncode == -signal.SIGKILL and _count_memory_kills() > kills_before
        raise _make_exit_error(process.returncode, log, is_memory=is_memory)
    return result


def _open_pipe() -> tuple[int, int]:
    """Return the two ends of a pipe: one to read from and one to write to.

    Their numbers are not those of standard input, output and error, which may be free in this process but are
    something else in a worker.
    """
    ends = os.pipe()
    try:
        receiver, sender = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends)
    finally:
        for end in ends:
            os.close(end)
    return receiver, sender


def _start(
    command: Sequence[str], job_file: Path, log: Path, sender: int, variables: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    log.unlink(missing_ok=True)
    # Appended to: after the log is cut, the next line goes to its end.
    with open(log, "ab") as output:
        return subprocess.Popen(
            supervise_command([*command, str(job_file)]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**THREAD_VARIABLES, **(os.environ if variables is None else variables)},
            pass_fds=(sender,),
            # Ctrl-C on a terminal reaches this process, which then stops the supervisor.
            start_new_session=True,
        )


def supervise_command(command: Sequence[str]) -> list[str]:
    """Return the command that runs a command under supervision; see `worker_supervisor.py`."""
    supervisor = Path(__file__).with_name("worker_supervisor.py")
    # Nothing that the user has installed for every Python may slow or disturb it.
    return [sys.executable, "-I", "-S", str(supervisor), str(os.getpid()), *command]


def stop_supervised(process: subprocess.Popen[bytes]) -> None:
    """End a supervised command and all that it has started, if it still runs; wait until that is done."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Channel:
    """The end of the pipe on which a worker's messages arrive.

    Args:
        descriptor: file descriptor of the pipe.
        token: begins each line that is a message.
    """

    def __init__(self, descriptor: int, token: str) -> None:
        self.descriptor, self.prefix, self.rest = descriptor, f"{token} ".encode(), b""
        self.selector = selectors.DefaultSelector()
        self.selector.register(descriptor, selectors.EVENT_READ)

    def close(self) -> None:
        """Close the pipe."""
        self.selector.close()
        os.close(self.descriptor)

    def has_data(self, timeout_s: float = 0.0) -> bool:
        """Return whether something arrives within a time, or the pipe has been closed."""
        return bool(self.selector.select(timeout_s))

    def read(self, timeout_s: float) -> list[dict[str, Any]] | None:
        """Return the messages that arrive within a time; None when the worker, and all with it, has ended."""
        if not self.has_data(timeout_s):
            return []
        if not (data := os.read(self.descriptor, READ_BYTES)):
            return None
        *lines, rest = (self.rest + data).split(b"\n")
        self.rest = rest if len(rest) <= MAX_MESSAGE_BYTES else b""
        return list(self._parse(lines))

    def _parse(self, lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
        for line in lines:
            if line.startswith(self.prefix):
                # A line that other output has got into is lost.
                with contextlib.suppress(ValueError):
                    yield json.loads(line[len(self.prefix) :])


def _listen(
    process: subprocess.Popen[bytes],
    channel: Channel,
    log: Path,
    progress: Progress,
    on_message: Callable[[dict[str, Any]], None] | None,
    silence_s: float | None,
) -> dict[str, Any] | None:
    """Return the worker's result; None if it ended without one.

    Raises:
        HearevalError: the worker reported an error.
        SilentWorkerError: it was silent for too long.
    """
    heard = time.monotonic()
    while (messages := channel.read(LOG_INTERVAL_S)) is not None:
        cut_log(log)
        for message in messages:
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
        if messages:
            heard = time.monotonic()
        elif process.poll() is not None and not channel.has_data():
            # A descendant that nobody could end keeps the pipe open.
            return None
        elif silence_s is not None and time.monotonic() - heard >= silence_s:
            _request_traceback(process)
            got = f"no message for {silence_s:g} s"
            remedy = f"Its log is {log}. Use a larger --timeout if it is only slow."
            raise SilentWorkerError(
                "the worker process", got=got, expected="progress or a result", remedy=remedy
            )
    return None


def _request_traceback(process: subprocess.Popen[bytes]) -> None:
    """Let a worker write the traceback of every thread, as faulthandler does on this signal."""
    process.send_signal(signal.SIGABRT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(TRACEBACK_TIMEOUT_S)


def cut_log(log: Path) -> None:
    """Cut a log that has become too long to its end; what is written meanwhile may be lost."""
    # The user may remove logs during a run.
    size = log.stat().st_size if log.exists() else 0
    if size > MAX_LOG_BYTES:
        end = read_end(log)
        with open(log, "r+b") as file:
            file.write(b"(heareval has removed the beginning of this log: it became too long)\n" + end)
            # Only now, so that what is written from here on follows the end.
            file.truncate()


def read_end(log: Path) -> bytes:
    """Return the last SEARCHED_BYTES of a log."""
    with open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - SEARCHED_BYTES))
        return file.read(SEARCHED_BYTES)


def _make_exit_error(code: int, log: Path, *, is_memory: bool) -> HearevalError:
    """Return the error for a worker that ended without a result."""
    # The user may remove logs during a run.
    end = read_end(log) if log.exists() else b""
    line = _find_telling_line(end.decode(errors="replace"))
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
    call_prctl(PR_SET_PDEATHSIG, signal_number)
