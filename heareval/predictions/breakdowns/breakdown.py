"""The types of breakdowns: scores of the parts of a pairwise task, its hardest cases, and their figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval.errors import HearevalError
from heareval.formats.labels import LabeledClip
from heareval.formats.results_folder import EVALUATE_AGAIN
from heareval.predictions.metrics import find_metric
from heareval.predictions.relations import EmbeddedClips

# How many of the hardest cases are listed.
HARDEST = 20
# Another machine may round distances differently, which changes the order of a few that are nearly equal.
TOLERANCE = 0.01


@dataclass(frozen=True)
class PairwiseResult:
    """What is stored of a pairwise task, and how to get its embeddings.

    Args:
        clips: all clips, in the order of their names, which is that of their numbers.
        metrics: names of the task's metrics, the first one first.
        measured: what was measured between the clips when they were scored.
        open_clips: opens the embeddings; raises HearevalError if they are gone or damaged.
    """

    clips: tuple[LabeledClip, ...]
    metrics: tuple[str, ...]
    measured: Any
    open_clips: Callable[[], EmbeddedClips]

    def name(self, number: int | np.integer[Any]) -> str:
        """Return the file name of a clip."""
        return self.clips[number].name

    def value(self, number: int | np.integer[Any], attribute: str) -> str:
        """Return the value of an attribute of a clip."""
        return self.clips[number].attributes[attribute]


@dataclass(frozen=True)
class PartScores:
    """The scores of a part of a task, such as the queries of a class.

    Args:
        names: what tells the part from others, such as `{"class": "dog"}`.
        counts: how much it holds, such as `{"queries": 40}`.
        scores: by metric, NaN where undefined.
        chance: chance level of each score.
    """

    names: Mapping[str, str]
    counts: Mapping[str, int]
    scores: Mapping[str, float]
    chance: Mapping[str, float]


@dataclass(frozen=True)
class PartTable:
    """The scores of all parts of one kind, such as all classes.

    Args:
        name: the key in report.json, such as "classes".
        about: what a part is.
    """

    name: str
    about: str
    parts: tuple[PartScores, ...]


@dataclass(frozen=True)
class Case:
    """Clips that belong together, and what was measured between them.

    Args:
        clips: file name of each clip by its role, such as `{"query": "a.wav", "nearest_right": "b.wav"}`.
        values: numbers and names by key.
    """

    clips: Mapping[str, str]
    values: Mapping[str, float | str]


@dataclass(frozen=True)
class CaseList:
    """The hardest cases of a task.

    Args:
        name: the key in report.json, such as "queries".
        order: how the cases are chosen and ordered.
    """

    name: str
    order: str
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class PartPlot:
    """A bar for each part of a table.

    Args:
        name: name of the file, without its suffix.
        metric: the score that is plotted.
    """

    name: str
    table: PartTable
    metric: str


@dataclass(frozen=True)
class ErrorPlot:
    """A matrix of error rates.

    Args:
        name: name of the file, without its suffix.
        caption: what a cell shows.
        rows: names of the rows.
        columns: names of the columns.
        errors: `(rows, columns)`, NaN where there is nothing.
        row_title: what the rows are.
        column_title: what the columns are.
    """

    name: str
    caption: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    errors: NDArray[np.float64]
    row_title: str
    column_title: str


@dataclass(frozen=True)
class RatedSet:
    """The pairs of a set, as shares of its largest rating and of its largest distance.

    Args:
        name: name of the set.
        score: the set's score of the task's first metric.
        ratings: `(pairs,)`.
        distances: `(pairs,)`.
    """

    name: str
    score: float
    ratings: NDArray[np.float64]
    distances: NDArray[np.float64]


@dataclass(frozen=True)
class RatingPlot:
    """A map of distances for each set: rated against measured.

    Args:
        name: name of the file, without its suffix.
        metric: the score of each set.
    """

    name: str
    metric: str
    sets: tuple[RatedSet, ...]


Plot = PartPlot | ErrorPlot | RatingPlot


@dataclass(frozen=True)
class Breakdown:
    """What lies behind the scores of a pairwise task.

    Args:
        left_out: why something is missing, a sentence each.
    """

    tables: tuple[PartTable, ...] = ()
    cases: tuple[CaseList, ...] = ()
    plots: tuple[Plot, ...] = ()
    left_out: tuple[str, ...] = ()


def score_part(
    metrics: Sequence[str],
    names: Mapping[str, str],
    counts: Mapping[str, int],
    reference: Any,
    predicted: Any,
) -> PartScores:
    """Return the scores of a part of a task.

    Args:
        metrics: names of the metrics.
        names: see `PartScores`.
        counts: see `PartScores`.
        reference: the part of the relation, as the metrics take it.
        predicted: what was measured of this part.
    """
    found = {name: find_metric(name) for name in metrics}
    return PartScores(
        names,
        counts,
        {name: metric.function(reference, predicted) for name, metric in found.items()},
        # Chance levels of relations depend on neither of the last two.
        {name: metric.chance(reference, predicted, 0, 0) for name, metric in found.items()},
    )


def check_same_values(what: str, stored: NDArray[np.float64], found: NDArray[np.float64]) -> None:
    """Check that embeddings are those that were scored.

    Args:
        what: what was computed again, in errors.
        stored: what was computed when they were scored, numbers from 0 to 1 in any shape.
        found: the same, computed from the embeddings as they are now.

    Raises:
        HearevalError: the numbers differ.

    >>> check_same_values("ranks", np.array([0.5]), np.array([0.501]))
    """
    difference = float(np.abs(stored - found).mean())
    if difference > TOLERANCE:
        raise HearevalError(
            what,
            got=f"a mean difference of {difference:.3f} from those that are stored",
            expected="the same numbers, from embeddings that have not changed since they were scored",
            remedy=EVALUATE_AGAIN,
        )
