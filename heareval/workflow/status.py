"""What is complete of what a user asked for or has made, what is missing, what failed, and what runs where.

Nothing is fetched, made or loaded: what is complete is seen as a run sees it, and the rest is read from the
records of steps, or from luigid.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import luigi

from heareval import files, layout
from heareval.errors import HearevalError, file_error
from heareval.formats.embeddings_folder import find_embeddings_manifest, is_made_again
from heareval.formats.fields import read_fields
from heareval.formats.results_folder import EVALUATE_AGAIN, find_scores_fingerprint
from heareval.formats.tarball_record import read_tarball_record
from heareval.formats.task_manifest import find_task_manifest
from heareval.formats.training_progress import (
    find_training_progress,
    is_of_finished_results,
    list_unfinished_trainings,
)
from heareval.layout import Places
from heareval.predictions.protocol import Protocol
from heareval.workflow.configuration import load_config
from heareval.workflow.corpus import TaskJob
from heareval.workflow.evaluate import Predict
from heareval.workflow.prepare import PackTar, PublishTask
from heareval.workflow.step import Step
from heareval.workflow.step_records import StepRecord, StepRecords, read_step_records
from heareval.workflow.submissions import FoundSubmission

# What a row is about.
Kind = Literal["task folder", "tarball", "embeddings", "scores", "step"]
# A row has the first of these that is true of it.
State = Literal["damaged", "failed", "running", "interrupted", "missing", "complete"]
STATES: tuple[State, ...] = ("damaged", "failed", "running", "interrupted", "missing", "complete")
# A luigid that takes longer than this to answer counts as one that does not.
LUIGID_TIMEOUT_S = 2.0
# The name of a worker in luigid: `Worker(salt=1, workers=2, host=node1, username=me, pid=17)`.
WORKER = re.compile(r"host=(?P<host>[^,]*),.*\bpid=(?P<pid>\d+)")


@dataclass(frozen=True)
class StatusRow:
    """The state of one thing that was asked for, or that lies in the folders.

    Args:
        kind: what it is.
        state: `complete`; `missing`; `running`, if a step that it needs is; `failed`, if such a step has
            failed and is not running again; `interrupted`, if the process of one ended; `damaged`, if
            what is on disk cannot be read, or the submission cannot be opened.
        task: name of the task; for `step`, the name of the step.
        mode: name of the task's mode; "" if that is not recorded.
        task_folder: name of the task's folder; of scores and embeddings, with the limit of clips.
        sample_rate: in Hz, of a task folder or a tarball.
        submission: name of the submission.
        protocol: name of the protocol.
        next_step: what has to be done next; "" if it is complete.
        steps_left: number of steps that are not done.
        finished: what of the steps that are not done is finished, such as `5 of 12 trainings`.
        error: why it is damaged.
        running: the steps that it needs and that are running.
        failed: those that have failed.
        interrupted: those whose process was stopped or killed.
    """

    kind: Kind
    state: State
    task: str = ""
    mode: str = ""
    task_folder: str = ""
    sample_rate: int = 0
    submission: str = ""
    protocol: str = ""
    next_step: str = ""
    steps_left: int = 0
    finished: str = ""
    error: str = ""
    running: tuple[StepRecord, ...] = ()
    failed: tuple[StepRecord, ...] = ()
    interrupted: tuple[StepRecord, ...] = ()


@dataclass(frozen=True)
class Status:
    """The state of everything that was asked for.

    Args:
        rows: the state of each thing.
        notes: a line on each record that cannot be read, and on a luigid that does not answer.
        scheduler_url: the luigid that said what is running; "" if the records on disk did.
    """

    rows: tuple[StatusRow, ...]
    notes: tuple[str, ...] = ()
    scheduler_url: str = ""

    @property
    def counts(self) -> Mapping[State, int]:
        """Number of rows of each state that occurs, complete ones last."""
        numbers = {state: sum(row.state == state for row in self.rows) for state in STATES}
        return {state: number for state, number in numbers.items() if number}

    @property
    def is_complete(self) -> bool:
        """Whether everything is complete."""
        return all(row.state == "complete" for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0 if everything is complete; else as in luigi's [retcode], `task_failed` or `not_run`."""
        if self.is_complete:
            return 0
        name = "task_failed" if self.counts.keys() & {"damaged", "failed"} else "not_run"
        # A run, too, never ends with 0 if something is missing.
        return int(load_config().getint("retcode", name, 25)) or 25


