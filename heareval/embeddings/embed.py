"""Embed a task with a submission, and publish the arrays as one folder per submission and task."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heareval import files
from heareval.embeddings.embedding_format import EmbeddingFormat
from heareval.embeddings.journal import ARRAY, FITTED, TOO_LARGE, Journal
from heareval.embeddings.opening import check_unchanged
from heareval.embeddings.resample import check_resampled
from heareval.embeddings.submission import Submission
from heareval.errors import HearevalError
from heareval.formats.digests import digest_file
from heareval.formats.embeddings_folder import (
    MADE_AGAIN,
    EmbeddingsManifest,
    array_names,
    copy_task_description,
    has_embeddings,
    lock_of_embedding,
    write_embeddings_manifest,
)
from heareval.formats.limit import limit_task, write_limited_description
from heareval.formats.task_folder import TaskFolder, check_task_fingerprint, read_task_folder
from heareval.formats.task_manifest import read_corpus_facts
from heareval.layout import display_path
from heareval.progress import report_note
from heareval.spec import Progress, ignore_progress
from heareval.worker_process import KilledForMemoryError

VERSION = 2
# Samples of one batch: about two minutes at 16 kHz, which a laptop has memory for.
BATCH_SAMPLES = 2_000_000
JOURNAL = "journal"


@dataclass(frozen=True)
class EmbedJob:
    """A task to embed with a submission.

    Args:
        submission: the submission.
        task: published task folder.
        clips: folder of the clips at the model's rate: the task's, or one of resampled clips.
        target: folder of the embeddings; an older one is replaced.
        task_fingerprint: fingerprint that the task must have.
        fingerprint: fingerprint of the embeddings.
        embedding_format: how embeddings are computed and stored.
        device: `auto`, `cpu` or `cuda`.
        silence_s: a model that finishes no batch for this long is killed.
        log: where the output of the model's process goes.
        variables: further environment variables of the model's process.
        limit: how many clips of each split are embedded at most; None means all.
        not_before_s: embeddings with this fingerprint that were made before this time are replaced; 0 keeps
            them.
    """

    submission: Submission
    task: Path
    clips: Path
    target: Path
    task_fingerprint: str
    fingerprint: str
    embedding_format: EmbeddingFormat
    device: str
    silence_s: float
    log: Path
    variables: Mapping[str, str]
    limit: int | None = None
    not_before_s: float = 0.0

    @property
    def unfinished(self) -> Path:
        """The folder of unfinished arrays.

        What is made again has a folder of its own: what an earlier run left unfinished is not continued, and
        other runs don't take it for a remainder of the embeddings that are there.
        """
        fingerprint = self.fingerprint
        if self.not_before_s:
            fingerprint = files.fingerprint("embed again", VERSION, of=fingerprint, time_s=self.not_before_s)
        return files.unfinished_path(self.target, fingerprint)

    @property
    def source_rate(self) -> int:
        """The rate of the task's clips that are embedded, in Hz."""
        return self.embedding_format.resampled_from_hz or self.submission.sample_rate


def _check_clips(job: EmbedJob) -> None:
    """Raise HearevalError if the task was replaced, or if another program has changed its clips."""
    check_task_fingerprint(job.task, job.source_rate, job.task_fingerprint)
    if job.clips != job.task:
        check_resampled(job.clips)


def embed_task(job: EmbedJob, progress: Progress = ignore_progress) -> None:
    """Embed the clips of a published task, and publish the arrays with copies of the task's JSON files.

    Raises:
        HearevalError: the model failed, the task or the submission changed during the run, or the limit
            leaves nothing of the task to score.
    """
    started = time.monotonic()
    task = read_task_folder(job.task)
    if job.limit is not None:
        task = limit_task(task, job.limit)
    _check_clips(job)
    check_unchanged(job.submission)
    arrays = array_names(task.metadata.splits, task.metadata.embedding_type)

    def is_current(folder: Path) -> bool:
        """Return whether another run has published the same arrays, perhaps with scores, in the meantime."""
        return has_embeddings(folder, job.fingerprint, job.not_before_s)

    with _unfinished(job) as unfinished:
        if is_current(job.target):
            return
        facts = _compute(job, task, unfinished, progress)
        with files.building_folder(job.target, replace=True, is_current=is_current) as scratch:
            _take_arrays(unfinished, scratch, arrays)
            copy_task_description(task, scratch)
            if job.limit is not None:
                write_limited_description(task, scratch)
            _check_clips(job)
            check_unchanged(job.submission)
            manifest = EmbeddingsManifest(
                fingerprint=job.fingerprint,
                submission=job.submission.as_recorded(),
                task=job.task.name,
                made_from=read_corpus_facts(job.task),
                form=asdict(job.embedding_format),
                unusual_embedding=job.embedding_format.changes,
                arrays=tuple(arrays),
                clips=facts["clips"],
                device=facts["device"],
                framework=facts["framework"],
                versions=facts["versions"],
                seconds=round(time.monotonic() - started, 3),
                memory_bytes=facts["memory_bytes"],
                limit=job.limit,
                digests={path.name: digest_file(path) for path in sorted(scratch.iterdir())},
            )
            write_embeddings_manifest(scratch, manifest)
        files.discard_tree(unfinished)


