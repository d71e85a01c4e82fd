"""Networks side by side: the same bits as alone, errors that end all, and as many as memory allows."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
import torch.nn.functional as functional

from heareval import layout
from heareval.errors import HearevalError
from heareval.formats.results_folder import read_scores
from heareval.formats.task_metadata import read_task_metadata
from heareval.layout import Places
from heareval.predictions.cpu_features import has_fast_bf16
from heareval.predictions.data import Split
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.learners.learner import Criterion
from heareval.predictions.learners.side_by_side import SideBySide, run_side_by_side, use_threads
from heareval.predictions.learners.training import Objective, Training, fit_all, limit_by_memory
from heareval.predictions.protocol import Protocol, Settings, count_concurrent_trainings
from heareval.predictions.results import Validation
from heareval.spec import ignore_progress
from heareval.workflow.evaluate import Predict
from heareval.workflow.machine import Machine, count_cores
from tests.commands import command, only_line
from tests.predictions.test_checkpoints import facts

# Networks that are large enough for PyTorch to share their products among threads.
GRID = {"hidden_layers": [1, 2], "hidden_dim": [256], "max_epochs": [8], "patience": [2], "lr": [0.03, 0.01]}
FOLDS = ["fold00", "fold01", "fold02"]
# Trains for hours, and writes a line after the first epoch.
TRAIN = """
import signal
import sys
from pathlib import Path
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.learners.side_by_side import SideBySide
from heareval.predictions.protocol import Protocol

def progress(done, total):
    print(flush=True)

# A shell may start background jobs with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
protocol = Protocol(grid_points=4, device="cpu")
evaluate_folder(Path(sys.argv[1]), protocol, progress, side_by_side=SideBySide(1, 3))
"""
HOURS = {"hidden_layers": [1], "hidden_dim": [16], "max_epochs": [10**7], "patience": [10**7], "lr": [0.01]}


class FailedError(Exception):
    """What a training fails with."""


def _write(write, kind):
    options = {"evaluation_params": {"task_specific_param_grid": GRID}}
    if kind == "scene":
        return write(clips=100, splits=FOLDS, split_mode="presplit_kfold", **options)
    return write(**options)


@pytest.mark.parametrize(
    "precision",
    [
        "float32",
        pytest.param(
            "bf16", marks=pytest.mark.skipif(not has_fast_bf16(), reason="needs AVX512-BF16 or AMX")
        ),
    ],
)
@pytest.mark.parametrize(("kind", "order"), [("scene", "fixed"), ("scene", "shuffled"), ("event", "fixed")])
def test_scores_depend_on_nothing_but_the_threads_of_a_network(request, kind, order, precision):
    folder = _write(request.getfixturevalue(f"{kind}_folder"), kind)
    protocol = Protocol(grid_points=4, device="cpu", order=order, train_precision=precision)

    def evaluate(how, threads_of_process, *, in_memory=True):
        with use_threads(threads_of_process):
            result = evaluate_folder(folder, protocol, side_by_side=how, in_memory=in_memory)
            assert torch.get_num_threads() == threads_of_process
        assert result.threads == (how.threads if how else threads_of_process)
        return facts(result)

    alone = evaluate(None, 1)
    for most in (1, 3):
        assert evaluate(SideBySide(1, most), 2, in_memory=most == 1) == alone
    two = evaluate(SideBySide(2, 1), 1)
    assert evaluate(SideBySide(2, 3), 3) == two
    # Otherwise the rest would be true whatever the number of threads.
    assert two != alone


def test_weights_that_are_drawn_at_the_same_time_are_those_of_each_alone():
    """Torch's own generator, of which there is one, draws them."""
    x = torch.randn(40, 600, generator=torch.Generator().manual_seed(0))
    split = Split("train", tuple(map(str, range(40))), x, (x[:, 0] > 0).long())
    objective = Objective(
        functional.cross_entropy, lambda logits: Validation(0.5), Criterion("score", maximise=True)
    )
    settings = Settings(2, 1e-9, "xavier_normal", hidden_dim=400, max_epochs=1, check_val_every_n_epoch=1)
    trainings = [Training((split,), x, settings, objective, seed) for seed in range(24)]
    before = torch.random.get_rng_state()

    def fit(how):
        fitted = fit_all(trainings, 2, order="fixed", most=1, side_by_side=how)
        return {number: trained.network.state_dict() for number, trained in fitted}

    alone, together = fit(None), fit(SideBySide(1, 12))
    for number, weights in alone.items():
        for name, value in weights.items():
            assert torch.equal(together[number][name], value), (number, name)
    assert torch.equal(torch.random.get_rng_state(), before)


