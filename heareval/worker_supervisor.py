"""Run a command, and end all that it has started when it ends: a program, used by `worker_process.py`.

Its arguments are the id of the process that starts it, and the command. When that process dies, or on
SIGTERM, the command ends as well. The program ends as the command did: with its exit code, or by the same
signal.

To kill the process group of the command would miss whatever has begun a session of its own, as daemons do. On
Linux this process is therefore a child subreaper: a descendant that loses its parent becomes its child, in
whatever session it is. Once the command has ended, all that it has left descends from this process. The
process of the user would not do for that, because it has other children as well. On other systems only the
process group of the command is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

# Options of prctl(2).
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
# How long descendants are killed before this process gives up. A process may hang in the kernel, or may
# have become one of another user.
KILL_TIMEOUT_S = 10.0
# What shells report for a command that cannot be run.
NO_COMMAND_EXIT_CODE = 127


class StopRequest(BaseException):
    """The parent has died, or asks to stop."""


def supervise(parent: int, command: Sequence[str]) -> int:
    """Run a command and end all that it has started; return its exit code, negative for a signal.

    Args:
        parent: id of the process that has started this one.
        command: the program and its arguments.
    """
    child = 0
    try:
        signal.signal(signal.SIGTERM, _request_stop)
        call_prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        call_prctl(PR_SET_CHILD_SUBREAPER, 1)
        if os.getppid() != parent:
            return 1  # it died before the kernel was asked to tell
        supervisor = os.getpid()
        child = os.fork()
        if not child:
            _run_command(supervisor, command)
        # It makes the command write the tracebacks of its threads.
        signal.signal(signal.SIGABRT, lambda *_: os.kill(child, signal.SIGABRT))
        return _wait_for(child)
    except StopRequest:
        return -signal.SIGTERM
    finally:
        # All ends from here on anyway, and a request to stop must not interrupt that.
        with contextlib.suppress(StopRequest):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_descendants(child)


def _request_stop(*_: object) -> NoReturn:
    # A second request must not interrupt what the first one has begun.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise StopRequest


def _run_command(supervisor: int, command: Sequence[str]) -> NoReturn:
    """Become the command, in a session of its own, so that it cannot signal the supervisor with its group."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        call_prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == supervisor:
            os.execvp(command[0], list(command))
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
    finally:
        os._exit(NO_COMMAND_EXIT_CODE)


def _wait_for(child: int) -> int:
    """Wait for a child, and meanwhile for orphans that have come here; return the child's exit code."""
    while True:
        process, status = os.waitpid(-1, 0)
        if process == child:
            return os.waitstatus_to_exitcode(status)


def end_descendants(child: int) -> None:
    """Kill all descendants of this process; where there is no /proc, the process group of a child."""
    if child and not Path("/proc/self/stat").exists():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
    until = time.monotonic() + KILL_TIMEOUT_S
    # The children of a killed child become children of this process.
    while time.monotonic() < until:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for process in list_children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.002)


def list_children() -> list[int]:
    """Return the ids of the children of this process; [] where there is no /proc."""
    ours, found = os.getpid(), []
    for file in Path("/proc").glob("[0-9]*/stat"):
        # A process may have ended in the meantime.
        with contextlib.suppress(OSError):
            # The name of the program is in parentheses, and may contain some.
            if int(file.read_bytes().rpartition(b")")[2].split()[1]) == ours:
                found.append(int(file.parent.name))
    return found


def call_prctl(option: int, value: int) -> None:
    """Call prctl(2) of Linux; do nothing on other systems."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value)


def end_like(code: int) -> NoReturn:
    """End this process with an exit code, or by a signal if it is negative."""
    if code < 0:
        # The command has left the core file that there may be.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(abs(code))


if __name__ == "__main__":
    end_like(supervise(int(sys.argv[1]), sys.argv[2:]))
