"""The interface of learners: what can be trained on the embeddings of a task."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from heareval.predictions.checkpoints import Checkpoints
from heareval.predictions.data import Split, SplitRoles, Task
from heareval.predictions.kinds import AnyTrainedKind
from heareval.predictions.learners.side_by_side import SideBySide
from heareval.predictions.metrics import find_metric
from heareval.predictions.protocol import LearnerSettings, Protocol
from heareval.predictions.results import ModelResult, Validation
from heareval.predictions.rows import Rows
from heareval.spec import Progress

# Progress counts hundredths of a training.
UNITS_PER_TRAINING = 100


@dataclass(frozen=True)
class EvaluationContext:
    """What all trainings of an evaluation share.

    Args:
        splits: the splits by name.
        max_stacked: how many networks are trained as one stack at most; None means as many as the device
            gains from.
        checkpoints: from which the trainings of networks resume; None without.
        side_by_side: how networks share the cores of a CPU; None trains one after the other on all of them.
    """

    task: Task
    kind: AnyTrainedKind
    protocol: Protocol
    splits: Mapping[str, Split]
    max_stacked: int | None = None
    checkpoints: Checkpoints | None = None
    side_by_side: SideBySide | None = None


@dataclass(frozen=True)
class Candidate:
    """A model to be trained."""

    seed: int
    roles: SplitRoles
    settings: LearnerSettings


@dataclass(frozen=True)
class TrainedModel:
    """A trained model.

    Args:
        result: its settings, its best validation, and how it was trained.
        predict: maps embeddings `(rows, dim)` to probabilities `(rows, labels)`, and reports its progress.
    """

    result: ModelResult
    predict: Callable[[Rows, Progress], Tensor]

    @property
    def validation(self) -> Validation:
        """Return the best validation."""
        return self.result.validation


@dataclass(frozen=True)
class Criterion:
    """What selects models on the validation split.

    Args:
        name: name of a metric, or "loss".
        maximise: whether a higher value is better.
    """

    name: str
    maximise: bool

    def is_better(self, new: float, old: float) -> bool:
        """Return whether a value is strictly better. NaN never is, and any number is better than NaN.

        >>> Criterion("top1_acc", maximise=True).is_better(0.5, math.nan)
        True
        """
        if math.isnan(new) or math.isnan(old):
            return not math.isnan(new)
        return new > old if self.maximise else new < old


@dataclass(frozen=True)
class Learner(ABC):
    """What can be trained on embeddings; each learner is a subclass in a file of this folder."""

    context: EvaluationContext

    @abstractmethod
    def candidates(self, seed: int, roles: SplitRoles) -> tuple[LearnerSettings, ...]:
        """Return the settings to try, in the order in which ties are decided."""

    @abstractmethod
    def fit(self, candidates: Sequence[Candidate], progress: Progress) -> Iterator[tuple[int, TrainedModel]]:
        """Train candidates, and yield each with its number as soon as it is trained, in any order.

        Args:
            progress: receives the units done and `UNITS_PER_TRAINING` for each candidate.
        """

    @property
    def criterion(self) -> Criterion:
        """Return what selects models: the task's first metric."""
        name = self.context.task.metrics[0]
        return Criterion(name, find_metric(name).maximise)

    @property
    def units_per_test(self) -> int:
        """Return how long a test takes, in units of progress; nothing beside a training by default."""
        return 0

    def adapt(self, settings: LearnerSettings, roles: SplitRoles) -> LearnerSettings:
        """Return settings that were selected in the first round as they apply to another round."""
        return settings
