"""Run a graph of steps: scheduler, workers, log and a reliable exit code."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import luigi
from luigi.execution_summary import LuigiStatusCode
from luigi.scheduler import Scheduler

from heareval import files, progress
from heareval.errors import HearevalError, RunError
from heareval.formats.embeddings_folder import sweep_finished
from heareval.workflow.configuration import load_config
from heareval.workflow.failures import ToldFailure, tell_failures
from heareval.workflow.luigid import Luigid
from heareval.workflow.run_records import record_run
from heareval.workflow.runner import Goal, Runner
from heareval.workflow.step import Step, incomplete_steps
from heareval.workflow.step_records import StepRecord, now, read_step_records
from heareval.workflow.stopping import handling_stop_requests, is_draining

RETRY_EVERY_S = 2.0
# How long a run registers its steps again and again, if no step of it gets done and nobody works on one.
PATIENCE_S = 60.0
# luigid needs 15 s of CPU to learn so many, and then a tenth of a second for each that it hands out.
MAX_STEPS = 5000
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
SCHEDULING_ERRORS = (LuigiStatusCode.SCHEDULING_FAILED, LuigiStatusCode.MISSING_EXT)
# Exit codes that a configuration may leave out.
USUAL_CODES = {"drained": 45, "no_scheduler": 50}
NOT_RUN_CODE = 25


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        exit_code: 0 if and only if every root step is complete on disk; otherwise as in luigi's [retcode].
        steps: number of steps that this runner finished.
        failures: (title of the step, explanation in one line).
        log: Luigi's log; None if there was nothing to do.
        seconds: duration of the run.
        reason: why it ended before everything was there, in one line, if not because of `failures`.
        is_drained: whether it was asked to end.
    """

    exit_code: int
    steps: int
    failures: tuple[tuple[str, str], ...]
    log: Path | None
    seconds: float
    reason: str = ""
    is_drained: bool = False

    @property
    def told_failures(self) -> tuple[ToldFailure, ...]:
        """What is told about the steps that failed; archives that one reason keeps away are told together."""
        return tell_failures(self.failures)

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
            self.log if self.failures else later.log or self.log,
            self.seconds + later.seconds,
            self.reason or later.reason,
            self.is_drained or later.is_drained,
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
        HearevalError: luigi.cfg is wrong, or there are too many steps for one run.
        FileExistsError: a step would replace files that heareval did not make; nothing has been done yet.
    """
    started = time.monotonic()
    load_config()
    # Even if there is nothing to do: another runner may have finished the step of a killed one.
    for folder in _output_folders(roots):
        files.remove_leftovers(folder)
        sweep_finished(folder)
    todo = list(incomplete_steps(list(roots)))
    if len(todo) > MAX_STEPS:
        raise HearevalError(
            "this run",
            got=f"{len(todo)} steps",
            expected=f"at most {MAX_STEPS}",
            remedy="Prepare the tasks first, then evaluate a few submissions at a time.",
        )
    if roots:
        record_run(roots[0].places, todo)
    if not todo:
        return Outcome(0, 0, (), None, time.monotonic() - started)
    for step in todo:
        step.check_target()
    if is_draining():
        seconds = time.monotonic() - started
        return Outcome(_exit_code("drained"), 0, (), None, seconds, _say_drained(len(todo)), is_drained=True)
    log = _open_log(log_folder)
    # Keep Luigi from writing its log to the terminal, between the progress bars.
    luigi.configuration.get_config().set("core", "no_configure_logging", "true")
    if not scheduler_url:
        _configure_local_scheduler(gpus)
    # Luigi warns here about keys of [core] that it reads later.
    warnings.simplefilter("ignore", luigi.parameter.UnconsumedParameterWarning)
    with handling_stop_requests(), progress.show_steps(len(todo)) as outcomes:
        code_name, reason = _build(Goal(tuple(roots)), workers, scheduler_url, outcomes)
    left = {step.title for step in incomplete_steps(list(roots))}
    return Outcome(
        _exit_code(code_name) if left else 0,
        len(outcomes.finished),
        # The same error once, and none that was made good, here or elsewhere.
        tuple(failure for failure in dict.fromkeys(outcomes.failures) if failure[0] in left),
        log,
        time.monotonic() - started,
        reason if left else "",
        is_drained=bool(left) and code_name == "drained",
    )


def _build(goal: Goal, workers: int, scheduler_url: str, outcomes: progress.StepOutcomes) -> tuple[str, str]:
    """Run Luigi until everything is complete, or until it can't get further.

    Luigi stops when all remaining steps are being run by others, which may fail or be killed, and when luigid
    has forgotten its steps. Then it is started again, as long as no step has failed and something happens.

    Returns the name of the exit code and the reason, in one line, if there is one.
    """
    began, left, changed = now(), len(list(incomplete_steps([*goal.roots]))), time.monotonic()
    factory = _Factory(goal)
    options: dict[str, Any] = {"local_scheduler": not scheduler_url, "workers": workers}
    if scheduler_url:
        options["scheduler_url"] = scheduler_url
    while True:
        lost, result = None, None
        try:
            result = luigi.build([goal], worker_scheduler_factory=factory, detailed_summary=True, **options)
        except luigi.rpc.RPCError as error:
            lost = error
        steps = list(incomplete_steps([*goal.roots]))
        before, left = left, len(steps)
        if left < before:
            changed = time.monotonic()
        if not steps:
            return "", ""
        if is_draining():
            return "drained", _say_drained(left)
        if lost and left == before:
            return "no_scheduler", _say_lost(scheduler_url, lost)
        if result:
            failures = _find_failures(steps, began)
            is_stuck = time.monotonic() - changed > PATIENCE_S and DONE_ELSEWHERE not in result.summary_text
            if not scheduler_url or failures or is_stuck or result.status in SCHEDULING_ERRORS:
                titles = {title for title, _ in outcomes.failures}
                elsewhere = [each for each in failures if each.title not in titles]
                return RETURN_CODES.get(result.status, "not_run"), _say_failed_elsewhere(elsewhere)
        time.sleep(RETRY_EVERY_S)


class _Factory:
    """Makes what Luigi's `build` needs, for one run, which may build several times.

    Args:
        goal: what the run is to do.
    """

    def __init__(self, goal: Goal) -> None:
        self.goal, self.is_first = goal, True

    def create_local_scheduler(self) -> Scheduler:
        """Return a scheduler in this process."""
        return Scheduler(prune_on_get_work=True, record_task_history=False)

    def create_remote_scheduler(self, url: str) -> Luigid:
        """Return the luigid at an address."""
        return Luigid(url)

    def create_worker(self, scheduler: Luigid | Scheduler, worker_processes: int, **_: bool) -> Runner:
        """Return a worker."""
        is_first, self.is_first = self.is_first, False
        return Runner(self.goal, scheduler, worker_processes, is_first=is_first)


def _find_failures(steps: Sequence[Step], began: str) -> list[StepRecord]:
    """Return the failures of steps since a time, whichever runner had them.

    Args:
        steps: some steps.
        began: ISO 8601, UTC.
    """
    keys = {step.record_key for step in steps}
    records = read_step_records(steps[0].places.step_records()).failed
    return [record for record in records if record.key in keys and record.last >= began]


def _say_drained(left: int) -> str:
    return f"drained, {left} {'step' if left == 1 else 'steps'} left"


def _say_lost(url: str, error: luigi.rpc.RPCError) -> str:
    """Return the line on a luigid that is gone."""
    return str(
        HearevalError(
            f"luigid at {url}",
            got=str(error),
            expected="a running luigid",
            remedy="Start luigid and run again, or run without --scheduler-url.",
        )
    )


def _say_failed_elsewhere(failures: Sequence[StepRecord]) -> str:
    """Return a line on the first failure that another runner had, if there is one."""
    return "".join(f"{each.title} failed on {each.host}: {each.error}" for each in failures[:1])


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
    # All is made on this machine. What somebody deletes meanwhile is made again.
    config.set("worker", "check_unfulfilled_deps", "true")
    config.set("heareval", "input_wait_s", "0")
    if gpus:
        config.set("resources", "gpu", str(gpus))


def _exit_code(name: str) -> int:
    """Return the exit code of this name; never 0, which says that everything is complete."""
    usual = USUAL_CODES.get(name, NOT_RUN_CODE)
    return luigi.configuration.get_config().getint("retcode", name, usual) or usual


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
