"""Embeddings on disk: one folder per submission and task, whole or not there."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heareval import files, layout
from heareval.embeddings.submission import WORKER, Submission
from heareval.errors import HearevalError
from heareval.worker_process import run_worker

VERSION = 1
# Samples of one batch: a good two minutes at 16 kHz, small enough for the memory of a laptop.
BATCH_SAMPLES = 2_000_000


def embed_task(
    submission: Submission,
    task: Path,
    target: Path,
    fingerprint: str,
    log: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Embed all clips of a published task and put the arrays beside copies of its descriptions.

    Args:
        task: published task folder.
        target: folder of the embeddings; an older one gives way.
        log: where the model's own output goes.
    """
    started = time.monotonic()
    settings = read_task_metadata(task)
    with files.building_folder(target, replace=True) as scratch:
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
        for name in (layout.TASK_METADATA, layout.VOCABULARY, *map(layout.split_json, settings["splits"])):
            shutil.copyfile(task / name, scratch / name)
        manifest = {
            "fingerprint": fingerprint,
            "submission": asdict(submission),
            "task": task.name,
            **facts,
            "seconds": round(time.monotonic() - started, 3),
        }
        files.write_json(scratch / files.MANIFEST, manifest)


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

    A folder that was unpacked from a tarball has no manifest; names, sizes and times of its clips serve.
    """
    manifest = task / files.MANIFEST
    if manifest.exists():
        return str(files.read_json(manifest)["fingerprint"])
    digest = hashlib.sha256()
    for path in sorted(p for p in task.iterdir() if p.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for path in sorted((task / str(sample_rate)).glob("*/*.wav")):
        facts = path.stat()
        digest.update(f"{path.relative_to(task)}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
