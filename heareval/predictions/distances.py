"""Distances between the embeddings of clips, computed in blocks and summed in float64.

The distance of two clips depends on their embeddings only: not on the size of the blocks, the number of
threads, the order of the clips, or which of the two comes first.

The cosine distance is computed as half the squared Euclidean distance of embeddings of length 1, which
equals 1 - cos. Equal embeddings therefore have a distance of exactly 0, and small angles lose no digits.
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from heareval.errors import HearevalError
from heareval.predictions.protocol import Distance
from heareval.spec import Progress, ignore_progress

# Bytes of distances and of queries that are held at a time. Each block reads the whole gallery once.
BLOCK_BYTES = 128 << 20
# Bytes of gallery that one thread measures at a time; small enough for the caches of a core.
TILE_BYTES = 1 << 20
GPU_TILE_BYTES = 64 << 20
CPU = torch.device("cpu")
Distances = NDArray[np.float64]
SCIPY_NAMES = {"l1": "cityblock", "l2": "euclidean", "cosine": "sqeuclidean"}


@dataclass(frozen=True)
class ClipEmbeddings:
    """Embeddings of clips in a given order, in memory or memory-mapped.

    Args:
        array: `(stored clips, dim)` of floating-point numbers.
        rows: row of the array that each clip comes from, `(clips,)`.
        names: file names of the clips.
    """

    array: NDArray[Any]
    rows: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Return the number of dimensions."""
        return int(self.array.shape[1])

    def select(self, clips: NDArray[Any]) -> ClipEmbeddings:
        """Return the clips with these indices, in their order; no embedding is copied."""
        return ClipEmbeddings(self.array, self.rows[clips], tuple(self.names[clip] for clip in clips))

    def read(self, clips: slice | NDArray[Any], distance: Distance) -> Distances:
        """Return embeddings `(clips, dim)` as float64, of length 1 if the distance is "cosine"."""
        read = np.take(self.array, self.rows[clips], axis=0).astype(np.float64)
        _release_pages(self.array)
        return _normalize(read) if distance == "cosine" else read


@dataclass(frozen=True)
class DistanceBlock:
    """Distances of some clips to others.

    Args:
        first_query: index of the clip of the first row.
        first_item: index of the clip of the first column.
        distances: `(rows, columns)` float64; rows and columns are consecutive clips.
    """

    first_query: int
    first_item: int
    distances: Distances

    @property
    def queries(self) -> slice:
        """Return the indices of the clips of the rows."""
        return slice(self.first_query, self.first_query + len(self.distances))


