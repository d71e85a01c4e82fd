"""Several runs in one process, as in a notebook: each finds folders and files as they are by then."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import heareval
from heareval import api
from tests.commands import command
from tests.tasks.own.birds import write_birds, write_task
from tests.test_api import places_in

QUIET = heareval.RunSettings(num_workers=1, is_quiet=True)
RATE = 16000

NOTEBOOK = """
from pathlib import Path
import heareval
from heareval import api

model = heareval.SubmissionArgs(("heareval.embeddings.baseline",))
linear = heareval.Protocol(probe="linear")
request = heareval.EvaluationRequest(model, heareval.CorpusRequest(("birds.toml",)), protocol=linear)
settings = heareval.RunSettings(num_workers=1, is_quiet=True)
(scores,) = api.evaluate(request, settings=settings).scores
folder = scores.parent
array = next(folder.glob("*.npy"))
run = {
    "evaluate": lambda how: api.evaluate(request, overwrite=how, settings=settings),
    "predict": lambda how: api.predict([folder], linear, overwrite=how, settings=settings),
    "embed": lambda how: api.embed(model, overwrite=how, settings=settings),
}

def find_time(path):
    return path.stat().st_mtime_ns if path.exists() else 0

for name, how in (
    *(("evaluate", how) for how in ("scores", "scores", "all", "all", "only-missing")),
    *(("predict", "scores"), ("predict", "scores"), ("embed", "all"), ("embed", "all")),
):
    before = find_time(array), find_time(scores)
    outcome = run[name](how).outcome
    outcome.raise_if_failed()
    print(name, how, outcome.steps, find_time(array) != before[0], find_time(scores) != before[1])
"""


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """The file of a task of the user's own."""
    return write_task(write_birds(tmp_path), 'folder = "recordings"', "folds = 5")


def corpus_of(file: Path) -> heareval.CorpusRequest:
    return heareval.CorpusRequest((str(file),))


def prepare(file: Path, *rates: int) -> api.Prepared:
    places = places_in(file.parent)
    done = api.prepare(corpus_of(file), places, sample_rates=rates, makes_tarballs=False, settings=QUIET)
    done.outcome.raise_if_failed()
    return done


def test_every_run_overwrites(birds: Path) -> None:
    """Prints the steps of each run, and which of embeddings and scores are new after it."""
    (birds.parent / "notebook.py").write_text(NOTEBOOK)
    done = command(birds.parent, "notebook")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for overwrite, expected in (("scores", "1 False True"), ("all", "2 True True")):
        assert lines.count(f"evaluate {overwrite} {expected}") == 2
    assert lines.count("evaluate only-missing 0 False False") == 1
    assert lines.count("predict scores 1 False True") == 2
    # New embeddings take the scores with them.
    assert [line for line in lines if line.startswith("embed")] == [
        "embed all 1 True True",
        "embed all 1 True False",
    ]
    assert len(lines) == 9


def test_what_was_deleted_between_two_runs_is_made_again(birds: Path) -> None:
    """A step remembers which rates were published when its run was planned."""
    prepare(birds, RATE)
    (folder,) = prepare(birds, RATE, 48000).task_folders
    shutil.rmtree(folder)
    assert prepare(birds, RATE, 48000).task_folders == (folder,)
    assert {path.name for path in folder.iterdir()} >= {"16000", "48000"}


def test_the_file_of_an_own_task_is_read_again(birds: Path) -> None:
    request, places = corpus_of(birds), places_in(birds.parent)
    prepare(birds, RATE)
    (row,) = api.status(request, places, sample_rates=(RATE,)).rows[:1]
    assert row.state == "complete"
    write_task(birds.parent, 'folder = "recordings"', "folds = 5", "clip_duration_s = 0.1")
    (row,) = api.status(request, places, sample_rates=(RATE,)).rows[:1]
    assert row.state != "complete"
    write_task(birds.parent, 'folder = "recordings"', "folds = 5", "clip_duration_s = 0.15")
    assert api.plan(request, places, sample_rates=(RATE,)).tasks[0].state != "done"
    assert prepare(birds, RATE).outcome.steps > 0