@dataclass(frozen=True)
class Survey:
    """Judges steps by what is on disk and by the records of steps; every step is looked at once.

    Args:
        records: the records of steps.
    """

    records: StepRecords
    _missing: dict[str, dict[str, Step]] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)

    def judge(self, row: StatusRow, step: Step) -> StatusRow:
        """Return the row of something that a step makes, with the state of the step and of what it needs."""
        try:
            missing = self._find_missing(step)
        except (HearevalError, OSError) as error:
            return replace(row, state="damaged", error=_describe(error))
        if not missing:
            return replace(row, state="complete")
        keys = {self._find_key(each) for each in missing.values()}
        running, failed, interrupted = (
            tuple(record for record in records if record.key in keys)
            for records in (self.records.running, self.records.failed, self.records.interrupted)
        )
        busy = {record.key for record in running}
        state: State = "missing"
        if any(record.key not in busy for record in failed):
            state = "failed"
        elif running:
            state = "running"
        elif interrupted:
            state = "interrupted"
        return replace(
            row,
            state=state,
            # What a step requires comes before it.
            next_step=next(iter(missing.values())).title,
            steps_left=len(missing),
            finished=next(filter(None, (each.finished_part for each in missing.values())), ""),
            running=running,
            failed=failed,
            interrupted=interrupted,
        )

    def _find_missing(self, step: Step) -> dict[str, Step]:
        """Return the steps to do for a step, by id; each after what it requires."""
        if step.task_id not in self._missing:
            found: dict[str, Step] = {}
            if not step.complete():
                for required in luigi.task.flatten(step.requires()):
                    found |= self._find_missing(required)
                found[step.task_id] = step
            self._missing[step.task_id] = found
        return self._missing[step.task_id]

    def _find_key(self, step: Step) -> str:
        if step.task_id not in self._keys:
            self._keys[step.task_id] = step.record_key
        return self._keys[step.task_id]


def _describe(error: HearevalError | OSError) -> str:
    return str(file_error(error) if isinstance(error, OSError) else error)


# --------------------------------------------------------------------------- what was asked for


def judge_tasks(steps: Mapping[TaskJob, Sequence[Step]], survey: Survey) -> Iterator[StatusRow]:
    """Yield a row for every sample rate of the folder of each task, and for each of its tarballs.

    Args:
        steps: the steps that publish the folder and pack the tarballs of each task.
        survey: judges the steps.
    """
    for job, each in steps.items():
        for step in each:
            row = StatusRow("task folder", "missing", job.spec.name, job.mode, job.folder)
            if isinstance(step, PackTar):
                yield survey.judge(replace(row, kind="tarball", sample_rate=step.sample_rate), step)
            elif isinstance(step, PublishTask):
                judged = survey.judge(row, step)
                there = set() if judged.state == "damaged" else step.published_rates()
                for rate in step.sample_rates:
                    of_rate = replace(row, state="complete") if rate in there else judged
                    yield replace(of_rate, sample_rate=rate)


def judge_scores(
    steps: Mapping[TaskJob, Sequence[Predict]],
    found: Sequence[FoundSubmission],
    protocol: Protocol,
    survey: Survey,
) -> Iterator[StatusRow]:
    """Yield a row for every submission on each task.

    Args:
        steps: the steps that score the submissions that are known, by task.
        found: the submissions.
        protocol: how they are scored.
        survey: judges the steps.
    """
    for job, each in steps.items():
        of_task = protocol.for_task(is_pairwise=job.spec.is_pairwise).recorded_name
        folder = layout.name_limited(job.folder, protocol.limit)
        row = StatusRow("scores", "missing", job.spec.name, job.mode, folder, protocol=of_task)
        for step in each:
            yield survey.judge(replace(row, submission=step.folder.parent.name), step)
        for submission in found:
            kind = job.spec.embedding_type
            of_submission = replace(row, submission=submission.name)
            if error := submission.error or submission.faults.get(kind):
                yield replace(of_submission, state="damaged", error=error)
            elif kind in submission.descriptions:
                yield survey.judge(of_submission, submission.descriptions[kind])
            elif submission.lacking:
                yield replace(of_submission, next_step=f"{submission.name}: {submission.lacking}")


# --------------------------------------------------------------------------- what lies in the folders


