"""Assign recordings to splits, and subsample splits, exactly as the published benchmark did."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set

from heareval.errors import HearevalError
from heareval.spec import Label, Recording, Splits

DEFAULT_PERCENTAGES = {"valid": 10, "test": 10, "train": 80}
FOLD_TRIES = 1000


def numpy_seed(text: str) -> int:
    """Return the seed that the benchmark derives from a text for a numpy generator.

    Source: the 2021 kit, `hearpreprocess`.

    >>> numpy_seed("postprocess_all_metadata")
    2558623514
    """
    return int(hashlib.sha1(text.encode()).hexdigest(), 16) % (2**32 - 1)


def assign_splits(
    recordings: Sequence[Recording],
    splits: Splits,
    percentages: Mapping[str, float] | None = None,
    *,
    need_every_label: bool = True,
) -> dict[str, str]:
    """Return the split of every clip id: drawn at random, or as the corpus gives it.

    Recordings of one group (`Recording.split_key`) always get the same split when splits are drawn. The draw
    depends on nothing but the keys and the labels, so it gives the published splits on every machine.

    >>> from pathlib import Path
    >>> clips = [Recording(Path(f"{i}.wav"), str(i)) for i in range(10)]
    >>> sorted(assign_splits(clips, Splits("trainvaltest")).values()).count("train")
    8

    Args:
        recordings: one per clip.
        splits: the task's kind of splits.
        percentages: shares of train, valid and test where they are drawn; None means 80/10/10.
        need_every_label: draw new folds until every fold has every label.

    Raises:
        HearevalError: the corpus gives other folds than the task has, or is too small for a draw.
    """
    if splits.mode == "presplit_kfold":
        return _read_given_folds(recordings, splits.names)
    if splits.mode == "new_split_kfold":
        fold_of_key = _draw_folds(recordings, splits.names, need_every_label)
        return {r.clip_id: fold_of_key[r.split_key] for r in recordings}
    split_of_key = _draw_from_train(recordings, percentages or DEFAULT_PERCENTAGES)
    # As published: a key that is drawn moves all its recordings, also those that the corpus puts elsewhere.
    return {r.clip_id: split_of_key.get(r.split_key, r.split) for r in recordings}


def _read_given_folds(recordings: Sequence[Recording], names: Sequence[str]) -> dict[str, str]:
    found = {r.split for r in recordings}
    if found != set(names):
        raise HearevalError(
            "folds of the corpus",
            got=", ".join(sorted(found)),
            expected=", ".join(names),
            remedy="The archive is incomplete, or not the published one.",
        )
    return {r.clip_id: r.split for r in recordings}


def _draw_from_train(recordings: Sequence[Recording], percentages: Mapping[str, float]) -> dict[str, str]:
    """Return the split of every key of train that moves to valid or test, where the corpus lacks those."""
    given = {r.split for r in recordings}
    missing = [name for name in ("valid", "test") if name not in given]
    if not missing:
        return {}
    # If the corpus gives one of valid and test, train and the other one keep their ratio.
    total = percentages["train"] + sum(percentages[name] for name in missing)
    keys = sorted({r.split_key for r in recordings if r.split == "train"})
    random.Random("split_train_test_val").shuffle(keys)
    split_of_key: dict[str, str] = {}
    start = 0
    for name in missing:
        count = round(len(keys) * (100 * percentages[name] / total) / 100)
        if not count and percentages[name]:
            raise HearevalError(
                f"drawing the {name} split",
                got=f"{len(keys)} groups of clips in train",
                expected=f"enough for a share of {percentages[name]} %",
                remedy="The corpus is too small or incomplete.",
            )
        split_of_key |= dict.fromkeys(keys[start : start + count], name)
        start += count
    return split_of_key


def _draw_folds(
    recordings: Sequence[Recording], names: Sequence[str], need_every_label: bool
) -> dict[str, str]:
    """Return the fold of every key."""
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
        remedy="Some label has too few clips or groups: use fewer folds, or give it more clips.",
    )


def _shuffled_folds(keys: list[str], seed: str, folds: int) -> list[list[str]]:
    random.Random(seed).shuffle(keys)
    # Like numpy.array_split: the first `len % folds` folds get one key more.
    size, remainder = divmod(len(keys), folds)
    starts = [fold * size + min(fold, remainder) for fold in range(folds + 1)]
    return [keys[start:end] for start, end in itertools.pairwise(starts)]


def labels_of(recording: Recording) -> Set[Label]:
    """Return the labels of a recording, those of its events included.

    >>> from pathlib import Path
    >>> sorted(labels_of(Recording(Path("a.wav"), "a", labels=("cat", "dog"))))
    ['cat', 'dog']
    """
    return {*recording.labels, *(event.label for event in recording.events)}


def subsample(clip_ids: Sequence[str], split: str, limit: int | None) -> set[str]:
    """Return at most `limit` clips of a split, drawn with a seed that depends on the split's name.

    >>> sorted(subsample(["a", "b", "c", "d"], "train", 2))
    ['a', 'c']

    Args:
        clip_ids: the clips of the split, in any order.
        split: its name.
        limit: how many to keep; None keeps all.
    """
    import numpy as np

    ordered = sorted(clip_ids)
    order = np.random.RandomState(numpy_seed(f"SubsampleSplit({split})")).permutation(len(ordered))
    return {ordered[i] for i in order[:limit]}
