"""Check the output of a model and write it in place into the arrays of a split."""

from __future__ import annotations

import concurrent.futures
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heareval.embeddings.inside.channel import Send
from heareval.embeddings.inside.errors import SubmissionError
from heareval.embeddings.inside.frameworks import Arrays
from heareval.embeddings.inside.timestamps import find_timestamp_fault

# The largest value of float16.
FLOAT16_MAX = 65504.0
EMBEDDINGS_SUFFIX, TIMESTAMPS_SUFFIX = ".npy", ".timestamps.npy"


class Writer:
    """Runs functions that write, one after the other.

    Args:
        in_background: run them in a thread while the model computes the next batch. On a CPU the model needs
            all cores.
    """

    def __init__(self, *, in_background: bool) -> None:
        self.in_background, self.thread = in_background, concurrent.futures.ThreadPoolExecutor(1)
        self.running: Any = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        finally:
            self.thread.shutdown()

    def run(self, write: Callable[..., None], *arguments: Any) -> None:
        """Start a function when the one before has returned; raises what that one raised."""
        self.wait()
        self.running = self.thread.submit(write, *arguments)
        if not self.in_background:
            self.wait()

    def wait(self) -> None:
        """Return when the last function has returned; raises what it raised."""
        running, self.running = self.running, None
        if running is not None:
            running.result()


@dataclass(frozen=True)
class ArrayFormat:
    """What the arrays of a task hold.

    Args:
        size: length of an embedding.
        has_timestamps: embeddings are `(clips, timestamps, size)`; without timestamps `(clips, size)`.
        dtype: `float32` or `float16`.
    """

    size: int
    has_timestamps: bool
    dtype: str


class SplitArrays:
    """The arrays of one split, which are created with the first output.

    Args:
        folder: where they lie.
        split: name of the split.
        clips: names of its clips, in the order of the rows.
        array_format: shapes and type.
        send: gets the name and the size of each array that is created.
    """

    def __init__(
        self, folder: Path, split: str, clips: list[str], array_format: ArrayFormat, send: Send
    ) -> None:
        self.folder, self.split, self.clips, self.format, self.send = folder, split, clips, array_format, send
        self.embeddings: np.ndarray | None = None
        self.timestamps: np.ndarray | None = None

    def write(self, rows: Sequence[int], output: Arrays, duration_ms: float) -> None:
        """Check the output for the clips of these rows and write it.

        Raises:
            SubmissionError: shape, type or values are wrong, or the disk is full.
        """
        clips = [self.clips[row] for row in rows]
        if len(output) != (2 if self.format.has_timestamps else 1):
            expected = "embeddings and timestamps" if self.format.has_timestamps else "one"
            raise self._error(clips, f"{len(output)} arrays", expected)
        embeddings = output[0]
        self._check_embeddings(clips, embeddings)
        if self.format.has_timestamps:
            times = output[1]
            self._check_timestamps(clips, times, embeddings.shape[1], duration_ms)
            if self.timestamps is None:
                self.timestamps = self._create(TIMESTAMPS_SUFFIX, "float32", times.shape[1:])
            self.timestamps[rows] = times
        if self.embeddings is None:
            self.embeddings = self._create(EMBEDDINGS_SUFFIX, self.format.dtype, embeddings.shape[1:])
        self.embeddings[rows] = embeddings

    def reopen(self) -> None:
        """Open the arrays that an interrupted run has left."""
        self.embeddings = self._open(EMBEDDINGS_SUFFIX)
        if self.format.has_timestamps:
            self.timestamps = self._open(TIMESTAMPS_SUFFIX)

    def _open(self, suffix: str) -> np.ndarray:
        return np.lib.format.open_memmap(self.folder / f"{self.split}{suffix}", "r+")

    def _create(self, suffix: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        """Create an array with one row per clip of the split, and reserve all its space on the disk."""
        path, whole = self.folder / f"{self.split}{suffix}", (len(self.clips), *shape)
        array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), whole)
        self.send({"array": path.name, "size": path.stat().st_size})
        try:
            # A full disk would otherwise kill this process in the middle of a batch.
            with open(path, "r+b") as file:
                getattr(os, "posix_fallocate", lambda *_: None)(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                return array
            path.unlink()
            got = f"{error.strerror} for {array.nbytes / 1e9:.3g} GB"
            raise SubmissionError(f"array {path}", got=got, expected="room for all embeddings") from error
        return array

    def _check_embeddings(self, clips: list[str], embeddings: np.ndarray) -> None:
        """Raise SubmissionError unless shape, type and values of the embeddings are right."""
        size, has_timestamps = self.format.size, self.format.has_timestamps
        is_right = embeddings.ndim == (3 if has_timestamps else 2) and embeddings.shape[-1] == size
        if is_right and self.embeddings is not None:
            is_right = embeddings.shape[1:] == self.embeddings.shape[1:]
        if not is_right or len(embeddings) != len(clips):
            shape = f"({len(clips)}, timestamps, {size})" if has_timestamps else f"({len(clips)}, {size})"
            got = f"embeddings of shape {embeddings.shape}"
            raise self._error(clips, got, f"{shape}, a row for each clip")
        if embeddings.dtype != np.float32:
            raise self._error(clips, f"embeddings of type {embeddings.dtype}", "float32")
        is_bad = ~np.isfinite(embeddings).reshape(len(embeddings), -1).all(axis=1)
        if is_bad.any():
            clip = clips[int(np.argmax(is_bad))]
            raise self._error([clip], "NaN or infinity in the embeddings", "finite numbers")
        if self.format.dtype == "float16" and abs(embeddings).max() > FLOAT16_MAX:
            got = f"a value of {abs(embeddings).max():g}"
            expected = f"at most {FLOAT16_MAX:g}, to fit into 16 bits"
            raise self._error(clips, got, expected, "Embed without --dtype float16.")

    def _check_timestamps(
        self, clips: list[str], times_ms: np.ndarray, count: int, duration_ms: float
    ) -> None:
        """Raise SubmissionError unless there is one timestamp per embedding, increasing, within the clip."""
        if times_ms.shape != (len(clips), count):
            raise self._error(clips, f"timestamps of shape {times_ms.shape}", f"{(len(clips), count)}")
        fault = find_timestamp_fault(times_ms, duration_ms)
        if fault:
            raise self._error(clips, *fault)

    def _error(self, clips: list[str], got: str, expected: str, remedy: str = "") -> SubmissionError:
        """Return the error for a batch, which names its first clip."""
        return SubmissionError(f"embedding {self.split}/{clips[0] if clips else '?'}", got, expected, remedy)