def list_made(places: Places, records: StepRecords) -> Iterator[StatusRow]:
    """Yield a row for everything that heareval has made in some folders, and for what is not done."""
    yield from _list_task_folders(Path(places.tasks))
    yield from _list_tarballs(Path(places.tars))
    yield from _list_embeddings(Path(places.embeddings))
    for record in records.running:
        yield StatusRow("step", "running", record.title, next_step=record.title, running=(record,))
    busy = {record.key for record in records.running}
    for record in records.failed:
        if record.key not in busy and not _is_done(record, places):
            yield StatusRow("step", "failed", record.title, next_step=record.title, failed=(record,))
    for record in records.interrupted:
        # What `--overwrite` was to make again is still there.
        if record.key not in busy and not _is_done(record, places, not_before_s=0.0):
            yield StatusRow(
                "step", "interrupted", record.title, next_step=record.title, interrupted=(record,)
            )


def _is_done(record: StepRecord, places: Places, **changed: float) -> bool:
    """Return whether the output of a recorded step is there, whoever has made it.

    Args:
        changed: parameters that the step is judged with instead of its own, if it has them.
    """
    try:
        # The folders may have other paths on the machine that wrote the record.
        step = Step.from_upstream(record.upstream).clone(places=places, **changed)
        return bool(step.complete())
    except Exception:
        # Another release may have written the record; its task may have been removed since.
        return False


