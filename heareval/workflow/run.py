"""Run a graph of steps: scheduler, workers, log and a reliable exit code."""

from __future__ import annotations

import contextlib
import functools
import logging
import logging.handlers
import os
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import luigi
from luigi.execution_summary import LuigiStatusCode

from heareval import files, progress
from heareval.errors import HearevalError, RunError
from heareval.formats.embeddings_folder import sweep_finished
from heareval.workflow.configuration import load_config
from heareval.workflow.run_records import record_run
from heareval.workflow.step import Step, incomplete_steps

# An interrupt is raised again after this time, or after the shorter one if it came during a fork.
INTERRUPT_AGAIN_S = 2.0
FORK_S = 0.02
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
RETRY_EVERY_S = 2.0
# A log that has become longer is renamed, and a new one begun.
MAX_LOG_BYTES = 20_000_000
# Part of Luigi's summary if it left steps to other runners.
DONE_ELSEWHERE = "were being run by another worker"
# Status of luigi.build -> name of its exit code in [retcode].
RETURN_CODES = {
    LuigiStatusCode.FAILED: "task_failed",
    LuigiStatusCode.FAILED_AND_SCHEDULING_FAILED: "task_failed",
    LuigiStatusCode.SCHEDULING_FAILED: "scheduling_error",
    LuigiStatusCode.MISSING_EXT: "missing_data",
}


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        exit_code: 0 if and only if every root step is complete on disk; otherwise as in luigi's [retcode].
        steps: number of steps that this runner finished.
        failures: (title of the step, explanation in one line).
        log: Luigi's log; None if there was nothing to do.
        seconds: duration of the run.
    """

    exit_code: int
    steps: int
    failures: tuple[tuple[str, str], ...]
    log: Path | None
    seconds: float

    def followed_by(self, later: Outcome) -> Outcome:
        """Return how two runs, one after the other, ended together.

        >>> first = Outcome(30, 1, (("fetch a.zip", "no answer"),), Path("a.log"), 1.5)
        >>> first.followed_by(Outcome(0, 3, (), None, 2.0)).exit_code
        30
        """
        return Outcome(
            self.exit_code or later.exit_code,
            self.steps + later.steps,
            self.failures + later.failures,
            self.log if self.failures else later.log,
            self.seconds + later.seconds,
        )

    def raise_if_failed(self) -> None:
        """Raise RunError if a step failed, or if the run is incomplete for another reason.

        >>> Outcome(exit_code=0, steps=3, failures=(), log=None, seconds=1.5).raise_if_failed()
        """
        if self.exit_code:
            raise RunError(self)


def run(
    roots: Sequence[Step], *, workers: int, scheduler_url: str, log_folder: Path, gpus: int = 0
) -> Outcome:
    """Run the incomplete steps among these roots and everything they require.

    Args:
        roots: the last steps.
        workers: number of parallel processes.
        scheduler_url: a luigid that several machines share; "" schedules in this process.
        log_folder: where to write Luigi's log.
        gpus: how many models may run in parallel, if there is no luigid; 0 takes it from the configuration.

    Raises:
        HearevalError: luigi.cfg is wrong, or luigid does not answer.
        FileExistsError: a step would replace files that heareval did not make; nothing has been done yet.
    """
    started = time.monotonic()
    load_config()
    # Even if there is nothing to do: another runner may have finished the step of a killed one.
    for folder in _output_folders(roots):
        files.remove_leftovers(folder)
        sweep_finished(folder)
    todo = list(incomplete_steps(list(roots)))
    if roots:
        record_run(roots[0].places, todo)
    if not todo:
        return Outcome(0, 0, (), None, time.monotonic() - started)
    for step in todo:
        step.check_target()
    log = _open_log(log_folder)
    # Keep Luigi from writing its log to the terminal, between the progress bars.
    luigi.configuration.get_config().set("core", "no_configure_logging", "true")
    settings: dict[str, Any] = {"workers": workers, "local_scheduler": not scheduler_url}
    if scheduler_url:
        settings["scheduler_url"] = scheduler_url
    else:
        _configure_local_scheduler(gpus)
    # Luigi warns here about keys of [core] that it reads later.
    warnings.simplefilter("ignore", luigi.parameter.UnconsumedParameterWarning)
    with _interruptible(), progress.show_steps(len(todo)) as outcomes:
        result = _build(roots, settings)
    complete = all(root.complete() for root in roots)
    exit_code = 0 if complete else _exit_code(result.status)
    seconds = time.monotonic() - started
    return Outcome(exit_code, len(outcomes.finished), tuple(outcomes.failures), log, seconds)


def _build(roots: Sequence[Step], settings: dict[str, Any]) -> luigi.execution_summary.LuigiRunResult:
    """Run Luigi until no other runner is working on a step of this run, and return its last result.

    Luigi stops when all remaining steps are being run by others. These may fail or be killed, so start Luigi
    again until everything is complete or nobody works on it.
    """
    while True:
        try:
            result = luigi.build(list(roots), detailed_summary=True, **settings)
        except luigi.rpc.RPCError as error:
            raise HearevalError(
                f"luigid at {settings.get('scheduler_url')}",
                got="no answer" if error.sub_exception is None else type(error.sub_exception).__name__,
                expected="a running luigid",
                remedy="Start luigid, or run without --scheduler-url.",
            ) from error
        if DONE_ELSEWHERE not in result.summary_text or all(root.complete() for root in roots):
            return result
        time.sleep(RETRY_EVERY_S)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Make SIGTERM end a run like Ctrl-C, and make sure that neither is lost.

    Python drops exceptions that a signal handler raises inside some of its own hooks, so KeyboardInterrupt is
    raised again and again until the run has ended.
    """
    runner, received, forking = os.getpid(), [], _forks_under_way()

    def interrupt(number: int, _: object) -> None:
        if os.getpid() != runner:
            # A child forked a moment ago that has not set its own handlers yet. The runner tells the user.
            os._exit(128 + number)
        received.append(number)
        signal.setitimer(signal.ITIMER_REAL, FORK_S if forking else INTERRUPT_AGAIN_S)
        if not forking:
            raise KeyboardInterrupt

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


