"""Environments of other interpreters, and jobs that run in them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from heareval.embeddings.submission import Model


def install(python: str, *packages: str) -> None:
    """Install packages into the environment of an interpreter."""
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)


def run_job(model: Model, logs: Path, **job: Any) -> dict[str, Any]:
    """Run a job for a model in its interpreter and return the result."""
    return model.run({"precision": "float32", **job}, logs / f"{job['do']}.log")


def embed(model: Model, task: Path, out: Path) -> dict[str, Any]:
    """Compute the timestamp embeddings of split `a` of a task, into `<out>/a.npy`; return the result."""
    out.mkdir(parents=True)
    work = {"batch_samples": 10**6, "done": 0, "history": [], "dtype": "float32", "chunk_s": 0.0}
    what = {"task": str(task), "splits": ["a"], "embedding_type": "event", "out": str(out)}
    return run_job(model, out, do="embed", **what, **work)
