"""Commands on degenerate tasks end with numbers or one error line, and print nothing else."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner

from heareval import layout
from heareval.commands import main
from heareval.predictions.compare import compare
from tests.commands import command, only_line
from tests.predictions.degenerate import (
    EVENT_METRICS,
    SILENT,
    TINY,
    embed,
    frames,
    refuse,
    relabel,
    written,
)

pytestmark = SILENT
REPORTED = {
    "no clip has any label": ("mlp", "scene", relabel(lambda part, i, mine: [])),
    "all is told": ("linear", "perfect", embed(lambda part, x: np.tile(np.eye(3), (8, 1)))),
    "no events to test": ("knn-l1", "event", relabel(lambda part, i, mine: [] if part == "test" else mine)),
    "one frame a clip": ("mlp", "event", frames(30, 31)),
}
TASKS = {
    "scene": {"evaluation": ["mAP", "d_prime"], "prediction_type": "multilabel"},
    "perfect": {"evaluation": ["d_prime"]},
    "event": {"evaluation": EVENT_METRICS},
}


@pytest.mark.parametrize("case", list(REPORTED))
def test_reports_and_comparisons(case, scene_folder, event_folder, tmp_path):
    """In this process, where every warning is an error."""
    probe, kind, change = REPORTED[case]
    write = event_folder if kind == "event" else scene_folder
    folder = write(**TASKS[kind], **TINY)
    change(folder)
    written(folder, probe)
    for name in ("a", "b"):
        shutil.copytree(folder, tmp_path / name / folder.name)
    said = [
        CliRunner().invoke(main, words, catch_exceptions=False)
        for words in (
            ["report", str(folder)],
            ["compare", "a", "b", "--embeddings-dir", str(tmp_path)],
            ["compare", "a", "b", "--embeddings-dir", str(tmp_path), "--json"],
        )
    ]
    assert [(run.exit_code, run.stderr) for run in said] == [(0, "")] * 3
    differences = json.loads(said[-1].stdout, parse_constant=refuse)["differences"]
    assert {each["difference"] for each in differences} <= {0.0, None}


def _blurred(noise, part, x):
    """Embeddings that would separate the labels perfectly without noise."""
    return np.random.default_rng(len(part)).normal(np.tile(np.eye(3), (8, 1)), noise)


def test_infinitely_better_on_one_task_and_worse_on_another(scene_folder, tmp_path):
    """A is better on one task, B on the other, and in many draws of their clips infinitely so."""
    for submission, tasks in (("a", ("one", "two")), ("b", ("two", "one"))):
        for task, noise in zip(tasks, (0.7, 0.9), strict=True):
            folder = scene_folder(f"{submission}-{task}", task_name=task, **TASKS["perfect"])
            embed(partial(_blurred, noise))(folder)
            assert written(folder, "linear")["scores"]["d_prime"]["interval_95"][1] is None
            shutil.move(folder, tmp_path / submission / task)
    (mean,) = compare(tmp_path / "a", tmp_path / "b").overall
    assert mean.value == 0.0
    assert mean.interval.undefined > 0


@pytest.mark.slow
def test_workers_end_with_numbers_or_in_a_line(scene_folder, event_folder, tmp_path):
    numbers = scene_folder(evaluation=["top1_acc", "aucroc"])
    relabel(lambda part, i, mine: ["drum"])(numbers)
    line = event_folder()
    relabel(lambda part, i, mine: [{"label": "drum", "start": 2.0, "end": 1.0}])(line)
    words = ("--probe", "linear", "--num-workers", "2")
    done = command(tmp_path, "heareval.predictions.runner", str(numbers), str(line), *words)
    assert ".wav: got from 2 to 1 ms, expected 0 <= start <= end" in only_line(done)
    assert "Warning" not in done.stderr
    scores = json.loads((numbers / layout.scores("probe-linear")).read_text())["scores"]
    assert (scores["top1_acc"]["score"], scores["aucroc"]["score"]) == (1.0, None)
