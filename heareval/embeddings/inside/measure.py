"""Measure how fast a model embeds clips of some lengths, and what it returns for them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from heareval.embeddings.inside.batches import Embedder, embed_within_memory
from heareval.embeddings.inside.channel import Send, ignore_message
from heareval.embeddings.inside.embed import select_function
from heareval.embeddings.inside.errors import SubmissionError
from heareval.embeddings.inside.submission import load_submission

# Batches of each length that are timed, after one to warm up.
BATCHES = 2


def measure(job: dict[str, Any], send: Send = ignore_message) -> dict[str, Any]:
    """Embed noise of the job's `durations_s`, the most important one first, for about `budget_s` seconds.

    Returns:
        The device, the seconds that loading took, and for each length that there was time for: its seconds,
        the clips of a batch, the number of batches, the seconds that these took, and the shape of the
        embeddings of one clip: `[size]` or `[timestamps, size]`.

    Raises:
        SubmissionError: the submission is wrong, or a single clip does not fit into memory.
    """
    began = time.perf_counter()
    submission = load_submission(job)
    load_s = time.perf_counter() - began
    rate, framework = submission.model.sample_rate, submission.framework
    embedder = Embedder(select_function(submission, job), framework, rate, send)
    lengths = list(job["durations_s"])
    measured: list[dict[str, Any]] = []
    deadline = time.perf_counter() + job["budget_s"]
    for place, duration_s in enumerate(lengths):
        left_s = deadline - time.perf_counter()
        if measured and left_s <= 0:
            break
        samples = max(1, round(duration_s * rate))
        most = max(1, job["batch_samples"] // samples)
        timed = time_batches(embedder, samples, most, left_s / (len(lengths) - place))
        measured.append({"duration_s": duration_s, **timed})
    return {"device": "cuda" if framework.is_gpu else "cpu", "load_s": load_s, "measured": measured}


def time_batches(embedder: Embedder, samples: int, most: int, budget_s: float) -> dict[str, Any]:
    """Time batches of clips of one length: batches as a run has them, or smaller ones if those take long.

    Args:
        embedder: embeds a batch.
        samples: length of a clip.
        most: clips of a batch in a run.
        budget_s: how long all of it should take, in seconds.
    """
    # The first call may also prepare what the model needs once.
    time_batch(embedder, samples, 1)
    one_s, shape = time_batch(embedder, samples, 1)
    clips = int(min(most, max(1, budget_s / (BATCHES + 1) / max(one_s, 1e-6))))
    seconds: list[float] = []
    deadline = time.perf_counter() + budget_s
    if clips == 1:
        seconds.append(one_s)
    else:
        time_batch(embedder, samples, clips)
    while len(seconds) < BATCHES and (not seconds or time.perf_counter() < deadline):
        seconds.append(time_batch(embedder, samples, clips)[0])
    return {"clips": clips, "batches": len(seconds), "seconds": sum(seconds), "shape": shape}


def time_batch(embedder: Embedder, samples: int, clips: int) -> tuple[float, list[int]]:
    """Return the seconds that a batch of noise takes, and the shape of the embeddings of one clip.

    A batch that does not fit into memory is halved, as in a run; its time is that of all its parts.

    Raises:
        SubmissionError: the model failed, or a single clip does not fit into memory.
    """
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (clips, samples)).astype(np.float32)
    began = time.perf_counter()
    output, reason = embed_within_memory(embedder, noise.copy())
    if output is not None:
        return time.perf_counter() - began, list(output[0].shape[1:])
    if clips == 1:
        raise SubmissionError(
            f"a clip of {samples / embedder.sample_rate:g} s",
            got=reason,
            expected="a clip that fits into the memory",
        )
    halves = [time_batch(embedder, samples, part) for part in (clips // 2, clips - clips // 2)]
    return sum(seconds for seconds, _ in halves), halves[0][1]
