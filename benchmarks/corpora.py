"""Estimate what each task takes: clips, hours, disk space at four sample rates, and minutes on this machine.

python -m benchmarks.corpora --tasks all

The time per clip and per second of audio is measured first, by preparing 2,000 clips of one second and 60 of
thirty seconds as `benchmarks.prepare` does: unpacking and downloading are not included. The sizes are those
of `heareval plan`. A task whose clips keep their original length has neither.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.prepare import LONG_S, make_long, make_short, run_once
from heareval.spec import DEFAULT_SAMPLE_RATES
from heareval.workflow.corpus import TaskJob
from heareval.workflow.jobs import CorpusRequest, find_jobs

SHORT, LONG = 2000, 60
BYTES_PER_SAMPLE = 2
DIMENSIONS, FRAME_S = 1024, 0.05


@dataclass(frozen=True)
class Cost:
    """Seconds that preparing takes at four sample rates, tarballs included.

    Args:
        clip_s: for each clip.
        audio_s: for each second of audio.
    """

    clip_s: float
    audio_s: float


def measure_cost(workers: int, runs: int) -> Cost:
    """Prepare short and long clips in turn, and return what the median of each says."""
    with tempfile.TemporaryDirectory() as name:
        short, long = make_short(Path(name) / "short", SHORT), make_long(Path(name) / "long", LONG)
        turns = [
            (run_once("heareval", short, SHORT, workers)[0], run_once("heareval", long, LONG, workers)[0])
            for _ in range(runs)
        ]
    per_short = statistics.median(turn[0] for turn in turns) / SHORT
    per_long = statistics.median(turn[1] for turn in turns) / LONG
    audio_s = (per_long - per_short) / (LONG_S - 1)
    return Cost(max(0.0, per_short - audio_s), audio_s)


def estimate_task(job: TaskJob, cost: Cost) -> list[str]:
    """Return a row: task, clips, hours, GB of clips, minutes, MB of embeddings."""
    clips, seconds = job.expected_clips, job.spec.duration_s(job.mode)
    if not clips or seconds is None:
        return [job.folder, str(clips or "?"), "?", "?", "?", "?"]
    audio_s = clips * seconds
    rates = sum(DEFAULT_SAMPLE_RATES)
    vectors = clips if job.spec.embedding_type == "scene" else audio_s / FRAME_S
    return [
        job.folder,
        str(clips),
        f"{audio_s / 3600:.1f}",
        f"{audio_s * rates * BYTES_PER_SAMPLE / 1e9:.1f}",
        f"{(clips * cost.clip_s + audio_s * cost.audio_s) / 60:.1f}",
        f"{vectors * DIMENSIONS * 4 / 1e6:.0f}",
    ]


def main() -> None:
    """Measure, and print a table for docs/cluster.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="all")
    parser.add_argument("--mode")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    cost = measure_cost(given.workers, given.runs)
    print(f"{cost.clip_s * 1000:.2f} ms per clip and {cost.audio_s * 1000:.2f} ms per second of audio")  # noqa: T201
    print("| task | clips | hours | GB at four rates | minutes | MB of embeddings |")  # noqa: T201
    print("| --- | --- | --- | --- | --- | --- |")  # noqa: T201
    for job in find_jobs(CorpusRequest(tuple(given.tasks.split(",")), mode=given.mode)):
        print(f"| {' | '.join(estimate_task(job, cost))} |")  # noqa: T201


if __name__ == "__main__":
    main()
