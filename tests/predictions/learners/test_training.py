"""Training by hand-made cases: batches, early stop, seeds, degenerate rows."""

import dataclasses
import itertools
import math

import pytest
import torch
import torch.nn.functional as functional

from heareval.errors import HearevalError
from heareval.predictions.data import Split
from heareval.predictions.learners import training
from heareval.predictions.learners.learner import Criterion
from heareval.predictions.learners.network import predict_logits
from heareval.predictions.learners.training import (
    Objective,
    Training,
    batch_bounds,
    batches_by_epoch,
    fit_all,
    fit_stack,
    group_into_stacks,
)
from heareval.predictions.protocol import Settings
from heareval.predictions.results import Validation
from heareval.spec import ignore_progress

SETTINGS = Settings(
    1, 1e-3, "xavier_normal", hidden_dim=16, max_epochs=30, check_val_every_n_epoch=3, patience=3
)


def _split(rows=50, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 6, generator=rng)
    return Split("train", tuple(map(str, range(rows))), x, (x[:, 0] > 0).long())


def _fit(scores=None, settings=SETTINGS, *, maximise=True, seed=1, order="fixed", progress=ignore_progress):
    """Train; validations give the scores one after the other, or the accuracy."""
    train, valid = _split(), _split(20, seed=1)
    said = iter(scores or ())

    def validate(logits):
        if scores is not None:
            return Validation(next(said))
        return Validation((logits.argmax(dim=1) == valid.y).float().mean().item())

    objective = Objective(functional.cross_entropy, validate, Criterion("score", maximise))
    (fitted,) = fit_stack(
        [Training((train,), valid.x, settings, objective, seed)], 2, order=order, progress=progress
    )
    return fitted


def _logits(fitted):
    return predict_logits(fitted.network, _split(20, seed=1).x)


def test_it_learns():
    settings = dataclasses.replace(SETTINGS, lr=0.01, max_epochs=90)
    assert _fit(settings=settings).result.validation.score >= 0.9


