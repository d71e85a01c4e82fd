"""Embed all clips of a task."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heareval.embeddings.inside.batches import BatchSize, Embedder, embed_block, plan_blocks, skip_done
from heareval.embeddings.inside.channel import Send, ignore_message
from heareval.embeddings.inside.chunks import embed_in_chunks
from heareval.embeddings.inside.frameworks import Arrays, EmbedBatch
from heareval.embeddings.inside.reading import ClipBlock, read_ahead
from heareval.embeddings.inside.submission import (
    FUNCTIONS,
    LoadedSubmission,
    list_loaded_versions,
    load_submission,
)
from heareval.embeddings.inside.writing import ArrayFormat, SplitArrays, Writer

PROGRESS_INTERVAL_S = 0.2


def embed(job: dict[str, Any], send: Send = ignore_message) -> dict[str, Any]:
    """Embed the clips of every split into `<out>/<split>.npy`, rows in the order of `<split>.json`.

    A job may name the `clips` of each split that are embedded; the others of `<split>.json` are left out.
    To resume, the job says how many clips of the plan are `done` and the `history` of its batches: a list of
    [`fitted` or `too_large`, samples].

    Returns:
        The number of clips, the device, the framework, the versions of the loaded packages, and the largest
        memory of this process in bytes.

    Raises:
        SubmissionError: the submission or the task is wrong.
    """
    submission = load_submission(job)
    model, framework = submission.model, submission.framework
    has_timestamps, rate, task = job["embedding_type"] == "event", model.sample_rate, Path(job["task"])
    size = model.timestamp_embedding_size if has_timestamps else model.scene_embedding_size
    array_format = ArrayFormat(size, has_timestamps, job["dtype"])
    clips = job.get("clips") or {split: read_clip_names(task / f"{split}.json") for split in job["splits"]}
    arrays = {
        split: SplitArrays(Path(job["out"]), split, names, array_format, send)
        for split, names in clips.items()
    }
    blocks, begun = skip_done(plan_blocks(task, clips, rate, job["batch_samples"]), job["done"])
    for split in begun:
        arrays[split].reopen()
    embedder = Embedder(select_function(submission, job), framework, rate, send)
    batch_size = BatchSize(job["batch_samples"], job["history"])
    total, done = sum(map(len, clips.values())), job["done"]
    report_progress = ProgressReporter(total, send)
    report_progress(done)
    with Writer(in_background=framework.is_gpu) as writer:
        for block, audio in read_ahead(blocks, framework, job["batch_samples"]):
            for rows, output in embed_block(embedder, block, audio, batch_size):
                if output is None:
                    # Through the writer: a resumed run depends on the order of these messages.
                    writer.run(send, {"too_large": len(rows) * block.frames})
                    continue
                done += len(rows)
                writer.run(write_output, arrays[block.split], block, rows, output, rate, send)
                report_progress(done)
    device = "cuda" if framework.is_gpu else "cpu"
    return {
        "clips": total,
        "device": device,
        "framework": framework.name,
        "versions": list_loaded_versions(),
        "memory_bytes": find_peak_memory(),
    }


def find_peak_memory() -> int | None:
    """Return the largest memory that this process has taken so far, in bytes; None if Linux does not say it.

    What getrusage reports includes the memory of the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def select_function(submission: LoadedSubmission, job: dict[str, Any]) -> EmbedBatch:
    """Return the function that embeds a batch of this job."""
    module, model, framework = submission.module, submission.model, submission.framework
    name = FUNCTIONS[job["embedding_type"]]
    embed_batch: EmbedBatch = functools.partial(framework.compute, name, getattr(module, name), model=model)
    if job["embedding_type"] == "event" and job["chunk_s"]:
        rate = model.sample_rate
        return functools.partial(embed_in_chunks, embed_batch, round(job["chunk_s"] * rate), rate)
    return embed_batch


def write_output(
    arrays: SplitArrays, block: ClipBlock, rows: Sequence[int], output: Arrays, rate: int, send: Send
) -> None:
    """Write the output for some rows of a block, and then report it."""
    arrays.write(rows, output, 1000 * block.frames / rate)
    send({"fitted": len(rows) * block.frames, "clips": len(rows)})


def read_clip_names(path: Path) -> list[str]:
    """Return the names of the clips of a split, in order."""
    return list(json.loads(path.read_text(encoding="utf-8")))


class ProgressReporter:
    """Reports how many clips are done, a few times a second and at the end."""

    def __init__(self, total: int, send: Send) -> None:
        self.total, self.send, self.last_time = total, send, 0.0

    def __call__(self, done: int) -> None:
        if done == self.total or time.monotonic() - self.last_time > PROGRESS_INTERVAL_S:
            self.last_time = time.monotonic()
            self.send({"done": done, "total": self.total})
