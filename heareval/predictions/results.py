"""Types for the results of an evaluation, from one validation to a whole task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heareval.predictions.data import SplitRoles, Task
from heareval.predictions.events import Postprocessing
from heareval.predictions.protocol import LearnerSettings, Protocol

if TYPE_CHECKING:
    from heareval.predictions.kinds import AnyKind


@dataclass(frozen=True)
class Validation:
    """The score of a model on a validation split, NaN where it is undefined.

    Args:
        postprocessing: the postprocessing with which the score was reached; None in scene tasks.
    """

    score: float
    postprocessing: Postprocessing | None = None


@dataclass(frozen=True)
class Score:
    """The score of one metric on one split.

    Args:
        value: NaN or infinite where it is undefined; `problems` says why.
        details: further numbers, such as precision and recall.
        problems: sentences about a score that is undefined, infinite or unusual.
    """

    metric: str
    value: float
    details: Mapping[str, float]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Predictions:
    """What is known of a tested split; kinds of tasks add what they need to score it.

    Args:
        clips: file names of the clips.
    """

    clips: tuple[str, ...]


@dataclass(frozen=True)
class LabelPredictions(Predictions):
    """The predictions of labels for a tested split.

    Args:
        targets: `(clips, labels)`, or `(clips, timestamps, labels)` in event tasks, of 0 and 1.
        probabilities: same shape as the targets.
    """

    targets: NDArray[np.uint8]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class ModelResult:
    """A trained model without its weights; in pairwise tasks only the settings that were tested.

    Args:
        settings: the settings that it was trained with.
        validation: its best validation.
        best_epoch: epochs after which the best validation took place; None where there are no epochs.
        epochs: epochs trained; None where there are no epochs.
        seconds: duration of the training.
        curve: epoch and score of every validation.
    """

    settings: LearnerSettings
    validation: Validation
    best_epoch: int | None
    epochs: int | None
    seconds: float
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class FoldResult:
    """The model that was tested in one round, with its scores."""

    roles: SplitRoles
    model: ModelResult
    scores: tuple[Score, ...]
    predictions: Predictions


@dataclass(frozen=True)
class Run:
    """The results of the whole protocol with one seed.

    Args:
        grid: every model of the search, in the order of the candidates.
        folds: one result per tested split.
    """

    seed: int
    grid: tuple[ModelResult, ...]
    folds: tuple[FoldResult, ...]


@dataclass(frozen=True)
class TaskResult:
    """The results of an evaluation.

    Args:
        kind: the task, with all that was prepared for its scores.
        decided_by: what chose the models: the name of a metric, or "loss", always on the validation split;
            "" in pairwise tasks, which have no models.
        runs: one for each seed; all tested the same splits.
        clips: number of clips of each split.
        device: `cpu`, or the name of the GPU.
        threads: number of threads of each network in training; None for probes, distances and GPUs.
        seconds: duration of the evaluation; an estimate if trainings side by side were interrupted.
    """

    protocol: Protocol
    kind: AnyKind
    decided_by: str
    runs: tuple[Run, ...]
    clips: Mapping[str, int]
    device: str
    threads: int | None
    seconds: float

    @property
    def task(self) -> Task:
        """Return the task."""
        return self.kind.task
