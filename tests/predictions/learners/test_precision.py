"""Training in bf16 and TF32: what is computed in which type, and what refuses to be slower than float32."""

import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as functional
from torch import nn

from heareval.errors import HearevalError
from heareval.formats.results_folder import read_scores
from heareval.predictions.cpu_features import check_cpu, has_fast_bf16
from heareval.predictions.data import Split
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.learners.learner import Criterion
from heareval.predictions.learners.network import (
    _apply_layers,
    build_predictor,
    logits_in_training,
    predict_logits,
)
from heareval.predictions.learners.precision import multiply_in
from heareval.predictions.learners.training import Objective, Training, fit_stack
from heareval.predictions.protocol import Protocol, Settings
from heareval.predictions.results import Validation
from tests.commands import command, only_line

needs_fast_bf16 = pytest.mark.skipif(not has_fast_bf16(), reason="needs a CPU with AVX512-BF16 or AMX")
# No dropout: the judge has random numbers of its own.
SETTINGS = Settings(2, 1e-3, "xavier_normal", hidden_dim=64, dropout=0.0)


@pytest.mark.parametrize(
    ("flags", "is_fast"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 clzero", True),
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile", True),
        ("flags\t\t: fpu avx512f avx512bw avx512_vnni", False),
        ("Features\t: fp asimd bf16", False),
        ("", False),
    ],
)
def test_a_cpu_says_what_it_multiplies_in(flags, is_fast, tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\n{flags}\nbogomips\t: 4000\n")
    assert has_fast_bf16(info) == is_fast


def test_a_system_without_cpuinfo_has_no_fast_bf16(tmp_path):
    assert not has_fast_bf16(tmp_path / "none")


def test_what_would_be_slower_is_refused(tmp_path):
    check_cpu("float32", tmp_path / "none")
    with pytest.raises(HearevalError, match=r"bf16: got a CPU .* expected .*AMX-BF16\. Leave out --train"):
        check_cpu("bf16", tmp_path / "none")
    with pytest.raises(HearevalError, match=r"tf32: got a CPU, expected a GPU\. Leave out --train-precision"):
        check_cpu("tf32")


def test_tf32_is_refused_before_anything_is_done(tmp_path):
    (tmp_path / "my_model.py").touch()
    words = ("heareval", "evaluate", "my_model", "--train-precision", "tf32", "--gpus", "0")
    line = only_line(command(tmp_path, *words))
    assert line == "error: training in tf32: got a CPU, expected a GPU. Leave out --train-precision."


def test_tf32_lasts_as_long_as_the_training():
    backend = torch.backends.cuda.matmul
    with multiply_in("bf16"):
        assert not backend.allow_tf32
    with multiply_in("tf32"):
        assert backend.allow_tf32
    assert not backend.allow_tf32


def test_a_probe_has_no_training_precision():
    with pytest.raises(HearevalError, match=r"Leave out .* --seeds and --train-precision"):
        Protocol(probe="linear", train_precision="bf16")


def _plain(network):
    """The same network of torch's own layers, for autocast."""
    layers = [nn.ReLU() if "DroppedReLU" in type(layer).__name__ else layer for layer in network]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
def test_a_step_is_that_of_autocast(hidden_layers):
    settings = dataclasses.replace(SETTINGS, hidden_layers=hidden_layers)
    ours, judge, exact = (build_predictor(48, 7, settings, seed=1).train() for _ in range(3))
    chance = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 48, generator=chance), torch.randint(7, (200,), generator=chance)
    logits = logits_in_training([ours], [x], torch.bfloat16)[0]
    with torch.autocast("cpu", torch.bfloat16):
        expected = _plain(judge)(x)
    in_float32 = _plain(exact)(x)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected.float(), rtol=0.04, atol=0.04)
    # The products are really those of bf16.
    assert 1e-4 < (logits - in_float32).abs().max() < 0.1
    for one in (logits, expected.float()):
        functional.cross_entropy(one, y).backward()
    _assert_gradients_are_close(ours, judge)
    _assert_statistics_are_close(ours, judge)


