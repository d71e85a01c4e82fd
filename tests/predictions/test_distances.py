"""Distances in blocks against scipy, and what they must not depend on."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from heareval.errors import HearevalError
from heareval.predictions import distances
from heareval.predictions.distances import (
    ClipEmbeddings,
    check_embeddings,
    iterate_distances,
    iterate_pairs,
    measure_pairs,
)
from heareval.predictions.protocol import DISTANCES

SCIPY = {"l1": "cityblock", "l2": "euclidean", "cosine": "cosine"}


def make_clips(count=37, dim=19, dtype=np.float32, seed=0):
    array = np.random.default_rng(seed).standard_normal((count, dim)).astype(dtype)
    return ClipEmbeddings(array, np.arange(count), tuple(f"{clip:03}.wav" for clip in range(count)))


def measure_all(queries, gallery, distance, **options):
    blocks = iterate_distances(queries, gallery, distance, **options)
    return np.concatenate([block.distances for block in blocks])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("distance", DISTANCES)
def test_blocks_are_scipys(distance, dtype):
    queries, gallery = make_clips(11, dtype=dtype, seed=1), make_clips(dtype=dtype)
    expected = cdist(queries.array.astype(float), gallery.array.astype(float), SCIPY[distance])
    np.testing.assert_allclose(measure_all(queries, gallery, distance), expected, rtol=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_pairs_are_those_of_the_matrix(distance):
    clips = make_clips(600)
    whole = measure_all(clips, clips, distance)
    first, second = np.triu_indices(600, 1)
    np.testing.assert_allclose(
        measure_pairs(clips, first, second, distance), whole[first, second], rtol=1e-12
    )
    assert np.array_equal(
        measure_pairs(clips, first, second, distance), measure_pairs(clips, second, first, distance)
    )
    found = np.full(whole.shape, np.nan)
    for block in iterate_pairs(clips, distance, block_bytes=8 * 600 * 50):
        rows, columns = np.triu_indices(len(block.distances), 1, block.distances.shape[1])
        found[rows + block.first_query, columns + block.first_item] = block.distances[rows, columns]
    assert np.array_equal(found[first, second], whole[first, second])
    assert np.isnan(found[second, first]).all()


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_depend_on_the_two_clips_only(distance, monkeypatch):
    clips = make_clips(61, 301)
    whole = measure_all(clips, clips, distance)
    assert np.array_equal(whole, whole.T)
    assert not whole.diagonal().any()
    order = np.random.default_rng(3).permutation(61)
    shuffled = measure_all(clips.select(order), clips.select(order[::-1]), distance)
    assert np.array_equal(shuffled, whole[np.ix_(order, order[::-1])])
    for rows, tile_rows, threads in ((1, 1, 1), (5, 3, 2), (61, 7, 3)):
        monkeypatch.setattr(distances, "TILE_BYTES", 8 * 301 * tile_rows)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert np.array_equal(measure_all(clips, clips, distance, block_bytes=8 * 301 * rows), whole)


@pytest.mark.parametrize("distance", DISTANCES)
def test_what_a_gpu_computes_is_what_a_cpu_computes(distance):
    """The function for GPUs also runs on tensors of the CPU."""
    queries, gallery = make_clips(9, seed=1), make_clips()
    read = [clips.read(slice(None), distance) for clips in (queries, gallery)]
    found = distances._measure_on_gpu(torch.from_numpy(read[0]), read[1], distance, device=distances.CPU)
    np.testing.assert_allclose(found, measure_all(queries, gallery, distance), rtol=1e-12)


def test_a_constant_embedder_has_the_same_distance_everywhere():
    array = np.tile(np.random.default_rng(0).standard_normal(301).astype(np.float32), (23, 1))
    clips = ClipEmbeddings(array, np.arange(23), ("a.wav",) * 23)
    for distance in DISTANCES:
        assert not measure_all(clips, clips, distance).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite_name_their_clip(bad, monkeypatch):
    monkeypatch.setattr(distances, "BLOCK_BYTES", 8 * 19 * 4)
    clips = make_clips()
    check_embeddings(clips, "l1")
    clips.array[17, 4] = bad
    with pytest.raises(HearevalError, match=r"embedding of 017\.wav: got NaN or infinity, expected finite"):
        check_embeddings(clips, "l1")


def test_zeros_have_no_cosine():
    clips = make_clips()
    clips.array[5] = 0
    check_embeddings(clips, "l1")
    with pytest.raises(HearevalError, match=r"embedding of 005\.wav: got zeros only.*--distance l1"):
        check_embeddings(clips, "cosine")


FOOTPRINT = """
import sys
import numpy as np
from heareval.predictions.distances import ClipEmbeddings, iterate_distances

def peak_mb():
    # Not ru_maxrss, which begins with the peak of the parent process.
    lines = dict(line.split(":") for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(lines["VmHWM"].split()[0]) // 1024

array = np.load(sys.argv[1], mmap_mode="r")
clips = ClipEmbeddings(array, np.arange(len(array)), ("a.wav",) * len(array))
before = peak_mb()
for block in iterate_distances(clips.select(np.arange(4)), clips, "l1"):
    pass
print(peak_mb() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux tells it")
def test_memory_does_not_grow_with_the_gallery(tmp_path: Path) -> None:
    """Of 200 MB on disk, little is in memory at a time, the pages of the file included."""
    array = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (12_500, 4000))
    array[:, 0] = 1
    array.flush()
    words = [sys.executable, "-c", FOOTPRINT, str(tmp_path / "a.npy")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60, "MB"
