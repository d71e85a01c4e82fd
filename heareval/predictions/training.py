"""Training predictors: one alone, or a stack of them side by side."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from heareval.predictions.data import Split
from heareval.predictions.events import Postprocessing
from heareval.predictions.network import build_predictor, logits_in_training, predict_logits
from heareval.predictions.protocol import Order, Settings
from heareval.predictions.rows import Rows, StoredRows, made_ahead, picked_rows, rows_between
from heareval.spec import Progress

# On a GPU a step of one small network is mostly the launching of its kernels, which a stack shares; a CPU
# gains nothing. More networks, or larger ones, only need more memory.
MOST_ON_GPU, MOST_BYTES_ON_GPU = 16, 4 << 30
# Of each weight: itself, its gradient, Adam's two moments, the best so far, and a copy in the stack.
NUMBERS_OF_A_WEIGHT = 6
# Progress is told in hundredths of a training.
UNITS_PER_FIT = 100


@dataclass(frozen=True)
class Validation:
    """What the validation split says about a predictor; NaN where the score is undefined."""

    score: float
    postprocessing: Postprocessing | None = None


@dataclass(frozen=True)
class Judge:
    """How predictors are compared.

    Args:
        loss: of logits `(rows, labels)` and targets as in `Split.y`, the mean over rows.
        validate: of the validation split's logits `(rows, labels)`.
        maximise: whether a higher validation score is better.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    validate: Callable[[Tensor], Validation]
    maximise: bool

    def prefers(self, new: float, old: float) -> bool:
        """Whether a score is strictly better; NaN never is, and everything is better than NaN."""
        if math.isnan(new) or math.isnan(old):
            return not math.isnan(new)
        return new > old if self.maximise else new < old


@dataclass(frozen=True)
class Training:
    """One predictor to be trained.

    Args:
        train: the splits to train on, one after another.
        valid_x: embeddings of the validation split, `(rows, dim)`.
        judge: of that split.
        seed: of weights, dropout and shuffled batches.
    """

    train: tuple[Split, ...]
    valid_x: Rows
    settings: Settings
    judge: Judge
    seed: int

    @property
    def rows(self) -> int:
        """How many embeddings there are to learn from."""
        return sum(len(split.x) for split in self.train)


@dataclass(frozen=True)
class Fitted:
    """A trained predictor at its best validation.

    Args:
        validation: the best one; its score is NaN if none was defined.
        best_epoch: how many epochs the kept weights were trained.
        epochs: how many epochs were trained.
        seconds: its share of what its stack took.
        curve: epoch and score of every validation.
    """

    network: nn.Module
    settings: Settings
    validation: Validation
    best_epoch: int
    epochs: int
    seconds: float
    curve: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Batch:
    """Rows that make one step: embeddings `(rows, dim)` and their targets."""

    x: Tensor
    y: Tensor


# The batches of one epoch after another, without end.
Epochs = Iterator[Iterable[Batch]]