@pytest.mark.parametrize("order", ["fixed", "shuffled"])
def test_a_seed_decides_every_number(order):
    settings = dataclasses.replace(SETTINGS, batch_size=16)
    first, again, other = (_fit(settings=settings, order=order, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(_logits(first), _logits(again))
    assert not torch.equal(_logits(first), _logits(other))
    assert first.result.validation == again.result.validation


def test_torchs_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    _fit()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("scores", "maximise", "best", "best_epoch", "epochs"),
    [
        ([0.1, 0.5, 0.5, 0.4, 0.5], True, 0.5, 6, 15),
        ([0.5, 0.4, 0.6, 0.7, 0.8], False, 0.4, 6, 15),
        ([math.nan, 0.1, math.nan, math.nan, math.nan], True, 0.1, 6, 15),
        ([0.1, math.nan, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], True, 0.9, 30, 30),
        ([0.0, 0.0, 0.0, 0.0], True, 0.0, 3, 12),
        ([math.inf, 1.0, 2.0, 3.0], True, math.inf, 3, 12),
    ],
)
def test_stops_after_validations_without_a_strictly_better_score(scores, maximise, best, best_epoch, epochs):
    fitted = _fit(scores, maximise=maximise)
    assert (fitted.result.validation.score, fitted.result.best_epoch, fitted.result.epochs) == (
        best,
        best_epoch,
        epochs,
    )


def test_nan_never_wins():
    fitted = _fit([math.nan] * 3)
    assert math.isnan(fitted.result.validation.score)
    assert (fitted.result.best_epoch, fitted.result.epochs) == (0, 9)


def test_weights_of_the_best_validation_are_kept():
    stopped = _fit([0.9, 0.1, 0.1, 0.1])
    short = _fit([0.9], dataclasses.replace(SETTINGS, max_epochs=3))
    assert stopped.result.epochs == 12
    assert torch.equal(_logits(stopped), _logits(short))


def test_fewer_epochs_than_between_validations_are_validated_once():
    fitted = _fit([0.3], dataclasses.replace(SETTINGS, max_epochs=2))
    assert (fitted.result.best_epoch, fitted.result.validation.score) == (2, 0.3)


def test_progress_counts_epochs():
    told = []
    _fit([0.1] * 4, progress=lambda done, total: told.append((done, total)))
    assert told == [(epoch, 30) for epoch in range(1, 13)]


@pytest.mark.parametrize("rows", [2, 1023, 1024, 1025, 1026, 2048, 2049, 5000])
def test_batches_cover_all_rows_and_none_has_one(rows):
    bounds = batch_bounds(rows, 1024)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == rows
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
    assert all(2 <= stop - start <= 1025 for start, stop in bounds)


def test_fixed_batches_run_on_across_splits():
    splits = [_split(rows, seed=rows) for rows in (10, 3, 20)]
    epochs = batches_by_epoch(splits, 8, "fixed", seed=0)
    first, second = next(epochs), next(epochs)
    # The 33rd row would be alone.
    assert [len(batch.x) for batch in first] == [8, 8, 8, 9]
    assert torch.equal(torch.cat([batch.x for batch in first]), torch.cat([split.x for split in splits]))
    assert torch.equal(torch.cat([batch.y for batch in first]), torch.cat([split.y for split in splits]))
    assert first is second


def test_shuffled_batches_are_drawn_anew():
    split = _split(30)
    epochs = batches_by_epoch([split], 8, "shuffled", seed=0)
    first, second = (torch.cat([batch.x for batch in next(epochs)]) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort(dim=0).values, second.sort(dim=0).values)


@pytest.fixture
def in_float64():
    """Biases before batch normalisation have no gradient but rounding, which Adam blows up where that is not
    tiny beside its epsilon; in float32 nothing closer than about 0.01 could be asked for. Even so the last
    digit of an embedding decides the fourth of a score some 40 epochs later."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _trainings(train_of, valid, *, layers=1, batch_size=32, patience=3):
    """Five trainings of one shape, which stop after different numbers of epochs."""
    objective = Objective(
        functional.cross_entropy,
        lambda logits: Validation(-functional.cross_entropy(logits, valid.y).item()),
        Criterion("score", maximise=True),
    )
    return [
        Training(
            (train_of(number),),
            valid.x,
            dataclasses.replace(
                SETTINGS,
                hidden_layers=layers,
                lr=lr,
                initialization=initialization,
                batch_size=batch_size,
                patience=patience,
                max_epochs=30,
            ),
            objective,
            seed=number,
        )
        for number, (lr, initialization) in enumerate(
            [
                (0.01, "xavier_normal"),
                (1e-3, "xavier_normal"),
                (1e-3, "xavier_uniform"),
                (3e-3, "xavier_uniform"),
                (0.05, "xavier_normal"),
            ]
        )
    ]


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize(
    ("order", "data"),
    [
        ("fixed", "one split"),
        ("shuffled", "splits of their own"),
        pytest.param("fixed", "splits of their own", marks=pytest.mark.slow),
        pytest.param("shuffled", "one split", marks=pytest.mark.slow),
    ],
)
def test_a_stack_gives_what_each_training_gives_alone(layers, order, data, in_float64):
    shared = _split(50)
    own = [_split(50, seed=seed) for seed in range(5)]
    trainings = _trainings(
        lambda number: shared if data == "one split" else own[number],
        _split(30, seed=9),
        layers=layers,
        patience=1,
    )
    together = fit_stack(trainings, 2, order=order)
    for one, stacked in zip(trainings, together, strict=True):
        (alone,) = fit_stack([one], 2, order=order)
        assert (stacked.result.epochs, stacked.result.best_epoch) == (
            alone.result.epochs,
            alone.result.best_epoch,
        )
        assert [score for _, score in stacked.result.curve] == pytest.approx(
            [score for _, score in alone.result.curve], abs=1e-4
        )
        torch.testing.assert_close(_logits(stacked), _logits(alone), rtol=1e-4, atol=1e-4)
    # Else nothing was seen of networks that go on when others have stopped.
    assert len({fitted.result.epochs for fitted in together}) > 1 or layers == 0


def test_stacks_are_of_one_shape_and_of_batches_of_one_size():
    small, large = _split(30), _split(40)
    first = _trainings(lambda number: large if number == 3 else small, _split(10))
    second = _trainings(lambda number: small, _split(10), layers=2)
    assert group_into_stacks([*first, *second], 16) == [[0, 1, 2, 4], [3], [5, 6, 7, 8, 9]]
    assert group_into_stacks([*first, *second], 2) == [[0, 1], [2, 4], [3], [5, 6], [7, 8], [9]]
    assert group_into_stacks(first, 1) == [[0], [1], [2], [4], [3]]


def test_stacks_of_large_networks_are_small(monkeypatch):
    trainings = _trainings(lambda number: _split(30), _split(10))
    # Six numbers for each of 6 x 16 weights, 30 rows of 6 numbers in and 6 x 16 on the way; four bytes each.
    monkeypatch.setattr(training, "MAX_STACK_BYTES", 2 * 4 * (6 * 6 * 16 + 30 * (6 + 6 * 16)))
    assert group_into_stacks(trainings, 16) == [[0, 1], [2, 3], [4]]
    monkeypatch.setattr(training, "MAX_STACK_BYTES", 1)
    assert group_into_stacks(trainings, 16) == [[0], [1], [2], [3], [4]]


def test_all_trainings_are_done_and_told_of():
    trainings = _trainings(lambda number: _split(30), _split(10), patience=2)
    told = []
    for most in (1, 2):
        told.clear()
        fitted = dict(
            fit_all(trainings, 2, order="fixed", most=most, progress=lambda *facts: told.append(facts))
        )
        assert [fitted[number].result.settings for number in range(5)] == [one.settings for one in trainings]
        done = [done for done, _ in told]
        assert done == sorted(done)
        assert 0 < done[0] < 100
        assert 400 < done[-1] <= 500
        assert {total for _, total in told} == {500}


def _trainings_in_small_memory(most_rows):
    """Five trainings on a device whose memory ends with batches of more rows, all networks together."""

    def loss(logits, y):
        if len(logits) > most_rows:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nTraceback")
        return functional.cross_entropy(logits, y)

    trainings = _trainings(lambda number: _split(30), _split(10), patience=2)
    return [
        dataclasses.replace(one, objective=dataclasses.replace(one.objective, loss=loss)) for one in trainings
    ]


def test_a_stack_that_exceeds_the_memory_is_halved_and_gives_the_same():
    told = []
    small = dict(
        fit_all(
            _trainings_in_small_memory(2 * 30),
            2,
            order="fixed",
            most=5,
            progress=lambda done, total: told.append(done),
        )
    )
    large = dict(fit_all(_trainings_in_small_memory(2 * 30), 2, order="fixed", most=2))
    assert sorted(small) == list(range(5))
    assert told == sorted(told)
    for number, fitted in small.items():
        assert fitted.result.curve == large[number].result.curve
        assert torch.equal(_logits(fitted), _logits(large[number]))


def test_one_network_that_exceeds_the_memory_is_an_error():
    with pytest.raises(HearevalError) as raised:
        dict(fit_all(_trainings_in_small_memory(29), 2, order="fixed", most=5))
    assert str(raised.value) == (
        "training of a network with 30 rows in batches of 32: got CUDA out of memory. Tried to allocate "
        "2.00 GiB, expected enough memory on the GPU. Free memory of the GPU, use another GPU, or train on "
        "the CPU with --gpus 0."
    )
