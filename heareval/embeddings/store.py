"""Embeddings on disk: one folder per submission and task, whole or not there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from heareval import files
from heareval.embeddings.journal import ARRAY, FITTED, TOO_LARGE, Journal
from heareval.embeddings.submission import WORKER, Submission, check_unchanged
from heareval.errors import HearevalError
from heareval.formats.embeddings_folder import (
    EmbeddingsManifest,
    array_names,
    copy_task_description,
    has_embeddings,
    write_embeddings_manifest,
)
from heareval.formats.task_folder import check_task_fingerprint, read_task_folder
from heareval.formats.task_manifest import read_corpus_facts
from heareval.formats.task_metadata import TaskMetadata
from heareval.spec import Progress
from heareval.worker_process import KilledForMemoryError

VERSION = 2
# Samples of one batch: a good two minutes at 16 kHz, small enough for the memory of a laptop.
BATCH_SAMPLES = 2_000_000
# How embeddings may be stored, and computed; predictors work in float32 in any case.
DTYPES = ("float32", "float16")
PRECISIONS = ("float32", "tf32", "bf16")
JOURNAL = "journal"


@dataclass(frozen=True)
class Form:
    """What may change embeddings beside the model and the clips; results name what is unusual.

    Args:
        dtype: how embeddings are stored.
        precision: how they are computed.
        chunk_s: timestamp embeddings of longer clips come from chunks of so many seconds; 0 = in one piece.
    """

    dtype: str = DTYPES[0]
    precision: str = PRECISIONS[0]
    chunk_s: float = 0.0

    def of(self, embedding_type: str) -> Form:
        """The same as far as it matters to a task: scene embeddings never come from chunks."""
        return self if embedding_type == "event" else replace(self, chunk_s=0.0)

    @property
    def unusual(self) -> dict[str, Any]:
        """What is not as it is by default."""
        return {key: value for key, value in asdict(self).items() if value != getattr(USUAL_FORM, key)}


USUAL_FORM = Form()


@dataclass(frozen=True)
class EmbedJob:
    """The clips of one task to be embedded by one submission.

    Args:
        task: published task folder.
        target: folder of the embeddings; an older one gives way.
        content: fingerprint of the task that is to be embedded.
        fingerprint: of the embeddings.
        device: `auto`, `cpu` or `cuda`.
        silence_s: a model that finishes no batch for so long is killed.
        log: where the model's own output goes.
        variables: of the model's process, beside those that it has anyway.
    """

    submission: Submission
    task: Path
    target: Path
    content: str
    fingerprint: str
    form: Form
    device: str
    silence_s: float
    log: Path
    variables: Mapping[str, str]


def embed_task(job: EmbedJob, progress: Progress) -> None:
    """Embed all clips of a published task and put the arrays beside copies of its descriptions.

    Raises:
        HearevalError: the model failed, or the task was replaced meanwhile.
    """
    started = time.monotonic()
    task = read_task_folder(job.task)
    check_task_fingerprint(job.task, job.submission.sample_rate, job.content)
    check_unchanged(job.submission)
    arrays = array_names(task.metadata.splits, task.metadata.embedding_type)

    def is_current(folder: Path) -> bool:
        """Another run may have made the very same arrays, and scores from them, meanwhile."""
        return has_embeddings(folder, job.fingerprint)

    with _unfinished(job) as unfinished:
        if is_current(job.target):
            return
        facts = _compute(job, task.metadata, unfinished, progress)
        with files.building_folder(job.target, replace=True, is_current=is_current) as scratch:
            _take_arrays(unfinished, scratch, arrays)
            copy_task_description(task, scratch)
            check_task_fingerprint(job.task, job.submission.sample_rate, job.content)
            check_unchanged(job.submission)
            manifest = EmbeddingsManifest(
                fingerprint=job.fingerprint,
                submission=asdict(job.submission),
                task=job.task.name,
                made_from=read_corpus_facts(job.task),
                form=asdict(job.form),
                unusual_embedding=job.form.unusual,
                arrays=tuple(arrays),
                clips=facts["clips"],
                device=facts["device"],
                framework=facts["framework"],
                versions=facts["versions"],
                seconds=round(time.monotonic() - started, 3),
            )
            write_embeddings_manifest(scratch, manifest)
        files.remove_tree(unfinished)


def _compute(job: EmbedJob, task: TaskMetadata, folder: Path, progress: Progress) -> dict[str, Any]:
    """Run the worker until all arrays are in the folder, going on with what is there; returns its facts.

    A worker that is killed because memory has run out is started again, with smaller batches.
    """
    journal = Journal(folder / JOURNAL)
    begun: dict[str, Any] = {}

    def heard(message: dict[str, Any]) -> None:
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
            facts = _run_worker(job, task, folder, journal, progress, heard)
            if journal.done != facts["clips"]:
                got, expected = f"{journal.done} clips noted in {journal.path}", str(facts["clips"])
                raise HearevalError("the embedding worker", got=got, expected=expected)
            return facts
        except KilledForMemoryError as error:
            if not begun:
                raise
            # A model that needs more and more memory gets on by being started again.
            if begun["clips"] == 1 and journal.done == done_before:
                raise _alone_too_large(begun["clip"], error) from error
            journal.note(TOO_LARGE, begun["begun"], 0)


def _run_worker(
    job: EmbedJob,
    task: TaskMetadata,
    folder: Path,
    journal: Journal,
    progress: Progress,
    heard: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """What the worker reports when all clips are embedded."""
    worker_job = {
        "do": "embed",
        "device": job.device,
        **asdict(job.form),
        "task": str(job.task),
        "splits": task.splits,
        "embedding_type": task.embedding_type,
        "batch_samples": BATCH_SAMPLES,
        "done": journal.done,
        "history": journal.history,
        "out": str(folder),
    }
    return job.submission.run(
        WORKER,
        worker_job,
        job.log,
        progress,
        tell=heard,
        silence_s=job.silence_s,
        variables=job.variables,
    )


def _alone_too_large(clip: str, error: HearevalError) -> HearevalError:
    """The error for a clip that alone is too much for the memory of the machine."""
    return HearevalError(
        f"clip {clip}",
        got=f"{error.got}, on this clip alone",
        expected="a clip that fits into the memory",
        remedy="Take a machine with more memory, or for timestamp embeddings --chunk-seconds. "
        f"{error.remedy}",
    )


@contextlib.contextmanager
def _unfinished(job: EmbedJob) -> Iterator[Path]:
    """The folder in which arrays grow, with what a killed run left of them; no other run is at it.

    It stays when the run fails, if it holds anything. What was begun with other settings is removed.
    """
    folder = files.unfinished_path(job.target, job.fingerprint)
    with files.locked(job.target.with_name(f".{job.target.name[:150]}.embed.lock")):
        for other in files.all_unfinished(job.target):
            if other != folder:
                files.remove_tree(other)
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        finally:
            if not any(folder.glob("*.npy")):
                files.remove_tree(folder)


def _take_arrays(source: Path, target: Path, names: Sequence[str]) -> None:
    """Give the arrays a second name, so that a kill loses none, and bring them to disk."""
    missing = [name for name in names if not (source / name).is_file()]
    if missing:
        raise HearevalError(
            "the embedding worker", got=f"no {', '.join(missing)}", expected="an array for every split"
        )
    for name in names:
        files.link_or_copy(source / name, target / name)
        files.sync(target / name)
