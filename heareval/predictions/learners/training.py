"""Training of networks: one after the other, side by side, or as stacks."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from heareval.errors import HearevalError
from heareval.memory import SHARE_OF_MEMORY, find_free_memory
from heareval.predictions.checkpoints import Checkpoints, State
from heareval.predictions.data import Split
from heareval.predictions.events import Postprocessing
from heareval.predictions.learners.adam import Adam
from heareval.predictions.learners.learner import UNITS_PER_TRAINING, Criterion
from heareval.predictions.learners.network import (
    CHUNK_ROWS,
    build_predictor,
    find_generator,
    logits_in_training,
    predict_logits,
)
from heareval.predictions.learners.precision import activations_of, multiply_in
from heareval.predictions.learners.side_by_side import SideBySide, run_side_by_side
from heareval.predictions.protocol import Order, Settings, TrainPrecision
from heareval.predictions.results import ModelResult, Validation
from heareval.predictions.rows import Rows, StoredRows, make_ahead, pick_rows, slice_rows
from heareval.spec import Progress, ignore_progress

# On a GPU a step of one small network mostly consists of launching kernels, and a stack launches them once
# for all. A CPU gains nothing from stacks. More networks, or larger ones, only need more memory.
MAX_STACKED_ON_GPU, MAX_STACK_BYTES = 16, 4 << 30
# Each weight needs itself, its gradient, Adam's two moments, its best value so far, and a copy in the stack.
NUMBERS_PER_WEIGHT = 6
NOT_VALIDATED = Validation(math.nan)
# Held while weights are drawn, because that seeds the one generator that all threads share.
_DRAWING_WEIGHTS = threading.Lock()


@dataclass(frozen=True)
class Objective:
    """What networks are trained for, and how they are compared.

    Args:
        loss: maps logits `(rows, labels)` and targets as in `Split.y` to the mean loss over the rows.
        validate: scores the validation split's logits `(rows, labels)`.
        criterion: compares validation scores.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    validate: Callable[[Tensor], Validation]
    criterion: Criterion


