"""Chance levels, and labels that training or validation lacks: what a score means without looking at a model.

The chance level of a metric is the score of predictions that know nothing about the clip:

* accuracies: always the label that most clips of the training splits have;
* mAP, aucroc and d_prime: every label permuted between the clips at random, on average;
* event metrics: the better of no events at all, and the model's own events moved to other clips;
* pairwise metrics: distances in random order, on average.

Nothing is drawn at random. With folds and seeds the chance level is the mean, like the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval.predictions.bootstrap import ScoredSplit
from heareval.predictions.data import SplitRoles
from heareval.predictions.kinds import Kind
from heareval.predictions.metrics import find_metric

# How many labels a sentence names.
NAMED_LABELS = 5


@dataclass(frozen=True)
class SplitLabels:
    """Which labels the clips of each split have.

    Args:
        names: the vocabulary.
        of_clips: by split, `(clips, labels)`.
    """

    names: tuple[str, ...]
    of_clips: Mapping[str, NDArray[np.bool_]]

    def join(self, splits: Sequence[str]) -> NDArray[np.bool_]:
        """Return the labels of all clips of some splits, `(clips, labels)`."""
        return np.concatenate([self.of_clips[split] for split in splits])


def find_split_labels(kind: Kind[Any]) -> SplitLabels:
    """Return which labels the clips of a task have."""
    return SplitLabels(kind.task.labels, {order.name: kind.mark_labels(order) for order in kind.task.orders})


def find_chance_levels(
    metrics: Sequence[str],
    labels: SplitLabels,
    rounds: Sequence[SplitRoles],
    runs: Sequence[Sequence[ScoredSplit]],
) -> dict[str, float]:
    """Return the chance level of each metric, NaN where the score is undefined for any predictions.

    Args:
        rounds: the roles of the splits in each round.
        runs: the tested splits of each seed, in the order of the rounds.
    """
    # Pairwise tasks are not trained, and have no labels.
    common = [find_common_label(labels.join(roles.train)) if roles.train else 0 for roles in rounds]
    return {
        name: float(
            np.mean(
                [
                    find_metric(name).chance(fold.reference, fold.predicted, fold.clips, label)
                    for run in runs
                    for fold, label in zip(run, common, strict=True)
                ]
            )
        )
        for name in metrics
    }


def find_common_label(of_clips: NDArray[np.bool_]) -> int:
    """Return the index of the label that most clips have; of a clip with several labels, the first counts.

    >>> find_common_label(np.array([[True, False], [False, True], [False, True]]))
    1
    """
    return int(np.bincount(of_clips.argmax(axis=1), minlength=of_clips.shape[1]).argmax())


def describe_missing_labels(labels: SplitLabels, rounds: Sequence[SplitRoles]) -> tuple[str, ...]:
    """Return a sentence for each round whose training or validation lacks labels that are needed later."""
    sentences = []
    for roles in rounds:
        if not roles.train:
            continue
        trained = np.asarray(labels.join(roles.train).any(axis=0))
        trainer = roles.train[0] if len(roles.train) == 1 else f"training for {roles.test}"
        sentences.append(_describe_lack(labels, trainer, ~trained, (roles.valid, roles.test)))
        validated = np.asarray(labels.of_clips[roles.valid].any(axis=0))
        # Labels without any training are named above.
        sentences.append(_describe_lack(labels, roles.valid, ~validated & trained, (roles.test,)))
    return tuple(sentence for sentence in sentences if sentence)


def _describe_lack(
    labels: SplitLabels, lacking: str, missing: NDArray[np.bool_], splits: Sequence[str]
) -> str:
    asked = {split: labels.of_clips[split] & missing for split in splits}
    indices = np.flatnonzero(np.any([marks.any(axis=0) for marks in asked.values()], axis=0))
    if not len(indices):
        return ""
    names = ", ".join(repr(labels.names[index]) for index in indices[:NAMED_LABELS])
    if len(indices) > NAMED_LABELS:
        names += f" and {len(indices) - NAMED_LABELS} more labels"
    counts = [
        f"{marks.any(axis=1).sum()} of {len(marks)} clips of {split}"
        for split, marks in asked.items()
        if marks.any()
    ]
    return f"{lacking} lacks {names}, which {' and '.join(counts)} have"
