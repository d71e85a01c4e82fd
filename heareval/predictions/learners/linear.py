"""The linear probe: ridge regression on targets of 0 and 1, in closed form.

One decomposition serves all labels and all strengths, so the duration is known beforehand, and there are no
iterations to stop. Predictions estimate probabilities, but may lie outside of 0 and 1.

Hoerl, Kennard: Ridge regression, Technometrics 12(1), 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from heareval.predictions.data import SplitRoles
from heareval.predictions.learners.probe import FittedProbe, Probe
from heareval.predictions.protocol import LearnerSettings

STRENGTHS = (100.0, 10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4)
ROWS_AT_ONCE = 4096
SINGLE_PRECISION = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class LinearSettings(LearnerSettings):
    """The settings of the linear probe.

    Args:
        probe: name of the probe.
        strength: weight of the penalty: the loss is the mean squared error plus this times the squared
            weights of standardised embeddings.
        training_rows: number of embeddings that the weights are fitted to.
    """

    probe: str
    strength: float
    training_rows: int


@dataclass(frozen=True)
class Ridge:
    """A decomposed training set, from which the weights for any strength follow. All tensors are float64.

    Args:
        mean: mean of the embeddings, `(dim,)`.
        scale: one over the standard deviation of the embeddings, 0 where that is 0, `(dim,)`.
        offset: mean of the targets, `(labels,)`.
        basis: maps eigenvectors to standardised embeddings, `(dim, eigenvectors)`.
        rotated: the targets in terms of the eigenvectors, `(eigenvectors, labels)`.
        eigenvalues: `(eigenvectors,)`.
    """

    mean: Tensor
    scale: Tensor
    offset: Tensor
    basis: Tensor
    rotated: Tensor
    eigenvalues: Tensor

    def predict(self, x: Tensor, settings: Sequence[LinearSettings]) -> list[Tensor]:
        """Return estimated probabilities `(rows, labels)` float32 for each of the settings.

        Args:
            x: `(rows, dim)`.
        """
        standardised = (x.double() - self.mean) * self.scale
        estimates = []
        for one in settings:
            penalised = self.eigenvalues + one.strength * one.training_rows
            weights = self.basis @ (self.rotated / penalised[:, None])
            estimates.append((standardised @ weights + self.offset).float())
        return estimates


def fit_ridge(x: Tensor, y: Tensor) -> Ridge:
    """Decompose embeddings `(rows, dim)` and targets `(rows, labels)` of 0 and 1.

    The smaller of the two products of the embeddings with themselves is decomposed, so the duration grows
    with the cube of the rows or of the dimensions, whichever are fewer.
    """
    blocks = list(range(0, len(x), ROWS_AT_ONCE))
    pieces = [x[start : start + ROWS_AT_ONCE] for start in blocks]
    mean = torch.stack([piece.double().sum(dim=0) for piece in pieces]).sum(dim=0) / len(x)
    squares = torch.stack([((piece.double() - mean) ** 2).sum(dim=0) for piece in pieces]).sum(dim=0)
    spread = (squares / len(x)).sqrt()
    # Leave out constant dimensions, even if rounding of their mean gives them some spread.
    varies = spread > SINGLE_PRECISION * mean.abs()
    scale = torch.where(varies, 1.0 / torch.where(varies, spread, 1.0), 0.0)
    offset = y.mean(dim=0, dtype=torch.float64)
    if len(x) <= x.shape[1]:
        standardised = (x.double() - mean) * scale
        eigenvalues, vectors = torch.linalg.eigh(standardised @ standardised.T)
        return Ridge(mean, scale, offset, standardised.T @ vectors, vectors.T @ (y - offset), eigenvalues)
    gram = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    cross = torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64, device=x.device)
    for start, piece in zip(blocks, pieces, strict=True):
        standardised = (piece.double() - mean) * scale
        gram += standardised.T @ standardised
        cross += standardised.T @ (y[start : start + ROWS_AT_ONCE] - offset)
    eigenvalues, vectors = torch.linalg.eigh(gram)
    return Ridge(mean, scale, offset, vectors, vectors.T @ cross, eigenvalues)


class LinearProbe(Probe):
    """Ridge regression."""

    def candidates(self, seed: int, roles: SplitRoles) -> tuple[LearnerSettings, ...]:
        name, rows = self.context.protocol.probe, self._training_rows(roles)
        return tuple(LinearSettings(name, strength, rows) for strength in STRENGTHS)

    def _training_rows(self, roles: SplitRoles) -> int:
        return sum(len(self.context.splits[name].x) for name in roles.train)

    def adapt(self, settings: LearnerSettings, roles: SplitRoles) -> LearnerSettings:
        return replace(cast(LinearSettings, settings), training_rows=self._training_rows(roles))

    def fit_rows(self, x: Tensor, y: Tensor, seed: int, roles: SplitRoles) -> FittedProbe:
        return FittedProbe(fit_ridge(x, y).predict, ROWS_AT_ONCE)