@dataclass(frozen=True)
class Training:
    """One network to be trained.

    Args:
        train: the splits to train on, one after the other.
        valid_x: embeddings of the validation split, `(rows, dim)`.
        objective: what the network is trained for; it validates on the same split.
        seed: seed of weights, dropout and shuffled batches.
    """

    train: tuple[Split, ...]
    valid_x: Rows
    settings: Settings
    objective: Objective
    seed: int

    @property
    def rows(self) -> int:
        """Return the number of training rows."""
        return sum(len(split.x) for split in self.train)


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with the weights of its best validation.

    Args:
        result: its best validation, whose score is NaN if none was defined, and how it was trained. The
            seconds are its share of its stack's.
    """

    network: nn.Module
    result: ModelResult


@dataclass(frozen=True)
class Batch:
    """The rows of one training step: embeddings `(rows, dim)` and their targets."""

    x: Tensor
    y: Tensor


# Yields the batches of one epoch after the other, without end.
Epochs = Iterator[Iterable[Batch]]


def fit_all(
    trainings: Sequence[Training],
    labels: int,
    *,
    order: Order,
    most: int,
    precision: TrainPrecision = "float32",
    side_by_side: SideBySide | None = None,
    progress: Progress = ignore_progress,
    checkpoints: Checkpoints | None = None,
) -> Iterator[tuple[int, TrainedNetwork]]:
    """Train networks, and yield each with its number when it, or its stack, is done.

    Args:
        labels: size of the vocabulary.
        most: how many networks a stack has at most.
        precision: precision of the products in training steps.
        side_by_side: how networks share the cores of a CPU, instead of forming stacks; None trains one stack
            after the other.
        progress: receives hundredths of trainings: those done, and those of all.
        checkpoints: from which trainings resume; None without.
    """

    def fit(stack: Sequence[Training], report: Progress) -> tuple[TrainedNetwork, ...]:
        return fit_stack(
            stack, labels, order=order, precision=precision, progress=report, checkpoints=checkpoints
        )

    if side_by_side:
        how = replace(side_by_side, most=limit_by_memory(side_by_side.most, trainings, labels))
        alone = [[training] for training in trainings]
        fitted = run_side_by_side(fit, alone, how, units=UNITS_PER_TRAINING, progress=progress)
        for number, trained in fitted:
            yield number, trained[0]
            del trained
        return
    done, total = 0, UNITS_PER_TRAINING * len(trainings)
    waiting = group_into_stacks(trainings, most)
    while waiting:
        stack = waiting.pop(0)
        units = UNITS_PER_TRAINING * len(stack)
        try:
            trained = fit(
                [trainings[i] for i in stack],
                # Called within this iteration only.
                lambda epoch, epochs: progress(done + units * epoch // epochs, total),  # noqa: B023
            )
        except torch.cuda.OutOfMemoryError as error:
            if len(stack) == 1:
                raise _no_memory(trainings[stack[0]], error) from error
            waiting = halve_stacks([stack, *waiting])
            continue
        # Keep no reference to the networks, so that the caller decides which ones stay in memory.
        yield from zip(stack, trained, strict=True)
        del trained
        done += units


def halve_stacks(stacks: Sequence[list[int]]) -> list[list[int]]:
    """Return stacks with half as many networks as the first one has, at most.

    >>> halve_stacks([[0, 1, 2, 3, 4], [5, 6, 7]])
    [[0, 1], [2, 3], [4], [5, 6], [7]]
    """
    most = len(stacks[0]) // 2
    return [stack[i : i + most] for stack in stacks for i in range(0, len(stack), most)]


def _no_memory(training: Training, error: Exception) -> HearevalError:
    return HearevalError(
        f"training of a network with {training.rows:,} rows in batches of {training.settings.batch_size:,}",
        got=str(error).partition("\n")[0].rstrip("."),
        expected="enough memory on the GPU",
        remedy="Free memory of the GPU, use another GPU, or train on the CPU with --gpus 0.",
    )


def max_stacked(device: torch.device) -> int:
    """Return how many networks a device trains as one stack at most."""
    return MAX_STACKED_ON_GPU if device.type == "cuda" else 1


def group_into_stacks(trainings: Sequence[Training], most: int) -> list[list[int]]:
    """Return the numbers of the trainings in each stack. A stack has one shape of networks and sizes of
    batches.

    Args:
        most: how many networks a stack has at most; stacks of large networks have fewer.
    """
    alike: dict[Any, list[int]] = {}
    for number, training in enumerate(trainings):
        shape = replace(training.settings, lr=1.0, initialization="")
        alike.setdefault((shape, training.rows), []).append(number)
    stacks = []
    for group in alike.values():
        size = max(1, min(most, MAX_STACK_BYTES // _estimate_bytes(trainings[group[0]])))
        stacks += [group[i : i + size] for i in range(0, len(group), size)]
    return stacks


def _estimate_bytes(training: Training) -> int:
    """Estimate the memory of a network in training, without its targets, which are small."""
    settings, dim = training.settings, training.valid_x.shape[1]
    weights = settings.hidden_dim * (dim + max(settings.hidden_layers - 1, 0) * settings.hidden_dim)
    # Activations after each linear layer, normalisation and ReLU, and their gradients.
    activations = min(settings.batch_size, training.rows) * (
        dim + 6 * settings.hidden_layers * settings.hidden_dim
    )
    return 4 * (NUMBERS_PER_WEIGHT * weights + activations)


def limit_by_memory(
    most: int, trainings: Sequence[Training], labels: int, free_bytes: int | None = None
) -> int:
    """Return how many of these networks train side by side, at least one.

    Args:
        most: how many at most.
        labels: size of the vocabulary.
        free_bytes: memory that this process may still take; None looks.
    """
    free_bytes = find_free_memory() if free_bytes is None else free_bytes
    largest = max(_estimate_bytes(each) + _estimate_validation_bytes(each, labels) for each in trainings)
    return max(1, min(most, len(trainings), int(SHARE_OF_MEMORY * free_bytes) // largest))


def _estimate_validation_bytes(training: Training, labels: int) -> int:
    """Estimate the memory that the validation of a network takes besides."""
    rows = len(training.valid_x)
    # A layer's input and output, and the output of the next one.
    activations = min(rows, CHUNK_ROWS) * 3 * training.settings.hidden_dim
    # Logits, in chunks and put together, and probabilities.
    return 4 * (activations + 3 * rows * labels)


def fit_stack(
    trainings: Sequence[Training],
    labels: int,
    *,
    order: Order,
    precision: TrainPrecision = "float32",
    progress: Progress = ignore_progress,
    checkpoints: Checkpoints | None = None,
) -> tuple[TrainedNetwork, ...]:
    """Train networks of one shape as one stack; each result equals training it alone, up to rounding of sums.

    Args:
        labels: size of the vocabulary.
        precision: precision of the products in training steps.
        progress: receives epochs done and the largest number of epochs.
        checkpoints: from which the trainings resume; None without.

    Returns:
        the networks with the weights of their best validations, in the order of the trainings.
    """
    started = time.perf_counter()
    settings, seeds = trainings[0].settings, [training.seed for training in trainings]
    kept = checkpoints.read(seeds) if checkpoints else None
    networks = _start(trainings, labels, order, kept)
    optimizer = _make_optimizer(networks)
    if kept:
        _restore_moments(optimizer, kept)
        started -= kept["seconds"]

    def get_state() -> State:
        """Return the state of the stack at the end of an epoch."""
        return {
            "networks": [one.get_state() for one in networks],
            "moments": [] if all(one.is_done for one in networks) else optimizer.moments,
            "seconds": time.perf_counter() - started,
        }

    for epoch in range(max(one.epochs for one in networks) + 1, settings.max_epochs + 1):
        active = [one for one in networks if not one.is_done]
        if not active:
            break
        _train_epoch(active, optimizer, precision)
        progress(epoch, settings.max_epochs)
        for one in active:
            one.epochs = epoch
            if epoch % settings.epochs_per_validation == 0:
                one.validate()
            one.is_done = one.is_done or epoch == settings.max_epochs
        if checkpoints:
            checkpoints.keep(seeds, get_state, is_finished=all(one.is_done for one in networks))
    optimizer.clear_gradients()
    seconds = (time.perf_counter() - started) / len(networks)
    return tuple(one.finish(seconds) for one in networks)


@dataclass
class _NetworkInTraining:
    """A network in training, with the weights of its best validation so far.

    Args:
        batches: yields the training batches; several networks may share it.
    """

    training: Training
    network: nn.Sequential
    batches: Epochs
    best: Validation = NOT_VALIDATED
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    epochs: int = 0
    waited: int = 0
    is_done: bool = False
    curve: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.best_weights = _copy_weights(self.network)

    def validate(self) -> None:
        """Validate the network, keep its weights if they are the best, and decide whether to stop."""
        objective = self.training.objective
        validation = objective.validate(predict_logits(self.network, self.training.valid_x))
        self.curve.append((self.epochs, validation.score))
        if objective.criterion.is_better(validation.score, self.best.score):
            self.best, self.best_weights = validation, _copy_weights(self.network)
            self.best_epoch, self.waited = self.epochs, 0
        else:
            self.waited += 1
            self.is_done = self.waited >= self.training.settings.patience

    def get_state(self) -> State:
        """Return all that training goes on from; of a network that is done, its result."""
        generator = find_generator(self.network)
        return {
            "weights": {} if self.is_done else self.network.state_dict(),
            "generator": generator.get_state() if generator else None,
            "best": {**asdict(self.best), "score": float(self.best.score)},
            "best_weights": self.best_weights,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "waited": self.waited,
            "is_done": self.is_done,
            # Some scores are numbers of numpy, which a checkpoint does not take.
            "curve": [(epoch, float(score)) for epoch, score in self.curve],
        }

    def restore(self, state: State) -> None:
        """Go on from a state."""
        if state["weights"]:
            self.network.load_state_dict(state["weights"])
        if generator := find_generator(self.network):
            generator.set_state(state["generator"])
        chosen = state["best"]["postprocessing"]
        self.best = Validation(state["best"]["score"], Postprocessing(**chosen) if chosen else None)
        self.best_weights, self.best_epoch = state["best_weights"], state["best_epoch"]
        self.epochs, self.waited, self.is_done = state["epochs"], state["waited"], state["is_done"]
        self.curve = state["curve"]

    def finish(self, seconds: float) -> TrainedNetwork:
        """Restore the best weights, and return the network with its result."""
        self.network.load_state_dict(self.best_weights)
        settings = self.training.settings
        return TrainedNetwork(
            self.network,
            ModelResult(settings, self.best, self.best_epoch, self.epochs, seconds, tuple(self.curve)),
        )


def _start(
    trainings: Sequence[Training], labels: int, order: Order, kept: State | None
) -> list[_NetworkInTraining]:
    """Build a network for each training; those with the same batches share one source of them.

    Args:
        kept: a state of the stack to go on from; None without one.
    """
    sources: dict[Any, Epochs] = {}
    started = []
    states = kept["networks"] if kept else []
    epochs_before = max((state["epochs"] for state in states), default=0)
    for number, training in enumerate(trainings):
        weights_seed, order_seed = (
            random.Random(f"{training.seed}/{purpose}").getrandbits(63) for purpose in ("net", "order")
        )
        with _DRAWING_WEIGHTS:
            network = build_predictor(
                training.valid_x.shape[1],
                labels,
                training.settings,
                seed=weights_seed,
                device=training.valid_x.device,
            )
        key = (*map(id, training.train), order_seed if order == "shuffled" else None)
        if key not in sources:
            sources[key] = batches_by_epoch(
                training.train, training.settings.batch_size, order, seed=order_seed, skip=epochs_before
            )
        one = _NetworkInTraining(training, network, sources[key])
        if states:
            one.restore(states[number])
        started.append(one)
    return started


def _restore_moments(optimizer: Adam, kept: State) -> None:
    """Go on from the moving averages in a state, which has none if all networks are done."""
    for moment, value in zip(optimizer.moments, kept["moments"], strict=bool(kept["moments"])):
        moment.copy_(value)


def _make_optimizer(active: Sequence[_NetworkInTraining]) -> Adam:
    """Return one Adam for all networks; those with one learning rate share their kernels."""
    by_lr: dict[float, list[nn.Parameter]] = {}
    for one in active:
        by_lr.setdefault(one.training.settings.lr, []).extend(one.network.parameters())
    return Adam(by_lr)


def _train_epoch(active: Sequence[_NetworkInTraining], optimizer: Adam, precision: TrainPrecision) -> None:
    """Train one epoch; the optimizer skips networks without gradients, which have stopped."""
    networks, loss = [one.network.train() for one in active], active[0].training.objective.loss
    with multiply_in(precision):
        for batches in _zip_batches(active):
            optimizer.clear_gradients()
            logits = logits_in_training(networks, [batch.x for batch in batches], activations_of(precision))
            y = batches[0].y if len(batches) == 1 else torch.cat([batch.y for batch in batches])
            # The loss is the mean over all rows of all networks. Scale it so that each network gets the
            # gradient of the mean over its own rows.
            mean = loss(logits.flatten(0, 1), y) * len(networks)
            mean.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def _zip_batches(active: Sequence[_NetworkInTraining]) -> Iterator[list[Batch]]:
    """Yield a batch for each network, for every step of an epoch."""
    sources = list({id(one.batches): one.batches for one in active}.values())
    places = [sources.index(one.batches) for one in active]
    for batches in zip(*[next(source) for source in sources], strict=True):
        yield [batches[place] for place in places]


def _copy_weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def batches_by_epoch(
    train: Sequence[Split], batch_size: int, order: Order, *, seed: int, skip: int = 0
) -> Epochs:
    """Yield the batches of one epoch after the other, without end.

    Args:
        train: the splits to train on, one after the other.
        order: "fixed" yields the same consecutive rows in every epoch, as in 2021; "shuffled" draws new ones.
        seed: seed of shuffled batches.
        skip: number of epochs to leave out at the beginning.
    """
    generator = torch.Generator().manual_seed(seed)
    xs, ys = [split.x for split in train], [split.y for split in train]
    bounds = batch_bounds(sum(len(x) for x in xs), batch_size)
    is_stored = any(isinstance(x, StoredRows) for x in xs)

    def read_batch(bound: tuple[int, int]) -> Batch:
        return Batch(slice_rows(xs, *bound), slice_rows(ys, *bound))

    if order == "fixed" and not is_stored:
        fixed = [read_batch(bound) for bound in bounds]
        while True:
            yield fixed
    while order == "fixed":
        yield make_ahead(read_batch, bounds)
    for _ in range(skip):
        torch.randperm(sum(map(len, xs)), generator=generator)
    while True:
        shuffled = torch.randperm(sum(map(len, xs)), generator=generator)
        yield make_ahead(
            lambda rows: Batch(pick_rows(xs, rows), pick_rows(ys, rows)),
            [shuffled[start:stop] for start, stop in bounds],
        )


def batch_bounds(rows: int, batch_size: int) -> list[tuple[int, int]]:
    """Return the first row and the end of each batch; a short last batch is kept.

    >>> batch_bounds(10, 4), batch_bounds(9, 4)
    ([(0, 4), (4, 8), (8, 10)], [(0, 4), (4, 9)])
    """
    starts = list(range(0, rows, batch_size))
    # Batch normalisation needs two rows to compute a variance, so a single last row joins the batch before.
    if len(starts) > 1 and rows - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], rows], strict=True))
