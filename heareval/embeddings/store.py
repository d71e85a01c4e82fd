"""Embeddings on disk: one folder per submission and task, whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from heareval import files, layout
from heareval.embeddings.journal import ARRAY, FITTED, TOO_LARGE, Journal
from heareval.embeddings.submission import WORKER, Submission, check_unchanged
from heareval.errors import HearevalError, replaced_error
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
    settings = read_task_metadata(job.task)
    check_content(job.task, job.submission.sample_rate, job.content)
    check_unchanged(job.submission)
    arrays = _array_names(settings["splits"], settings["embedding_type"])

    def is_current(folder: Path) -> bool:
        """Another run may have made the very same arrays, and scores from them, meanwhile."""
        manifest = folder / files.MANIFEST
        return (
            manifest.exists()
            and files.read_json(manifest).get("fingerprint") == job.fingerprint
            and all((folder / name).exists() for name in arrays)
        )

    with _unfinished(job) as unfinished:
        if is_current(job.target):
            return
        facts = _compute(job, settings, unfinished, progress)
        with files.building_folder(job.target, replace=True, is_current=is_current) as scratch:
            _take_arrays(unfinished, scratch, arrays)
            for name in (
                layout.TASK_METADATA,
                layout.VOCABULARY,
                *map(layout.split_json, settings["splits"]),
            ):
                shutil.copyfile(job.task / name, scratch / name)
            check_content(job.task, job.submission.sample_rate, job.content)
            check_unchanged(job.submission)
            manifest = {
                "fingerprint": job.fingerprint,
                "submission": asdict(job.submission),
                "task": job.task.name,
                "made_from": _made_from(job.task),
                "form": asdict(job.form),
                "unusual_embedding": job.form.unusual,
                "arrays": arrays,
                **facts,
                "seconds": round(time.monotonic() - started, 3),
            }
            files.write_json(scratch / files.MANIFEST, manifest)
        files.remove_tree(unfinished)


def _compute(job: EmbedJob, settings: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
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
            facts = _run_worker(job, settings, folder, journal, progress, heard)
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
    settings: dict[str, Any],
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
        "splits": settings["splits"],
        "embedding_type": settings["embedding_type"],
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


def _array_names(splits: Sequence[str], embedding_type: str) -> list[str]:
    """Names of the arrays of a task."""
    names = [layout.split_array(split) for split in splits]
    return names + [layout.split_timestamps(split) for split in splits if embedding_type == "event"]


def _made_from(task: Path) -> dict[str, Any]:
    """What the task's manifest tells of the corpus behind it; empty for a folder unpacked from a tarball."""
    manifest = files.read_json(task / files.MANIFEST) if (task / files.MANIFEST).exists() else {}
    keys = ("archives", "tarball", "engine", "is_the_published_corpus", "warnings", "skipped")
    return {key: manifest[key] for key in keys if key in manifest}


def read_task_metadata(task: Path) -> dict[str, Any]:
    """The task_metadata.json of a published task folder."""
    path = task / layout.TASK_METADATA
    if not path.is_file():
        raise HearevalError(
            f"task folder {task}",
            got=f"no {layout.TASK_METADATA}",
            expected="a published task folder",
            remedy="Make it with `python -m heareval.tasks.runner`, or unpack its tarball.",
        )
    return dict(files.read_json(path))


def content_fingerprint(task: Path, sample_rate: int) -> str:
    """What tells whether a published task has changed: its manifest, or else its files.

    A folder that was unpacked from a tarball has no manifest, so all its clips are read.
    """
    manifest = task / files.MANIFEST
    if manifest.exists():
        return str(files.read_json(manifest)["fingerprint"])
    digest = hashlib.sha256()
    for path in sorted(p for p in task.iterdir() if p.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for path in sorted((task / str(sample_rate)).glob("*/*.wav")):
        digest.update(f"{path.relative_to(task)}\0{files.file_checksum(path, 'sha256')}\n".encode())
    return digest.hexdigest()[:16]


def check_content(task: Path, sample_rate: int, expected: str) -> None:
    """Raise HearevalError if a task folder is no longer the one that was planned with."""
    found = content_fingerprint(task, sample_rate)
    if found != expected:
        raise replaced_error(f"task folder {task}", found, expected)