def fit_all(
    trainings: Sequence[Training], labels: int, *, order: Order, most: int, progress: Progress
) -> Iterator[tuple[int, Fitted]]:
    """Each training's number and predictor, as stacks of them are done.

    Args:
        labels: size of the vocabulary.
        most: how many are trained side by side at most.
        progress: is told (hundredths of trainings done, those of all).
    """
    done, total = 0, UNITS_PER_FIT * len(trainings)
    for stack in stacks_of(trainings, most):
        units = UNITS_PER_FIT * len(stack)
        # No name for the networks: who gets them decides which to keep.
        yield from zip(
            stack,
            fit_stack(
                [trainings[i] for i in stack],
                labels,
                order=order,
                # Called within this turn of the loop only.
                progress=lambda epoch, epochs: progress(done + units * epoch // epochs, total),  # noqa: B023
            ),
            strict=True,
        )
        done += units


def most_stacked(device: torch.device) -> int:
    """How many networks a device trains side by side at most."""
    return MOST_ON_GPU if device.type == "cuda" else 1


def stacks_of(trainings: Sequence[Training], most: int) -> list[list[int]]:
    """Numbers of the trainings that go side by side: networks of one shape, batches of the same sizes.

    Args:
        most: how many at most; fewer where they are large.
    """
    alike: dict[Any, list[int]] = {}
    for number, training in enumerate(trainings):
        shape = replace(training.settings, lr=1.0, initialization="")
        alike.setdefault((shape, training.rows), []).append(number)
    stacks = []
    for group in alike.values():
        size = max(1, min(most, MOST_BYTES_ON_GPU // _bytes_to_learn(trainings[group[0]])))
        stacks += [group[i : i + size] for i in range(0, len(group), size)]
    return stacks


def _bytes_to_learn(training: Training) -> int:
    """About what a network takes while it learns, without its labels, which are few."""
    settings, dim = training.settings, training.valid_x.shape[1]
    weights = settings.hidden_dim * (dim + max(settings.hidden_layers - 1, 0) * settings.hidden_dim)
    # Before and after each of linear layer, normalisation and ReLU, and their gradients.
    activations = min(settings.batch_size, training.rows) * (
        dim + 6 * settings.hidden_layers * settings.hidden_dim
    )
    return 4 * (NUMBERS_OF_A_WEIGHT * weights + activations)


def fit_stack(
    trainings: Sequence[Training], labels: int, *, order: Order, progress: Progress
) -> tuple[Fitted, ...]:
    """The predictors of trainings of one shape, side by side, with the weights of their best validations.

    Each is what it would be alone, up to the rounding of sums.

    Args:
        labels: size of the vocabulary.
        progress: is told (epochs done, most epochs).
    """
    started = time.perf_counter()
    settings = trainings[0].settings
    learners = _learners(trainings, labels, order)
    optimizer = _optimizer(learners)
    # A task may train for fewer epochs than lie between validations; then the last one is validated.
    every = min(settings.check_val_every_n_epoch, settings.max_epochs)
    for epoch in range(1, settings.max_epochs + 1):
        learning = [learner for learner in learners if not learner.is_done]
        if not learning:
            break
        _train_epoch(learning, optimizer)
        progress(epoch, settings.max_epochs)
        for learner in learning:
            learner.epochs = epoch
            if epoch % every == 0:
                learner.validate()
    optimizer.zero_grad(set_to_none=True)
    seconds = (time.perf_counter() - started) / len(learners)
    return tuple(learner.fitted(seconds) for learner in learners)


@dataclass
class _Learner:
    """A network on its way, and the best that it has been.

    Args:
        source: what it learns from, which others may learn from, too.
    """

    training: Training
    network: nn.Sequential
    source: Epochs
    best: Validation = Validation(math.nan)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    epochs: int = 0
    waited: int = 0
    is_done: bool = False
    curve: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.best_weights = _weights(self.network)

    def validate(self) -> None:
        judge = self.training.judge
        validation = judge.validate(predict_logits(self.network, self.training.valid_x))
        self.curve.append((self.epochs, validation.score))
        if judge.prefers(validation.score, self.best.score):
            self.best, self.best_weights = validation, _weights(self.network)
            self.best_epoch, self.waited = self.epochs, 0
        else:
            self.waited += 1
            self.is_done = self.waited >= self.training.settings.patience

    def fitted(self, seconds: float) -> Fitted:
        self.network.load_state_dict(self.best_weights)
        return Fitted(
            self.network,
            self.training.settings,
            self.best,
            self.best_epoch,
            self.epochs,
            seconds,
            tuple(self.curve),
        )


def _learners(trainings: Sequence[Training], labels: int, order: Order) -> list[_Learner]:
    """A fresh network for each training; those that learn from the same batches have one source of them."""
    sources: dict[Any, Epochs] = {}
    learners = []
    for training in trainings:
        weights, batches = (random.Random(f"{training.seed}/{of}").getrandbits(63) for of in ("net", "order"))
        network = build_predictor(
            training.valid_x.shape[1],
            labels,
            training.settings,
            seed=weights,
            device=training.valid_x.device,
        )
        key = (*map(id, training.train), batches if order == "shuffled" else None)
        if key not in sources:
            sources[key] = batches_by_epoch(training.train, training.settings.batch_size, order, seed=batches)
        learners.append(_Learner(training, network, sources[key]))
    return learners


def _optimizer(learners: Sequence[_Learner]) -> torch.optim.Optimizer:
    """Adam for all networks; those with one learning rate share their kernels."""
    by_lr: dict[float, list[nn.Parameter]] = {}
    for learner in learners:
        by_lr.setdefault(learner.training.settings.lr, []).extend(learner.network.parameters())
    return torch.optim.Adam([{"params": group, "lr": lr} for lr, group in by_lr.items()], fused=True)


def _train_epoch(learning: Sequence[_Learner], optimizer: torch.optim.Optimizer) -> None:
    """One epoch of the networks that still learn; the optimizer passes over the others, without gradients."""
    networks, loss = [learner.network.train() for learner in learning], learning[0].training.judge.loss
    for batches in _batches(learning):
        optimizer.zero_grad(set_to_none=True)
        logits = logits_in_training(networks, [batch.x for batch in batches])
        y = batches[0].y if len(batches) == 1 else torch.cat([batch.y for batch in batches])
        # The mean over all rows of all networks: each is to have the gradient of its own mean.
        mean = loss(logits.flatten(0, 1), y) * len(networks)
        mean.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _batches(learning: Sequence[_Learner]) -> Iterator[list[Batch]]:
    """For every step of an epoch a batch for each network."""
    sources = list({id(learner.source): learner.source for learner in learning}.values())
    places = [sources.index(learner.source) for learner in learning]
    for batches in zip(*[next(source) for source in sources], strict=True):
        yield [batches[place] for place in places]


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def batches_by_epoch(train: Sequence[Split], batch_size: int, order: Order, *, seed: int) -> Epochs:
    """The batches of one epoch after another, without end.

    "fixed" is the same consecutive rows in every epoch, as in 2021; "shuffled" draws rows anew.
    """
    chance = torch.Generator().manual_seed(seed)
    xs, ys = [split.x for split in train], [split.y for split in train]
    bounds = batch_bounds(sum(len(x) for x in xs), batch_size)
    is_stored = any(isinstance(x, StoredRows) for x in xs)

    def consecutive(bound: tuple[int, int]) -> Batch:
        return Batch(rows_between(xs, *bound), rows_between(ys, *bound))

    if order == "fixed" and not is_stored:
        fixed = [consecutive(bound) for bound in bounds]
        while True:
            yield fixed
    while order == "fixed":
        yield made_ahead(consecutive, bounds)
    while True:
        drawn = torch.randperm(sum(map(len, xs)), generator=chance)
        yield made_ahead(
            lambda rows: Batch(picked_rows(xs, rows), picked_rows(ys, rows)),
            [drawn[start:stop] for start, stop in bounds],
        )


def batch_bounds(rows: int, batch_size: int) -> list[tuple[int, int]]:
    """First row and end of each batch; a short last batch is kept.

    >>> batch_bounds(10, 4), batch_bounds(9, 4)
    ([(0, 4), (4, 8), (8, 10)], [(0, 4), (4, 9)])
    """
    starts = list(range(0, rows, batch_size))
    # Batch normalisation has no variance for a single row, so that one joins the batch before.
    if len(starts) > 1 and rows - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], rows], strict=True))
