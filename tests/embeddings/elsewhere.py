"""Environments of other interpreters, and the worker at work there."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from heareval.embeddings.submission import WORKER, Model


def install(python: str, *packages: str) -> None:
    """Install packages into the environment of an interpreter."""
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)


def worker(model: Model, logs: Path, **job: Any) -> dict[str, Any]:
    """What the worker answers to a job for a model."""
    log, whole = logs / f"{job['do']}.log", {"precision": "float32", **job}
    return model.run(WORKER, whole, log, lambda done, total: None, tell=lambda told: None)


def embed(model: Model, task: Path, out: Path) -> dict[str, Any]:
    """The timestamp embeddings of split `a` of a task, in `<out>/a.npy`; what the worker tells of it."""
    out.mkdir(parents=True)
    work = {"batch_samples": 10**6, "done": 0, "history": [], "dtype": "float32", "chunk_s": 0.0}
    what = {"task": str(task), "splits": ["a"], "embedding_type": "event", "out": str(out)}
    return worker(model, out, do="embed", **what, **work)
