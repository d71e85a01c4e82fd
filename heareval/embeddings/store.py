"""Embeddings on disk: one folder per submission and task, whole or not there."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heareval import files, layout
from heareval.embeddings.submission import WORKER, Submission
from heareval.errors import HearevalError, replaced
from heareval.spec import Progress
from heareval.worker_process import run_worker

VERSION = 1
# Samples of one batch: a good two minutes at 16 kHz, small enough for the memory of a laptop.
BATCH_SAMPLES = 2_000_000


def embed_task(
    submission: Submission,
    task: Path,
    target: Path,
    content: str,
    fingerprint: str,
    *,
    log: Path,
    progress: Progress,
) -> None:
    """Embed all clips of a published task and put the arrays beside copies of its descriptions.

    Args:
        task: published task folder.
        target: folder of the embeddings; an older one gives way.
        content: fingerprint of the task that is to be embedded.
        log: where the model's own output goes.

    Raises:
        HearevalError: the model failed, or the task was replaced meanwhile.
    """
    started = time.monotonic()
    settings = read_task_metadata(task)
    check_content(task, submission.sample_rate, content)

    def is_current(folder: Path) -> bool:
        """Another run may have made the very same arrays, and scores from them, meanwhile."""
        manifest = folder / files.MANIFEST
        return (
            manifest.exists()
            and files.read_json(manifest).get("fingerprint") == fingerprint
            and all((folder / name).exists() for name in arrays)
        )

    with files.building_folder(target, replace=True, is_current=is_current) as scratch:
        job = {
            "do": "embed",
            "module": submission.module,
            "model": submission.model,
            "options": json.loads(submission.options),
            "task": str(task),
            "splits": settings["splits"],
            "embedding_type": settings["embedding_type"],
            "batch_samples": BATCH_SAMPLES,
            "out": str(scratch),
        }
        facts = run_worker([sys.executable, str(WORKER)], job, log, progress)
        arrays = _arrays(scratch, settings["splits"], settings["embedding_type"])
        for name in (layout.TASK_METADATA, layout.VOCABULARY, *map(layout.split_json, settings["splits"])):
            shutil.copyfile(task / name, scratch / name)
        check_content(task, submission.sample_rate, content)
        manifest = {
            "fingerprint": fingerprint,
            "submission": asdict(submission),
            "task": task.name,
            "made_from": _made_from(task),
            "arrays": arrays,
            **facts,
            "seconds": round(time.monotonic() - started, 3),
        }
        files.write_json(scratch / files.MANIFEST, manifest)


def _made_from(task: Path) -> dict[str, Any]:
    """What the task's manifest tells of the corpus behind it; empty for a folder unpacked from a tarball."""
    manifest = files.read_json(task / files.MANIFEST) if (task / files.MANIFEST).exists() else {}
    keys = ("archives", "tarball", "engine", "is_the_published_corpus", "warnings", "skipped")
    return {key: manifest[key] for key in keys if key in manifest}


def _arrays(folder: Path, splits: Sequence[str], embedding_type: str) -> list[str]:
    """Names of the arrays, all of which must be there."""
    wanted = [layout.split_array(split) for split in splits]
    if embedding_type == "event":
        wanted += [layout.split_timestamps(split) for split in splits]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise HearevalError(
            "the embedding worker", got=f"no {', '.join(missing)}", expected="an array for every split"
        )
    return wanted


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
        raise replaced(f"task folder {task}", found, expected)
