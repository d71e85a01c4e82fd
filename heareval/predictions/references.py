"""What predictions are compared with: a digest of it, and whether it is the published corpus."""

from __future__ import annotations

import dataclasses
from typing import Any

from heareval import files
from heareval.formats.task_manifest import find_task_manifest
from heareval.predictions.data import Task


def fingerprint_references(task: Task) -> str:
    """Return 16 hex digits that change with the clips, labels, events or relations of a task.

    The order of the clips in their files does not matter, nor does the folder. So the references of a task
    folder have the digest of the copy in an embeddings folder.
    """
    metadata = task.metadata
    return files.fingerprint(
        "references",
        1,
        task=[metadata.name, metadata.version, metadata.mode],
        kind=[metadata.embedding_type, metadata.prediction_type, metadata.split_mode],
        metrics=metadata.metrics,
        labels=task.labels,
        clips={
            order.name: [dataclasses.asdict(clip) for clip in sorted(order.clips, key=lambda each: each.name)]
            for order in task.orders
        },
        relation=_describe_relation(task),
    )


def is_published_corpus(task: Task) -> bool | None:
    """Return whether a task folder was made from the published archives; None if nobody knows.

    Raises:
        HearevalError: the manifest of the folder is damaged.
    """
    manifest = find_task_manifest(task.folder)
    return manifest.is_the_published_corpus if manifest else task.is_published


def _describe_relation(task: Task) -> Any:
    if task.relation is None:
        return None
    return [type(task.relation).__name__, dataclasses.asdict(task.relation)]
