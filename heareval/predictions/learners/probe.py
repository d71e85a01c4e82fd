"""What the probes share: learners that are fitted once, and then predict with any of their settings.

Each probe has one thing to select, such as the number of neighbours. Fitting is closed-form or nothing at
all, so all settings share one fit and one pass over the validation split.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from heareval.predictions.data import SplitRoles
from heareval.predictions.learners.learner import UNITS_PER_TRAINING, Candidate, Learner, TrainedModel
from heareval.predictions.protocol import LearnerSettings
from heareval.predictions.results import ModelResult
from heareval.predictions.rows import Rows
from heareval.spec import Progress


@dataclass(frozen=True)
class FittedProbe:
    """A probe that was fitted to the training splits of a round.

    Args:
        predict: maps embeddings `(rows, dim)` and a sequence of settings to probabilities `(rows, labels)`
            for each of the settings.
        rows_at_once: number of embeddings that it predicts at a time.
    """

    predict: Callable[[Tensor, Sequence[Any]], list[Tensor]]
    rows_at_once: int


@dataclass(frozen=True)
class Probe(Learner):
    """A learner that is fitted once for all its settings."""

    @abstractmethod
    def fit_rows(self, x: Tensor, y: Tensor, seed: int, roles: SplitRoles) -> FittedProbe:
        """Fit the probe to embeddings `(rows, dim)` and targets `(rows, labels)` of 0 and 1.

        Args:
            seed: seed of the evaluation.
            roles: the round, for probes that select rows at random.
        """

    @property
    def units_per_test(self) -> int:
        # A test predicts as many rows as a validation, and that is most of the work.
        return UNITS_PER_TRAINING

    def fit(self, candidates: Sequence[Candidate], progress: Progress) -> Iterator[tuple[int, TrainedModel]]:
        total, done = UNITS_PER_TRAINING * len(candidates), 0
        groups: dict[tuple[int, SplitRoles], list[int]] = {}
        for number, candidate in enumerate(candidates):
            groups.setdefault((candidate.seed, candidate.roles), []).append(number)
        for (seed, roles), numbers in groups.items():
            units = UNITS_PER_TRAINING * len(numbers)
            probe = self._fit_round(seed, roles)
            models = self._validate(
                probe,
                roles,
                [candidates[number].settings for number in numbers],
                # Called within this iteration only.
                lambda rows, all_rows: progress(done + units * rows // all_rows, total),  # noqa: B023
            )
            yield from zip(numbers, models, strict=True)
            done += units

    def _fit_round(self, seed: int, roles: SplitRoles) -> FittedProbe:
        task, train = self.context.task, [self.context.splits[name] for name in roles.train]
        x = torch.cat([split.x[:] for split in train])
        y = torch.cat([split.y for split in train])
        y = y if task.metadata.is_multilabel else functional.one_hot(y, len(task.labels))
        return self.fit_rows(x, y, seed, roles)

    def _validate(
        self,
        probe: FittedProbe,
        roles: SplitRoles,
        settings: Sequence[LearnerSettings],
        progress: Progress,
    ) -> list[TrainedModel]:
        """Validate a fitted probe with all settings in one pass; they share the seconds that it takes."""
        started = time.perf_counter()
        kind, valid = self.context.kind, self.context.splits[roles.valid]
        validate = kind.make_validator(valid)
        validations = [
            validate(kind.shape_rows(valid, rows))
            for rows in predict_in_blocks(probe, valid.x, settings, progress)
        ]
        seconds = (time.perf_counter() - started) / len(settings)
        return [
            TrainedModel(ModelResult(one, validation, None, None, seconds), _make_predictor(probe, one))
            for one, validation in zip(settings, validations, strict=True)
        ]


def _make_predictor(probe: FittedProbe, settings: LearnerSettings) -> Callable[[Rows, Progress], Tensor]:
    def predict(x: Rows, progress: Progress) -> Tensor:
        (rows,) = predict_in_blocks(probe, x, [settings], progress)
        return rows

    return predict


def predict_in_blocks(
    probe: FittedProbe, x: Rows, settings: Sequence[LearnerSettings], progress: Progress
) -> list[Tensor]:
    """Return the probabilities `(rows, labels)` that a probe predicts with each of the settings."""
    blocks = []
    for start in range(0, len(x), probe.rows_at_once):
        blocks.append(probe.predict(x[start : start + probe.rows_at_once], settings))
        progress(start, len(x))
    return [torch.cat(of_settings) for of_settings in zip(*blocks, strict=True)]
