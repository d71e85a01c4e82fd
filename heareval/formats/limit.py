"""A task with a few clips of each split, for smoke tests.

Which clips these are depends on the task alone: every model, machine and run keeps the same ones, and those
of a smaller limit are among those of a larger one. docs/protocol.md states the rules.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path

from heareval.errors import HearevalError
from heareval.formats.labels import LabeledClip, drop_clips, read_clip_names
from heareval.formats.relations import list_related, lists_clips, remove_related, write_relation
from heareval.formats.task_folder import TaskFolder
from heareval.spec import Abx, Ratings, Relation, Retrieval, SameDifferent, SamePairs, Triplets


def check_limit(limit: int | None) -> None:
    """Raise HearevalError unless a limit is None or a whole number from 1 on.

    >>> check_limit(0)
    Traceback (most recent call last):
        ...
    heareval.errors.HearevalError: limit: got 0, expected 1 or more clips of each split
    """
    if limit is not None and (type(limit) is not int or limit < 1):
        raise HearevalError("limit", got=repr(limit), expected="1 or more clips of each split")


def limit_task(task: TaskFolder, limit: int) -> TaskFolder:
    """Return a task with at most `limit` clips of each split, in their order, and what relates these.

    Args:
        limit: 1 or more.

    Raises:
        HearevalError: no listed pair or triplet of a pairwise task has all of its clips among them.

    >>> limit_task(read_task_folder(Path("tasks/esc50-v2.0.0-full")), 20)  # doctest: +SKIP
    """
    relation = task.relation
    if relation is None:
        return replace(task, clips={split: limit_clips(of, limit) for split, of in task.clips.items()})
    clips = {split: limit_related_clips(of, relation, limit) for split, of in task.clips.items()}
    limited = remove_related(relation, _find_dropped(task.clips, clips))
    if lists_clips(limited) and not list_related(limited):
        raise HearevalError(
            f"limit of {limit} clips on {task.path.name}",
            got="no listed pair or triplet with all of its clips",
            expected="at least one",
            remedy="Use a larger --limit.",
        )
    return replace(task, clips=clips, relation=limited)


def _find_dropped(
    before: Mapping[str, Sequence[LabeledClip]], after: Mapping[str, Sequence[LabeledClip]]
) -> set[str]:
    """Return the ids of the clips that are no longer there."""
    kept = {clip.clip_id for clips in after.values() for clip in clips}
    return {clip.clip_id for clips in before.values() for clip in clips} - kept


def write_limited_description(task: TaskFolder, folder: Path) -> None:
    """Remove what `limit_task` left out from copies of the files that describe a task.

    Args:
        task: the limited task.
        folder: has copies of the files of the whole one.
    """
    for split, clips in task.clips.items():
        kept = {clip.name for clip in clips}
        dropped = [name for name in read_clip_names(folder, split) if name not in kept]
        drop_clips(folder, split, {name.removesuffix(".wav") for name in dropped})
    if task.relation is not None:
        write_relation(folder, task.relation)


# --------------------------------------------------------------------------- which clips are kept


def limit_clips(clips: Sequence[LabeledClip], limit: int) -> tuple[LabeledClip, ...]:
    """Return at most `limit` clips of a split, in their order, with as many of the labels as possible.

    Clips are chosen one after the other, each with the label that the fewest chosen clips have; among several
    such labels, the first in the alphabet. Which clip of that label it is follows from a digest of its name.
    Clips without any label come last.

    Args:
        limit: 1 or more.

    >>> clips = [LabeledClip(f"{label}{i}.wav", (label,)) for label in ("dog", "cat") for i in range(9)]
    >>> [clip.labels[0] for clip in limit_clips(clips, 4)]
    ['dog', 'dog', 'cat', 'cat']
    """
    return _keep(clips, limit, _order_by_label(clips))


def limit_related_clips(
    clips: Sequence[LabeledClip], relation: Relation, limit: int
) -> tuple[LabeledClip, ...]:
    """Return at most `limit` clips of a pairwise task, in their order, so that many are related.

    Of listed pairs and triplets, the clips of the first ones are taken; same and different pairs take turns.
    Otherwise two clips of each class (`same`, `relevant` or `category`) are taken, then two more of each, and
    so on. Those of one class differ in what they must differ in (such as the speaker) as far as possible.

    Args:
        limit: 1 or more.
    """
    match relation:
        case Ratings() | Triplets() | SamePairs():
            ordered = _order_by_row(clips, relation)
        case SameDifferent():
            ordered = _order_by_class(clips, (relation.same,), relation.differ)
        case Retrieval():
            apart = (relation.role, *relation.differ) if relation.role else relation.differ
            ordered = _order_by_class(clips, (*relation.within, relation.relevant), apart)
        case Abx():
            ordered = _order_by_class(clips, (relation.category,), (relation.speaker,))
    return _keep(clips, limit, ordered)


def _keep(
    clips: Sequence[LabeledClip], limit: int, ordered: Iterable[LabeledClip]
) -> tuple[LabeledClip, ...]:
    """Return the first clips of an order, in their order in the file; clips that it lacks come last."""
    kept: set[str] = set()
    for clip in chain(ordered, sorted(clips, key=_draw)):
        if len(kept) == limit:
            break
        kept.add(clip.name)
    return tuple(clip for clip in clips if clip.name in kept)


def _draw(clip: LabeledClip) -> bytes:
    """Return a random number that depends on the name of a clip only."""
    return hashlib.sha256(clip.name.encode()).digest()


def _list_labels(clip: LabeledClip) -> set[str]:
    return {*clip.labels, *(str(event.label) for event in clip.events)}


def _order_by_label(clips: Sequence[LabeledClip]) -> Iterator[LabeledClip]:
    """Yield the clips that have labels, some twice."""
    waiting: dict[str, list[LabeledClip]] = {}
    for clip in sorted(clips, key=_draw, reverse=True):
        for label in _list_labels(clip):
            waiting.setdefault(label, []).append(clip)
    chosen: set[str] = set()
    counts: Counter[str] = Counter()
    while waiting:
        label = min(waiting, key=lambda each: (counts[each], each))
        clip = waiting[label].pop()
        if not waiting[label]:
            del waiting[label]
        if clip.name not in chosen:
            chosen.add(clip.name)
            counts.update(_list_labels(clip))
            yield clip


def _order_by_row(
    clips: Sequence[LabeledClip], relation: Ratings | Triplets | SamePairs
) -> Iterator[LabeledClip]:
    """Yield the clips of the rows of a relation, many of them several times."""
    by_id = {clip.clip_id: clip for clip in clips}
    rows = list_related(relation)
    if isinstance(relation, SamePairs):
        same = [row for row, pair in zip(rows, relation.pairs, strict=True) if pair.is_same]
        different = [row for row, pair in zip(rows, relation.pairs, strict=True) if not pair.is_same]
        rows = [row for turn in zip_longest(same, different) for row in turn if row is not None]
    return (by_id[clip_id] for row in rows for clip_id in row)


def _order_by_class(
    clips: Sequence[LabeledClip], class_of: tuple[str, ...], apart: tuple[str, ...]
) -> Iterator[LabeledClip]:
    """Yield two clips of each class in turn.

    Args:
        class_of: the attributes whose values make a class.
        apart: the attributes in which successive clips of a class differ as far as possible.
    """
    classes: dict[tuple[str, ...], list[tuple[int, tuple[str, ...], LabeledClip]]] = {}
    counts: Counter[tuple[str, ...]] = Counter()
    for clip in sorted(clips, key=_draw):
        name, values = (tuple(clip.attributes[each] for each in keys) for keys in (class_of, apart))
        classes.setdefault(name, []).append((counts[name + values], values, clip))
        counts[name + values] += 1
    ordered = [sorted(classes[name], key=lambda each: each[:2]) for name in sorted(classes)]
    for turn in range(0, max(map(len, ordered), default=0), 2):
        for members in ordered:
            for _, _, clip in members[turn : turn + 2]:
                yield clip