def _compute(job: EmbedJob, task: TaskFolder, folder: Path, progress: Progress) -> dict[str, Any]:
    """Run the worker until all arrays are in the folder, and return what it reports.

    Batches that the journal lists are not computed again. A worker that Linux kills because memory ran out is
    started again with smaller batches.
    """
    journal = Journal(folder / JOURNAL)
    begun: dict[str, Any] = {}

    def handle(message: dict[str, Any]) -> None:
        nonlocal begun
        if "begun" in message:
            begun = message
        elif FITTED in message:
            journal.note(FITTED, message[FITTED], message["clips"])
            journal.sync(folder.glob("*.npy"))
        elif TOO_LARGE in message:
            journal.note(TOO_LARGE, message[TOO_LARGE], 0)
        elif ARRAY in message:
            journal.note(ARRAY, message[ARRAY], message["size"])

    while True:
        begun, done_before = {}, journal.done
        try:
            facts = _run_worker(job, task, folder, journal, progress, handle)
            if journal.done != facts["clips"]:
                got, expected = f"{journal.done} clips in {journal.path}", str(facts["clips"])
                raise HearevalError("the embedding worker", got=got, expected=expected)
            return facts
        except KilledForMemoryError as error:
            if not begun:
                raise
            # A model that leaks memory makes progress each time it is started again.
            if begun["clips"] == 1 and journal.done == done_before:
                raise _make_clip_error(begun["clip"], error) from error
            journal.note(TOO_LARGE, begun["begun"], 0)


def _run_worker(
    job: EmbedJob,
    task: TaskFolder,
    folder: Path,
    journal: Journal,
    progress: Progress,
    handle: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Run the worker once and return what it reports when all clips are embedded."""
    worker_job = {
        "do": "embed",
        "device": job.device,
        **asdict(job.embedding_format),
        "task": str(job.clips),
        "splits": task.metadata.splits,
        # Whole splits are read from the task, because they may have hundreds of thousands of clips.
        "clips": _name_clips(task) if job.limit is not None else None,
        "embedding_type": task.metadata.embedding_type,
        "batch_samples": BATCH_SAMPLES,
        "done": journal.done,
        "history": journal.history,
        "out": str(folder),
    }
    return job.submission.run(
        worker_job,
        job.log,
        progress,
        on_message=handle,
        silence_s=job.silence_s,
        variables=job.variables,
    )


def _name_clips(task: TaskFolder) -> dict[str, list[str]]:
    return {split: [clip.name for clip in clips] for split, clips in task.clips.items()}


def _make_clip_error(clip: str, error: HearevalError) -> HearevalError:
    """Return the error for a clip that does not fit into memory even as a batch of one."""
    return HearevalError(
        f"clip {clip}",
        got=f"{error.got}, on this clip alone",
        expected="a clip that fits into the memory",
        remedy=f"Use a machine with more memory, or for timestamp embeddings --chunk-seconds. {error.remedy}",
    )


@contextlib.contextmanager
def _unfinished(job: EmbedJob) -> Iterator[Path]:
    """Lock and yield the folder of unfinished arrays, with what an interrupted run has left in it.

    It stays when the run fails, if it contains arrays that a later run may go on with. Arrays begun with
    other settings are removed.
    """
    folder = job.unfinished
    with files.locked(
        lock_of_embedding(job.target),
        lambda: report_note(f"{display_path(job.target)}: waiting for another run, which embeds this task"),
    ):
        for other in files.all_unfinished(job.target):
            if other != folder:
                files.discard_tree(other)
        # It never lacks the mark by which `status` and `clean` know it.
        with files.building_folder(folder) as scratch:
            if job.not_before_s:
                (scratch / MADE_AGAIN).touch()
        try:
            yield folder
        finally:
            # What is made again begins anew in the next run.
            if job.not_before_s or not any(folder.glob("*.npy")):
                files.discard_tree(folder)


def _take_arrays(source: Path, target: Path, names: Sequence[str]) -> None:
    """Link the arrays into another folder, so that a kill loses none, and sync them to disk."""
    missing = [name for name in names if not (source / name).is_file()]
    if missing:
        raise HearevalError(
            "the embedding worker", got=f"no {', '.join(missing)}", expected="an array for every split"
        )
    for name in names:
        files.link_or_copy(source / name, target / name)
        files.sync(target / name)
