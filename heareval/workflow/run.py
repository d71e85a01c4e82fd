"""Running a graph of steps: scheduler, workers, log, and an exit code that means what it says."""

from __future__ import annotations

import configparser
import contextlib
import functools
import logging
import os
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import luigi
from luigi.execution_summary import LuigiStatusCode

from heareval import files, progress
from heareval.errors import HearevalError
from heareval.formats.embeddings_folder import sweep_finished
from heareval.workflow.step import Step, steps_below

INTERRUPT_AGAIN_S = 2.0
FORK_S = 0.02
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
ASK_AGAIN_S = 2.0
# What Luigi says of the steps that it leaves to others.
DONE_ELSEWHERE = "were being run by another worker"
PACKAGED_CONFIG = Path(__file__).parent.parent / "luigi.cfg"
# What luigi.build reports, and the name in [retcode] of the exit code that goes with it.
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
        exit_code: 0 exactly when every root step is complete on disk, else the meaning of luigi's [retcode].
        steps: how many steps were done by this runner.
        failures: (title of the step, explanation in one line).
        log: Luigi's log; None when there was nothing to do.
    """

    exit_code: int
    steps: int
    failures: tuple[tuple[str, str], ...]
    log: Path | None
    seconds: float


def load_config() -> luigi.configuration.base_parser.BaseParser:
    """Luigi's configuration: the packaged values, under the user's own luigi.cfg and LUIGI_CONFIG_PATH."""
    luigi.configuration.add_config_path(str(PACKAGED_CONFIG))
    for path in ("luigi.cfg", os.environ.get("LUIGI_CONFIG_PATH", "")):
        if path and Path(path).is_file():
            try:
                luigi.configuration.add_config_path(path)
            except configparser.Error as error:
                raise HearevalError(f"configuration {path}", got=str(error), expected="ini syntax") from error
    return luigi.configuration.get_config()


def run(
    roots: Sequence[Step], *, workers: int, scheduler_url: str, log_folder: Path, gpus: int = 0
) -> Outcome:
    """Do what is not done yet.

    Args:
        workers: processes that work side by side.
        gpus: how many models may be at work side by side, without a luigid; 0 = as the configuration says.
        scheduler_url: a luigid that several machines share; "" schedules in this process.
    """
    started = time.monotonic()
    load_config()
    # Also when there is nothing to do: another runner may have done the step that a killed one was at.
    for folder in _folders_of(roots):
        files.sweep(folder)
        sweep_finished(folder)
    todo = list(steps_below(list(roots)))
    if not todo:
        return Outcome(0, 0, (), None, time.monotonic() - started)
    log = _log_to(log_folder)
    # Otherwise Luigi would send its log to the terminal, between the bars.
    luigi.configuration.get_config().set("core", "no_configure_logging", "true")
    settings: dict[str, Any] = {"workers": workers, "local_scheduler": not scheduler_url}
    if scheduler_url:
        settings["scheduler_url"] = scheduler_url
    else:
        _for_one_runner(gpus)
    # Luigi reads some keys of [core] only where they are used, and then complains about them here.
    warnings.simplefilter("ignore", luigi.parameter.UnconsumedParameterWarning)
    with _interruptible(), progress.showing(len(todo)) as account:
        result = _build(roots, settings)
    complete = all(root.complete() for root in roots)
    exit_code = 0 if complete else _exit_code(result.status)
    seconds = time.monotonic() - started
    return Outcome(exit_code, len(account.finished), tuple(account.failures), log, seconds)


def _build(roots: Sequence[Step], settings: dict[str, Any]) -> luigi.execution_summary.LuigiRunResult:
    """How Luigi ended once nobody is at a step of this run any more.

    Luigi leaves when all that remains is being done by other runners. They may fail or be killed, so this
    one asks again for what there is to do.
    """
    while True:
        result = luigi.build(list(roots), detailed_summary=True, **settings)
        if DONE_ELSEWHERE not in result.summary_text or all(root.complete() for root in roots):
            return result
        time.sleep(ASK_AGAIN_S)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does, and neither is lost.

    Python drops an exception that a signal raises inside some of its own hooks, so it is raised once more
    until the run has ended.
    """
    runner, asked, forking = os.getpid(), [], _forks_under_way()

    def interrupt(number: int, _: object) -> None:
        if os.getpid() != runner:
            # A child forked a moment ago, without handlers of its own yet; the runner tells the user.
            os._exit(128 + number)
        asked.append(number)
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
    if asked:
        # The steps were ended by the same signal, and Luigi came to an end before it was raised again.
        raise KeyboardInterrupt


@functools.cache
def _forks_under_way() -> list[bool]:
    """A list that is empty except while this process forks.

    Python's hooks at a fork take the locks of logging, and an exception between them would leave one taken.
    Ours run before and after them, and hold no line of Python in which a signal could be noticed.
    """
    forking: list[bool] = []
    os.register_at_fork(
        before=functools.partial(forking.append, True),
        after_in_parent=forking.clear,
        after_in_child=forking.clear,
    )
    return forking


def _folders_of(roots: Sequence[Step]) -> set[Path]:
    """The folders that killed runs may have left scratch in."""
    named = {Path(folder) for root in roots for folder in asdict(root.places).values()}
    # A door makes the folders absolute that it was given; the others are not ours to touch.
    return {folder for folder in named if folder.is_absolute()}


def _for_one_runner(gpus: int) -> None:
    """Without a luigid nobody else can take over a step, so a failure is told at once, not retried."""
    config = luigi.configuration.get_config()
    config.set("scheduler", "retry_count", "1")
    config.set("worker", "keep_alive", "false")
    if gpus:
        config.set("resources", "gpu", str(gpus))


def _exit_code(status: LuigiStatusCode) -> int:
    name = RETURN_CODES.get(status, "not_run")
    return luigi.configuration.get_config().getint("retcode", name, 25) or 25


class _LogFile(logging.FileHandler):
    """A log that a full disk cuts short without a word: the step that has no room either tells of it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Pass over what can't be written."""


def _log_to(folder: Path) -> Path:
    """Send Luigi's log into a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    handler = _LogFile(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    for name in ("luigi", "luigi-interface"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return log
