"""Agreement with the 2021 predictor on given embeddings; the goldens lie outside the repository."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from heareval.predictions.data import read_splits, read_task, split_orders
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.protocol import Protocol

SHARED = Path(os.environ.get("HEAREVAL_SHARED", Path(__file__).parents[3] / "shared"))
GOLDEN = SHARED / "lab" / "scores"
CASES = ("multiclass", "multilabel", "events")

pytestmark = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"no golden scores at {GOLDEN}; set HEAREVAL_SHARED to their folder"
)


@pytest.fixture
def golden_folder(tmp_path):
    """Writes a golden case as Room 2 would: rows in the order of the JSON, not in that of 2021's training."""

    def write(case):
        folder = tmp_path / case
        shutil.copytree(GOLDEN / case, folder)
        for archive in folder.glob("*.npz"):
            split = archive.stem
            with np.load(archive) as arrays:
                stored = dict(arrays)
            clips = list(json.loads((folder / f"{split}.json").read_text()))
            # Stored clip by clip; a stable sort by name brings the rows of a clip together.
            rows = np.argsort(stored["clips"], kind="stable").reshape(len(clips), -1)
            rows = rows[np.argsort(np.argsort(clips))]
            x = stored["embeddings"][rows]
            np.save(folder / f"{split}.npy", x if "times_ms" in stored else x[:, 0])
            if "times_ms" in stored:
                times = stored["times_ms"][rows].astype(np.float32)
                np.save(folder / f"{split}.timestamps.npy", times)
        return folder

    return write


@pytest.mark.parametrize("case", CASES)
def test_order_is_that_of_2021(golden_folder, case):
    task = read_task(golden_folder(case))
    splits = read_splits(task, torch.device("cpu"))
    for order in split_orders(task):
        with np.load(GOLDEN / case / f"{order.name}.npz") as stored:
            assert list(dict.fromkeys(stored["clips"].tolist())) == list(order.clips)
            assert np.array_equal(splits[order.name].x.numpy(), stored["embeddings"])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["multiclass", "multilabel"])
def test_scene_scores_are_within_three_standard_errors(golden_folder, case):
    ours, theirs = _our_scores(golden_folder(case), seeds=range(5)), _golden_scores(case)
    for metric in ("top1_acc", "mAP", "d_prime", "aucroc"):
        a, b = np.array([score[metric] for score in ours]), np.array([score[metric] for score in theirs])
        standard_error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
        assert abs(a.mean() - b.mean()) <= 3 * standard_error, metric


@pytest.mark.slow
def test_event_score_is_within_three_standard_deviations(golden_folder):
    ours, (theirs,) = _our_scores(golden_folder("events"), seeds=range(3)), _golden_scores("events")
    for metric in ("event_onset_200ms_fms", "segment_1s_er"):
        values = np.array([score[metric] for score in ours])
        assert abs(values.mean() - theirs[metric]) <= 3 * values.std(ddof=1), metric


def _our_scores(folder, seeds):
    results = [evaluate_folder(folder, Protocol(seed=seed)) for seed in seeds]
    return [{score.metric: score.value for score in result.runs[0].folds[0].scores} for result in results]


def _golden_scores(case):
    reference = json.loads((GOLDEN / "reference.json").read_text())[case]
    return [
        {
            name.removeprefix("test_"): value
            for name, value in seed["scores"]["test"].items()
            if name.startswith("test_")
        }
        for seed in reference.values()
    ]
