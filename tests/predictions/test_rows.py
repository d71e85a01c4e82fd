"""Embeddings on disk give the same rows, batches and scores as embeddings in memory."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from heareval.predictions.data import Split, read_task
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.kinds import find_kind, read_splits
from heareval.predictions.learners.training import batches_by_epoch
from heareval.predictions.protocol import Protocol
from heareval.predictions.rows import StoredRows, fits_memory, make_ahead, pick_rows, slice_rows

CPU = torch.device("cpu")


def stored_and_not(shape: tuple[int, ...], seed: int, folder: Path) -> tuple[StoredRows, torch.Tensor]:
    """The same rows on disk, in another order, and in memory."""
    draw = np.random.default_rng(seed)
    array, order = draw.standard_normal(shape).astype(np.float32), draw.permutation(shape[0])
    np.save(folder / f"{seed}.npy", array)
    stored = StoredRows(np.load(folder / f"{seed}.npy", mmap_mode="r"), order, CPU)
    return stored, torch.from_numpy(array[order].reshape(-1, shape[-1]))


@pytest.mark.parametrize("shape", [(40, 3), (7, 11, 3)])
def test_rows_on_disk_are_those_in_memory(tmp_path: Path, shape: tuple[int, ...]) -> None:
    stored, tensor = stored_and_not(shape, 0, tmp_path)
    assert (len(stored), tuple(stored.shape)) == (len(tensor), tuple(tensor.shape))
    for start, stop in ((0, 5), (3, 30), (39, 99), (5, 5)):
        assert torch.equal(stored[start:stop], tensor[start:stop])
    drawn = torch.randperm(len(tensor))
    assert torch.equal(stored[drawn], tensor[drawn])


def test_half_precision_comes_back_as_float32(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float16).reshape(4, 3)
    rows = StoredRows(array, np.arange(4), CPU)[1:3]
    assert rows.dtype == torch.float32
    assert rows.tolist() == [[3, 4, 5], [6, 7, 8]]


def test_parts_laid_end_to_end(tmp_path: Path) -> None:
    pairs = [stored_and_not((length, 2), seed, tmp_path) for seed, length in enumerate((5, 1, 7))]
    stored, tensors = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    whole = torch.cat(tensors)
    for start, stop in itertools.combinations(range(14), 2):
        for parts in (stored, tensors, [stored[0], tensors[1], stored[2]]):
            assert torch.equal(slice_rows(parts, start, stop), whole[start:stop])
    drawn = torch.randperm(13)
    assert torch.equal(pick_rows(stored, drawn), whole[drawn])
    targets = [torch.arange(length) for length in (5, 1, 7)]
    assert torch.equal(pick_rows(targets, drawn), torch.cat(targets)[drawn])


@pytest.mark.parametrize("order", ["fixed", "shuffled"])
def test_batches_are_the_same(tmp_path: Path, order: str) -> None:
    pairs = [stored_and_not((length, 2), seed, tmp_path) for seed, length in enumerate((50, 33))]
    epochs = []
    for kind in (0, 1):
        train = [Split("s", (), pair[kind], torch.arange(len(pair[kind]))) for pair in pairs]
        batches = batches_by_epoch(train, 16, order, seed=0)  # type: ignore[arg-type]
        epochs.append([[(b.x, b.y) for b in next(batches)] for _ in range(2)])
    for here, there in zip(*epochs, strict=True):
        for (x, y), (other_x, other_y) in zip(here, there, strict=True):
            assert torch.equal(x, other_x)
            assert torch.equal(y, other_y)


def test_what_fails_ahead_fails_in_its_turn() -> None:
    def make(number: int) -> float:
        return 1 / (3 - number)

    made = make_ahead(make, range(6))
    assert [next(made) for _ in range(3)] == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_what_fits_memory() -> None:
    assert fits_memory([np.empty(10)], CPU)
    huge = np.broadcast_to(np.float16(0), (10**7, 10**7))
    assert not fits_memory([np.empty(10), huge], CPU)


@pytest.mark.parametrize("order", ["fixed", "shuffled"])
@pytest.mark.parametrize("kind", ["scene", "event"])
def test_scores_are_the_same_from_disk(kind, order, scene_folder, event_folder):
    folder = scene_folder() if kind == "scene" else event_folder()
    assert isinstance(read_splits(find_kind(read_task(folder)), CPU, in_memory=False)["train"].x, StoredRows)
    protocol = Protocol(grid="faster", grid_points=2, order=order)
    made = [evaluate_folder(folder, protocol, in_memory=kept) for kept in (False, True)]
    assert made[0].runs[0].folds[0].scores == made[1].runs[0].folds[0].scores
    assert np.array_equal(*(each.runs[0].folds[0].predictions.probabilities for each in made))


@pytest.mark.parametrize("kind", ["scene", "event"])
def test_copies_in_a_scratch_folder_are_those_in_memory(kind, scene_folder, event_folder, tmp_path):
    task = find_kind(read_task(scene_folder() if kind == "scene" else event_folder()))
    (scratch := tmp_path / "scratch").mkdir()
    copied = read_splits(task, CPU, in_memory=False, scratch=scratch)
    kept = read_splits(task, CPU, in_memory=True)
    for name, split in copied.items():
        stored = split.x
        assert isinstance(stored, StoredRows)
        # Not that of the folder of embeddings, and without a name.
        assert not stored.array.filename
        assert torch.equal(stored[0 : len(stored)], kept[name].x)
    assert list(scratch.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is the file system without room")
def test_a_scratch_folder_without_room_is_left_out(scene_folder):
    task = find_kind(read_task(scene_folder()))
    (train, *_) = read_splits(task, CPU, in_memory=False, scratch=Path("/proc")).values()
    assert Path(train.x.array.filename).name == "train.npy"


FOOTPRINT = """
import sys, threading, time
from pathlib import Path
import torch
from heareval.predictions.protocol import Protocol
from heareval.predictions.evaluation import evaluate_folder

def anonymous():
    lines = dict(line.split(":") for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(lines["RssAnon"].split()[0]) // 1024

def watch():
    while True:
        peaks.append(anonymous())
        time.sleep(0.02)

before, peaks = anonymous(), []
threading.Thread(target=watch, daemon=True).start()
evaluate_folder(Path(sys.argv[1]), Protocol(grid="faster", grid_points=1), in_memory=False)
print(max(peaks) - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux tells it")
def test_memory_does_not_grow_with_what_is_on_disk(tmp_path, event_folder):
    """1.2 GB of embeddings are trained on with 0.4 GB beside the page cache, most of it batches ahead."""
    folder = event_folder(clips=80)
    for split in ("train", "valid", "test"):
        small = np.load(folder / f"{split}.npy")
        np.save(folder / f"{split}.npy", np.tile(small, (1, 1, 2000)).astype(np.float32))
    assert sum(path.stat().st_size for path in folder.glob("*.npy")) > 1.2e9
    words = [sys.executable, "-c", FOOTPRINT, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 600, "MB"
