"""Estimate what a kill in the middle of the trainings of a task costs, with checkpoints and without.

python -m benchmarks.interruptions

The steps of networks with one and with two hidden layers (1,024 rows and dimensions) are measured first, or
given: `--step-ms 29 51`. A training has at least 21 validations, as `patience` says, and at most
`max_epochs`. Validations are left out: they predict a few rows and score them.

`--writing FOLDER` measures instead how long a checkpoint takes to be written there and read again.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from benchmarks.predict import CASES, measure_in_process
from heareval.predictions.checkpoints import INTERVAL_S, Checkpoints
from heareval.predictions.learners.network import build_predictor
from heareval.predictions.protocol import Protocol, Settings, select_grid_points
from heareval.workflow.corpus import TaskJob
from heareval.workflow.jobs import CorpusRequest, find_jobs

DIMENSIONS, FRAME_S = 1024, 0.05
# Share of the clips that are trained on, where it is not 80 %, as far as it is known.
TRAINED_ON = {"dcase2016_task2": 43 / 72, "fsd50k": 0.72, "speech_commands": 0.7}


def count_rows(job: TaskJob) -> tuple[int, int]:
    """Return the training rows of a round, and the number of rounds."""
    folds = job.spec.splits_of(job.mode).folds
    share = (folds - 2) / folds if folds else TRAINED_ON.get(job.spec.name, 0.8)
    seconds = job.spec.duration_s(job.mode) or 0.0
    rows = 1 if job.spec.embedding_type == "scene" else round(seconds / FRAME_S)
    return round(job.expected_clips * share) * rows, folds or 1


def estimate_task(job: TaskJob, step_s: float) -> list[str]:
    """Return a row of the table.

    Args:
        step_s: seconds of a step of 1,024 rows, the mean of the networks of the grid.
    """
    rows, rounds = count_rows(job)
    parameters = job.spec.settings.get("evaluation_params", {})
    points = select_grid_points(Protocol(), job.spec.name, parameters.get("task_specific_param_grid", {}))
    first, trainings = points[0], len(points) + rounds - 1
    epoch_s = rows / first.batch_size * step_s
    least = min(first.epochs_per_validation * (first.patience + 1), first.max_epochs)
    shortest, longest = epoch_s * least, epoch_s * first.max_epochs
    # Half of a step on average; the training that is interrupted goes on from its last checkpoint.
    costs = [trainings * shortest / 2, trainings * longest / 2]
    return [
        job.folder,
        f"{rows:,}",
        str(trainings),
        f"{epoch_s:.2g}",
        f"{shortest:,.0f} to {longest:,.0f}",
        " to ".join(f"{cost / 60:,.2g}" if cost < 600 else f"{cost / 60:,.0f}" for cost in costs),
        f"{min(longest, INTERVAL_S + epoch_s):,.0f}",
    ]


def measure_step_s(turns: int) -> float:
    """Return the seconds of a step, the mean of networks with one and with two hidden layers."""
    steps = 10 * round(CASES["speech"].rows / 1024)
    return statistics.mean(
        statistics.median(
            measure_in_process(
                "heareval", ["--case", "speech", "--epochs", "10", "--hidden-layers", str(layers)]
            )
            for _ in range(turns)
        )
        / steps
        for layers in (1, 2)
    )


def measure_checkpoints(folder: Path, turns: int) -> None:
    """Print how long the checkpoints of networks of a few shapes take, in turns."""
    shapes = ((1024, 1), (2048, 1), (4096, 2))
    seconds: dict[tuple[int, int], list[tuple[float, float, float]]] = {shape: [] for shape in shapes}
    for _ in range(turns):
        for dim, layers in shapes:
            seconds[dim, layers].append(_measure_checkpoint(folder, dim, layers))
    for (dim, layers), measured in seconds.items():
        size, write_s, read_s = (statistics.median(numbers) for numbers in zip(*measured, strict=True))
        print(f"{dim} dimensions, {layers} hidden layers: {size / 1e6:.0f} MB,")  # noqa: T201
        print(f"  written in {write_s:.3f} s of CPU, read in {read_s:.3f} s")  # noqa: T201


def _measure_checkpoint(folder: Path, dim: int, layers: int) -> tuple[float, float, float]:
    """Return the size of a checkpoint, and the CPU seconds that it takes to be written and read."""
    kept = Checkpoints(folder / "benchmark.heareval.unfinished", "cpu", print)
    network = build_predictor(dim, 50, Settings(layers, 1e-3, "xavier_normal"), seed=0)
    # Weights, the best weights, and Adam's moments.
    state = {"networks": [network.state_dict() for _ in range(4)], "seconds": 0.0}
    copies = {"networks": [{k: v.clone() for k, v in each.items()} for each in state["networks"]]}
    begun = time.process_time()
    kept.keep([0], lambda: {**state, **copies}, is_finished=True)
    written = time.process_time()
    kept.read([0])
    read = time.process_time()
    size = sum(path.stat().st_size for path in kept.folder.iterdir())
    kept.remove()
    return size, written - begun, read - written


def main() -> None:
    """Print the table, or what checkpoints take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step-ms", type=float, nargs=2)
    parser.add_argument("--writing", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    if given.writing:
        measure_checkpoints(given.writing, given.turns)
        return
    step_s = statistics.mean(given.step_ms) / 1000 if given.step_ms else measure_step_s(given.turns)
    print(f"{step_s * 1000:.0f} ms per step")  # noqa: T201
    print("| task | rows | trainings | s per epoch | s per training | minutes lost without | s with |")  # noqa: T201
    print("| --- | --- | --- | --- | --- | --- | --- |")  # noqa: T201
    for job in find_jobs(CorpusRequest(("all",))):
        print(f"| {' | '.join(estimate_task(job, step_s))} |")  # noqa: T201


if __name__ == "__main__":
    main()
