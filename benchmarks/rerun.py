"""Measure reruns with nothing to do, as cron starts them: of `prepare`, and of `evaluate` for submissions.

python -m benchmarks.rerun --submissions 1 34

The tasks are prepared from stand-in corpora. The submissions do nothing, and are described without being
loaded; the scores of each are a copy of one real result with another fingerprint.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.status import describe_models
from heareval import api, files, layout
from heareval.layout import Places
from heareval.predictions.protocol import Protocol
from heareval.workflow.evaluate import score_task
from heareval.workflow.jobs import CorpusRequest, find_jobs
from heareval.workflow.pins import resolve_checksums
from heareval.workflow.prepare import publish_tasks
from tests import stand_ins
from tests.commands import MODEL
from tests.test_unfinished import write_task

RUNS = 5
RATE_HZ = 16000


def list_corpus_words(mirror: Path) -> list[str]:
    """Return the options that name the stand-in corpora."""
    return ["--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS")]


def write_mirror(folder: Path) -> Path:
    """Pack the stand-in corpora of all tasks into a folder, and return it."""
    for corpus in stand_ins.CORPORA.values():
        for archive, tree in corpus().items():
            stand_ins.pack(tree, folder / archive)
    stand_ins.gunshot_recordings(folder)
    stand_ins.md5sums(folder)
    return folder


def make_result(folder: Path) -> Path:
    """Score a small model on a small task, with the published number of settings; return the scores file."""
    (folder / "my_model.py").write_text(MODEL)
    task = write_task(folder, "crows", is_damaged=False)
    words = [sys.executable, "-m", "heareval", "evaluate", "my_model", "--tasks", task, "--grid", "faster"]
    variables = {**os.environ, "PYTHONPATH": str(folder)}
    subprocess.run([*words, "--grid-points", "8"], cwd=folder, env=variables, check=True, capture_output=True)
    return next((folder / "embeddings").rglob("test.*-scores.json"))


def write_scores(names: list[str], mirror: Path, result: Path, places: Places) -> int:
    """Write scores of modules on all tasks that count as complete, and return their number."""
    accepted = str(mirror / "MD5SUMS")
    request = CorpusRequest(("all",), mirrors=(str(mirror),), accept_checksums=accepted)
    jobs = resolve_checksums(find_jobs(request), places)
    content = files.read_json(result)
    submissions = describe_models(names, places)
    for job in jobs:
        published = publish_tasks(places, [job], (RATE_HZ,), request.mirrors)[job]
        for by_type in submissions:
            step = score_task(published, by_type[job.spec.embedding_type], Protocol())
            folder = Path(step.folder)
            folder.mkdir(parents=True)
            files.write_json(step.scores, {**content, "fingerprint": step.fingerprint})
            (folder / layout.predictions(step.protocol.recorded_name)).touch()
    return len(jobs) * len(names)


def show(what: str, *words: str) -> None:
    """Run a command a few times and print the least seconds that it took, and of CPU; it must say nothing."""
    walls, cpus = [], []
    for _ in range(RUNS):
        started, before = time.perf_counter(), os.times()
        done = subprocess.run(
            [sys.executable, "-m", "heareval", *words, "--quiet"], capture_output=True, check=True
        )
        after = os.times()
        assert done.stdout + done.stderr == b"", done  # noqa: S101
        walls.append(time.perf_counter() - started)
        cpus.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
    print(f"{what}: {min(walls):.2f} s, {min(cpus):.2f} s of CPU")  # noqa: T201


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, nargs="+", default=[1, 34])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mirror = write_mirror(folder / "mirror")
        (folder / "result").mkdir()
        result = make_result(folder / "result")
        (folder / "out").mkdir()
        os.chdir(folder / "out")
        sys.path.insert(0, str(folder / "out"))
        os.environ["PYTHONPATH"] = str(folder / "out")
        words = list_corpus_words(mirror)
        prepare = [sys.executable, "-m", "heareval", "prepare", "all", "--force", *words]
        subprocess.run(prepare, check=True, capture_output=True)
        show("prepare all, at four rates", "prepare", "all", *words)
        places = api.resolve_places(Places())
        for count in asked.submissions:
            names = [f"model{count}_{number}" for number in range(count)]
            for each in names:
                Path(f"{each}.py").write_text(f"sample_rate = {RATE_HZ}\n")
            scores = write_scores(names, mirror, result, places)
            show(f"evaluate, {count} on all tasks ({scores} scores)", "evaluate", *names, *words)
        os.chdir("/")


if __name__ == "__main__":
    main()
