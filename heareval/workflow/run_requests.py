"""What runs were last asked for, kept in the work folder: `heareval clean` deletes nothing of that.

A file per task folder holds the job; files per submission name its environment and its downloaded weights. A
later request for the same task folder or submission takes the place of an earlier one.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heareval import files
from heareval.embeddings.submission_config import SubmissionConfig
from heareval.errors import HearevalError
from heareval.formats.fields import read_fields
from heareval.layout import Places
from heareval.workflow.corpus import TaskJob
from heareval.workflow.step import DataclassParameter

REMEDY = "Remove it, and run again."
# A request that is made again gets the time of today at most this often, which keeps runs from writing.
RENEW_AFTER_S = 86400.0


@dataclass(frozen=True)
class TaskRequest:
    """A task that a run was asked for.

    Args:
        job: the task as it was asked for, before missing checksums were filled in.
        changed_s: when it was last asked for, by the clock of the work folder, within a day.
    """

    job: TaskJob
    changed_s: float


@dataclass(frozen=True)
class FolderRequest:
    """A folder of the work folder that a submission used when a run was asked for it.

    Args:
        folder: `environments/<fingerprint>`, or `downloads/<checksum>` for its weights; "" for none.
        changed_s: when it was last asked for, by the clock of the work folder, within a day.
    """

    folder: str
    changed_s: float


def note_tasks(jobs: Sequence[TaskJob], places: Places) -> None:
    """Note the tasks that a run was asked for, before it makes anything for them.

    Example: `note_tasks(find_jobs(CorpusRequest(("esc50",))), places)`
    """
    for job in jobs:
        _note(places.task_requests() / f"{job.folder}.json", {"folder": job.folder, "job": asdict(job)})


def note_environment(config: SubmissionConfig, environment: str, places: Places) -> None:
    """Note the environment that a submission uses now, in place of the one noted before.

    Args:
        config: what the user asks for.
        environment: the fingerprint that is the name of its folder; "" without an environment.
        places: the folders of the run.

    Example: `note_environment(config, "0123456789abcdef", places)`
    """
    _note_folder(config, "environments", environment, places)


def note_weights(config: SubmissionConfig, places: Places) -> None:
    """Note that a submission uses weights that are downloaded.

    Args:
        config: what the user asks for; the weights are a URL.
        places: the folders of the run.

    Example: `note_weights(config, places)`
    """
    _note_folder(config, "downloads", config.sha256, places)


def _note_folder(config: SubmissionConfig, kind: str, name: str, places: Places) -> None:
    # Another source, Python or requirement makes another environment of the same submission.
    asked = [config.name, config.module, config.weights, config.options]
    key = files.fingerprint("submission request", 1, asked=asked)
    content = {"submission": config.name or config.module, "folder": f"{kind}/{name}" if name else ""}
    _note(places.submission_requests() / f"{kind}-{key}.json", content)


def _note(path: Path, content: dict[str, Any]) -> None:
    text = files.dump_json(content)
    try:
        if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != text:
            files.write_text(path, text)
        elif path.stat().st_mtime < time.time() - RENEW_AFTER_S:
            os.utime(path)
    except OSError as error:
        # Whoever may not write to the work folder makes nothing there that would have to be kept.
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def read_task_requests(places: Places) -> dict[str, TaskRequest]:
    """Return the tasks that runs were last asked for, by the names of their folders.

    Raises:
        HearevalError: a file is damaged.

    Example: `read_task_requests(places)["esc50-v2.0.0-full"].job.engine`
    """
    return {
        name: TaskRequest(job, path.stat().st_mtime)
        for path in _list_requests(places.task_requests())
        for name, job in [_read_job(path)]
    }


def _read_job(path: Path) -> tuple[str, TaskJob]:
    request = read_fields(path, remedy=REMEDY)
    try:
        job: TaskJob = DataclassParameter(TaskJob).parse(files.dump_json(request.mapping("job")))
    except (KeyError, TypeError) as error:
        raise HearevalError(
            f"{path}: job", got=str(error), expected="the settings of a task", remedy=REMEDY
        ) from None
    return request.text("folder"), job


def read_submission_requests(places: Places) -> list[FolderRequest]:
    """Return the folders that submissions last used.

    Raises:
        HearevalError: a file is damaged.

    Example: `[each.folder for each in read_submission_requests(places)]`
    """
    return [
        FolderRequest(read_fields(path, remedy=REMEDY).text("folder"), path.stat().st_mtime)
        for path in _list_requests(places.submission_requests())
    ]


def _list_requests(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
