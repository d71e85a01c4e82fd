"""Grids, the grid points selected from them, and the names of results."""

import subprocess
import sys
from dataclasses import replace

import pytest

from heareval.errors import HearevalError
from heareval.predictions.claimed_protocol import find_protocol
from heareval.predictions.protocol import (
    BF16_VERSION,
    MAX_SEED,
    MAX_SEEDS,
    Protocol,
    grid_for,
    select_grid_points,
    settings_for_fingerprint,
)
from tests.commands import command, only_line


def test_seeds_count_from_the_first():
    assert list(Protocol(seed=3, seeds=2).all_seeds) == [3, 4]
    for wrong in ({"seeds": 0}, {"seed": -1}):
        with pytest.raises(HearevalError, match="seed"):
            Protocol(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": MAX_SEED + 1}, f"seed: got {MAX_SEED + 1}, expected 0 to {MAX_SEED}"),
        ({"seeds": MAX_SEEDS + 1}, f"seeds: got {MAX_SEEDS + 1}, expected 1 to {MAX_SEEDS}"),
        (
            {"seed": MAX_SEED, "seeds": 2},
            f"seed {MAX_SEED} and 2 seeds: got {MAX_SEED + 1} as the last seed, expected {MAX_SEED} at most",
        ),
    ],
)
def test_seeds_have_a_limit(wrong, message):
    with pytest.raises(HearevalError, match=message):
        Protocol(**wrong)


def test_the_largest_seeds_have_a_name_that_is_found():
    for most in (Protocol(seed=MAX_SEED), Protocol(seed=MAX_SEED - MAX_SEEDS + 1, seeds=MAX_SEEDS)):
        assert find_protocol(most.recorded_name, seed=most.seed) == most


def test_default_grid_has_sixteen_points_of_which_eight_are_drawn():
    assert len(set(select_grid_points(Protocol(grid_points=16), "esc50", {}))) == 16
    assert len(set(select_grid_points(Protocol(), "esc50", {}))) == 8


def test_default_settings_are_those_of_2021():
    point = select_grid_points(Protocol(), "esc50", {})[0]
    assert (point.hidden_dim, point.dropout, point.batch_size) == (1024, 0.1, 1024)
    assert (point.max_epochs, point.check_val_every_n_epoch, point.patience) == (500, 3, 20)


@pytest.mark.parametrize(("grid", "points"), [("default", 16), ("fast", 64), ("faster", 64)])
def test_size_of_the_grids(grid, points):
    assert len(select_grid_points(Protocol(grid=grid, grid_points=points), "esc50", {})) == points


def test_points_depend_on_the_seed_only():
    assert select_grid_points(Protocol(seed=1), "esc50", {}) == select_grid_points(
        Protocol(seed=1), "gtzan", {}
    )
    assert select_grid_points(Protocol(seed=1), "esc50", {}) != select_grid_points(
        Protocol(seed=2), "esc50", {}
    )


def test_task_overrides():
    dcase = select_grid_points(Protocol(), "dcase2016_task2", {})
    assert {point.check_val_every_n_epoch for point in dcase} == {10}
    maestro = select_grid_points(Protocol(), "maestro", {"max_epochs": [50], "check_val_every_n_epoch": [1]})
    assert {(point.max_epochs, point.check_val_every_n_epoch) for point in maestro} == {(50, 1)}


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(HearevalError, match="Did you mean max_epochs"):
        grid_for(Protocol(), "maestro", {"max_epoch": [50]})
    with pytest.raises(HearevalError, match="Did you mean xavier_normal"):
        grid_for(Protocol(), "maestro", {"initialization": ["xavier_norm"]})
    with pytest.raises(HearevalError, match="Did you mean faster or fast"):
        Protocol(grid="fastest")


@pytest.mark.parametrize(("grid", "points"), [("default", 16), ("fast", 64), ("faster", 64)])
def test_more_points_than_the_grid_has_are_refused(grid, points):
    """Their number would be in the name of the results."""
    with pytest.raises(HearevalError, match=f"got {points + 1}, expected at most {points}, which are all"):
        Protocol(grid=grid, grid_points=points + 1)


def test_too_many_points_are_one_line_before_anything_is_done(tmp_path):
    done = command(tmp_path, "heareval", "evaluate", "no_such_model", "--grid-points", "17")
    assert only_line(done) == (
        "error: grid points: got 17, expected at most 16, which are all points of the grid 'default'"
    )


def test_last_validation_of_a_training():
    point = select_grid_points(Protocol(), "esc50", {})[0]
    assert point.last_validation == 498
    assert replace(point, max_epochs=10).last_validation == 9
    assert replace(point, max_epochs=2).last_validation == 2


def test_no_grid_points():
    with pytest.raises(HearevalError, match="expected 1 or more"):
        Protocol(grid_points=0)


@pytest.mark.parametrize(
    "change",
    [
        {"grid": "fast"},
        {"grid": "faster"},
        {"grid_points": 4},
        {"order": "shuffled"},
        {"train_precision": "bf16"},
    ],
)
def test_another_protocol_has_another_name(change):
    assert Protocol(**change).recorded_name != Protocol().recorded_name == "hear2021"
    assert settings_for_fingerprint(Protocol(**change)) != settings_for_fingerprint(Protocol())


def test_the_version_of_bf16_makes_scores_in_bf16_alone_again():
    assert settings_for_fingerprint(Protocol(train_precision="bf16"))["bf16"] == BF16_VERSION
    assert "bf16" not in settings_for_fingerprint(Protocol())
    assert "bf16" not in settings_for_fingerprint(Protocol(train_precision="tf32"))


def test_seed_but_not_device_is_in_the_fingerprint():
    assert settings_for_fingerprint(Protocol(seed=1)) != settings_for_fingerprint(Protocol())
    assert settings_for_fingerprint(Protocol(device="cpu")) == settings_for_fingerprint(Protocol())


def test_protocol_does_without_torch():
    code = "import sys, heareval.predictions.protocol; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
