"""What there was before each run, and what has changed since: task folders, tarballs, embeddings and scores.

A run writes down the outputs that it is about to make, as they were. Compared with what is there now, that is
what changed since the run began, whoever changed it; nothing else is read.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import psutil

from heareval import files
from heareval.errors import HearevalError
from heareval.formats.embeddings_folder import find_embeddings_manifest
from heareval.formats.fields import Fields, read_fields
from heareval.formats.results_folder import find_scores_fingerprint, read_scores
from heareval.formats.tarball_record import find_tarball_record
from heareval.formats.task_manifest import find_task_manifest
from heareval.layout import Places, scores
from heareval.workflow.evaluate import Embed, Predict
from heareval.workflow.prepare import PackTar, PublishTask
from heareval.workflow.step import Step
from heareval.workflow.step_records import StepRecord, check_time, read_step_records

OutputKind = Literal["task folder", "tarball", "embeddings", "scores"]
KINDS: tuple[OutputKind, ...] = ("task folder", "tarball", "embeddings", "scores")
REMEDY = "Remove this file; it only says what there was before a run."
# Digits of a checksum that are shown.
SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Output:
    """Something that a run makes and that stays.

    Args:
        kind: what it is.
        task_folder: name of the task's folder.
        sample_rate: in Hz, of a tarball.
        submission: of embeddings and scores.
        protocol: of scores.
        folder: path of the folder of scores that does not lie in the embeddings folder of the run.
    """

    kind: OutputKind
    task_folder: str
    sample_rate: int = 0
    submission: str = ""
    protocol: str = ""
    folder: str = ""

    def embeddings_folder(self, places: Places) -> Path:
        """Return the folder of embeddings and scores."""
        return Path(self.folder) if self.folder else places.embeddings_of(self.submission, self.task_folder)


@dataclass(frozen=True)
class RunRecord:
    """What there was before a run.

    Args:
        began: when it began, ISO 8601, UTC.
        host: the machine.
        pid: the process.
        started: when that process started, in seconds; numbers of processes are used again.
        before: the facts of each output that was about to be made; {} if it was not there.
        steps: number of steps that were to be done.
    """

    began: str
    host: str
    pid: int
    started: float
    before: Mapping[Output, Mapping[str, Any]]
    steps: int

    @property
    def process(self) -> Hashable:
        """What distinguishes the process that ran from all others."""
        return self.host, self.pid, self.started

    @property
    def is_idle(self) -> bool:
        """Whether the run had nothing to do."""
        return not self.steps


@dataclass(frozen=True)
class Change:
    """What has changed of an output.

    Args:
        output: the output.
        change: `new`, `changed` or `gone`.
        details: what is different, a sentence each.
    """

    output: Output
    change: Literal["new", "changed", "gone"]
    details: tuple[str, ...]


@dataclass(frozen=True)
class Changes:
    """What has changed since a time.

    Args:
        since: the time, ISO 8601.
        runs: number of runs that have begun since and had something to do.
        changes: what they changed.
        failed: steps that have failed since and have not succeeded after that.
        idle_at: when the last run began, if it had nothing to do; "" if it had.
        notes: a line on each record that cannot be read, and on records that do not reach back that far.
    """

    since: str
    runs: int
    changes: tuple[Change, ...]
    failed: tuple[StepRecord, ...] = ()
    idle_at: str = ""
    notes: tuple[str, ...] = ()

    @property
    def task_folders(self) -> frozenset[str]:
        """Names of the task folders that are new or were changed."""
        return frozenset(
            each.output.task_folder
            for each in self.changes
            if each.output.kind == "task folder" and each.change != "gone"
        )


# --------------------------------------------------------------------------- what there is


def _read_facts(output: Output, places: Places) -> dict[str, Any]:
    """Return what tells an output from another edition of it; {} if it is not there.

    Raises:
        HearevalError: it is damaged.
    """
    if output.kind == "task folder":
        manifest = find_task_manifest(places.task(output.task_folder))
        if manifest is None:
            return {}
        archives = {archive.name: archive.checksum for archive in manifest.archives}
        rates = list(manifest.sample_rates)
        return {"fingerprint": manifest.fingerprint, "sample_rates": rates, "archives": archives}
    if output.kind == "tarball":
        record = find_tarball_record(places.tar(output.task_folder, output.sample_rate))
        return {"sha256": record.sha256} if record and record.fingerprint else {}
    folder = output.embeddings_folder(places)
    if output.kind == "embeddings":
        embedded = find_embeddings_manifest(folder)
        return {"fingerprint": embedded.fingerprint} if embedded else {}
    if not find_scores_fingerprint(folder, output.protocol):
        return {}
    found = read_scores(folder / scores(output.protocol))
    values = {name: entry.score for name, entry in found.scores.items()}
    return {"fingerprint": found.fingerprint, "scores": values}


def _find_output(step: Step) -> Output | None:
    """Return what stays of a step; None for a step in the work folder."""
    if isinstance(step, PublishTask):
        return Output("task folder", step.job.folder)
    if isinstance(step, PackTar):
        return Output("tarball", step.job.folder, step.sample_rate)
    if isinstance(step, Embed):
        return Output("embeddings", step.folder.name, submission=step.submission.name)
    if isinstance(step, Predict):
        folder, protocol = step.folder, step.protocol.recorded_name
        output = Output("scores", folder.name, submission=folder.parent.name, protocol=protocol)
        is_elsewhere = folder != output.embeddings_folder(step.places).absolute()
        return replace(output, folder=str(folder)) if is_elsewhere else output
    return None


# --------------------------------------------------------------------------- written by runs


def record_run(places: Places, todo: Sequence[Step]) -> None:
    """Write down what there is before a run; a run goes on if it cannot be written.

    Of successive runs with nothing to do, only the last is kept, so that a nightly run leaves no heap.

    Args:
        places: the folders of the run.
        todo: the steps that the run will do.
    """
    before = []
    for output in dict.fromkeys(filter(None, map(_find_output, todo))):
        facts = {}
        # The step that makes it again, or cannot, tells what is damaged.
        with contextlib.suppress(HearevalError, OSError):
            facts = _read_facts(output, places)
        before.append({**asdict(output), "before": facts})
    began = datetime.now(timezone.utc)
    host, pid = socket.gethostname(), os.getpid()
    record: dict[str, Any] = {"began": began.isoformat(timespec="microseconds"), "host": host, "pid": pid}
    record |= {"started": _find_start(), "steps": len(todo), "outputs": before}
    name = f"{began.strftime('%Y%m%dT%H%M%S.%fZ')}-{host}-{pid}.json"
    with contextlib.suppress(OSError, HearevalError):
        earlier = _list_records(places)
        files.write_json(places.run_records() / name, record)
        if not todo and earlier and _parse_record(read_fields(earlier[-1])).is_idle:
            earlier[-1].unlink(missing_ok=True)


@functools.cache
def _find_start() -> float:
    """Return when this process started, as psutil says at first; the value changes if the clock is set."""
    return psutil.Process().create_time()


def _list_records(places: Places) -> list[Path]:
    """Return the files of the records, the latest last."""
    return sorted(places.run_records().glob("[!.]*.json"))


# --------------------------------------------------------------------------- compared with what is there now


def parse_time(text: str) -> datetime:
    """Return a time with its zone; without one it is local time.

    Raises:
        HearevalError: it is no time.

    >>> parse_time("2026-11-29T03:00:00+00:00").isoformat()
    '2026-11-29T03:00:00+00:00'
    """
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return time.astimezone() if time.tzinfo is None else time
    except (ValueError, OverflowError, OSError):
        raise HearevalError(
            "--since", got=ascii(text), expected="`last`, a date such as 2026-11-29, or 2026-11-29T03:00"
        ) from None


def find_changes(places: Places, since: str) -> Changes:
    """Return what has changed since a time, or since the last run with something to do began.

    Runs that had nothing to do are passed over, so that those of cron do not hide what was made before.

    Args:
        places: the folders.
        since: `last`, or a time as `parse_time` takes it.

    Raises:
        HearevalError: it is no time, or there is no record of a run.

    Example: `[each.output.task_folder for each in find_changes(Places(), "last").changes]`
    """
    start = None if since == "last" else parse_time(since)
    records, notes = _read_records(_list_records(places))
    if not records:
        raise HearevalError(
            "records of runs",
            got=f"none in {places.run_records()}",
            expected="that of a run",
            remedy=" ".join(notes) or "Run `heareval prepare` or `heareval evaluate` first.",
        )
    if start is None:
        last = next((each for each in reversed(records) if not each.is_idle), records[-1])
        # A command may run several graphs.
        chosen = [each for each in records if each.process == last.process]
        start = _time_of(chosen[0])
    else:
        chosen = [each for each in records if _time_of(each) >= start]
        if start < _time_of(records[0]):
            notes.append(f"the first run that is recorded began at {records[0].began}")
    found = _sum_up(chosen, start, places, notes)
    is_idle = all(each.is_idle for each in records if each.process == records[-1].process)
    return replace(found, idle_at=_show_time(_time_of(records[-1]))) if is_idle else found


def find_own_changes(places: Places) -> Changes:
    """Return what has changed since the first run of this process began; nothing if there was no run.

    Args:
        places: the folders.

    Example: `[each.output.task_folder for each in find_own_changes(Places()).changes]`
    """
    host, pid = socket.gethostname(), os.getpid()
    mine = [path for path in _list_records(places) if path.name.endswith(f"-{host}-{pid}.json")]
    records, notes = _read_records(mine)
    own = [each for each in records if each.process == (host, pid, _find_start())]
    start = _time_of(own[0]) if own else datetime.now(timezone.utc)
    return _sum_up(own, start, places, notes)


def _sum_up(
    chosen: Sequence[RunRecord], start: datetime, places: Places, earlier_notes: Sequence[str]
) -> Changes:
    """Return what has changed since some runs began, the first of them at a time."""
    notes = list(earlier_notes)
    before: dict[Output, Mapping[str, Any]] = {}
    for record in chosen:
        before = {**record.before, **before}
    changes: list[Change] = []
    for output in sorted(before, key=lambda each: (KINDS.index(each.kind), *asdict(each).values())):
        try:
            if change := _compare(output, before[output], _read_facts(output, places)):
                changes.append(change)
        except (HearevalError, OSError) as error:
            notes.append(str(error))
    failed = [
        each
        for each in read_step_records(places.step_records()).failed
        if datetime.fromisoformat(each.last) >= start.replace(microsecond=0)
    ]
    runs = len({each.process for each in chosen if not each.is_idle})
    return Changes(_show_time(start), runs, _leave_out_scored(changes), tuple(failed), notes=tuple(notes))


def _leave_out_scored(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Return the changes without those of embeddings whose scores have changed as well."""
    scored = {(each.output.submission, each.output.task_folder) for each in changes if each.output.protocol}
    return tuple(
        each
        for each in changes
        if each.output.kind != "embeddings" or (each.output.submission, each.output.task_folder) not in scored
    )