def check_embeddings(clips: ClipEmbeddings, distance: Distance) -> None:
    """Check that the clips have distances.

    Raises:
        HearevalError: an embedding holds NaN or infinity, or is all zeros, which has no cosine.
    """
    for start, stop in _split(len(clips), max(1, BLOCK_BYTES // (8 * clips.dim))):
        # Not normalized: what is wrong would be lost.
        read = clips.read(slice(start, stop), "l1")
        is_finite = np.isfinite(read).all(axis=1)
        if not is_finite.all():
            raise HearevalError(
                f"embedding of {clips.names[start + int(is_finite.argmin())]}",
                got="NaN or infinity",
                expected="finite numbers",
                remedy="Check the submission with `heareval validate`.",
            )
        has_direction = read.any(axis=1)
        if distance == "cosine" and not has_direction.all():
            raise HearevalError(
                f"embedding of {clips.names[start + int(has_direction.argmin())]}",
                got="zeros only",
                expected="a number other than 0: zeros have no cosine distance",
                remedy="Choose --distance l1 or l2.",
            )


def have_equal_embeddings(clips: ClipEmbeddings) -> bool:
    """Return whether all clips have the same embedding.

    >>> have_equal_embeddings(ClipEmbeddings(np.ones((2, 3)), np.arange(2), ("a.wav", "b.wav")))
    True
    """
    first = clips.read(slice(0, 1), "l1")
    blocks = _split(len(clips), max(1, BLOCK_BYTES // (8 * max(1, clips.dim))))
    # Most models differ in the first block, so that the rest is not read.
    return all(bool((clips.read(slice(*block), "l1") == first).all()) for block in blocks)


def iterate_distances(
    queries: ClipEmbeddings,
    gallery: ClipEmbeddings,
    distance: Distance,
    *,
    device: torch.device = CPU,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress = ignore_progress,
) -> Iterator[DistanceBlock]:
    """Yield the distances of some queries to the whole gallery, block after block.

    The blocks are computed on as many threads as torch uses, or on a GPU. Beside the block and its queries,
    little memory is used, also if the embeddings are memory-mapped.

    Args:
        queries: the clips of the rows.
        gallery: the clips of the columns.
        device: what computes the distances.
        block_bytes: largest size of a block; a block has at least one query.
        progress: called with the number of distances measured so far, and that of all.

    >>> clips = ClipEmbeddings(np.array([[0.0, 0.0], [3.0, 4.0]]), np.arange(2), ("a.wav", "b.wav"))
    >>> [block.distances.tolist() for block in iterate_distances(clips, clips, "l1")]
    [[[0.0, 7.0], [7.0, 0.0]]]
    """
    rows = max(1, block_bytes // (8 * max(len(gallery), queries.dim, 1)))
    meter = _Meter(len(queries) * len(gallery), progress)
    for start, stop in _split(len(queries), rows):
        block = queries.read(slice(start, stop), distance)
        yield DistanceBlock(start, 0, _measure_block(block, gallery, 0, distance, device, meter))


def iterate_pairs(
    clips: ClipEmbeddings,
    distance: Distance,
    *,
    device: torch.device = CPU,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress = ignore_progress,
) -> Iterator[DistanceBlock]:
    """Yield the distances of all pairs of clips, in blocks of the upper triangle of their matrix.

    The first column of each block is the clip of its first row, so the pairs of two different clips are
    `np.triu_indices(rows, 1, columns)`. Progress is told like in `iterate_distances`.

    >>> clips = ClipEmbeddings(np.array([[0.0], [1.0], [3.0]]), np.arange(3), ("a.wav", "b.wav", "c.wav"))
    >>> [block.distances[np.triu_indices(3, 1)].tolist() for block in iterate_pairs(clips, "l1")]
    [[1.0, 3.0, 2.0]]
    """
    # Each block also measures the lower half of its first, square part. Eight blocks waste an eighth of that.
    rows = max(1, min(block_bytes // (8 * max(len(clips), clips.dim, 1)), -(-len(clips) // 8)))
    rows = len(clips) if len(clips) <= 512 else rows
    blocks = _split(len(clips), rows)
    meter = _Meter(sum((stop - start) * (len(clips) - start) for start, stop in blocks), progress)
    for start, stop in blocks:
        block = clips.read(slice(start, stop), distance)
        yield DistanceBlock(start, start, _measure_block(block, clips, start, distance, device, meter))


def measure_pairs(
    clips: ClipEmbeddings,
    first: NDArray[Any],
    second: NDArray[Any],
    distance: Distance,
    *,
    progress: Progress = ignore_progress,
) -> Distances:
    """Return the distances of listed pairs, `(pairs,)`.

    They agree with those in blocks to rounding errors, as the sums are ordered differently.

    Args:
        first: index of one clip of each pair, `(pairs,)`.
        second: index of the other.
        progress: called with the number of pairs measured so far, and that of all.

    >>> clips = ClipEmbeddings(np.array([[0.0, 0.0], [3.0, 4.0]]), np.arange(2), ("a.wav", "b.wav"))
    >>> measure_pairs(clips, np.array([0]), np.array([1]), "l2").tolist()
    [5.0]
    """
    measured = np.empty(len(first))
    for start, stop in _split(len(first), max(1, TILE_BYTES // (8 * clips.dim))):
        difference = clips.read(first[start:stop], distance)
        difference -= clips.read(second[start:stop], distance)
        if distance == "l1":
            measured[start:stop] = np.abs(difference).sum(axis=1)
        else:
            squares = np.square(difference).sum(axis=1)
            measured[start:stop] = np.sqrt(squares) if distance == "l2" else squares / 2
        progress(stop, len(first))
    return measured


@dataclass
class _Meter:
    """Reports how many of all distances are measured."""

    total: int
    progress: Progress
    done: int = 0

    def add(self, distances: int) -> None:
        self.done += distances
        self.progress(self.done, self.total)


def _measure_block(
    queries: Distances,
    gallery: ClipEmbeddings,
    first_item: int,
    distance: Distance,
    device: torch.device,
    meter: _Meter,
) -> Distances:
    """Return the distances of queries `(rows, dim)` to the items of a gallery from the first one on."""
    measure = _measure_on_cpu if device.type == "cpu" else functools.partial(_measure_on_gpu, device=device)
    tile_bytes = TILE_BYTES if device.type == "cpu" else GPU_TILE_BYTES
    items = len(gallery) - first_item
    distances = np.empty((len(queries), items))
    prepared = queries if device.type == "cpu" else torch.from_numpy(queries).to(device)

    def fill(part: tuple[int, int]) -> None:
        start, stop = part
        tile = gallery.read(slice(first_item + start, first_item + stop), distance)
        distances[:, start:stop] = measure(prepared, tile, distance)

    parts = _split(items, max(1, tile_bytes // (8 * max(gallery.dim, len(queries)))))
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    with ThreadPoolExecutor(threads) as pool:
        for (start, stop), _ in zip(parts, pool.map(fill, parts), strict=True):
            meter.add(len(queries) * (stop - start))
    return distances


def _measure_on_cpu(queries: Any, tile: Distances, distance: Distance) -> Distances:
    # Of numpy, torch and scipy, scipy is the fastest; it releases the lock of the interpreter.
    measured: Distances = cdist(queries, tile, SCIPY_NAMES[distance])
    return measured / 2 if distance == "cosine" else measured


def _measure_on_gpu(queries: Any, tile: Distances, distance: Distance, *, device: torch.device) -> Distances:
    power = 1.0 if distance == "l1" else 2.0
    # Products of matrices would be faster, but equal embeddings would have distances other than 0.
    measured = torch.cdist(
        queries, torch.from_numpy(tile).to(device), power, compute_mode="donot_use_mm_for_euclid_dist"
    )
    return (measured.square() / 2 if distance == "cosine" else measured).cpu().numpy()


def _normalize(embeddings: Distances) -> Distances:
    """Scale embeddings `(clips, dim)` to length 1; zeros become NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(embeddings / np.sqrt(np.square(embeddings).sum(axis=1, keepdims=True)))


def _release_pages(array: NDArray[Any]) -> None:
    """Let the kernel count the pages of a memory-mapped array as cache, not as memory of this process."""
    # What has been written to a private copy would be lost.
    base: Any = None if array.flags.writeable else array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _split(count: int, size: int) -> Sequence[tuple[int, int]]:
    """Return the first and one after the last index of each part.

    >>> _split(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(start, min(start + size, count)) for start in range(0, count, size)]
