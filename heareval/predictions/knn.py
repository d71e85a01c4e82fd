"""Nearest neighbours in place of a network: what is labelled like those that are embedded nearby.

Cover, Hart: Nearest neighbor pattern classification, IEEE Transactions on Information Theory 13(1), 1967.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as functional
from torch import Tensor

Distance = Literal["cosine", "l1"]
NEIGHBOURS = (1, 3, 5, 10, 20)


@dataclass(frozen=True)
class KnnSettings:
    """How neighbours vote.

    Args:
        neighbours: how many do.
        training_rows: how many embeddings they come from.
    """

    probe: str
    neighbours: int
    training_rows: int


@dataclass(frozen=True)
class Neighbours:
    """The embeddings of a training set, and what they are labelled.

    Args:
        x: `(rows, dim)`; of length 1 if the distance is "cosine".
        y: `(rows, labels)` float32 of 0 and 1.
    """

    x: Tensor
    y: Tensor
    distance: Distance

    def votes(self, x: Tensor, settings: Sequence[KnnSettings]) -> list[Tensor]:
        """For each of the settings the share of the nearest that have a label, `(rows, labels)`.

        Every neighbour has one vote, whatever its distance.
        """
        nearest = _distances(x, self).topk(max(one.neighbours for one in settings), largest=False).indices
        return [self.y[nearest[:, : one.neighbours]].mean(dim=1) for one in settings]


def fit_knn(x: Tensor, y: Tensor, distance: Distance) -> Neighbours:
    """Nothing is learned, only kept: embeddings `(rows, dim)`, targets `(rows, labels)`."""
    return Neighbours(_directions(x) if distance == "cosine" else x, y.float(), distance)


def _directions(x: Tensor) -> Tensor:
    """Embeddings `(rows, dim)` of length 1; zeros stay zeros."""
    largest = torch.linalg.vector_norm(x, torch.inf, dim=1, keepdim=True)
    # Squares of huge numbers are infinite, those of tiny ones 0; powers of two change nothing else.
    return functional.normalize(torch.ldexp(x, -torch.frexp(largest).exponent.clamp(-126, 126)))


def _distances(x: Tensor, neighbours: Neighbours) -> Tensor:
    """Distances `(rows, rows of the neighbours)`; the L1 distance is of embeddings as they are."""
    if neighbours.distance == "l1":
        return torch.cdist(x, neighbours.x, p=1)
    # Zeros have no direction: they are as far from everything as a right angle.
    return 1.0 - _directions(x) @ neighbours.x.T
