"""Predictors and distances on a GPU; run with `pytest -m gpu` where there is one."""

import os

import numpy as np
import pytest
import torch

from heareval.predictions.distances import ClipEmbeddings, iterate_distances, iterate_pairs
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.learners.network import build_predictor, logits_in_training
from heareval.predictions.learners.training import max_stacked
from heareval.predictions.protocol import DISTANCES, Protocol, Settings
from tests.predictions.test_pairwise import RELATIONS, write_pairwise_task

FOLDS = {"splits": ("fold00", "fold01", "fold02"), "split_mode": "new_split_kfold"}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use"),
]


def test_a_gpu_trains_stacks():
    assert max_stacked(torch.device("cuda")) > 1


def test_a_stack_on_the_gpu_says_what_each_network_says():
    settings, cuda = Settings(2, 1e-3, "xavier_normal", hidden_dim=32), torch.device("cuda")
    alone, stack = (
        [build_predictor(16, 5, settings, seed=seed, device=cuda).train() for seed in range(3)]
        for _ in range(2)
    )
    x = torch.randn(50, 16, generator=torch.Generator().manual_seed(0)).to(cuda)
    apart = torch.cat([logits_in_training([network], [x]) for network in alone])
    torch.testing.assert_close(logits_in_training(stack, [x] * 3), apart, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["scene", "folds", "event"])
def test_scores_of_the_gpu_are_those_of_the_cpu_within_the_noise_of_seeds(kind, scene_folder, event_folder):
    folder = event_folder() if kind == "event" else scene_folder(**(FOLDS if kind == "folds" else {}))
    scores = {}
    for device in ("cpu", "cuda"):
        result = evaluate_folder(folder, Protocol(grid_points=4, seeds=5, device=device))
        scores[device] = [np.mean([fold.scores[0].value for fold in run.folds]) for run in result.runs]
    spread = np.std(scores["cpu"], ddof=1) + np.std(scores["cuda"], ddof=1)
    assert np.mean(scores["cuda"]) == pytest.approx(np.mean(scores["cpu"]), abs=3 * spread + 0.02)
    assert "cpu" not in result.device


def test_the_same_numbers_on_every_run(scene_folder):
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        folder, protocol = scene_folder(), Protocol(grid_points=4, device="cuda")
        made = [evaluate_folder(folder, protocol) for _ in range(2)]
    finally:
        torch.use_deterministic_algorithms(False)
    first, again = (result.runs[0].folds[0].predictions.probabilities for result in made)
    assert np.array_equal(first, again)


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_on_the_gpu_are_those_of_the_cpu(distance):
    array = np.random.default_rng(0).standard_normal((700, 301)).astype(np.float32)
    # Equal embeddings have a distance of exactly 0.
    array[1] = array[0]
    clips = ClipEmbeddings(array, np.arange(700), tuple(f"{clip:03}.wav" for clip in range(700)))
    for iterate in (
        lambda **options: iterate_distances(clips, clips, distance, **options),
        lambda **options: iterate_pairs(clips, distance, **options),
    ):
        of_cpu, of_gpu = (
            [block.distances for block in iterate(device=torch.device(device), block_bytes=1 << 20)]
            for device in ("cpu", "cuda")
        )
        for expected, found in zip(of_cpu, of_gpu, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12)
            assert np.array_equal(found == 0, expected == 0)


@pytest.mark.parametrize("name", RELATIONS)
def test_pairwise_scores_of_the_gpu_are_those_of_the_cpu(name, tmp_path):
    folder = write_pairwise_task(tmp_path, name)
    of_cpu, of_gpu = (
        [
            score.value
            for score in evaluate_folder(folder, Protocol(name="pairwise", device=device))
            .runs[0]
            .folds[0]
            .scores
        ]
        for device in ("cpu", "cuda")
    )
    assert of_gpu == pytest.approx(of_cpu, abs=1e-9)
