"""Embeddings folders made degenerate, and evaluations of them that must end with scores."""

from __future__ import annotations

import json

import numpy as np
import pytest

from heareval.layout import Places
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.protocol import PROBES, Protocol
from heareval.predictions.report import make_report
from heareval.predictions.stored import read_stored
from heareval.predictions.writing import write_results

# No warning may reach the user.
SILENT = [
    pytest.mark.filterwarnings("error"),
    # Of dcase_util, which sed_eval needs.
    pytest.mark.filterwarnings("ignore:pkg_resources is deprecated"),
]
FOLDS = {"splits": ("fold00", "fold01", "fold02", "fold03"), "split_mode": "new_split_kfold"}
# The roles of the folds in the first round.
PARTS = {"fold00": "test", "fold01": "valid", "fold02": "train", "fold03": "train"}
EVENT_METRICS = ("event_onset_200ms_fms", "event_onset_offset_50ms_20perc_fms", "segment_1s_er")
GRID = {
    "hidden_layers": [0, 1],
    "hidden_dim": [16],
    "max_epochs": [4],
    "lr": [0.01],
    "initialization": ["xavier_normal"],
    "patience": [3],
}
TINY = {"evaluation_params": {"task_specific_param_grid": GRID}}
# Half of the probes are tested with each kind of splits.
SPLITS = {probe: {} if number % 2 else FOLDS for number, probe in enumerate(PROBES)}
LARGEST = np.finfo(np.float32).max


def protocol(probe):
    network = {"grid": "faster", "grid_points": 2} if probe == "mlp" else {}
    return Protocol(probe=probe, device="cpu", **network)


def evaluated(folder, probe):
    return evaluate_folder(folder, protocol(probe))


def scores_of(result):
    """Return the scores of the first tested split, by metric."""
    return {score.metric: score.value for score in result.runs[0].folds[0].scores}


def predicted_by(result):
    """Return the probabilities predicted for the first tested split."""
    return result.runs[0].folds[0].predictions.probabilities


def tried(result):
    """Return the validation scores of all candidates."""
    return [point.validation.score for point in result.runs[0].grid]


def written(folder, probe):
    """Evaluate a folder, read the results back, report on them, and return the scores as strict JSON."""
    path = write_results(folder, evaluated(folder, probe), "beef", "0123456789abcdef")
    results = json.loads(path.read_text(), parse_constant=refuse)
    for metric, score in results["scores"].items():
        for split, value in score["folds"].items():
            told = any(f"{metric} " in problem and split in problem for problem in results["problems"])
            assert value is not None or told
        if score["interval_95"] is not None:
            low, high = score["interval_95"]
            assert low is None or low <= score["score"] + 1e-9
            assert high is None or score["score"] - 1e-9 <= high
    stored = read_stored(folder, results["protocol"])
    json.dumps(make_report(stored, Places()).values, allow_nan=False)
    return results


def refuse(text):
    """Refuse NaN and infinity in JSON."""
    raise ValueError(f"{text} is no JSON")


def chosen(result):
    """Return the validation score of the first tested model."""
    return result.runs[0].folds[0].model.validation.score


def splits(folder):
    for split in _read(folder / "task_metadata.json")["splits"]:
        yield split, PARTS.get(split, split)


def _read(path):
    return json.loads(path.read_text())


def relabel(change):
    """Relabel every clip with `change(part, number, labels)`."""

    def relabel(folder):
        for split, part in splits(folder):
            path = folder / f"{split}.json"
            clips = {clip: change(part, i, mine) for i, (clip, mine) in enumerate(_read(path).items())}
            path.write_text(json.dumps(clips))

    return relabel


def embed(change):
    """Replace the embeddings by `change(part, embeddings)`."""

    def embed(folder):
        for split, part in splits(folder):
            path = folder / f"{split}.npy"
            x = change(part, np.load(path))
            np.save(path, x if x.dtype == np.float16 else x.astype(np.float32))

    return embed


def keep(**clips):
    """Keep only the first clips of some parts."""

    def keep(folder):
        for split, part in splits(folder):
            count = clips.get(part, 24)
            (folder / f"{split}.json").write_text(
                json.dumps(dict(list(_read(folder / f"{split}.json").items())[:count]))
            )
            for path in (folder / f"{split}.npy", folder / f"{split}.timestamps.npy"):
                if path.is_file():
                    np.save(path, np.load(path)[:count])

    return keep


def one_row(part, value):
    """Fill the first embedding of a part with one value."""
    return embed(lambda mine, x: np.concatenate([np.full_like(x[:1], value), x[1:]]) if mine == part else x)


def frames(first, stop):
    """Keep only a stretch of the frames."""

    def cut(folder):
        for path in folder.glob("*.npy"):
            np.save(path, np.load(path)[:, first:stop])

    return cut