def _go_on(report, steps):
    """Report progress until that ends it; returns how many steps there were."""
    for step in range(steps):
        report(step, steps)
        time.sleep(0.001)
    return steps


def test_an_error_ends_the_others_and_is_the_one_that_is_raised():
    started, begun, ended = threading.Barrier(3), [], []

    def run(item, report):
        begun.append(item)
        if item < 3:
            started.wait()
        if item == 1:
            raise FailedError
        try:
            return _go_on(report, 60_000)
        except Exception as error:
            ended.append((item, type(error).__name__))
            raise

    running = run_side_by_side(run, range(9), SideBySide(1, 3), units=100, progress=ignore_progress)
    with pytest.raises(FailedError):
        list(running)
    # One more may have begun in the place of the one that failed.
    assert len(begun) <= 4
    assert sorted(ended) == [(item, "_StoppedError") for item in sorted(begun) if item != 1]


def test_who_takes_no_more_ends_the_others():
    started, ended = threading.Barrier(3), []

    def run(item, report):
        started.wait()
        if item == 1:
            return item
        try:
            return _go_on(report, 60_000)
        finally:
            ended.append(item)

    running = run_side_by_side(run, range(3), SideBySide(1, 3), units=100, progress=ignore_progress)
    assert next(running) == (1, 1)
    assert not ended
    running.close()
    assert sorted(ended) == [0, 2]


def test_progress_adds_up_and_ends_trainings_if_it_fails(scene_folder):
    folder, told = scene_folder(splits=FOLDS, split_mode="presplit_kfold"), []
    # A fold is tested while another one still trains.
    evaluate_folder(
        folder,
        Protocol(grid_points=2, device="cpu"),
        lambda done, total: told.append((done, total)),
        side_by_side=SideBySide(1, 2),
    )
    assert told == sorted(told)
    assert told[-1] == (400, 400)

    def fail(done, total):
        if done > 50:
            raise FailedError

    with pytest.raises(FailedError):
        evaluate_folder(folder, Protocol(grid_points=2, device="cpu"), fail, side_by_side=SideBySide(1, 2))
    assert not [each for each in threading.enumerate() if each.name.startswith("training")]


def test_an_error_of_a_test_ends_the_trainings_that_go_on(scene_folder):
    """The error is the same as without neighbours."""
    folder = scene_folder(
        splits=[*FOLDS, "fold03"],
        split_mode="presplit_kfold",
        evaluation=["aucroc"],
        prediction_type="multiclass",
    )
    labels = {clip: ["drum"] for clip in json.loads((folder / "fold03.json").read_text())}
    (folder / "fold03.json").write_text(json.dumps(labels))
    said = []
    for how in (None, SideBySide(1, 4)):
        with pytest.raises(HearevalError, match="can be selected on split fold03") as caught:
            evaluate_folder(folder, Protocol(grid_points=2, device="cpu"), side_by_side=how)
        said.append(str(caught.value))
        assert not [each for each in threading.enumerate() if each.name.startswith("training")]
    assert said[0] == said[1]


def test_ctrl_c_ends_all(scene_folder, tmp_path):
    folder = scene_folder(evaluation_params={"task_specific_param_grid": HOURS})
    (tmp_path / "train.py").write_text(TRAIN)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "train.py"), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT
    assert said.splitlines()[-1] == "KeyboardInterrupt"


def test_no_more_networks_train_than_fit_into_memory():
    x = torch.zeros(100, 1000)
    split = Split("train", (), x, torch.zeros(100))
    objective = Objective(functional.cross_entropy, Validation, Criterion("score", maximise=True))
    small, large = (
        Training((split,), x, Settings(1, 1e-3, "xavier_normal", hidden_dim=units), objective, 0)
        for units in (10, 1000)
    )
    # A million weights of four bytes, six times, are most of what the large one needs.
    assert limit_by_memory(8, [small, large] * 9, 2, 0) == 1
    assert limit_by_memory(8, [small, large] * 9, 2, 2 * 3 * 29_000_000) == 3
    assert limit_by_memory(8, [small] * 9, 2, 2 * 3 * 29_000_000) == 8
    assert limit_by_memory(8, [small, large], 2, 1 << 40) == 2