def _output_folders(roots: Sequence[Step]) -> set[Path]:
    """Return the folders in which killed runs may have left scratch."""
    named = {Path(folder) for root in roots for folder in root.places.folders.values()}
    # The folders that the user named are absolute. The other ones are defaults that this run does not use.
    return {folder for folder in named if folder.is_absolute()}


def _configure_local_scheduler(gpus: int) -> None:
    """Configure Luigi for a run without luigid: don't retry, as no other machine could do better."""
    config = luigi.configuration.get_config()
    config.set("scheduler", "retry_count", "1")
    config.set("worker", "keep_alive", "false")
    if gpus:
        config.set("resources", "gpu", str(gpus))


def _exit_code(status: LuigiStatusCode) -> int:
    name = RETURN_CODES.get(status, "not_run")
    return luigi.configuration.get_config().getint("retcode", name, 25) or 25


class LogFile(logging.handlers.WatchedFileHandler):
    """A log that a runner and the processes of its steps write to, and that begins anew when it is too long.

    The runner renames it to `<name>.1`, in place of an older one; the other processes see that and open the
    new one. A full disk is ignored: the step that can't write reports the error.

    Args:
        path: the log.
        max_bytes: the length from which it is renamed.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_LOG_BYTES) -> None:
        super().__init__(path)
        self.path, self.max_bytes, self.runner = path, max_bytes, os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        # The user may remove logs during a run.
        with contextlib.suppress(OSError):
            if os.getpid() == self.runner and self.path.stat().st_size > self.max_bytes:
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Drop a record that can't be written."""


def _open_log(folder: Path) -> Path:
    """Make Luigi log to a new file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{files.name_process()}.log"
    handler = LogFile(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    for name in ("luigi", "luigi-interface"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return log
