"""The nearest-neighbour probes: the neighbours of an embedding vote for their labels.

Cover, Hart: Nearest neighbor pattern classification, IEEE Transactions on Information Theory 13(1), 1967.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as functional
from torch import Tensor

from heareval.predictions.data import SplitRoles
from heareval.predictions.learners.probe import FittedProbe, Probe
from heareval.predictions.protocol import LearnerSettings

Distance = Literal["cosine", "l1"]
NEIGHBOURS = (1, 3, 5, 10, 20)
# Neighbours among frames are searched in a random sample of this size. A hundred thousand frames are near
# copies of their neighbours in time, and comparing all of them takes hours.
MAX_FRAMES = 10_000
# Number of distances held in memory at a time.
DISTANCES_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class KnnSettings(LearnerSettings):
    """The settings of a nearest-neighbour probe.

    Args:
        probe: name of the probe.
        neighbours: number of neighbours that vote.
        training_rows: number of embeddings among which neighbours are searched.
    """

    probe: str
    neighbours: int
    training_rows: int


@dataclass(frozen=True)
class Neighbours:
    """The embeddings of a training set with their labels.

    Args:
        x: `(rows, dim)`; of length 1 if the distance is "cosine".
        y: `(rows, labels)` float32 of 0 and 1.
    """

    x: Tensor
    y: Tensor
    distance: Distance

    def predict(self, x: Tensor, settings: Sequence[KnnSettings]) -> list[Tensor]:
        """Return the share of the nearest neighbours that have each label, `(rows, labels)`, for each
        setting.

        All votes have the same weight.

        Args:
            x: `(rows, dim)`.
        """
        nearest = _distances(x, self).topk(max(one.neighbours for one in settings), largest=False).indices
        return [self.y[nearest[:, : one.neighbours]].mean(dim=1) for one in settings]


def fit_knn(x: Tensor, y: Tensor, distance: Distance) -> Neighbours:
    """Store embeddings `(rows, dim)` and targets `(rows, labels)`; nothing is learned."""
    return Neighbours(_normalize(x) if distance == "cosine" else x, y.float(), distance)


def _normalize(x: Tensor) -> Tensor:
    """Scale embeddings `(rows, dim)` to length 1; zeros stay zeros."""
    largest = torch.linalg.vector_norm(x, torch.inf, dim=1, keepdim=True)
    # Squares of huge numbers overflow and squares of tiny numbers vanish. Scaling by powers of two is exact.
    return functional.normalize(torch.ldexp(x, -torch.frexp(largest).exponent.clamp(-126, 126)))


def _distances(x: Tensor, neighbours: Neighbours) -> Tensor:
    """Return the distances `(rows, rows of the neighbours)`; L1 distances are of unnormalized embeddings."""
    if neighbours.distance == "l1":
        return torch.cdist(x, neighbours.x, p=1)
    # Zeros have no direction; their distance to everything is that of a right angle.
    return 1.0 - _normalize(x) @ neighbours.x.T


@dataclass(frozen=True)
class KnnProbe(Probe):
    """A nearest-neighbour probe."""

    distance: ClassVar[Distance]

    def candidates(self, seed: int, roles: SplitRoles) -> tuple[LearnerSettings, ...]:
        rows = self._training_rows(roles)
        name = self.context.protocol.probe
        return tuple(KnnSettings(name, k, rows) for k in NEIGHBOURS if k <= rows)

    def _training_rows(self, roles: SplitRoles) -> int:
        rows = sum(len(self.context.splits[name].x) for name in roles.train)
        return min(rows, MAX_FRAMES) if self.context.kind.has_frames else rows

    def adapt(self, settings: LearnerSettings, roles: SplitRoles) -> LearnerSettings:
        """Return the settings with no more neighbours than the round has training rows."""
        chosen, rows = cast(KnnSettings, settings), self._training_rows(roles)
        return replace(chosen, training_rows=rows, neighbours=min(chosen.neighbours, rows))

    def fit_rows(self, x: Tensor, y: Tensor, seed: int, roles: SplitRoles) -> FittedProbe:
        rows = self._training_rows(roles)
        if rows < len(x):
            selected = random.Random(f"{seed}/{roles.test}").sample(range(len(x)), rows)
            indices = torch.tensor(sorted(selected), device=x.device)
            x, y = x[indices], y[indices]
        return FittedProbe(fit_knn(x, y, self.distance).predict, max(1, DISTANCES_AT_ONCE // rows))


class CosineKnn(KnnProbe):
    """Nearest neighbours by the cosine distance."""

    distance = "cosine"


class L1Knn(KnnProbe):
    """Nearest neighbours by the L1 distance of unnormalized embeddings."""

    distance = "l1"