FIVE_FOLDS, THREE_FOLDS = (
    {"splits": tuple(f"fold{i}" for i in range(count)), "split_mode": "presplit_kfold"} for count in (5, 3)
)
ONE_POINT = {"hidden_layers": [1], "lr": [1e-3], "initialization": ["xavier_normal"], "max_epochs": [1]}


@pytest.mark.parametrize(
    ("task", "protocol", "expected"),
    [
        ({}, {"grid_points": 2}, 2),
        ({}, {"grid_points": 2, "seeds": 2}, 4),
        (FIVE_FOLDS, {"grid_points": 2}, 4),
        (THREE_FOLDS, {"grid_points": 3, "seeds": 2}, 6),
        ({"evaluation_params": {"task_specific_param_grid": ONE_POINT}}, {}, 1),
    ],
    ids=["grid points", "seeds", "folds", "more grid points than folds", "a small grid"],
)
def test_a_step_makes_room_for_as_many_networks_as_it_trains(scene_folder, task, protocol, expected):
    """Not for as many as there are cores for, of which there may be hundreds."""
    folder, asked = scene_folder(**task), Protocol(**protocol, device="cpu")
    assert count_concurrent_trainings(asked, read_task_metadata(folder)) == expected
    runs = evaluate_folder(folder, asked).runs
    assert expected == max(sum(len(run.grid) for run in runs), sum(len(run.folds) - 1 for run in runs))

    def count(threads, folder=folder, protocol=asked):
        machine = Machine(("",), train_threads=threads)
        step = Predict(
            Places(), path=str(folder), embeddings_fingerprint="", protocol=protocol, machine=machine
        )
        return step._count_networks()

    assert count(1) == min(count_cores(), expected)
    assert count(count_cores()) == count(None) == count(1, protocol=Protocol(probe="linear")) == 1
    # The worker says what the folder lacks.
    assert count(1, folder / "none") == 1


def test_the_command_trains_with_so_many_threads(scene_folder, tmp_path):
    folder, threads = scene_folder(), count_cores()
    path = folder / layout.scores("hear2021-2points")
    # Complete scores are not made again: the number of threads only moves last digits. Without the option
    # a command of these tests has one thread.
    for words in (("--train-threads", str(threads)), ()):
        done = command(
            tmp_path, "heareval", "predict", str(folder), "--grid-points", "2", "--gpus", "0", *words
        )
        assert done.returncode == 0, done.stderr
        assert read_scores(path).threads == threads


def test_probes_and_distances_have_no_threads(scene_folder):
    result = evaluate_folder(
        scene_folder(), Protocol(probe="linear", device="cpu"), side_by_side=SideBySide(1, 2)
    )
    assert result.threads is None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("--gpus", "0", "--train-threads", "5000"),
            "error: --train-threads 5000: got {cores} that this process may use, expected a number from 1 to "
            "{count}",
        ),
        (
            ("--gpus", "1", "--train-threads", "1"),
            "error: --train-threads 1: got a GPU, where it changes nothing, expected training on a CPU. "
            "Leave it out, or train on the CPU with --gpus 0.",
        ),
    ],
)
def test_what_cannot_be_is_told_in_a_line(tmp_path, words, line):
    (tmp_path / "my_model.py").touch()
    count = count_cores()
    expected = line.format(count=count, cores="1 core" if count == 1 else f"{count} cores")
    for name in (("evaluate", "my_model"), ("predict", str(tmp_path))):
        assert only_line(command(tmp_path, "heareval", *name, *words)) == expected


def test_no_threads_are_told_in_a_line(tmp_path):
    done = command(tmp_path, "heareval", "predict", str(tmp_path), "--train-threads", "0")
    assert done.returncode == 2
    assert "Invalid value for '--train-threads': 0 is not in the range x>=1." in done.stderr
