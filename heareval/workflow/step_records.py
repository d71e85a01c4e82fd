"""What becomes of steps, on disk, where `heareval status` finds it: which are running, and which failed.

A running step holds the lock of its record. The operating system releases it when the process ends, however
that happens, also on another machine if the file system passes locks on. So a record without a lock is that
of a step whose process was stopped or killed. The record of a failure stays until the step succeeds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from heareval import files
from heareval.errors import HearevalError
from heareval.formats.fields import Fields, read_fields, shorten

RUNNING, FAILED = ".running.json", ".failed.json"


@dataclass(frozen=True)
class StepRecord:
    """What is recorded of a step that runs or has failed.

    Args:
        key: identifies the step, whatever its settings are.
        title: name of the step.
        upstream: family and parameters of the step, as `Step.as_upstream` returns them.
        host: the machine that it runs or last failed on.
        pid: its process there.
        since: when it began, or when it failed for the first time since it last succeeded; ISO 8601, UTC.
        last: when it last failed; "" for a running step.
        failures: how often it has failed since it last succeeded.
        error: why it failed, in one line.
    """

    key: str
    title: str
    upstream: str
    host: str
    pid: int
    since: str
    last: str = ""
    failures: int = 0
    error: str = ""


@dataclass(frozen=True)
class StepRecords:
    """The records in a work folder.

    Args:
        running: steps that run now.
        interrupted: steps whose process ended before it could say how.
        failed: steps that failed and have not succeeded since.
        damaged: a line on each record that cannot be read.
    """

    running: tuple[StepRecord, ...] = ()
    interrupted: tuple[StepRecord, ...] = ()
    failed: tuple[StepRecord, ...] = ()
    damaged: tuple[str, ...] = ()


def now() -> str:
    """Return the time in UTC, to the second: `2026-11-29T03:00:00+00:00`."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def check_time(fields: Fields, key: str, text: str) -> None:
    """Raise HearevalError if the text at a key of a record is no time as records have them."""
    try:
        has_zone = datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        has_zone = False
    if not has_zone:
        raise fields.error(key, shorten(text), "a time with its zone")


def make_key(name: str) -> str:
    """Return the key of a step's records.

    Args:
        name: what distinguishes the step from all others, whatever its settings are.

    >>> make_key("fetch a.zip") == make_key("fetch b.zip")
    False
    """
    return files.fingerprint("step record", 1, name=name)


def begin_record(key: str, title: str, upstream: str) -> StepRecord:
    """Return the record of a step that begins now, in this process.

    Args:
        key: as `make_key` returns it.
        title: name of the step for people.
        upstream: family and parameters of the step.

    >>> begin_record(make_key("a"), "fetch a.zip", "[]").title
    'fetch a.zip'
    """
    return StepRecord(key, title, upstream, socket.gethostname(), os.getpid(), now())


@contextlib.contextmanager
def recording_run(folder: Path, record: StepRecord) -> Iterator[None]:
    """Record that a step runs while the block lasts.

    A step must not fail because this cannot be recorded: it reports a full disk itself.

    Args:
        folder: folder of the records.
        record: that of the step.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            _forget_interrupted(folder, record.key)
            stack.enter_context(_locked_record(folder, record))
        yield


@contextlib.contextmanager
def _locked_record(folder: Path, record: StepRecord) -> Iterator[None]:
    """Write a record and hold its lock while the block lasts; it is locked before it has its name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.key}.{record.host}.{record.pid}{RUNNING}"
    scratch = files.scratch_path(path)
    try:
        with open(scratch, "w", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stream.write(files.dump_json(asdict(record)))
            stream.flush()
            scratch.replace(path)
            yield
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _forget_interrupted(folder: Path, key: str) -> None:
    for path in folder.glob(f"{key}.*{RUNNING}"):
        if not _is_locked(path):
            path.unlink(missing_ok=True)


def _is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a record.

    Raises:
        FileNotFoundError: the step has ended in the meantime.
    """
    with open(path, encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def record_failure(folder: Path, record: StepRecord, error: str) -> None:
    """Record that a step failed, unless the disk has no room for it; the first failure's time is kept.

    Args:
        folder: folder of the records.
        record: that of the step, as it is now.
        error: why it failed, in one line.
    """
    path = folder / f"{record.key}{FAILED}"
    failed = replace(record, last=record.since, failures=1, error=error)
    with contextlib.suppress(HearevalError):
        before = _read_record(path)
        failed = replace(failed, since=before.since, failures=before.failures + 1)
    with contextlib.suppress(OSError):
        files.write_json(path, asdict(failed))


def forget_failure(folder: Path, record: StepRecord) -> None:
    """Remove the record of a step's failure, because the step has succeeded."""
    with contextlib.suppress(OSError):
        (folder / f"{record.key}{FAILED}").unlink(missing_ok=True)


def read_step_records(folder: Path) -> StepRecords:
    """Return all records in a folder, in the order of their time; none if there is no such folder.

    Example: `[record.title for record in read_step_records(Places().step_records()).running]`
    """
    running: list[StepRecord] = []
    interrupted: list[StepRecord] = []
    failed: list[StepRecord] = []
    damaged: list[str] = []
    for path in sorted(folder.glob("[!.]*.json")):
        try:
            if path.name.endswith(FAILED):
                failed.append(_read_record(path))
            elif path.name.endswith(RUNNING):
                (running if _is_locked(path) else interrupted).append(_read_record(path))
        except FileNotFoundError:
            continue
        except OSError as error:
            damaged.append(f"{path}: {error.strerror}")
        except HearevalError as error:
            if path.exists():
                damaged.append(str(error))
    return StepRecords(_in_order(running), _in_order(interrupted), _in_order(failed), tuple(damaged))


def _in_order(records: list[StepRecord]) -> tuple[StepRecord, ...]:
    return tuple(sorted(records, key=lambda record: (record.since, record.title)))


def _read_record(path: Path) -> StepRecord:
    """Return the record in a file.

    Raises:
        HearevalError: the file is missing or damaged.
    """
    fields: Fields = read_fields(path, remedy="Remove this file; it only says how a step went.")
    for key in ("since", "last"):
        if time := fields.text(key, ""):
            check_time(fields, key, time)
    return StepRecord(
        key=fields.text("key"),
        title=fields.text("title"),
        upstream=fields.text("upstream"),
        host=fields.text("host"),
        pid=fields.integer("pid"),
        since=fields.text("since"),
        last=fields.text("last", ""),
        failures=fields.integer("failures", 0),
        error=fields.text("error", ""),
    )
