"""Plan the blocks of a task and cut them into batches that fit into memory."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heareval.embeddings.inside.channel import Send
from heareval.embeddings.inside.errors import SubmissionError, is_out_of_memory
from heareval.embeddings.inside.frameworks import Arrays, EmbedBatch, Framework
from heareval.embeddings.inside.reading import ClipBlock, read_block, read_lengths

# Batches in a row that must fit before a larger one is tried.
GROW_AFTER = 8


def plan_blocks(task: Path, clips: Mapping[str, list[str]], sample_rate: int, budget: int) -> list[ClipBlock]:
    """Return all clips in blocks of one length each, longest first.

    A clip that does not fit into memory is then found at once, not after a day.

    Args:
        task: task folder.
        clips: file names of the clips of each split.
        sample_rate: rate of the model, in Hz.
        budget: samples of a block; a block has at least one clip.

    Raises:
        SubmissionError: the task is not prepared at this rate, a split is empty, or a file is wrong.
    """
    folder = task / str(sample_rate)
    if not folder.is_dir():
        rates = sorted(path.name for path in task.iterdir() if path.name.isdigit())
        raise SubmissionError(
            f"task folder {task}",
            got=f"sample rates {', '.join(rates) or 'none'}",
            expected=f"{sample_rate}, which the model asks for",
            remedy=f"Run `heareval prepare` with --sample-rate {sample_rate}, or use --any-rate.",
        )
    blocks = []
    for split, names in clips.items():
        if not names:
            raise SubmissionError(f"{task / split}.json", got="no clips", expected="at least one")
        # Strings: creating Path objects would take longer than reading the files.
        paths = [f"{folder}/{split}/{name}" for name in names]
        rows_by_length: dict[int, list[int]] = {}
        for row, frames in enumerate(read_lengths(paths, sample_rate)):
            rows_by_length.setdefault(frames, []).append(row)
        for frames, rows in rows_by_length.items():
            size = max(1, budget // frames)
            for part in (rows[start : start + size] for start in range(0, len(rows), size)):
                blocks.append(ClipBlock(split, part, [paths[row] for row in part], frames))
    return sorted(blocks, key=lambda block: -block.frames)


def skip_done(blocks: list[ClipBlock], done: int) -> tuple[list[ClipBlock], set[str]]:
    """Return the blocks that remain after `done` clips, and the splits of which some clips are done."""
    remaining, begun = [], set()
    for block in blocks:
        skipped = min(done, len(block.rows))
        done -= skipped
        if skipped:
            begun.add(block.split)
        if skipped < len(block.rows):
            rows, paths = block.rows[skipped:], block.paths[skipped:]
            remaining.append(dataclasses.replace(block, rows=rows, paths=paths))
    return remaining, begun


class BatchSize:
    """The number of samples that a batch may have: halved when memory runs out, then grown again slowly.

    It depends only on which batches fitted, in order, so a resumed run cuts the same batches.

    Args:
        budget: the largest batch, in samples.
        history: what happened to each batch before (`fitted` or `too_large`), and its samples.
    """

    def __init__(self, budget: int, history: Iterable[tuple[str, int]] = ()) -> None:
        self.budget, self.limit = budget, budget
        self.largest_fitted, self.fitted_in_a_row, self.grow_after = 0, 0, GROW_AFTER
        for happened, samples in history:
            (self.note_fitted if happened == "fitted" else self.note_too_large)(samples)

    def count_clips(self, frames: int, remaining: int) -> int:
        """Return how many of the remaining clips of a block make the next batch."""
        return max(1, min(remaining, self.limit // frames))

    def note_fitted(self, samples: int) -> None:
        """Note a batch that fitted; after enough in a row, allow a quarter more."""
        self.largest_fitted = max(self.largest_fitted, samples)
        # The few clips at the end of a block prove little.
        self.fitted_in_a_row += 2 * samples > self.limit
        if self.fitted_in_a_row >= self.grow_after and self.limit < self.budget:
            self.limit, self.fitted_in_a_row = min(self.budget, self.limit + self.limit // 4 + 1), 0

    def note_too_large(self, samples: int) -> None:
        """Note a batch that did not fit: go back to one that did, or to half, and grow more slowly."""
        self.fitted_in_a_row, self.grow_after = 0, self.grow_after * (2 if self.largest_fitted else 1)
        if self.largest_fitted >= samples:
            self.largest_fitted = 0  # there is less memory now than before
        self.limit = max(self.largest_fitted, samples // 2)


@dataclass(frozen=True)
class Embedder:
    """What embeds one batch.

    Args:
        embed_batch: the model's function.
        framework: the framework of the model.
        sample_rate: in Hz.
        send: gets a message when a batch begins.
    """

    embed_batch: EmbedBatch
    framework: Framework
    sample_rate: int
    send: Send


def embed_block(
    embedder: Embedder, block: ClipBlock, audio: Any, batch_size: BatchSize
) -> Iterator[tuple[list[int], Arrays | None]]:
    """Yield the rows and the output of each batch of a block; no output if memory ran out.

    Args:
        embedder: embeds a batch.
        block: the clips.
        audio: their samples `(clips, samples)` on the device.
        batch_size: decides how many clips make a batch, and learns from what happens.

    Raises:
        SubmissionError: the model failed, or a single clip does not fit into memory.
    """
    start, framework = 0, embedder.framework
    while start < len(block.rows):
        count = batch_size.count_clips(block.frames, len(block.rows) - start)
        samples, batch = count * block.frames, slice(start, start + count)
        embedder.send({"begun": samples, "clips": count, "clip": block.paths[start]})
        output, reason = embed_within_memory(embedder, audio[batch])
        if output is not None:
            batch_size.note_fitted(samples)
            yield block.rows[batch], output
            start += count
        elif count == 1:
            seconds = block.frames / embedder.sample_rate
            raise make_clip_error(block.paths[start], reason, seconds, framework.describe_memory())
        else:
            yield block.rows[batch], None
            batch_size.note_too_large(samples)
            # The model may have changed its input before it failed.
            audio = framework.wait_for(framework.send_to_device(read_block(block)))


def embed_within_memory(embedder: Embedder, audio: Any) -> tuple[Arrays | None, str]:
    """Return the output for a batch, or None and the error message if memory ran out."""
    try:
        return embedder.embed_batch(audio), ""
    except SubmissionError as error:
        if not is_out_of_memory(error.__cause__):
            raise
        reason = error.facts["got"]
    sys.stderr.write("memory ran out for this batch; continuing with a smaller one\n")
    # After the `except` block the exception no longer holds the arrays of the failed call.
    embedder.framework.free_memory()
    return None, reason


def make_clip_error(clip: str, reason: str, seconds: float, memory: str) -> SubmissionError:
    """Return the error for a clip that does not fit into memory even as a batch of one."""
    return SubmissionError(
        f"clip {clip}",
        got=f"{reason}, on this clip of {seconds:g} s alone",
        expected=f"a clip that fits into the memory {memory}",
        remedy="Use a device with more memory, a model that processes long audio in pieces, or for timestamp "
        "embeddings --chunk-seconds.",
    )
