"""A worker of Luigi that copes with what happens on a cluster, and the one step above all others of a run.

Luigi's own worker ends with an exception if luigid is gone, and finds nothing to do if luigid was restarted.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import luigi
import luigi.rpc
import luigi.worker
from luigi.scheduler import DISABLED, DONE, FAILED, PENDING, RUNNING, UPSTREAM_DISABLED, Scheduler

from heareval import files, progress
from heareval.errors import HearevalError
from heareval.workflow.luigid import Luigid
from heareval.workflow.step import Step, wait_for_outputs
from heareval.workflow.stopping import is_draining

logger = logging.getLogger("luigi-interface")
# How often a runner makes sure that luigid knows its steps.
CHECK_EVERY_S = 2.0
# How long a runner has nothing to do before it says why, and how often it looks why after that.
IDLE_S, LOOK_AGAIN_S = 3.0, 10.0
# The host in luigid's name of a worker: `Worker(salt=1, workers=2, host=node1, username=me, pid=17)`.
HOST = re.compile(r"host=([^,)]+)")


class StepsParameter(luigi.Parameter):  # type: ignore[misc]
    """Steps as a Luigi parameter; what Luigi writes and compares is a digest of their identities."""

    def serialize(self, value: Sequence[Step]) -> str:
        return files.fingerprint("steps", 1, steps=[step.task_id for step in value])


class Goal(luigi.WrapperTask):  # type: ignore[misc]
    """The steps that a run was asked for, as one: Luigi looks at all again for each step that it is given.

    Runs that are asked for other steps have another goal.
    """

    roots = StepsParameter()

    def requires(self) -> list[Step]:
        return list(self.roots)

    def run(self) -> None:
        wait_for_outputs(self.roots, "this run")

    def on_failure(self, exception: BaseException) -> str:
        # Anything else is Luigi's, which has steps made again whose output was deleted meanwhile.
        if isinstance(exception, HearevalError):
            unseen = next((step for step in self.roots if not step.complete()), self.roots[0])
            progress.report_failure(unseen.title, str(exception))
        return str(super().on_failure(exception))


class Runner(luigi.worker.Worker):  # type: ignore[misc]
    """A worker that registers again if luigid has forgotten it, and finishes its steps if luigid is gone.

    Args:
        goal: what it is to do.
        scheduler: a `Luigid`, or the scheduler of this process.
        processes: number of steps at the same time.
        is_first: whether this run has registered nothing before.
    """

    def __init__(
        self, goal: Goal, scheduler: Luigid | Scheduler, processes: int, *, is_first: bool = True
    ) -> None:
        self.has_luigid = isinstance(scheduler, Luigid)
        super().__init__(
            scheduler,
            worker_processes=processes,
            # Luigi's handler of SIGUSR1 is there only while a worker is; `stopping` has one.
            no_install_shutdown_handler=True,
            # Also a single step leaves this process free to look after luigid.
            force_multiprocessing=self.has_luigid,
        )
        self.goal = goal
        self.is_first = is_first
        self.checked = time.monotonic()
        self.tries: Counter[str] = Counter()
        self.look_why = 0.0
        self.told: set[str] = set()

    def run(self) -> bool:
        """Do the steps. Those that run when luigid is gone for good are finished."""
        try:
            if self.has_luigid:
                self._forgive_failures()
            has_done_all = bool(super().run())
            self._wait_for_others()
            return has_done_all
        except luigi.rpc.RPCError:
            self._finish_running()
            raise

    def _forgive_failures(self) -> None:
        """Have steps tried at once that luigid has given up, and those whose next try is still to come.

        luigid counts the death of a runner as a failure of its steps, so it gives up steps that did not fail.
        """
        for task_id in (
            self._scheduled_tasks.keys() & self._scheduler.task_list(DISABLED, "", limit=False).keys()
        ):
            self._scheduler.re_enable_task(task_id)
            self._scheduler.forgive_failures(task_id)
        if self.is_first:
            for task_id in (
                self._scheduled_tasks.keys() & self._scheduler.task_list(FAILED, "", limit=False).keys()
            ):
                self._scheduler.forgive_failures(task_id)

    def _wait_for_others(self) -> None:
        """Wait until this machine sees everything, if luigid says that it is done.

        Otherwise this run would do again what another machine has just done.
        """
        goal = self.goal.task_id
        if not self.has_luigid or goal not in self._scheduler.task_search(goal).get(DONE, ()):
            return
        # What is still not there after that was deleted, and is made again.
        with contextlib.suppress(HearevalError):
            wait_for_outputs(self.goal.roots, "this run")

    def _finish_running(self) -> None:
        """Wait until no step runs any more; what they made counts, whoever is told of it."""
        while any(process.is_alive() for process in self._running_tasks.values()):
            # A process ends only when its result is read.
            with contextlib.suppress(queue.Empty):
                self._task_result_queue.get(timeout=self._config.wait_interval)

    def _get_work(self) -> luigi.worker.GetWorkResponse:
        self._drain_if_asked()
        if not self._stop_requesting_work:
            self._register_if_forgotten()
        found = super()._get_work()
        if found.task_id is None and not found.n_pending_tasks and not self._stop_requesting_work:
            # Before it ends for want of steps.
            self._register_if_forgotten(since_s=0.0)
            found = super()._get_work()
        self._tell_why_idle(found)
        return found

    def _tell_why_idle(self, found: luigi.worker.GetWorkResponse) -> None:
        """Say why this runner has had nothing to do for a while, once for each reason."""
        is_idle = found.task_id is None and not self._running_tasks and not self._stop_requesting_work
        if not self.has_luigid or not is_idle:
            self.look_why = 0.0
            return
        now = time.monotonic()
        self.look_why = self.look_why or now + IDLE_S
        if now < self.look_why:
            return
        self.look_why = now + LOOK_AGAIN_S
        elsewhere = {each["task_id"]: _find_host(each["worker"]) for each in found.running_tasks}
        key, reason = self.explain_idleness(elsewhere)
        if reason and key not in self.told:
            self.told.add(key)
            progress.report_note(f"waiting: {reason}")

    def explain_idleness(self, elsewhere: Mapping[str, str]) -> tuple[str, str]:
        """Return what keeps this runner from working: what the reason is called, and a line.

        The line is empty if all steps are complete.

        Args:
            elsewhere: the steps that other runners are at, by identity, and their hosts.
        """
        given_up = self._scheduler.task_list(DISABLED, "", limit=False)
        hopeless = given_up | self._scheduler.task_list(PENDING, UPSTREAM_DISABLED, limit=False)
        steps = [step for step in self._scheduled_tasks.values() if step is not self.goal]
        left = [step for step in steps if step.task_id not in hopeless and not step.complete()]
        # A step may have been completed since luigid was asked.
        elsewhere = {step.task_id: elsewhere[step.task_id] for step in left if step.task_id in elsewhere}
        if not left:
            return "", ""
        ready = [
            step
            for step in left
            if step.task_id not in elsewhere and all(each.complete() for each in step.deps())
        ]
        for resource in self._scheduler.resource_list() if ready else ():
            claims = any(resource["name"] in step.process_resources() for step in ready)
            if claims and resource["num_used"] >= resource["num_total"]:
                users = (_find_host(each["worker_running"]) for each in resource["running"].values())
                hosts = ", ".join(sorted(set(users)))
                reason = f"{resource['name']} is in use by host {hosts}"
                return reason, reason
        if ready:
            reason = f"{ready[0].title} is tried again soon, as it failed or its runner was killed"
            return reason, reason
        hosts, count = ", ".join(sorted(set(elsewhere.values()))), len(left)
        if count == len(elsewhere):
            what = "the last step runs" if count == 1 else f"the {count} remaining steps run"
            return f"last {hosts}", f"{what} on {hosts}"
        needing = count - len(elsewhere)
        what = "1 step needs" if needing == 1 else f"{needing} steps need"
        return f"others {hosts}", f"{what} others that run on {hosts or 'other machines'}"

    def _handle_next_task(self) -> None:
        self._drain_if_asked()
        self._register_if_forgotten()
        super()._handle_next_task()

    def _add_task(self, *words: Any, **facts: Any) -> None:
        # luigid only shows parameters, and this one has all those of all the steps above it.
        facts.get("params", {}).pop("upstream", None)
        super()._add_task(*words, **facts)
        if self.has_luigid and facts["status"] == FAILED and facts["task_id"] != self.goal.task_id:
            self._tell_next_try(facts["task_id"])

    def _tell_next_try(self, task_id: str) -> None:
        """Say that a failed step is tried again, unless luigid has given it up."""
        step = self._scheduled_tasks[task_id]
        self.tries[task_id] += 1
        if task_id in self._scheduler.task_search(task_id).get(FAILED, ()):
            config = luigi.configuration.get_config()
            delay_s, tries = (
                config.getfloat("scheduler", "retry_delay"),
                config.getint("scheduler", "retry_count"),
            )
            ordinal = f"try {self.tries[task_id]} of {tries}"
            progress.report_note(f"{step.title}: failed, tried again in {delay_s:.0f} s ({ordinal})")

    def _drain_if_asked(self) -> None:
        if is_draining() and not self._stop_requesting_work:
            running = len(self._running_tasks)
            if running:
                what = "the step that runs is" if running == 1 else f"the {running} steps that run are"
                progress.report_note(f"draining: this run ends when {what} done")
            self._start_phasing_out()

    def _register_if_forgotten(self, since_s: float = CHECK_EVERY_S) -> None:
        """Tell luigid of all steps again if it was restarted, and may not know them.

        Args:
            since_s: seconds after the last look; nothing is done before.
        """
        if not self.has_luigid or time.monotonic() - self.checked < since_s:
            return
        is_known = self._scheduler.get_task_status_message(self.goal.task_id) is not None
        if self._scheduler.was_away or not is_known:
            logger.warning("luigid was restarted: registering again")
            self._scheduler.was_away = False
            # First what runs here, and time for all other runners to do the same, so that nobody begins it.
            for task_id, process in self._running_tasks.items():
                step = process.task
                self._scheduler.add_task(
                    worker=self._id,
                    task_id=task_id,
                    status=RUNNING,
                    resources=step.process_resources(),
                    params=step.to_str_params(only_public=True),
                    family=step.task_family,
                    module=step.task_module,
                )
            time.sleep(self._scheduler.retry_wait_s + CHECK_EVERY_S + self._config.wait_interval)
            self.add(self.goal)
            self._add_worker()
        self.checked = time.monotonic()


def _find_host(worker: str) -> str:
    """Return the host in luigid's name of a worker.

    >>> _find_host("Worker(salt=1, workers=2, host=node1, username=me, pid=17)")
    'node1'
    """
    found = HOST.search(worker)
    return found[1] if found else "another machine"
