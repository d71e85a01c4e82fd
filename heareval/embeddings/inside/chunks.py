"""Compute the timestamp embeddings of long clips from overlapping chunks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from heareval.embeddings.inside.errors import SubmissionError
from heareval.embeddings.inside.frameworks import Arrays, EmbedBatch
from heareval.embeddings.inside.timestamps import find_timestamp_fault

# The share of a chunk that overlaps with the next one; half of it at each end serves as context only.
OVERLAP = 0.2


def embed_in_chunks(embed_batch: EmbedBatch, chunk: int, sample_rate: int, audio: Any) -> Arrays:
    """Return the timestamp embeddings and timestamps of long clips, computed from overlapping chunks.

    In an overlap, each chunk provides the half that is farther from its own edge. Chunks begin a whole number
    of timestamps apart, so timestamps stay as regular as the model returns them.

    Args:
        embed_batch: returns embeddings and timestamps of a batch.
        chunk: length of a chunk in samples.
        sample_rate: in Hz.
        audio: `(clips, samples)` on the device.

    Raises:
        SubmissionError: a chunk has too few timestamps, or wrong ones.
    """
    frames = audio.shape[1]
    if frames <= chunk:
        return embed_batch(audio)
    first = embed_chunk(embed_batch, audio, 0, chunk, sample_rate)
    times = first[1]
    hop = float(times[0, -1] - times[0, 0]) / max(1, times.shape[1] - 1) * sample_rate / 1000
    # In timestamps: how far apart chunks begin, and where in a chunk the one before hands over to it.
    step, handover = (int(share * chunk / hop) if hop else 0 for share in (1 - OVERLAP, OVERLAP / 2))
    if handover < 1 or times.shape[1] < step + handover:
        raise SubmissionError(
            "--chunk-seconds",
            got=f"{times.shape[1]} timestamps in a chunk of {chunk / sample_rate:g} s",
            expected=f"at least {max(step + handover, round(2 / OVERLAP))}, from its beginning to its end",
            remedy="Use longer chunks.",
        )
    parts = [tuple(each[:, : step + handover] for each in first)]
    for start in (round(k * step * hop) for k in itertools.count(1)):
        embeddings, times = embed_chunk(embed_batch, audio, start, chunk, sample_rate)
        times = (times + np.float64(1000 * start / sample_rate)).astype(times.dtype)
        is_last = start + chunk >= frames
        kept = slice(handover, None if is_last else step + handover)
        parts.append((embeddings[:, kept], times[:, kept]))
        if is_last:
            break
    return tuple(np.concatenate([part[i] for part in parts], axis=1) for i in range(2))


def embed_chunk(embed_batch: EmbedBatch, audio: Any, start: int, chunk: int, sample_rate: int) -> Arrays:
    """Return the embeddings and timestamps of the chunk that begins at sample `start`.

    Raises:
        SubmissionError: the shapes are wrong, or timestamps don't increase or are not in milliseconds.
    """
    part = audio[:, start : start + chunk]
    # Copy: the model may change its input, which the next chunk shares in part.
    output = embed_batch(part.clone() if hasattr(part, "clone") else part.copy())
    shapes = [each.shape for each in output]
    if [len(shape) for shape in shapes] != [3, 2] or shapes[0][:2] != shapes[1]:
        raise SubmissionError(
            "timestamp embeddings",
            got=f"shapes {', '.join(map(str, shapes))}",
            expected="(clips, timestamps, size) and (clips, timestamps)",
        )
    fault = find_timestamp_fault(output[1], 1000 * part.shape[1] / sample_rate)
    if fault:
        raise SubmissionError(f"timestamps of a chunk that begins at {start / sample_rate:g} s", *fault)
    return output
