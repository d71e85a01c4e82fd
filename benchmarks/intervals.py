"""Measure confidence intervals at the sizes of real tasks, against scikit-learn and another checkout.

python -m benchmarks.intervals --case fsd50k --turns 3
python -m benchmarks.intervals --against ../heareval-before

The predictions are noisy copies of random targets or events. "scores" are the resamples of all metrics of a
task, as computed when results are written and again for each submission of a comparison. "labels" are the
scores and intervals of labels, as in a report. Scikit-learn scores a few resamples with counts as
`sample_weight`, its time is scaled, and its scores must be the same. --against measures another checkout of
heareval in turns with this one; the numbers of both must be identical, bit for bit.

Each measurement runs in its own process, with the environment variables of the real worker. It reports CPU
time, which other work on the machine hardly changes, and elapsed time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from heareval.predictions.bootstrap import ScoredSplit, draw_counts, resample_scores
from heareval.predictions.kinds.event import EventKind
from heareval.predictions.kinds.scene import SceneKind
from heareval.predictions.metrics.event import EventTable
from heareval.predictions.worker import ENVIRONMENT
from heareval.worker_process import THREAD_VARIABLES

ROOT = Path(__file__).parent.parent
RANKED = ("mAP", "d_prime", "aucroc", "top1_acc")
# Resamples that scikit-learn scores, of 1,000.
JUDGED = 2
HOP_MS = 50.0


@dataclass(frozen=True)
class Case:
    """The tested splits of a task.

    Args:
        folds: number of tested splits.
        clips: clips of each of them.
        labels: size of the vocabulary.
        labels_per_clip: how many labels a clip has on average; 1 means exactly one.
        events: events of a clip in a split of event tasks, else 0.
    """

    metrics: tuple[str, ...]
    folds: int
    clips: int
    labels: int
    labels_per_clip: float = 1.0
    events: int = 0


CASES = {
    "fsd50k": Case(RANKED, 1, 10_231, 200, labels_per_clip=3.8),
    "vocal_imitation": Case(RANKED, 3, 1_867, 302),
    "beehive_states": Case(RANKED, 1, 115, 2),
    "coughvid": Case(("top1_acc",), 1, 4_000, 3),
    "speech_commands": Case(("top1_acc",), 1, 4_890, 12),
    "mridangam": Case(("top1_acc",), 5, 1_395, 10),
    "dcase": Case(("event_onset_200ms_fms", "segment_1s_er"), 1, 18, 11, events=40),
    "maestro": Case(("event_onset_50ms_fms", "event_onset_offset_50ms_20perc_fms"), 5, 37, 88, events=800),
}


def make_folds(case: Case) -> list[ScoredSplit]:
    """Return predictions that are noisy copies of random references."""
    rng = np.random.default_rng(0)
    make = _make_events if case.events else _make_clips
    return [make(case, rng) for _ in range(case.folds)]


def _make_clips(case: Case, rng: np.random.Generator) -> ScoredSplit:
    """Return targets, a few of which most clips have, and probabilities that are higher for these."""
    shape = (case.clips, case.labels)
    if case.labels_per_clip == 1:
        targets = np.eye(case.labels, dtype=np.uint8)[rng.integers(case.labels, size=case.clips)]
    else:
        share = 1.0 / np.arange(3, case.labels + 3) ** 0.8
        targets = (rng.random(shape) < share * case.labels_per_clip / share.sum()).astype(np.uint8)
    logits = rng.normal(size=shape) + 2.0 * targets - 2.0
    return ScoredSplit(case.clips, targets, (1.0 / (1.0 + np.exp(-logits))).astype(np.float32))


def _make_events(case: Case, rng: np.random.Generator) -> ScoredSplit:
    """Return events at random times, and estimated events up to 100 ms off, one in five with any label."""
    clip = np.repeat(np.arange(case.clips), case.events)
    label = rng.integers(case.labels, size=len(clip))
    onset_ms = rng.uniform(0, 119_000, len(clip))
    offset_ms = onset_ms + 30 + rng.exponential(400.0, len(clip))
    late_ms = rng.uniform(-100, 100, len(clip))
    said = np.where(rng.random(len(clip)) < 0.2, rng.integers(case.labels, size=len(clip)), label)
    first, last = ((times // HOP_MS + 0.5) * HOP_MS for times in (onset_ms + late_ms, offset_ms + late_ms))
    return ScoredSplit(
        case.clips, EventTable(clip, label, onset_ms, offset_ms), EventTable(clip, said, first, last)
    )


def score_labels(case: Case, folds: Sequence[ScoredSplit]) -> NDArray[np.float64]:
    """Return the scores and the ends of the interval of each label, one row each."""
    metadata = SimpleNamespace(is_multilabel=case.labels_per_clip > 1)
    labels = tuple(map(str, range(case.labels)))
    task: Any = SimpleNamespace(labels=labels, metrics=case.metrics, metadata=metadata)
    kind = EventKind(task) if case.events else SceneKind(task)
    scored = kind.score_labels(folds)
    return np.array([[*each.scores.values(), *(each.interval_95 or (np.nan, np.nan))] for each in scored])


def judge(case: Case, folds: Sequence[ScoredSplit]) -> float:
    """Score a few resamples of mAP and aucroc with scikit-learn, and return the seconds that all would take.

    Every label of these cases has both kinds of clips in every resample.
    """
    fold = folds[0]
    found = resample_scores(("mAP", "aucroc"), [fold], seed=0)
    counts = next(draw_counts(fold.clips, 1000, np.random.default_rng([0, 0])))[:, :JUDGED]
    started = time.process_time()
    for name, rule in (("mAP", average_precision_score), ("aucroc", roc_auc_score)):
        for place, weights in enumerate(counts.T):
            columns = zip(fold.reference.T, fold.predicted.T, strict=True)
            expected = np.mean([rule(*column, sample_weight=weights) for column in columns])
            if abs(found[name][place] - expected) > 1e-9:
                raise SystemExit(f"{name}: got {found[name][place]}, scikit-learn has {expected}")
    return (time.process_time() - started) * 1000 / JUDGED


def measure(case: Case, work: str) -> dict[str, Any]:
    """Do one work, and return its seconds, its processor time and a digest of its numbers."""
    folds = make_folds(case)
    works: dict[str, Callable[[], NDArray[np.float64]]] = {
        "scores": lambda: np.stack(list(resample_scores(case.metrics, folds, seed=0).values())),
        "labels": lambda: score_labels(case, folds),
    }
    if work == "judge":
        return {"wall": 0.0, "cpu": judge(case, folds), "digest": ""}
    wall, cpu = time.perf_counter(), time.process_time()
    numbers = works[work]()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": wall, "cpu": cpu, "digest": hashlib.sha256(numbers.tobytes()).hexdigest()}


def measure_in_process(tree: Path, name: str, work: str) -> dict[str, Any]:
    """Measure the heareval of a checkout in a separate process."""
    command = [sys.executable, __file__, "--case", name, "--work", work]
    variables = {**os.environ, **THREAD_VARIABLES, **ENVIRONMENT, "PYTHONPATH": str(tree)}
    found = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(found.stdout))


def main() -> None:
    """Print the median of each work, and the median ratio of processor times in the same turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=list(CASES), nargs="+", default=list(CASES))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--against", type=Path, help="Another checkout of heareval.")
    parser.add_argument("--work", choices=["scores", "labels", "judge"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(measure(CASES[given.case[0]], given.work)))  # noqa: T201
        return
    trees = [ROOT, *([given.against.resolve()] if given.against else [])]
    for name in given.case:
        for work in ("scores", "labels"):
            turns = [[measure_in_process(tree, name, work) for tree in trees] for _ in range(given.turns)]
            if len({each["digest"] for turn in turns for each in turn}) > 1:
                raise SystemExit(f"{name}, {work}: other numbers")
            for place, tree in enumerate(trees):
                cpu, wall = (statistics.median(turn[place][key] for turn in turns) for key in ("cpu", "wall"))
                ratio = statistics.median(turn[place]["cpu"] / turn[0]["cpu"] for turn in turns)
                line = f"{name:16} {work:8} {cpu:8.2f} s of CPU {wall:8.2f} s {ratio:6.1f} x  {tree.name}"
                print(line, flush=True)  # noqa: T201
    if "fsd50k" in given.case:
        seconds = measure_in_process(ROOT, "fsd50k", "judge")["cpu"]
        print(f"scikit-learn, mAP and aucroc of fsd50k: {seconds:.0f} s of CPU, the same scores")  # noqa: T201


if __name__ == "__main__":
    main()
