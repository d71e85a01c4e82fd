"""One embeddings folder evaluated in a process of its own: `python -m heareval.predictions.worker JOB.json`.

The job is `{"folder": ..., "embeddings": their fingerprint, "protocol": {fields of Protocol},
"fingerprint": ..., "in_memory": true, false or null}`. Standard output carries one JSON object a line and
nothing else: `{"done", "total"}` now and then, `{"result": {"scores": path}}` at the end, or
`{"error": {"what", "got", "expected", "remedy"}}` before exit code 1. What libraries print goes to standard
error.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from heareval import files
from heareval.errors import HearevalError, unknown_name
from heareval.predictions.protocol import Protocol
from heareval.worker_process import die_with_parent

MIN_PROGRESS_S = 0.2

# For the process, from its start. By itself glibc gives the memory of every activation and gradient back to
# the kernel at once and asks for it again at the next step, page by page: a fifth of the time on a CPU.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


@dataclass(frozen=True)
class Job:
    """One evaluation to do."""

    folder: Path
    embeddings: str
    protocol: Protocol
    fingerprint: str
    in_memory: bool | None
    parent: int


@dataclass
class Reporter:
    """Lines for the parent process; progress at most five times a second."""

    stream: TextIO
    _last: float = field(default=-MIN_PROGRESS_S)

    def progress(self, done: int, total: int) -> None:
        """Tell how far the work is, unless that was told a moment ago."""
        now = time.monotonic()
        if done == total or now - self._last >= MIN_PROGRESS_S:
            self._last = now
            self._write({"done": done, "total": total})

    def result(self, scores: Path) -> None:
        """Tell where the scores are."""
        self._write({"result": {"scores": str(scores)}})

    def error(self, error: HearevalError) -> None:
        """Tell why the work ends."""
        facts = {"what": error.what, "got": error.got, "expected": error.expected, "remedy": error.remedy}
        self._write({"error": facts})

    def _write(self, value: dict[str, Any]) -> None:
        self.stream.write(json.dumps(value) + "\n")
        self.stream.flush()


def main(arguments: Sequence[str]) -> int:
    """Do the job of a file; the process's exit code."""
    die_with_parent()
    with private_stdout() as stream:
        reporter = Reporter(stream)
        try:
            job = read_job(Path(arguments[0]))
            if os.getppid() != job.parent:
                return 1  # the parent died before it could be asked to take this process along
            run(job, reporter)
        except HearevalError as error:
            reporter.error(error)
            return 1
    return 0


def run(job: Job, reporter: Reporter) -> None:
    """Evaluate the job's folder and write the results into it."""
    if job.protocol.deterministic:
        # Read by cuBLAS when it starts, so it comes before torch.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from heareval.predictions.probes import evaluate_with_probe
    from heareval.predictions.results import write_results
    from heareval.predictions.selection import evaluate_folder

    torch.use_deterministic_algorithms(job.protocol.deterministic)
    evaluate = evaluate_folder if job.protocol.probe == "mlp" else evaluate_with_probe
    result = evaluate(job.folder, job.protocol, reporter.progress, in_memory=job.in_memory)
    reporter.result(write_results(job.folder, result, job.fingerprint, job.embeddings))


def read_job(path: Path) -> Job:
    """The job in a file."""
    job = files.read_json(path)
    known = [option.name for option in dataclasses.fields(Protocol)]
    for name in job["protocol"]:
        if name not in known:
            raise unknown_name("protocol setting", name, known)
    return Job(
        Path(job["folder"]),
        job["embeddings"],
        Protocol(**job["protocol"]),
        job["fingerprint"],
        job.get("in_memory"),
        job.get("parent", os.getppid()),
    )


def private_stdout() -> TextIO:
    """The standard output for our lines alone; from here on everybody else writes to standard error."""
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
