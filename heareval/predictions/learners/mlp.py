"""The protocol's learner: a shallow fully-connected network whose settings come from a grid."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from heareval.predictions.data import Split, SplitRoles
from heareval.predictions.learners.learner import Candidate, Criterion, Learner, TrainedModel
from heareval.predictions.learners.network import predict_logits
from heareval.predictions.learners.precision import activations_of
from heareval.predictions.learners.training import Objective, Training, fit_all, max_stacked
from heareval.predictions.protocol import Settings, select_grid_points
from heareval.predictions.results import Validation
from heareval.predictions.rows import Rows
from heareval.spec import Progress


@dataclass(frozen=True)
class Mlp(Learner):
    """The network; many of them are trained as one stack, or side by side, where the device gains from it."""

    def candidates(self, seed: int, roles: SplitRoles) -> tuple[Settings, ...]:
        task = self.context.task
        protocol = replace(self.context.protocol, seed=seed)
        return select_grid_points(protocol, task.name, task.metadata.settings_grid)

    @property
    def criterion(self) -> Criterion:
        """Return what selects models: the validation loss if the task says so, else its first metric."""
        if self.context.task.metadata.loss_decides:
            return Criterion("loss", maximise=False)
        return super().criterion

    def fit(self, candidates: Sequence[Candidate], progress: Progress) -> Iterator[tuple[int, TrainedModel]]:
        splits, protocol = self.context.splits, self.context.protocol
        trained_on = self._read_in_precision(candidates)
        objectives = {
            name: self._make_objective(splits[name])
            for name in dict.fromkeys(candidate.roles.valid for candidate in candidates)
        }
        trainings = [
            Training(
                train=tuple(trained_on[name] for name in candidate.roles.train),
                valid_x=splits[candidate.roles.valid].x,
                settings=cast(Settings, candidate.settings),
                objective=objectives[candidate.roles.valid],
                seed=_training_seed(candidate),
            )
            for candidate in candidates
        ]
        most = self.context.max_stacked or max_stacked(next(iter(splits.values())).x.device)
        labels = len(self.context.task.labels)
        fitted = fit_all(
            trainings,
            labels,
            order=protocol.order,
            most=most,
            precision=protocol.train_precision,
            side_by_side=self.context.side_by_side,
            progress=progress,
            checkpoints=self.context.checkpoints,
        )
        for number, trained in fitted:
            yield number, TrainedModel(trained.result, self._make_predictor(trained.network))

    def _read_in_precision(self, candidates: Sequence[Candidate]) -> dict[str, Split]:
        """Return the training splits, with embeddings in the type of training steps if they are in memory.

        Embeddings on disk are converted batch by batch.
        """
        dtype = activations_of(self.context.protocol.train_precision)
        splits = [
            self.context.splits[name]
            for name in dict.fromkeys(name for candidate in candidates for name in candidate.roles.train)
        ]
        return {
            split.name: replace(split, x=split.x.to(dtype))
            if dtype and isinstance(split.x, Tensor)
            else split
            for split in splits
        }

    def _make_predictor(self, network: nn.Module) -> Callable[[Rows, Progress], Tensor]:
        return lambda x, progress: self._probabilities(predict_logits(network, x))

    def _probabilities(self, logits: Tensor) -> Tensor:
        is_multilabel = self.context.task.metadata.is_multilabel
        return torch.sigmoid(logits) if is_multilabel else torch.softmax(logits, dim=1)

    def _make_objective(self, valid: Split) -> Objective:
        """Return the training loss, and how networks are validated on a split."""
        task, kind = self.context.task, self.context.kind
        is_multilabel = task.metadata.is_multilabel
        loss = functional.binary_cross_entropy_with_logits if is_multilabel else functional.cross_entropy
        validate_probabilities = kind.make_validator(valid)
        postprocessings = kind.postprocessings

        def score(logits: Tensor) -> Validation:
            return validate_probabilities(kind.shape_rows(valid, self._probabilities(logits)))

        def validate(logits: Tensor) -> Validation:
            # The training diverged; most metrics would still compute a score.
            if not torch.isfinite(logits).all():
                return Validation(math.nan)
            if not task.metadata.loss_decides:
                return score(logits)
            # Scoring events can take longer than an epoch, so don't where there is nothing to choose.
            needs_score = len(postprocessings) > 1
            chosen = score(logits).postprocessing if needs_score else next(iter(postprocessings), None)
            return Validation(float(loss(logits, valid.y)), chosen)

        return Objective(loss, validate, self.criterion)


def _training_seed(candidate: Candidate) -> int:
    """Return the seed of a training, which doesn't depend on how many other trainings there are."""
    text = f"{candidate.seed}/{candidate.roles.test}/{candidate.settings}"
    return random.Random(text).getrandbits(63)
