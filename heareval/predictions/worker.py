"""Evaluate one embeddings folder in a separate process: `python -m heareval.predictions.worker JOB.json`.

The job file is `{"folder": ..., "embeddings": fingerprint of the embeddings, "protocol": {fields of
Protocol}, "fingerprint": fingerprint of the results, "in_memory": true, false or null, "scratch": a folder of
this machine or "", "train_threads": threads of each network or null, "side_by_side": number of networks that
then train at the same time, "channel": file descriptor of a pipe, "token": the word that begins each line
there}`. To the pipe go JSON objects: `{"done", "total"}` and `{"note": a line for people}` now and then, then
`{"result": {"scores": path}}`, or `{"error": {"what", "got", "expected", "remedy"}}` before exit code 1.
Whatever libraries print is the log.
"""

from __future__ import annotations

import dataclasses
import errno
import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heareval import files
from heareval.errors import HearevalError, file_error, unknown_name
from heareval.formats.fields import read_fields
from heareval.formats.training_progress import all_unfinished_trainings, unfinished_trainings
from heareval.predictions.protocol import Protocol

MIN_PROGRESS_S = 0.2

# Environment variables of the process. glibc reads those that begin with MALLOC when it starts. By default it
# returns the memory of every activation and gradient to the kernel and requests it again at the next step,
# page by page, which takes a fifth of the time on a CPU. oneDNN could round float32 to bf16.
ENVIRONMENT = {
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


@dataclass(frozen=True)
class Job:
    """One evaluation.

    Args:
        folder: the embeddings folder.
        embeddings_fingerprint: fingerprint of the embeddings that the run was planned with.
        fingerprint: fingerprint of the results.
        in_memory: whether to hold embeddings in memory; None means if there is room.
        scratch: a folder of this machine for what is thrown away; None without one.
        train_threads: number of threads of each network in training; None trains them one after the other
            on all cores.
        side_by_side: how many networks train at the same time at most if they have a number of threads.
    """

    folder: Path
    embeddings_fingerprint: str
    protocol: Protocol
    fingerprint: str
    in_memory: bool | None
    scratch: Path | None
    train_threads: int | None
    side_by_side: int


@dataclass
class Reporter:
    """Writes messages for the parent process, and progress at most five times a second."""

    descriptor: int
    token: str
    _last: float = field(default=-MIN_PROGRESS_S)

    def progress(self, done: int, total: int) -> None:
        """Report progress, unless it was reported a moment ago."""
        now = time.monotonic()
        if done == total or now - self._last >= MIN_PROGRESS_S:
            self._last = now
            self._write({"done": done, "total": total})

    def note(self, text: str) -> None:
        """Report a line for people, and write it to the log."""
        sys.stderr.write(f"{text}\n")
        self._write({"note": text})

    def result(self, scores: Path) -> None:
        """Report the path of the scores."""
        self._write({"result": {"scores": str(scores)}})

    def error(self, error: HearevalError) -> None:
        """Report the error that ends the work."""
        facts = {"what": error.what, "got": error.got, "expected": error.expected, "remedy": error.remedy}
        self._write({"error": facts})

    def _write(self, value: dict[str, Any]) -> None:
        rest = f"\n{self.token} {json.dumps(value)}\n".encode()
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]


def main(arguments: Sequence[str]) -> int:
    """Do the job in a file, and return the exit code of the process."""
    path = Path(arguments[0])
    fields = read_fields(path)
    reporter = Reporter(fields.integer("channel"), fields.text("token"))
    os.set_inheritable(reporter.descriptor, False)
    try:
        run(read_job(path), reporter)
    except (HearevalError, OSError) as error:
        reporter.error(file_error(error) if isinstance(error, OSError) else error)
        return 1
    return 0


def run(job: Job, reporter: Reporter) -> None:
    """Evaluate the job's folder and write the results into it."""
    if job.folder.is_dir() and not os.access(job.folder, os.W_OK):
        # Training may take hours, so say it before.
        raise file_error(PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(job.folder)))
    if job.protocol.deterministic:
        # cuBLAS reads this when it starts, so set it before importing torch.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Nothing of what is imported is garbage. To look for it meanwhile, and again at the end of the process,
    # takes a third of the time in which torch is imported.
    gc.disable()
    import torch

    from heareval.predictions.checkpoints import Checkpoints
    from heareval.predictions.evaluation import choose_device, evaluate_folder, name_device
    from heareval.predictions.learners.side_by_side import SideBySide
    from heareval.predictions.writing import write_results

    gc.freeze()
    gc.enable()
    # `torch.use_deterministic_algorithms` would also import torch's compiler, which takes more than a second.
    torch.set_deterministic_debug_mode("error" if job.protocol.deterministic else "default")
    # NVIDIA's containers switch TF32 on by a variable. Results in TF32 have another name.
    torch.set_float32_matmul_precision("highest")
    name = job.protocol.recorded_name
    unfinished = unfinished_trainings(job.folder, name, job.fingerprint)
    for other in all_unfinished_trainings(job.folder, name):
        if other != unfinished:
            files.remove_tree(other)
    side_by_side = SideBySide(job.train_threads, job.side_by_side) if job.train_threads else None
    checkpoints = Checkpoints(
        unfinished,
        name_device(choose_device(job.protocol)),
        reporter.note,
        threads=job.train_threads,
        side_by_side=job.side_by_side,
    )
    result = evaluate_folder(
        job.folder,
        job.protocol,
        reporter.progress,
        in_memory=job.in_memory,
        scratch=job.scratch,
        checkpoints=checkpoints,
        side_by_side=side_by_side,
    )
    scores = write_results(job.folder, result, job.fingerprint, job.embeddings_fingerprint)
    checkpoints.remove()
    reporter.result(scores)


def read_job(path: Path) -> Job:
    """Return the job in a file.

    Raises:
        HearevalError: the file doesn't hold a job, or the protocol has an unknown setting.
    """
    job = read_fields(path)
    settings = job.mapping("protocol")
    known = [option.name for option in dataclasses.fields(Protocol)]
    for name in settings:
        if name not in known:
            raise unknown_name("protocol setting", name, known)
    return Job(
        Path(job.text("folder")),
        job.text("embeddings"),
        Protocol(**settings),
        job.text("fingerprint"),
        job.flag("in_memory", None),
        Path(scratch) if (scratch := job.text("scratch", "")) else None,
        job.integer("train_threads", None),
        job.integer("side_by_side", 1),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
