"""Compare scores of predictors that were trained in bf16 with those that were trained in float32.

python -m benchmarks.precision --synthetic
python -m benchmarks.precision --embeddings-dir embeddings

Every folder of embeddings, SUBMISSION/TASK, is evaluated in both precisions with the same seeds, which have
the same grid points, first weights, dropout and batches. Two means over seeds agree if they differ by at most
three standard errors of their difference, which follow from the spread over seeds: so may two means that are
both float32. A row can only notice differences above that limit, which is wide where few clips are tested:
there "agrees" says little. The difference is given with its standard error in pairs of runs with the same
seed, which is often smaller. "Same point" counts the seeds whose search selected the same grid point in
both precisions.

With --synthetic, the tasks of benchmarks/synthetic_tasks.py are made in a temporary folder and compared.
Nothing else is written. The table grows as folders are done; the exit code is 1 if any disagrees.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.synthetic_tasks import TASKS, make_task
from heareval import layout
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.protocol import LearnerSettings, Protocol, TrainPrecision

# As in the tests of agreement with the scores of 2021.
STANDARD_ERRORS = 3
HEADER = (
    "| task | model | tested clips | metric | float32 | bf16 | difference | limit | same point | |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


@dataclass(frozen=True)
class SeedScores:
    """The scores of each seed, how many clips they are measured on, and the seconds of all seeds.

    Args:
        selected: the grid point that the search of each seed selected.
    """

    scores: tuple[float, ...]
    selected: tuple[LearnerSettings, ...]
    clips: int
    metric: str
    seconds: float

    @property
    def mean(self) -> float:
        """Return the mean over seeds."""
        return statistics.mean(self.scores)

    @property
    def std(self) -> float:
        """Return the standard deviation over seeds."""
        return statistics.stdev(self.scores)


def score_seeds(folder: Path, precision: TrainPrecision, given: argparse.Namespace) -> SeedScores:
    """Return the first metric of a folder for each seed, the mean over folds."""
    started = time.perf_counter()
    protocol = Protocol(
        grid=given.grid,
        grid_points=given.grid_points,
        seed=given.seed,
        seeds=given.seeds,
        device="cpu",
        train_precision=precision,
    )
    result = evaluate_folder(folder, protocol)
    runs = result.runs
    return SeedScores(
        tuple(statistics.mean(fold.scores[0].value for fold in run.folds) for run in runs),
        tuple(run.folds[0].model.settings for run in runs),
        sum(result.clips[fold.roles.test] for fold in runs[0].folds),
        runs[0].folds[0].scores[0].metric,
        time.perf_counter() - started,
    )


def find_limit(a: SeedScores, b: SeedScores) -> float:
    """Return the largest difference of the means of two sets of seeds that the spread over seeds explains."""
    return STANDARD_ERRORS * math.sqrt(a.std**2 / len(a.scores) + b.std**2 / len(b.scores))


def compare_folder(folder: Path, given: argparse.Namespace) -> bool:
    """Print the row of a folder of embeddings, and return whether its means agree."""
    exact, rounded = (score_seeds(folder, precision, given) for precision in ("float32", "bf16"))
    pairs = list(zip(exact.scores, rounded.scores, strict=True))
    differences = [b - a for a, b in pairs]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    difference, limit = statistics.mean(differences), find_limit(exact, rounded)
    does_agree = abs(difference) <= limit
    same = sum(a == b for a, b in zip(exact.selected, rounded.selected, strict=True))
    columns = [
        folder.name,
        folder.parent.name,
        str(exact.clips),
        exact.metric,
        *(f"{each.mean:.4f} ± {each.std:.4f}" for each in (exact, rounded)),
        f"{difference:+.4f} ± {error:.4f}",
        f"{limit:.4f}",
        f"{same} of {len(pairs)}",
        "agrees" if does_agree else "DISAGREES",
    ]
    print(f"| {' | '.join(columns)} |", flush=True)  # noqa: T201
    print(f"{exact.seconds:.0f} s, {rounded.seconds:.0f} s", file=sys.stderr, flush=True)  # noqa: T201
    return does_agree


def find_folders(submissions: Path, part: str) -> Sequence[Path]:
    """Return the folders of embeddings, SUBMISSION/TASK, whose path contains a text."""
    found = sorted(path.parent for path in submissions.glob(f"*/*/{layout.TASK_METADATA}"))
    return [folder for folder in found if part in f"{folder.parent.name}/{folder.name}"]


def main() -> None:
    """Print a row for each folder of embeddings, and exit with 1 if a row disagrees."""
    parser = argparse.ArgumentParser()
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--embeddings-dir", type=Path)
    where.add_argument("--synthetic", action="store_true", help="make synthetic tasks and compare on those")
    parser.add_argument("--grid", default="default", choices=["default", "fast", "faster"])
    parser.add_argument("--grid-points", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="folders SUBMISSION/TASK that contain this text")
    given = parser.parse_args()
    print(HEADER, flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory() as scratch:
        for name in TASKS if given.synthetic else ():
            make_task(Path(scratch, "synthetic", name), name)
        folders = find_folders(given.embeddings_dir or Path(scratch), given.only)
        do_agree = [compare_folder(folder, given) for folder in folders]
    sys.exit(int(not all(do_agree)))


if __name__ == "__main__":
    main()