def _assert_gradients_are_close(ours, judge):
    """Compare gradients. Our biases before a normalisation have none; theirs are 0 but for rounding."""
    biases = {f"{place}.bias" for place in range(len(ours)) if isinstance(ours[place], nn.Linear)}
    without_gradient = {name for name, mine in ours.named_parameters() if mine.grad is None}
    assert without_gradient == biases - {f"{len(ours) - 1}.bias"}
    largest = max(theirs.grad.norm() for theirs in judge.parameters())
    for (name, mine), theirs in zip(ours.named_parameters(), judge.parameters(), strict=True):
        if mine.grad is None:
            assert theirs.grad.norm() < 0.01 * largest, name
        else:
            assert mine.dtype == mine.grad.dtype == torch.float32
            assert (mine.grad - theirs.grad).norm() < 0.1 * theirs.grad.norm(), name


def _assert_statistics_are_close(ours, judge):
    statistics = dict(judge.named_buffers())
    for name, mine in ours.named_buffers():
        if "running" in name:
            assert mine.dtype == torch.float32
            torch.testing.assert_close(mine, statistics[name], rtol=0.01, atol=0.01, msg=name)


@pytest.mark.parametrize("hidden_layers", [1, 2])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_few_passes_are_as_close_to_float32_as_the_layers_one_by_one(hidden_layers, dropout):
    settings = dataclasses.replace(SETTINGS, hidden_layers=hidden_layers, dropout=dropout)
    ours, judge, exact = (build_predictor(48, 7, settings, seed=1).train() for _ in range(3))
    chance = torch.Generator().manual_seed(0)
    for _ in range(3):
        x, weights = torch.randn(200, 48, generator=chance), torch.randn(200, 7, generator=chance)
        outputs = (
            logits_in_training([ours], [x], torch.bfloat16)[0],
            # The way that GPUs take.
            _apply_layers(judge, x.bfloat16()).float(),
            _apply_layers(exact, x),
        )
        _assert_as_close(*outputs)
        for network, logits in zip((ours, judge, exact), outputs, strict=True):
            network.zero_grad()
            (logits * weights).sum().backward()
        for (name, mine), theirs, truth in zip(
            ours.named_parameters(), judge.parameters(), exact.parameters(), strict=True
        ):
            if mine.grad is not None:
                assert mine.grad.norm() > 0, name
                _assert_as_close(mine.grad, theirs.grad, truth.grad)
    for name, mine in ours.named_buffers():
        if "running" in name:
            _assert_as_close(mine, *(dict(each.named_buffers())[name] for each in (judge, exact)))
    _assert_as_close(*(predict_logits(network, x) for network in (ours, judge, exact)))


def _assert_as_close(ours, judge, truth):
    """Check that our error is at most twice the judge's, which is not 0."""
    assert 0 < (ours - truth).norm() < 2 * (judge - truth).norm() < 0.2 * truth.norm()


def test_a_network_that_diverges_in_bf16_does_not_hide_it():
    network = build_predictor(48, 7, SETTINGS, seed=1).train()
    x = torch.randn(20, 48, generator=torch.Generator().manual_seed(0))
    x[3, 5] = math.nan
    logits_in_training([network], [x], torch.bfloat16).sum().backward()
    assert network[0].weight.grad.isnan().any()


@pytest.mark.parametrize("batches", ["one", "own"])
def test_a_stack_in_bf16_says_and_learns_what_each_network_does_alone(batches):
    alone, stack = ([build_predictor(16, 5, SETTINGS, seed=seed).train() for seed in range(3)] for _ in "ab")
    chance = torch.Generator().manual_seed(0)
    xs = [torch.randn(50, 16, generator=chance) for _ in range(3)]
    xs = xs if batches == "own" else xs[:1] * 3
    weights = torch.randn(3, 50, 5, generator=chance)
    # On a CPU, `logits_in_training` of one network rounds other numbers.
    apart = torch.stack(
        [_apply_layers(network, x.bfloat16()).float() for network, x in zip(alone, xs, strict=True)]
    )
    together = logits_in_training(stack, xs, torch.bfloat16)
    # Sums may round to the neighbouring bf16 number.
    torch.testing.assert_close(together, apart, rtol=0.01, atol=0.01)
    for logits in (apart, together):
        (logits * weights).sum().backward()
    for one, other in zip(alone, stack, strict=True):
        for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
            scale = a.grad.abs().max().item()
            torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=0.02 * scale + 0.05, msg=name)
        statistics = [dict(each.named_buffers()) for each in (one, other)]
        for name in [name for name in statistics[0] if "running" in name]:
            torch.testing.assert_close(*(each[name] for each in statistics), rtol=0.01, atol=0.01, msg=name)