def _list_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, without hidden ones."""
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())


def _list_task_folders(tasks: Path) -> Iterator[StatusRow]:
    for folder in _list_folders(tasks):
        row = StatusRow("task folder", "complete", folder.name, task_folder=folder.name)
        try:
            manifest = find_task_manifest(folder)
        except (HearevalError, OSError) as error:
            yield replace(row, state="damaged", error=_describe(error))
            continue
        if manifest is None:
            continue  # somebody else has made it
        for rate in manifest.sample_rates:
            known = replace(row, task=manifest.task, mode=manifest.mode, sample_rate=rate)
            is_there = (folder / str(rate)).is_dir()
            again = f"prepare it again: its folder {rate} was removed"
            yield known if is_there else replace(known, state="missing", next_step=again)


def _list_tarballs(tars: Path) -> Iterator[StatusRow]:
    for sidecar in sorted(layout.tar_manifests(tars).glob("[!.]*.json")):
        name, edition = sidecar.name.removesuffix(".tar.gz.json"), f"{layout.TAR_EDITION}-"
        folder, _, rate = name.removeprefix(edition).rpartition("-")
        rate_hz = int(rate) if rate.isascii() and rate.isdecimal() else 0
        row = StatusRow("tarball", "complete", folder, task_folder=folder, sample_rate=rate_hz)
        try:
            record = read_tarball_record(sidecar)
        except (HearevalError, OSError) as error:
            yield replace(row, state="damaged", error=_describe(error))
            continue
        lost = [each for each in record.names if not (tars / Path(each).name).exists()]
        if not record.fingerprint:
            yield replace(row, state="missing", next_step="pack it: the run that began was ended")
        elif lost:
            yield replace(row, state="missing", next_step=f"pack it again: {lost[0]} was removed")
        else:
            yield row


def _list_embeddings(embeddings: Path) -> Iterator[StatusRow]:
    for submission in _list_folders(embeddings):
        for folder in _list_folders(submission):
            row = StatusRow(
                "embeddings", "complete", folder.name, task_folder=folder.name, submission=submission.name
            )
            try:
                manifest = find_embeddings_manifest(folder)
                if manifest is None:
                    continue
                protocols = layout.scored_protocols(folder)
                lost = [name for name in manifest.arrays if not (folder / name).exists()]
                for protocol in protocols:
                    yield _judge_scores_file(folder, protocol, row)
                yield from _list_unfinished_trainings(folder, row)
                if not protocols:
                    again = f"compute them again: {lost[0]} was removed" if lost else ""
                    yield replace(row, state="missing" if lost else "complete", next_step=again)
            except (HearevalError, OSError) as error:
                yield replace(row, state="damaged", error=_describe(error))
        for path in sorted(submission.glob(f".*{files.UNFINISHED}")):
            if is_made_again(path):
                continue  # the complete ones are still there
            task = path.name[1:].removesuffix(files.UNFINISHED).rpartition(".")[0]
            yield StatusRow(
                "embeddings", "missing", task, task_folder=task, submission=submission.name,
                next_step="finish the embeddings that a run began",
            )  # fmt: skip


def _list_unfinished_trainings(folder: Path, row: StatusRow) -> Iterator[StatusRow]:
    for path, protocol in list_unfinished_trainings(folder).items():
        found = find_training_progress(path)
        if found and not is_of_finished_results(path, find_scores_fingerprint(folder, protocol)):
            yield replace(
                row, kind="scores", state="missing", protocol=protocol, finished=str(found),
                next_step="finish the trainings that a run began",
            )  # fmt: skip


def _judge_scores_file(folder: Path, protocol: str, row: StatusRow) -> StatusRow:
    row = replace(row, kind="scores", protocol=protocol)
    if find_scores_fingerprint(folder, protocol):
        return row
    # Says what is wrong with a damaged file.
    read_fields(folder / layout.scores(protocol), remedy=EVALUATE_AGAIN).text("fingerprint")
    return replace(row, state="missing", next_step="score it again: its predictions were removed")


# --------------------------------------------------------------------------- what runs


def read_records(places: Places, scheduler_url: str) -> tuple[StepRecords, tuple[str, ...], str]:
    """Return the records of steps, notes on what cannot be read, and the luigid that has answered.

    Args:
        places: the folders.
        scheduler_url: a luigid that knows better which steps run; "" without one.
    """
    records = read_step_records(places.step_records())
    notes = records.damaged
    if not scheduler_url:
        return records, notes, ""
    running = _ask_luigid(scheduler_url, places)
    if running is None:
        note = f"luigid at {scheduler_url} does not answer: what runs is read from {places.step_records()}"
        return records, (*notes, note), ""
    return replace(records, running=running), notes, scheduler_url


def _ask_luigid(url: str, places: Places) -> tuple[StepRecord, ...] | None:
    """Return the steps of a work folder that luigid says are running; None if it does not answer."""
    load_config()
    config = luigi.configuration.get_config()
    for key, value in (("rpc_retry_attempts", "1"), ("rpc_log_retries", "false")):
        config.set("core", key, value)
    logging.getLogger("luigi").setLevel(logging.CRITICAL)
    scheduler = luigi.rpc.RemoteScheduler(url, LUIGID_TIMEOUT_S)
    try:
        tasks = scheduler.task_list("RUNNING", "")
        return tuple(_list_running(tasks.values(), places))
    except (luigi.rpc.RPCError, OSError, ValueError, TypeError, KeyError, AttributeError):
        # Another service may answer at this address, with anything.
        return None
    finally:
        scheduler.close()


def _list_running(tasks: Iterable[Mapping[str, Any]], places: Places) -> Iterator[StepRecord]:
    for task in tasks:
        try:
            step = luigi.task_register.Register.get_task_cls(task["name"]).from_str_params(task["params"])
            record = step.begin_record()
        except (
            luigi.task_register.TaskClassException,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            HearevalError,
        ):
            continue  # of another program, or another release
        if step.places.identify("work") != places.identify("work"):
            continue
        worker = WORKER.search(str(task.get("worker_running", "")))
        since = datetime.fromtimestamp(float(task["start_time"]), timezone.utc).isoformat(timespec="seconds")
        host, pid = (worker["host"], int(worker["pid"])) if worker else ("", 0)
        yield replace(record, host=host, pid=pid, since=since)


# --------------------------------------------------------------------------- as JSON


def status_facts(status: Status) -> dict[str, Any]:
    """Return a status as JSON values: only what a row has, and times in UTC."""
    return {
        "complete": status.is_complete,
        "scheduler_url": status.scheduler_url or None,
        "counts": dict(status.counts),
        "rows": [_row_facts(row) for row in status.rows],
        "notes": list(status.notes),
    }


def _row_facts(row: StatusRow) -> dict[str, Any]:
    facts = {key: value for key, value in vars(row).items() if value not in ("", 0, ())}
    for key in ("running", "failed", "interrupted"):
        if key in facts:
            facts[key] = [_record_facts(record) for record in facts[key]]
    return facts


def _record_facts(record: StepRecord) -> dict[str, Any]:
    facts = {key: value for key, value in asdict(record).items() if value not in ("", 0)}
    del facts["key"], facts["upstream"]
    return {"step": facts.pop("title"), **facts}