def _show_time(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


def _time_of(record: RunRecord) -> datetime:
    return datetime.fromisoformat(record.began)


def _read_records(paths: Sequence[Path]) -> tuple[list[RunRecord], list[str]]:
    """Return the records in the order of their time, and a line on each that cannot be read."""
    records, notes = [], []
    for path in paths:
        try:
            records.append(_parse_record(read_fields(path, remedy=REMEDY)))
        except HearevalError as error:
            notes.append(str(error))
    return sorted(records, key=_time_of), notes


def _parse_record(fields: Fields) -> RunRecord:
    before = {}
    for each in fields.objects("outputs"):
        output = Output(
            each.one_of("kind", KINDS),  # type: ignore[arg-type]
            each.text("task_folder"),
            each.integer("sample_rate", 0),
            each.text("submission", ""),
            each.text("protocol", ""),
            each.text("folder", ""),
        )
        before[output] = _check_facts(each.object("before"))
    began = fields.text("began")
    check_time(fields, "began", began)
    return RunRecord(
        began,
        fields.text("host"),
        fields.integer("pid"),
        fields.number("started"),
        before,
        # The first records did not count steps.
        fields.integer("steps", len(before)),
    )


def _check_facts(facts: Fields) -> Mapping[str, Any]:
    """Return the facts of an output; raise HearevalError if one has another type."""
    for key in ("fingerprint", "sha256"):
        facts.text(key, "")
    facts.integers("sample_rates", ())
    facts.mapping("scores", {})
    facts.mapping("archives", {})
    return facts.values


def _compare(output: Output, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change | None:
    """Return what has changed of an output; None if nothing has.

    >>> _compare(Output("tarball", "esc50", 16000), {"sha256": "a"}, {"sha256": "b"}).details
    ('SHA-256 b, was a',)
    """
    if before == after:
        return None
    if not after:
        return Change(output, "gone", ())
    details = {
        "task folder": _compare_folders,
        "tarball": _compare_tarballs,
        "embeddings": _compare_embeddings,
        "scores": _compare_scores,
    }
    return Change(output, "changed" if before else "new", tuple(details[output.kind](before, after)))


def _compare_folders(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if not before:
        yield f"at {', '.join(map(str, after['sample_rates']))} Hz"
        return
    earlier = before.get("archives", {})
    for name, checksum in after["archives"].items():
        if name in earlier and earlier[name] != checksum:
            now, was = _show_checksum(checksum), _show_checksum(earlier[name])
            yield f"archive {name} has changed: {now}, was {was}"
    if before.get("fingerprint") != after["fingerprint"]:
        yield "other clips than before"
    if rates := [str(rate) for rate in after["sample_rates"] if rate not in before.get("sample_rates", ())]:
        yield f"also at {', '.join(rates)} Hz"


def _compare_tarballs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    was = f", was {_shorten(before['sha256'])}" if before.get("sha256") else ""
    yield f"SHA-256 {_shorten(after['sha256'])}{was}"


def _compare_embeddings(before: Mapping[str, Any], _: Mapping[str, Any]) -> Iterator[str]:
    if before:
        yield "computed again"


def _compare_scores(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    earlier = before.get("scores", {})
    for name, score in after["scores"].items():
        was = f", was {_show_score(earlier[name])}" if name in earlier and earlier[name] != score else ""
        yield f"{name} {_show_score(score)}{was}"


def _show_score(score: Any) -> str:
    return f"{score:.4f}" if isinstance(score, float | int) else "undefined"


def _show_checksum(checksum: Any) -> str:
    return f"{files.kind_of(str(checksum))} {_shorten(checksum)}"


def _shorten(checksum: Any) -> str:
    return str(checksum)[:SHOWN_DIGITS]


def changes_facts(changes: Changes) -> dict[str, Any]:
    """Return changes as JSON values."""
    return {
        "since": changes.since,
        "runs": changes.runs,
        "changes": [
            {
                **{key: value for key, value in asdict(each.output).items() if value},
                "change": each.change,
                "details": list(each.details),
            }
            for each in changes.changes
        ],
        "failed": [
            {
                "step": each.title,
                "error": each.error,
                "host": each.host,
                "since": each.since,
                "last": each.last,
            }
            for each in changes.failed
        ],
        "idle_at": changes.idle_at or None,
        "notes": list(changes.notes),
    }
