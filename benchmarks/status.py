"""Measure `heareval status` for many submissions on many tasks: nothing made yet, and everything complete.

python -m benchmarks.status --submissions 34 --tasks all

The submissions do nothing, and are described without being loaded. Scores are files with a fingerprint alone,
which is what decides whether they are complete.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from heareval import api, files, layout
from heareval.embeddings.opening import open_submission
from heareval.embeddings.submission import Model, Submission
from heareval.layout import Places
from heareval.predictions.protocol import Protocol
from heareval.workflow.evaluate import score_task
from heareval.workflow.jobs import CorpusRequest, find_jobs
from heareval.workflow.prepare import publish_tasks

RUNS = 3
FACTS = {"sample_rate": 16000, "default_weights": True, "versions": {}}


def describe_models(names: list[str], places: Places) -> list[dict[str, Submission]]:
    """Write the descriptions of modules, and return the submissions by type of embeddings."""
    cache = Path(places.work) / "submissions"
    described = []
    for name in names:
        with mock.patch.object(Model, "run", side_effect=[{**FACTS, "sources": []} for _ in range(2)]):
            described.append({kind: open_submission(Model(name), kind, cache) for kind in ("scene", "event")})
    return described


def write_scores(submissions: list[dict[str, Submission]], tasks: str, places: Places) -> int:
    """Write scores of every submission on each task that count as complete, and return their number."""
    jobs = find_jobs(CorpusRequest((tasks,)))
    for job in jobs:
        published = publish_tasks(places, [job], (16000,), ())[job]
        for by_type in submissions:
            step = score_task(published, by_type[job.spec.embedding_type], Protocol())
            folder = step.folder
            folder.mkdir(parents=True)
            files.write_json(step.scores, {"fingerprint": step.fingerprint})
            (folder / layout.predictions(step.protocol.recorded_name)).touch()
    return len(jobs) * len(submissions)


def show(what: str, names: list[str], tasks: str) -> None:
    """Run the command a few times and print the least seconds that it took."""
    words = [sys.executable, "-m", "heareval", "status", *names, "--tasks", tasks]
    walls, cpus = [], []
    for _ in range(RUNS):
        started, before = time.perf_counter(), os.times()
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        after = os.times()
        walls.append(time.perf_counter() - started)
        cpus.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
    last = (done.stdout or done.stderr).splitlines()[-1]
    print(f"{what}: {min(walls):.2f} s, {min(cpus):.2f} s of CPU ({last})")  # noqa: T201


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=34)
    parser.add_argument("--tasks", default="all")
    asked = parser.parse_args()
    names = [f"model{number}" for number in range(asked.submissions)]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        os.environ["PYTHONPATH"] = folder
        for name in names:
            Path(f"{name}.py").write_text("sample_rate = 16000\n")
        show("not described yet", names, asked.tasks)
        places = api.resolve_places(Places())
        submissions = describe_models(names, places)
        show("nothing made yet", names, asked.tasks)
        count = write_scores(submissions, asked.tasks, places)
        show(f"{count} scores complete", names, asked.tasks)
        os.chdir("/")


if __name__ == "__main__":
    main()
