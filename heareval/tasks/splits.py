"""Which recording goes to which split: the rules of the published benchmark, to the last clip."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set

import numpy as np

from heareval.errors import HearevalError
from heareval.spec import Label, Recording, Splits

DEFAULT_PERCENTAGES = {"valid": 10, "test": 10, "train": 80}
FOLD_TRIES = 1000


def numpy_seed(text: str) -> int:
    """The benchmark's seed for a numpy generator.

    >>> numpy_seed("postprocess_all_metadata")
    2558623514
    """
    return int(hashlib.sha1(text.encode()).hexdigest(), 16) % (2**32 - 1)


def draw_splits(
    recordings: Sequence[Recording],
    splits: Splits,
    percentages: Mapping[str, float] | None = None,
    *,
    need_every_label: bool = True,
) -> dict[str, str]:
    """The split of every clip id, drawn or as the corpus gives it.

    Args:
        recordings: one per clip.
        percentages: shares of train, valid and test where they are drawn; None means 80/10/10.
        need_every_label: a draw of new folds is accepted only if every fold has every label.
    """
    if splits.mode == "presplit_kfold":
        return _given_folds(recordings, splits.names)
    if splits.mode == "new_split_kfold":
        by_key = _fold_of_key(recordings, splits.names, need_every_label)
        return {r.clip_id: by_key[r.split_key] for r in recordings}
    drawn = _drawn_from_train(recordings, percentages or DEFAULT_PERCENTAGES)
    # A drawn key counts over all rows, so a row that the corpus gives to another split would move too.
    return {r.clip_id: drawn.get(r.split_key, r.split) for r in recordings}


def _given_folds(recordings: Sequence[Recording], names: Sequence[str]) -> dict[str, str]:
    found = {r.split for r in recordings}
    if found != set(names):
        raise HearevalError(
            "folds of the corpus",
            got=", ".join(sorted(found)),
            expected=", ".join(names),
            remedy="The archive is not the published one, or incomplete.",
        )
    return {r.clip_id: r.split for r in recordings}


def _drawn_from_train(recordings: Sequence[Recording], percentages: Mapping[str, float]) -> dict[str, str]:
    """Split by key, for the keys of train rows that become valid or test."""
    given = {r.split for r in recordings}
    missing = [name for name in ("valid", "test") if name not in given]
    if not missing:
        return {}
    # Train and the splits to draw keep their ratio when one of them is given.
    whole = percentages["train"] + sum(percentages[name] for name in missing)
    keys = sorted({r.split_key for r in recordings if r.split == "train"})
    random.Random("split_train_test_val").shuffle(keys)
    drawn: dict[str, str] = {}
    start = 0
    for name in missing:
        count = round(len(keys) * (100 * percentages[name] / whole) / 100)
        if not count and percentages[name]:
            raise HearevalError(
                f"drawing the {name} split",
                got=f"{len(keys)} groups of clips in train",
                expected=f"enough for a share of {percentages[name]} %",
                remedy="The corpus is too small or incomplete.",
            )
        drawn |= dict.fromkeys(keys[start : start + count], name)
        start += count
    return drawn


def _fold_of_key(
    recordings: Sequence[Recording], names: Sequence[str], need_every_label: bool
) -> dict[str, str]:
    labels_of_key: dict[str, set[Label]] = defaultdict(set)
    for r in recordings:
        labels_of_key[r.split_key] |= labels_of(r)
    labels = set().union(*labels_of_key.values())
    for attempt in range(FOLD_TRIES):
        seed = "split_k_folds" if attempt == 0 else f"split_k_folds_retry_{attempt - 1}"
        folds = _shuffled_folds(sorted(labels_of_key), seed, len(names))
        if not need_every_label or all(
            set().union(*(labels_of_key[key] for key in fold)) == labels for fold in folds
        ):
            return {key: name for name, fold in zip(names, folds, strict=True) for key in fold}
    raise HearevalError(
        f"drawing {len(names)} folds",
        got=f"no draw of {FOLD_TRIES} with every label in every fold",
        expected=f"{len(labels)} labels in each",
        remedy="A label has too few clips or groups.",
    )


def _shuffled_folds(keys: list[str], seed: str, folds: int) -> list[list[str]]:
    random.Random(seed).shuffle(keys)
    # As numpy.array_split: the first `len % folds` folds get one key more.
    size, more = divmod(len(keys), folds)
    starts = [fold * size + min(fold, more) for fold in range(folds + 1)]
    return [keys[start:end] for start, end in itertools.pairwise(starts)]


def labels_of(recording: Recording) -> Set[Label]:
    """The labels of a recording, whether they come with times or not."""
    return {*recording.labels, *(event.label for event in recording.events)}


def subsample(clip_ids: Sequence[str], split: str, limit: int | None) -> set[str]:
    """At most `limit` clips of a split, drawn by the split's own seed."""
    ordered = sorted(clip_ids)
    order = np.random.RandomState(numpy_seed(f"SubsampleSplit({split})")).permutation(len(ordered))
    return {ordered[i] for i in order[:limit]}
