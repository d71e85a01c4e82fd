"""Results of an evaluation read back: the scores, what was predicted for each clip, and what is true."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval import files, layout
from heareval.errors import HearevalError, unknown_name
from heareval.predictions.bootstrap import Judged, resampled_scores
from heareval.predictions.data import SplitOrder, Task, event_table, read_task, split_orders
from heareval.predictions.events import Postprocessing
from heareval.predictions.metrics import find_metric
from heareval.predictions.results import Predictions, judged

# Machines may round the last digits of a score differently.
AGREEMENT = 1e-6
AGAIN = "Evaluate the task again."


@dataclass(frozen=True)
class StoredFold:
    """What was predicted for one tested split, with its reference events, and how frames became events."""

    split: str
    predictions: Predictions
    postprocessing: Postprocessing | None

    @property
    def judged(self) -> Judged:
        """What metrics are asked about it."""
        return judged(self.predictions, self.postprocessing)


@dataclass(frozen=True)
class Stored:
    """A result of one submission, task and protocol.

    Args:
        results: the content of the scores file.
        runs: for each seed that was trained the tested splits.
    """

    folder: Path
    protocol: str
    task: Task
    results: Mapping[str, Any]
    runs: tuple[tuple[StoredFold, ...], ...]

    def score(self, metric: str) -> float:
        """The score: the mean over folds and seeds; NaN where it is undefined."""
        value = self.results["scores"][metric]["score"]
        return float("nan") if value is None else float(value)

    def resampled(self, metrics: tuple[str, ...], seed: Any) -> dict[str, NDArray[np.float64]]:
        """Scores of test clips drawn anew, `(resamples,)` each; equal draws for equal seeds."""
        runs = [resampled_scores(metrics, [fold.judged for fold in run], seed=seed) for run in self.runs]
        with np.errstate(invalid="ignore"):
            return {name: np.mean([run[name] for run in runs], axis=0) for name in metrics}


def read_stored(folder: Path, protocol: str) -> Stored:
    """The result that a protocol left in an embeddings folder.

    Raises:
        HearevalError: there is none, or its files, the embeddings and the scores don't belong together.
    """
    if protocol not in (known := layout.scored_protocols(folder)):
        raise unknown_name(f"result in {folder}", protocol, known)
    task = read_task(folder)
    results = files.read_json(folder / layout.scores(protocol))
    if results["embeddings_fingerprint"] != task.embeddings_fingerprint:
        raise HearevalError(
            f"{folder / layout.scores(protocol)}",
            got=f"scores of the embeddings {results['embeddings_fingerprint']}",
            expected=task.embeddings_fingerprint,
            remedy=AGAIN,
        )
    stored = Stored(folder, protocol, task, results, _read_runs(task, protocol, results))
    _check_scores(stored)
    return stored


def _read_runs(task: Task, protocol: str, results: Mapping[str, Any]) -> tuple[tuple[StoredFold, ...], ...]:
    path = task.folder / layout.predictions(protocol)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            said = str(arrays.get("fingerprint", results["fingerprint"]))
            if said != results["fingerprint"]:
                expected = f"predictions of {results['fingerprint']}, as of the scores"
                raise HearevalError(f"{path}", got=f"those of {said}", expected=expected, remedy=AGAIN)
            orders = {order.name: order for order in split_orders(task)}
            seeds = results.get("seeds", 1)
            folds = [_read_fold(task, orders[fold["test"]], arrays, seeds) for fold in results["folds"]]
            return tuple(zip(*folds, strict=True))
    except FileNotFoundError:
        raise HearevalError(f"{path} is missing", remedy=AGAIN) from None
    except KeyError as error:
        raise HearevalError(f"{path} is not whole", got=str(error.args[0]), remedy=AGAIN) from None
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise HearevalError(f"{path} can't be read", got=str(error), remedy=AGAIN) from None


def _read_fold(task: Task, order: SplitOrder, arrays: Mapping[str, Any], seeds: int) -> list[StoredFold]:
    """One tested split for each seed; of several, predictions and postprocessing have one more axis first.

    Each array is read once: to ask for it is to unpack it.
    """
    path, split = task.folder, order.name
    targets, said = arrays[f"{split}/targets"], arrays[f"{split}/predictions"]
    said = said if said.ndim > targets.ndim else said[np.newaxis]
    if tuple(arrays[f"{split}/clips"]) != order.clips:
        raise HearevalError(f"clips of {split} in the predictions of {path}", expected="those of its JSON")
    timestamps_ms = arrays[f"{split}/timestamps_ms"] if task.is_event else None
    frames = () if timestamps_ms is None else timestamps_ms.shape[1:]
    shape = (len(order.clips), *frames, len(task.labels))
    if (targets.shape, said.shape) != (shape, (seeds, *shape)):
        got = f"targets {targets.shape} and predictions {said.shape[1:]} of {len(said)} seeds"
        raise HearevalError(f"{split} in the predictions of {path}", got=got, expected=str(shape))
    vocabulary = {label: index for index, label in enumerate(task.labels)}
    events = event_table(order, vocabulary) if task.is_event else None
    return [
        StoredFold(
            split,
            Predictions(order.clips, targets, said[seed], timestamps_ms, events),
            _postprocessing(task, split, arrays, seed),
        )
        for seed in range(seeds)
    ]


def _postprocessing(task: Task, split: str, arrays: Mapping[str, Any], seed: int) -> Postprocessing | None:
    if not task.is_event:
        return None
    names = ("median_filter_ms", "min_duration_ms")
    chosen = (np.atleast_1d(arrays[f"{split}/{name}"]) for name in names)
    return Postprocessing(*(float(values[seed if len(values) > 1 else 0]) for values in chosen))


def _check_scores(stored: Stored) -> None:
    """Refuse predictions that give other scores than those beside them."""
    for number, fold in enumerate(stored.results["folds"]):
        asked = [run[number].judged for run in stored.runs]
        for name, score in stored.results["scores"].items():
            wanted = score["folds"][fold["test"]]
            with np.errstate(invalid="ignore"):
                found = float(np.mean([find_metric(name).function(one.truth, one.said) for one in asked]))
            if wanted is None or not np.isfinite(found):
                agrees = wanted is None and not np.isfinite(found)
            else:
                agrees = abs(found - wanted) <= AGREEMENT
            if not agrees:
                raise HearevalError(
                    f"{name} of {fold['test']} in {stored.folder / layout.scores(stored.protocol)}",
                    got=str(wanted),
                    expected=f"{found:.6f}, as the predictions beside it give",
                    remedy=AGAIN,
                )
