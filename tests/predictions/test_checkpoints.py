"""Trainings that are interrupted and resumed: the same scores, and nothing is trained twice."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from heareval.formats.training_progress import find_training_progress, unfinished_trainings
from heareval.layout import Places, scores
from heareval.predictions import checkpoints
from heareval.predictions.checkpoints import Checkpoints
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.learners.side_by_side import SideBySide
from heareval.predictions.protocol import Protocol
from heareval.predictions.writing import collect_scores, write_results
from heareval.workflow.cleaning import find_leftovers
from heareval.workflow.needed import Needed
from tests.commands import command
from tests.disks import small_disk
from tests.predictions.conftest import write_scene_task

PROTOCOL = Protocol(grid_points=2, device="cpu")
FOLDS = ["fold00", "fold01", "fold02"]
# Trainings that are long enough to be killed.
LONG = {"hidden_layers": [1, 2], "hidden_dim": [16], "max_epochs": [300], "patience": [300], "lr": [0.01]}
NAME = "hear2021-2points"
FINGERPRINT = "00000000deadbeef"
# The worker, which writes a checkpoint after an epoch whenever it has not just done so.
EAGER = """
import sys
from heareval.predictions import checkpoints
from heareval.predictions.worker import main
checkpoints.INTERVAL_S, checkpoints.MAX_SHARE = 0.02, float("inf")
sys.exit(main(sys.argv[1:]))
"""


class KilledError(Exception):
    """Ends a training as a kill does."""


@pytest.fixture(autouse=True)
def _after_every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoints, "INTERVAL_S", 0.0)
    monkeypatch.setattr(checkpoints, "MAX_SHARE", float("inf"))


def _open(folder, said=None):
    return Checkpoints(folder / ".kept", "cpu", said.append if said is not None else lambda text: None)


def _evaluate(folder, protocol=PROTOCOL, calls=None, said=None, **options):
    """Evaluate with checkpoints; interrupted in the given call of progress."""
    count = 0

    def progress(done, total):
        nonlocal count
        count += 1
        if count == calls:
            raise KilledError

    kept = _open(folder, said)
    result = evaluate_folder(folder, protocol, progress, checkpoints=kept, **options)
    return result, count, kept


def facts(result):
    """What is written of a result, without durations."""
    found = collect_scores(result, FINGERPRINT)
    runs = [dataclasses.asdict(run) for run in found.runs]
    for run in runs:
        for entry in [*run["grid"], *(fold["model"] for fold in run["folds"])]:
            del entry["seconds"]
    predictions = [
        fold.predictions.probabilities.tobytes() for run in result.runs for fold in run.folds
    ]  # to the last bit
    return runs, found.scores, predictions


@pytest.mark.parametrize(
    ("write", "protocol", "most"),
    [
        ("scene_folder", PROTOCOL, 1),
        ("scene_folder", dataclasses.replace(PROTOCOL, order="shuffled", seeds=2), 3),
        ("event_folder", PROTOCOL, 1),
    ],
)
def test_interrupted_trainings_end_with_the_same_numbers(request, write, protocol, most):
    make = request.getfixturevalue(write)
    grid = {"hidden_layers": [0, 2], "hidden_dim": [16], "max_epochs": [20], "patience": [2], "lr": [0.03]}
    options = {"split_mode": "presplit_kfold"} if write == "scene_folder" else {}
    folder = make(
        splits=FOLDS if options else ("train", "valid", "test"),
        evaluation_params={"task_specific_param_grid": grid},
        **options,
    )
    alone, calls, kept = _evaluate(folder, protocol, max_stacked=most)
    kept.remove()
    assert evaluate_folder(folder, protocol, max_stacked=most).seconds > 0
    called, kills = 0, 0
    while True:
        # Later each time, because tests of models are repeated.
        calls_before_kill = 7 + 3 * kills
        try:
            resumed, last, kept = _evaluate(folder, protocol, calls_before_kill, max_stacked=most)
            break
        except KilledError:
            called, kills = called + calls_before_kill, kills + 1
    assert kills >= 3
    # The epoch in which it is killed is repeated, and so are tests: two calls each, and one at the end.
    tests = len(alone.runs) * len(alone.runs[0].folds)
    assert called + last <= calls + kills * (2 + 2 * tests)
    assert called + last < 2 * calls
    assert facts(resumed) == facts(alone)
    assert kept.resumed_s > 0
    assert resumed.seconds > kept.resumed_s


def test_finished_trainings_are_not_repeated(scene_folder):
    folder, said = scene_folder(), []
    alone, _, _ = _evaluate(folder)
    again, calls, _ = _evaluate(folder, said=said)
    # A test, and the end.
    assert calls <= 4
    assert facts(again) == facts(alone)
    assert said == ["resumes after 2 of 2 trainings"]


def test_damaged_checkpoints_are_left_out(scene_folder):
    folder, said = scene_folder(), []
    alone, _, kept = _evaluate(folder)
    first, second = sorted(kept.folder.glob("*.checkpoint"))
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    second.write_bytes(b"")
    (kept.folder / "progress.json").write_text("{")
    again, _, _ = _evaluate(folder, said=said)
    assert sorted(said) == [f"a training starts over: {path} is damaged" for path in (first, second)]
    assert facts(again) == facts(alone)


@pytest.mark.parametrize(
    ("name", "what"), [("digest_code", "code"), ("_name_cpu", "CPU")], ids=["code", "machine"]
)
def test_checkpoints_of_other_code_or_machines_are_left_out(scene_folder, monkeypatch, name, what):
    folder, said = scene_folder(), []
    alone, all_calls, _ = _evaluate(folder)
    monkeypatch.setattr(checkpoints, name, lambda: "another")
    again, calls, _ = _evaluate(folder, said=said)
    assert said == [
        f"starts over: it was interrupted after 2 of 2 trainings, and this has changed since: {what}"
    ]
    assert (calls, facts(again)) == (all_calls, facts(alone))


def test_a_full_disk_only_costs_the_checkpoints(scene_folder, tmp_path):
    said = []
    # No room for a checkpoint; that for a folder and a name.
    with small_disk(tmp_path / "disk", 16 << 10) as disk:
        kept = Checkpoints(disk / "kept", "cpu", said.append)
        folder = scene_folder()
        result = evaluate_folder(folder, PROTOCOL, checkpoints=kept)
    assert said == [f"trains on without checkpoints: {kept.folder}: No space left on device"]
    assert facts(result) == facts(evaluate_folder(folder, PROTOCOL))


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        # The first is written to learn that it takes 2 s.
        (1, [1, 400, 600, 800, 1000]),
        (4, [1, 100, 150, 200, 250]),
    ],
    ids=["one after the other", "four side by side"],
)
def test_writing_takes_one_hundredth_of_what_trains(tmp_path, monkeypatch, networks, expected):
    """Wherever as many could train side by side: what counts is how many do."""
    monkeypatch.setattr(checkpoints, "MAX_SHARE", 0.01)
    now = 1000.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    kept, written = Checkpoints(tmp_path / "kept", "cpu", print, side_by_side=16), []
    for second in range(1, 1001 // networks + 1):
        seeds = [[second * networks + number] for number in range(networks)]
        for seed in seeds:
            kept.read(seed)
        now += 1.0
        for seed in seeds:

            def get_state(second=second):
                nonlocal now
                written.append(second)
                now += 2.0
                return {"seconds": 1.0}

            finished = now
            kept.keep(seed, get_state, is_finished=True)
            # All of them finish at the same time.
            now = finished
    assert written == expected


def test_a_training_that_goes_on_is_written_at_intervals(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "INTERVAL_S", 30.0)
    now = 1000.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    kept, written = _open(tmp_path), []

    def get_state():
        written.append(now)
        return {"seconds": 1.0}

    for second in range(100):
        now = 1000.0 + second
        kept.keep([1], get_state, is_finished=False)
    assert written == [1030.0, 1060.0, 1090.0]


def test_each_training_side_by_side_is_written_at_intervals(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "INTERVAL_S", 30.0)
    now = 1000.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    kept, written = _open(tmp_path), []
    for second in range(70):
        now = 1000.0 + second
        for seed, begins_s in ((1, 0), (2, 10)):
            if second == begins_s:
                kept.read([seed])
            kept.keep(
                [seed],
                lambda seed=seed, second=second: written.append((seed, second)) or {"seconds": 1.0},
                is_finished=False,
            )
    # Before the second one begins there is nothing of it to be read, so it would be due at once.
    assert written == [(1, 30), (2, 40), (1, 60)]


def _start(tmp_path, job):
    """Start the worker in a group of its own, as its supervisor does."""
    (tmp_path / "eager.py").write_text(EAGER)
    (tmp_path / "job.json").write_text(json.dumps({**job, "channel": 1, "token": "told"}))
    return subprocess.Popen(
        [sys.executable, str(tmp_path / "eager.py"), str(tmp_path / "job.json")],
        stdout=subprocess.PIPE,
        text=True,
    )


def _job(folder):
    protocol = {"grid_points": 2, "device": "cpu"}
    return {
        "folder": str(folder),
        "embeddings": "0123456789abcdef",
        "protocol": protocol,
        "fingerprint": FINGERPRINT,
    }


def _wait(process, is_there):
    while not is_there():
        assert process.poll() is None, "it ended before"
        time.sleep(0.002)


@pytest.mark.parametrize("kills", [(3, 2, 1), (40, 20)])
def test_trainings_that_are_interrupted_side_by_side_end_with_the_same_numbers(scene_folder, kills):
    grid = {"hidden_layers": [0, 2], "hidden_dim": [16], "max_epochs": [20], "patience": [20], "lr": [0.03]}
    folder = scene_folder(
        splits=FOLDS, split_mode="presplit_kfold", evaluation_params={"task_specific_param_grid": grid}
    )
    alone, calls, kept = _evaluate(folder)
    kept.remove()
    for calls_before_kill in kills:
        with pytest.raises(KilledError):
            _evaluate(folder, calls=calls_before_kill, side_by_side=SideBySide(1, 3))
    resumed, last, kept = _evaluate(folder, side_by_side=SideBySide(1, 3))
    assert facts(resumed) == facts(alone)
    assert kept.resumed_s > 0
    # Trainings begin with the epoch after the last one that was written.
    assert last <= calls - max(kills) + 3


def test_checkpoints_of_another_number_of_threads_are_left_out(scene_folder):
    folder, said = scene_folder(), []
    _evaluate(folder)
    Checkpoints(folder / ".kept", "cpu", said.append, threads=1).begin(2)
    Checkpoints(folder / ".kept", "cpu", said.append, threads=3).begin(2)
    assert said == [
        "resumes after 2 of 2 trainings",
        "starts over: it was interrupted after 2 of 2 trainings, "
        "and this has changed since: number of threads",
    ]


def test_a_killed_worker_resumes_trainings_side_by_side(scene_folder, tmp_path):
    """It is killed when both have written their states."""
    folder = scene_folder(evaluation_params={"task_specific_param_grid": LONG})
    undisturbed = tmp_path / "undisturbed" / folder.parent.name / folder.name
    shutil.copytree(folder, undisturbed)
    kept = unfinished_trainings(folder, NAME, FINGERPRINT)
    job = {**_job(folder), "train_threads": 1, "side_by_side": 2}
    process = _start(tmp_path, job)
    _wait(process, lambda: len(list(kept.glob("*.checkpoint"))) == 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / scores(NAME)).exists()
    told, _ = _start(tmp_path, job).communicate()
    assert " of 2 trainings" in told
    assert "starts over" not in told
    assert not kept.exists()
    # One after the other, on the one thread of these tests.
    write_results(undisturbed, evaluate_folder(undisturbed, PROTOCOL), FINGERPRINT, "0123456789abcdef")
    assert _files(folder) == _files(undisturbed)


@pytest.mark.slow
def test_a_killed_worker_resumes(scene_folder, tmp_path):
    """It is killed within its second training."""
    folder = scene_folder(evaluation_params={"task_specific_param_grid": LONG})
    # The scores name both folders.
    undisturbed = tmp_path / "undisturbed" / folder.parent.name / folder.name
    shutil.copytree(folder, undisturbed)
    kept, other = (unfinished_trainings(folder, NAME, each) for each in (FINGERPRINT, "0" * 16))
    other.mkdir()

    def is_there():
        found = find_training_progress(kept)
        return found and found.trained == 1 and len(list(kept.glob("*.checkpoint"))) == 2

    process = _start(tmp_path, _job(folder))
    _wait(process, is_there)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not other.exists()
    assert not (folder / scores(NAME)).exists()
    told, _ = _start(tmp_path, _job(folder)).communicate()
    assert '{"note": "resumes after 1 of 2 trainings"}' in told
    assert not kept.exists()
    write_results(undisturbed, evaluate_folder(undisturbed, PROTOCOL), FINGERPRINT, "0123456789abcdef")
    assert _files(folder) == _files(undisturbed)


def _files(folder):
    """The files in a folder, the predictions, and the scores without durations."""
    found = json.loads((folder / scores(NAME)).read_text())
    predictions = (folder / f"test.{NAME}.predictions.npz").read_bytes()
    return sorted(path.name for path in folder.iterdir()), predictions, _without_seconds(found)


def _without_seconds(value):
    if isinstance(value, dict):
        left_out = ("seconds", "time_in_min")
        return {key: _without_seconds(each) for key, each in value.items() if key not in left_out}
    return [_without_seconds(each) for each in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_a_killed_command_says_what_it_resumes(tmp_path):
    """`status` says how far the trainings came, and `clean` keeps them until they are old."""
    parent = tmp_path / "embeddings" / "my_model"
    parent.mkdir(parents=True)
    folder = write_scene_task(parent, evaluation_params={"task_specific_param_grid": LONG})
    words = ["heareval", "predict", str(folder), "--grid-points", "2", "--gpus", "0"]
    _stop_after_a_training(folder, tmp_path, words, signal.SIGKILL)
    told = command(tmp_path, "heareval", "status").stdout
    assert (
        f"my_model ({NAME}) on scene: next: finish the trainings that a run began; 1 of 2 trainings" in told
    )
    (row,) = json.loads(command(tmp_path, "heareval", "status", "--json").stdout)["rows"][:1]
    assert (row["kind"], row["finished"]) == ("scores", "1 of 2 trainings")
    assert "interrupted" in told

    (kept,) = folder.glob(f".{scores(NAME)}.*.unfinished")
    assert str(kept) not in _leftovers(tmp_path)
    old_s = time.time() - 31 * 86400
    os.utime(kept, (old_s, old_s))
    assert _leftovers(tmp_path)[str(kept)] == "trainings that were interrupted more than 30 days ago"
    done = command(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "resumes after 1 of 2 trainings" in done.stderr
    assert not kept.exists()
    # Whoever is killed after the scores leaves them.
    kept.mkdir()
    assert _leftovers(tmp_path)[str(kept)] == "trainings of a predictor that has been scored"
    assert command(tmp_path, "heareval", "status").returncode == 0
    assert command(tmp_path, "heareval", "verify").returncode == 0


@pytest.mark.slow
def test_an_interrupted_command_with_overwrite_resumes(tmp_path):
    """Ctrl-C says so, and the same command does it."""
    folder = write_scene_task(tmp_path, evaluation_params={"task_specific_param_grid": LONG})
    words = ["heareval", "predict", str(folder), "--grid-points", "2", "--gpus", "0"]
    words += ["--overwrite", "scores"]
    said = _stop_after_a_training(folder, tmp_path, words, signal.SIGINT)
    assert said.endswith("makes finished scores again and resumes unfinished trainings\n")
    assert "resumes after 1 of 2 trainings" in command(tmp_path, *words).stderr


def _stop_after_a_training(folder, cwd, words, number):
    """Send a signal to a command and its workers when one training is finished, and return what it said."""
    with open(cwd / "said", "w") as said:
        runner = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=cwd, stderr=said, start_new_session=True
        )

    def is_there():
        found = [find_training_progress(path) for path in folder.glob(f".{scores(NAME)}.*.unfinished")]
        return found and found[0] and found[0].trained == 1

    _wait(runner, is_there)
    os.killpg(runner.pid, number)
    runner.wait()
    return (cwd / "said").read_text()


def _leftovers(folder):
    """What `clean` finds, with the reasons."""
    places = Places(*(str(folder / name) for name in ("_workdir", "tasks", "tars", "embeddings")))
    needed = Needed(frozenset(), {}, frozenset(), frozenset(), has_unknown_tarball=False)
    found = find_leftovers(places, needed, time.time(), is_alone=False)
    return {str(each.path): each.reason for each in found}
