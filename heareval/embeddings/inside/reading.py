"""Read the wav files of a task as float32, some blocks ahead of the model."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from heareval.embeddings.inside.errors import SubmissionError
from heareval.embeddings.inside.frameworks import Framework
from heareval.embeddings.inside.wav import WavError, find_samples

READER_THREADS = 2
# Blocks of clips that may wait for the model.
BLOCKS_AHEAD = 4
# Files whose lengths one task of the thread pool reads.
FILES_PER_TASK = 256
# A folder that another run replaces is back after this time, even on a slow file server.
REPLACEMENT_S = 2.0


@dataclass(frozen=True)
class ClipBlock:
    """Clips of one split and one length that are read together.

    Clips of different lengths never share a block: padding would change the output of a model.

    Args:
        split: name of the split.
        rows: row of each clip in the array of its split.
        paths: file of each clip.
        frames: length of each clip in samples.
    """

    split: str
    rows: list[int]
    paths: list[str]
    frames: int


def read_lengths(paths: list[str], sample_rate: int) -> list[int]:
    """Return the number of frames of each wav file; many threads hide the latency of a file server."""
    parts = [paths[start : start + FILES_PER_TASK] for start in range(0, len(paths), FILES_PER_TASK)]
    with concurrent.futures.ThreadPoolExecutor(4 * READER_THREADS) as readers:
        lengths = readers.map(lambda part: [read_length(path, sample_rate) for path in part], parts)
        return list(itertools.chain.from_iterable(lengths))


def read_length(path: str, sample_rate: int) -> int:
    """Return the number of frames of a wav file.

    Raises:
        SubmissionError: it is not a mono file of 16 bits at this rate, or it is empty.
    """
    with _opened(path) as file:
        found = find_samples(file)
    if (found.channels, found.sample_bytes, found.sample_rate) != (1, 2, sample_rate):
        got = f"{found.channels} channels, {found.sample_bytes} bytes a sample, {found.sample_rate} Hz"
        raise SubmissionError(f"clip {path}", got=got, expected=f"1 channel, 2 bytes, {sample_rate} Hz")
    if not found.frames:
        raise SubmissionError(f"clip {path}", got="no samples", expected="at least one")
    return found.frames


@contextlib.contextmanager
def _opened(path: str) -> Iterator[FileIO]:
    """Open a clip; its faults become errors that name it."""
    try:
        with open(path, "rb", buffering=0, opener=_open_file) as file:
            yield file
    except (OSError, WavError) as error:
        raise SubmissionError(f"clip {path}", got=str(error), expected="a whole wav file of PCM") from error


def _open_file(path: str, flags: int) -> int:
    """Open a clip. If its task's folder is missing, which another run may just be replacing, wait a moment.

    File systems that cannot exchange two folders, such as NFS, have none under its name between two renames.
    """
    # A FIFO opens at once, too, and is then refused.
    flags |= os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        task = Path(path).parent.parent.parent
        deadline = time.monotonic() + REPLACEMENT_S
        while not task.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return os.open(path, flags)


def read_clip(path: str, scratch: np.ndarray, out: np.ndarray) -> None:
    """Read a clip as float32 in [-1, 1).

    Args:
        path: the wav file.
        scratch: uint8, with room for the samples.
        out: float32 `(samples,)`, as long as the clip; gets the samples.

    Raises:
        SubmissionError: the file cannot be read or has another length.
    """
    with _opened(path) as file:
        found = find_samples(file)
        if found.frames != len(out):
            raise SubmissionError(f"clip {path}", got=f"{found.frames} samples", expected=f"{len(out)}")
        content = scratch[: 2 * found.frames]
        file.seek(found.start)
        if file.readinto(content.data) < len(content):
            raise WavError("samples that end too early")
    out[:] = content.view("<i2")
    out *= np.float32(1 / 32768)


def read_block(block: ClipBlock, out: np.ndarray | None = None) -> np.ndarray:
    """Return the clips of a block as float32 `(clips, samples)`, in `out` if it is given."""
    audio = np.empty((len(block.paths), block.frames), np.float32) if out is None else out
    scratch = np.empty(2 * block.frames, np.uint8)
    for path, row in zip(block.paths, audio):  # Python 3.8 has no `strict`
        read_clip(path, scratch, row)
    return audio


class BufferPool:
    """Float32 memory that is lent for one block at a time: fresh pages take time to map.

    Only what is copied before it is given back may be read into it. A buffer belongs to the pool again at the
    end of the `with` block.
    """

    def __init__(self) -> None:
        self.free: list[np.ndarray] = []
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def lend(self, clips: int, frames: int) -> Iterator[np.ndarray]:
        """Lend an uninitialised array `(clips, frames)` that nobody else uses."""
        size = clips * frames
        with self.lock:
            buffer = self.free.pop() if self.free else np.empty(0, np.float32)
        if buffer.size < size:
            buffer = np.empty(size, np.float32)
        try:
            yield buffer[:size].reshape(clips, frames)
        finally:
            with self.lock:
                self.free.append(buffer)


def read_and_send(block: ClipBlock, framework: Framework, pool: BufferPool) -> Any:
    """Read a block and begin to send it to the device."""
    if not framework.copies_sent_audio:
        # The model may keep its input, so this memory is never used again.
        return framework.send_to_device(read_block(block))
    with pool.lend(len(block.paths), block.frames) as buffer:
        return framework.send_to_device(read_block(block, buffer))


def read_ahead(
    blocks: Iterable[ClipBlock], framework: Framework, budget: int
) -> Iterator[tuple[ClipBlock, Any]]:
    """Yield each block with its audio `(clips, samples)` on the device, while threads read the next ones.

    Args:
        blocks: what to read, in order.
        framework: sends the audio to the device.
        budget: samples in a full block; BLOCKS_AHEAD times as many are read ahead.
    """
    coming, pool = collections.deque(blocks), BufferPool()
    waiting: collections.deque[tuple[ClipBlock, Any]] = collections.deque()

    def count_samples_ahead() -> int:
        return sum(len(block.rows) * block.frames for block, _ in waiting)

    with concurrent.futures.ThreadPoolExecutor(READER_THREADS) as readers:
        try:
            while coming or waiting:
                # One clip may be longer than a full block: then read only one block ahead.
                while coming and (len(waiting) < 2 or count_samples_ahead() < BLOCKS_AHEAD * budget):
                    block = coming.popleft()
                    waiting.append((block, readers.submit(read_and_send, block, framework, pool)))
                block, sending = waiting.popleft()
                yield block, framework.wait_for(sending.result())
        finally:
            for _, sending in waiting:
                sending.cancel()
