"""Rows of embeddings, in memory or read from disk as needed."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heareval.memory import SHARE_OF_MEMORY, find_free_memory

BATCHES_AHEAD = 2
Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class StoredRows:
    """Rows `(rows, dim)` of a memory-mapped array; slicing and indexing copies them to the device as float32.

    Args:
        array: `(clips, dim)` or `(clips, timestamps, dim)`; rows are clips, or all frames of one clip after
            the other.
        order: index in the array of the first clip, the second, and so on, `(clips,)`.
    """

    array: NDArray[Any]
    order: NDArray[np.int64]
    device: torch.device

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, dim)."""
        return (len(self), self.array.shape[-1])

    @property
    def frames(self) -> int:
        """Return the number of rows per clip."""
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
    """Return whether arrays fit into the device's memory as float32, with room for everything else."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        free = find_free_memory()
    return sum(4 * array.size for array in arrays) <= SHARE_OF_MEMORY * free


def slice_rows(parts: Sequence[Rows], start: int, stop: int) -> Tensor:
    """Return rows `start` to `stop` of the concatenated parts; a view if they lie in one tensor.

    >>> slice_rows([torch.zeros(2, 1), torch.ones(2, 1)], 1, 3).flatten().tolist()
    [0.0, 1.0]
    """
    pieces, offset = [], 0
    for part in parts:
        piece = slice(max(start - offset, 0), min(max(stop - offset, 0), len(part)))
        if piece.start < piece.stop:
            pieces.append(part[piece])
        offset += len(part)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def pick_rows(parts: Sequence[Rows], rows: Tensor) -> Tensor:
    """Return rows of the concatenated parts in the given order.

    Args:
        rows: indices, on the CPU.
    """
    ends = torch.tensor([len(part) for part in parts]).cumsum(0)
    where = torch.bucketize(rows, ends, right=True)
    result_rows = torch.empty(
        (len(rows), *parts[0].shape[1:]), dtype=_dtype(parts[0]), device=parts[0].device
    )
    for number, part in enumerate(parts):
        of_part = (where == number).nonzero().flatten()
        begin = int(ends[number]) - len(part)
        result_rows[of_part.to(result_rows.device)] = part[(rows[of_part] - begin).to(result_rows.device)]
    return result_rows


def _dtype(rows: Rows) -> torch.dtype:
    return rows.dtype if isinstance(rows, Tensor) else torch.float32


def make_ahead(make: Callable[[Item], Made], items: Sequence[Item]) -> Iterator[Made]:
    """Yield `make(item)` for each item in order, while a thread makes the next ones."""
    pending: collections.deque[Future[Made]] = collections.deque()
    with ThreadPoolExecutor(1) as executor:
        try:
            for item in items:
                pending.append(executor.submit(make, item))
                if len(pending) > BATCHES_AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
