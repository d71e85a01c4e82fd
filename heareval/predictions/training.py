"""Training one predictor with one grid point's settings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heareval.predictions.data import Split
from heareval.predictions.events import Postprocessing
from heareval.predictions.network import build_predictor, predict_logits
from heareval.predictions.protocol import Order, Settings
from heareval.predictions.rows import Rows, StoredRows, made_ahead, picked_rows, rows_between
from heareval.spec import Progress


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
class Fitted:
    """A trained predictor at its best validation.

    Args:
        validation: the best one; its score is NaN if none was defined.
        best_epoch: how many epochs the kept weights were trained.
        epochs: how many epochs were trained.
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


def fit(
    train: Sequence[Split],
    valid_x: Rows,
    labels: int,
    settings: Settings,
    judge: Judge,
    *,
    seed: int,
    order: Order,
    progress: Progress,
) -> Fitted:
    """The predictor trained on the rows of `train`, with the weights of its best validation.

    Args:
        train: the splits to train on, one after another.
        valid_x: embeddings of the validation split, `(rows, dim)`.
        labels: size of the vocabulary.
        seed: of weights, dropout and shuffled batches; torch's own random state is left alone.
        progress: is told (epochs done, most epochs).
    """
    device = valid_x.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = build_predictor(valid_x.shape[1], labels, settings).to(device)
        epochs = batches_by_epoch(train, settings.batch_size, order)
        return _fit_network(network, epochs, valid_x, settings, judge, progress)


def _fit_network(
    network: nn.Module,
    batches: Iterator[Iterable[Batch]],
    valid_x: Rows,
    settings: Settings,
    judge: Judge,
    progress: Progress,
) -> Fitted:
    started = time.perf_counter()
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr, fused=True)
    # A task may train for fewer epochs than lie between validations; then the last one is validated.
    every = min(settings.check_val_every_n_epoch, settings.max_epochs)
    best, best_weights, best_epoch, waited, epoch = Validation(math.nan), _weights(network), 0, 0, 0
    curve: list[tuple[int, float]] = []
    for epoch in range(1, settings.max_epochs + 1):
        _train_epoch(network, optimizer, next(batches), judge.loss)
        progress(epoch, settings.max_epochs)
        if epoch % every:
            continue
        validation = judge.validate(predict_logits(network, valid_x))
        curve.append((epoch, validation.score))
        if judge.prefers(validation.score, best.score):
            best, best_weights, best_epoch, waited = validation, _weights(network), epoch, 0
            continue
        waited += 1
        if waited >= settings.patience:
            break
    network.load_state_dict(best_weights)
    seconds = time.perf_counter() - started
    return Fitted(network, settings, best, best_epoch, epoch, seconds, tuple(curve))


def _train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    network.train()
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        loss(network(batch.x), batch.y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def batches_by_epoch(train: Sequence[Split], batch_size: int, order: Order) -> Iterator[Iterable[Batch]]:
    """The batches of one epoch after another, without end.

    "fixed" is the same consecutive rows in every epoch, as in 2021; "shuffled" draws rows anew with
    torch's current random state.
    """
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
        drawn = torch.randperm(sum(map(len, xs)))
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
