"""Requests to stop a run: at once, or as soon as its current steps are done.

Ctrl-C and SIGTERM end a run at once. SIGUSR1 drains it: the current steps are finished, and no new one
begins. A batch system may send SIGTERM as the only warning, so it drains a Slurm job that has time left.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterator, Mapping

# An interrupt is raised again after this time, or after the shorter one if it came during a fork.
INTERRUPT_AGAIN_S = 2.0
FORK_S = 0.02
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
# With less time left, SIGTERM is the end of the job, and not a warning of it.
MIN_LEFT_S = 60.0

# Not empty once this process was asked to drain, for all runs that follow in it.
_drain_requests: list[int] = []


def is_draining() -> bool:
    """Return whether this process was asked to finish its current steps and then to end."""
    return bool(_drain_requests)


def has_time_left(variables: Mapping[str, str], now_s: float) -> bool:
    """Return whether a process runs in a Slurm job that goes on for more than a minute.

    Args:
        variables: the environment variables of the process.
        now_s: the time, in seconds since 1970.

    >>> job = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1000"}
    >>> has_time_left(job, 700.0), has_time_left(job, 990.0), has_time_left({}, 700.0)
    (True, False, False)
    """
    end = variables.get("SLURM_JOB_END_TIME", "")
    is_known = "SLURM_JOB_ID" in variables and end.isascii() and end.isdecimal()
    return is_known and int(end) - now_s > MIN_LEFT_S


@contextlib.contextmanager
def handling_stop_requests() -> Iterator[None]:
    """Make SIGTERM end the block like Ctrl-C and SIGUSR1 drain it, and make sure that none is lost.

    Python drops exceptions that a signal handler raises inside some of its own hooks, so KeyboardInterrupt is
    raised again and again until the block has ended. The handler of SIGUSR1 stays: between two runs of a
    process, the signal would kill it.
    """
    runner, received, forking = os.getpid(), [], _forks_under_way()

    def interrupt(number: int, _: object) -> None:
        if os.getpid() != runner:
            # A child forked a moment ago that has not set its own handlers yet. The runner tells the user.
            os._exit(128 + number)
        is_warning = number == signal.SIGTERM and has_time_left(os.environ, time.time())
        if is_warning and not is_draining():
            _drain_requests.append(number)
            return
        received.append(number)
        signal.setitimer(signal.ITIMER_REAL, FORK_S if forking else INTERRUPT_AGAIN_S)
        if not forking:
            raise KeyboardInterrupt

    signal.signal(signal.SIGUSR1, lambda number, _: _drain_requests.append(number))
    signal.siginterrupt(signal.SIGUSR1, False)
    before = {number: signal.signal(number, interrupt) for number in INTERRUPTS}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        # The same signal ended the steps, and Luigi returned before KeyboardInterrupt was raised again.
        raise KeyboardInterrupt


@functools.cache
def _forks_under_way() -> list[bool]:
    """Return a list that is empty except while this process forks.

    Python's hooks at a fork acquire the locks of logging; an exception between them would never release one.
    Our hooks run before and after those. They are methods of a list, not Python functions, because Python
    handles signals between the lines of a function.
    """
    forking: list[bool] = []
    os.register_at_fork(
        before=functools.partial(forking.append, True),
        after_in_parent=forking.clear,
        after_in_child=forking.clear,
    )
    return forking