def _fit(precision, x, y, *, epochs=60):
    valid = torch.randn(300, 20, generator=torch.Generator().manual_seed(1))
    objective = Objective(
        functional.cross_entropy,
        lambda logits: Validation((logits.argmax(dim=1) == valid[:, :4].argmax(dim=1)).float().mean().item()),
        Criterion("score", maximise=True),
    )
    settings = dataclasses.replace(SETTINGS, hidden_layers=1, dropout=0.1, batch_size=128, max_epochs=epochs)
    split = Split("train", tuple(map(str, range(len(x)))), x, y)
    training = Training((split,), valid, settings, objective, seed=3)
    (fitted,) = fit_stack([training], 4, order="fixed", precision=precision)
    return fitted, valid


def test_training_in_bf16_learns_what_float32_learns():
    x = torch.randn(400, 20, generator=torch.Generator().manual_seed(0))
    y = x[:, :4].argmax(dim=1)
    (exact, valid), (rounded, _) = _fit("float32", x, y), _fit("bf16", x, y)
    assert exact.result.validation.score > 0.7
    assert rounded.result.validation.score == pytest.approx(exact.result.validation.score, abs=0.04)
    # Weights, and what they predict, are float32: no weight is a bf16 number but by chance.
    assert predict_logits(rounded.network, valid).dtype == torch.float32
    weight = rounded.network[0].weight.detach()
    assert (weight.bfloat16().float() != weight).float().mean() > 0.9
    # Embeddings that were rounded before give the same networks as those that are rounded batch by batch.
    again, _ = _fit("bf16", x.bfloat16(), y)
    assert torch.equal(again.network[0].weight, rounded.network[0].weight)


@needs_fast_bf16
@pytest.mark.parametrize("kind", ["scene", "event"])
def test_scores_in_bf16_are_close_to_those_of_float32(kind, scene_folder, event_folder):
    folder = scene_folder(clips=150) if kind == "scene" else event_folder()
    exact, rounded, on_disk = (
        evaluate_folder(folder, Protocol(device="cpu", train_precision=precision), in_memory=in_memory)
        for precision, in_memory in (("float32", True), ("bf16", True), ("bf16", False))
    )
    assert rounded.protocol.recorded_name == "hear2021-bf16"
    for run, other, stored in zip(exact.runs, rounded.runs, on_disk.runs, strict=True):
        a, b, c = (each.folds[0].predictions.probabilities for each in (run, other, stored))
        assert (a != b).any()
        assert (b == c).all()
        assert other.folds[0].scores[0].value == pytest.approx(run.folds[0].scores[0].value, abs=0.1)


@needs_fast_bf16
def test_a_golden_score_in_bf16_is_that_of_float32(golden_folder):
    """With ten seeds the differences had a standard deviation of 0.0005; the largest was 0.0013."""
    folder = golden_folder("multilabel")
    metadata = json.loads((folder / "task_metadata.json").read_text())
    grid = {"hidden_dim": [256], "hidden_layers": [1], "lr": [1e-2], "max_epochs": [30]}
    metadata["evaluation_params"] = {"task_specific_param_grid": grid}
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    exact, rounded = (
        evaluate_folder(folder, Protocol(grid_points=1, device="cpu", train_precision=precision)).runs[0]
        for precision in ("float32", "bf16")
    )
    a, b = (run.folds[0].scores[0].value for run in (exact, rounded))
    assert 0.6 < a < 0.95
    assert a != b
    assert b == pytest.approx(a, abs=0.003)


@needs_fast_bf16
def test_results_in_bf16_are_kept_apart(scene_folder, tmp_path):
    folder = scene_folder()
    for words in ((), ("--train-precision", "bf16", "--seeds", "2")):
        done = command(tmp_path, "heareval", "predict", str(folder), "--gpus", "0", *words)
        assert done.returncode == 0, done.stderr
    assert read_scores(folder / "test.predicted-scores.json").protocol == "hear2021"
    rounded = read_scores(folder / "test.hear2021-bf16-2seeds.predicted-scores.json")
    assert rounded.protocol == "hear2021-bf16-2seeds"
