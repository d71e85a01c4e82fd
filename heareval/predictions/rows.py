"""Embeddings as rows to train on: in memory, or on disk and read as they are needed."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

# Arrays that would take more than this share of the memory that is free stay on disk.
SHARE_OF_MEMORY = 0.5
BATCHES_AHEAD = 2
Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class StoredRows:
    """Rows `(rows, dim)` of a memory-mapped array, which slices and indices bring to the device as float32.

    Args:
        array: `(clips, dim)` or `(clips, timestamps, dim)`; rows are clips, or all frames of one clip after
            another.
        order: which clip of the array comes first, second and so on.
    """

    array: NDArray[Any]
    order: NDArray[np.int64]
    device: torch.device

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, dim)."""
        return (len(self), self.array.shape[-1])

    @property
    def frames(self) -> int:
        """Rows of a clip."""
        return self.array.shape[1] if self.array.ndim == 3 else 1

    def __len__(self) -> int:
        return len(self.order) * self.frames

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        wanted = np.arange(len(self))[rows] if isinstance(rows, slice) else rows.cpu().numpy()
        read = np.empty((len(wanted), self.array.shape[-1]), dtype=self.array.dtype)
        clips, frames = self.order[wanted // self.frames], wanted % self.frames
        flat = self.array.reshape(-1, self.array.shape[-1])
        np.take(flat, clips * self.frames + frames, axis=0, out=read, mode="clip")
        return torch.from_numpy(read).float().to(self.device)


Rows = Tensor | StoredRows


def fits_memory(arrays: Sequence[NDArray[Any]], device: torch.device) -> bool:
    """Whether arrays may be held in the device's memory as float32, with room for everything else."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        free = psutil.virtual_memory().available
    return sum(4 * array.size for array in arrays) <= SHARE_OF_MEMORY * free


def rows_between(parts: Sequence[Rows], start: int, stop: int) -> Tensor:
    """Rows `start` to `stop` of parts laid end to end; of tensors a view, unless they straddle two."""
    pieces, offset = [], 0
    for part in parts:
        piece = slice(max(start - offset, 0), min(max(stop - offset, 0), len(part)))
        if piece.start < piece.stop:
            pieces.append(part[piece])
        offset += len(part)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def picked_rows(parts: Sequence[Rows], rows: Tensor) -> Tensor:
    """These rows of parts laid end to end, in this order; `rows` is on the CPU."""
    ends = torch.tensor([len(part) for part in parts]).cumsum(0)
    where = torch.bucketize(rows, ends, right=True)
    picked = torch.empty((len(rows), *parts[0].shape[1:]), dtype=_dtype(parts[0]), device=parts[0].device)
    for number, part in enumerate(parts):
        mine = (where == number).nonzero().flatten()
        begin = int(ends[number]) - len(part)
        picked[mine.to(picked.device)] = part[(rows[mine] - begin).to(picked.device)]
    return picked


def _dtype(rows: Rows) -> torch.dtype:
    return rows.dtype if isinstance(rows, Tensor) else torch.float32


def made_ahead(make: Callable[[Item], Made], items: Sequence[Item]) -> Iterator[Made]:
    """What is made of each item, in order; the next ones are being made in a thread meanwhile."""
    coming: collections.deque[Future[Made]] = collections.deque()
    with ThreadPoolExecutor(1) as maker:
        try:
            for item in items:
                coming.append(maker.submit(make, item))
                if len(coming) > BATCHES_AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()
