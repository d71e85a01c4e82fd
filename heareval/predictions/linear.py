"""A linear map in place of a network: ridge regression on targets of 0 and 1, in closed form.

Hoerl, Kennard: Ridge regression, Technometrics 12(1), 1970. One decomposition serves all labels and all
strengths, so the time is known beforehand; there are no iterations to stop and no tolerance to choose. It
says estimates of probabilities, which may lie outside of 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STRENGTHS = (100.0, 10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4)
ROWS_AT_ONCE = 4096
SINGLE_PRECISION = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class LinearSettings:
    """How strongly weights are held back.

    Args:
        strength: the loss is the mean squared error plus so many times the squared weights of standardised
            embeddings.
        training_rows: how many embeddings they are learned from.
    """

    probe: str
    strength: float
    training_rows: int


@dataclass(frozen=True)
class Ridge:
    """A decomposed training set, from which the weights of any strength follow.

    Args:
        mean: of the embeddings, `(dim,)` float64, as all of it.
        scale: one over their standard deviation, 0 where that is 0, `(dim,)`.
        offset: mean of the targets, `(labels,)`.
        basis: from eigenvectors to standardised embeddings, `(dim, eigenvectors)`.
        rotated: what the eigenvectors say about the targets, `(eigenvectors, labels)`.
        eigenvalues: `(eigenvectors,)`.
    """

    mean: Tensor
    scale: Tensor
    offset: Tensor
    basis: Tensor
    rotated: Tensor
    eigenvalues: Tensor

    def estimates(self, x: Tensor, settings: Sequence[LinearSettings]) -> list[Tensor]:
        """For each of the settings the estimates for embeddings `(rows, dim)`: `(rows, labels)` float32."""
        standardised = (x.double() - self.mean) * self.scale
        found = []
        for one in settings:
            held_back = self.eigenvalues + one.strength * one.training_rows
            weights = self.basis @ (self.rotated / held_back[:, None])
            found.append((standardised @ weights + self.offset).float())
        return found


def fit_ridge(x: Tensor, y: Tensor) -> Ridge:
    """Embeddings `(rows, dim)` and targets `(rows, labels)` of 0 and 1, decomposed.

    It is the smaller of the embeddings' two products with themselves that is decomposed: time goes with the
    cube of the rows or of the dimensions, whichever are fewer.
    """
    blocks = list(range(0, len(x), ROWS_AT_ONCE))
    pieces = [x[start : start + ROWS_AT_ONCE] for start in blocks]
    mean = torch.stack([piece.double().sum(dim=0) for piece in pieces]).sum(dim=0) / len(x)
    squares = torch.stack([((piece.double() - mean) ** 2).sum(dim=0) for piece in pieces]).sum(dim=0)
    spread = (squares / len(x)).sqrt()
    # A dimension that never changes stays out, also where its mean is rounded.
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
