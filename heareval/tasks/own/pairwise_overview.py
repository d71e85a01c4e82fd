"""What the author of a new pairwise task should know about it: its numbers, and what is doubtful."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heareval import files
from heareval.formats.scores import MIN_UNITS_OF_INTERVAL
from heareval.spec import Ratings, Recording, Relation, Retrieval, SamePairs, TaskSpec, Triplets
from heareval.tasks.own.overview import describe_length, doubt_contents, read_length_s
from heareval.tasks.own.related_sounds import count_anchors
from heareval.tasks.own.sounds import Sounds

# How much of two files of one size is compared before they are read as a whole.
HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class _Rows:
    """What a relation lists.

    Args:
        summary: the rows in words.
        clips: the clips of each row.
        rule: how they are scored, in words.
    """

    summary: str
    clips: tuple[tuple[str, ...], ...]
    rule: str


def describe_pairwise_task(task: TaskSpec, sounds: Sounds, relation: Relation) -> list[str]:
    """Return lines for the author of a pairwise task: what is doubtful, and numbers of sounds and rows.

    Args:
        task: the task.
        sounds: its sounds.
        relation: how they relate to each other.
    """
    recordings = sounds.recordings
    lengths = [read_length_s(each) for each in recordings]
    unknown = lengths.count(None)
    sizes = f"{len(recordings)} sounds, {describe_length(lengths)}"
    sizes += f" ({unknown} of them of unknown length)" if unknown else ""
    rows = _list_rows(relation, recordings)
    notes = [
        *sounds.doubts,
        *doubt_contents(recordings, lengths),
        *_doubt_copies(recordings),
        *_doubt_ratings(relation),
        *_doubt_size(relation, recordings),
    ]
    return [
        *(f"note: {note}" for note in notes),
        sizes,
        rows.summary,
        *_describe_spread(rows, recordings),
        f"scored by {rows.rule}; nothing is trained",
        f"metrics: {', '.join(task.metrics)}",
    ]


def _list_rows(relation: Relation, recordings: Sequence[Recording]) -> _Rows:
    if isinstance(relation, Triplets):
        triplets = tuple((each.anchor, each.positive, each.negative) for each in relation.triplets)
        rule = "the share of triplets whose positive sound is nearer to the anchor than the negative one"
        return _Rows(_count(len(triplets), "triplet"), triplets, rule)
    if isinstance(relation, Ratings):
        scores = [each.rating for each in relation.pairs]
        pairs = tuple((each.first, each.second) for each in relation.pairs)
        groups = len({each.group for each in relation.pairs})
        summary = f"{_count(len(pairs), 'pair')}, with scores from {min(scores):g} to {max(scores):g}"
        summary += f", in {groups} groups" if groups > 1 else ""
        return _Rows(summary, pairs, "how well the distances of a sound to others rank like their scores")
    if isinstance(relation, SamePairs):
        same = sum(each.is_same for each in relation.pairs)
        summary = (
            f"{_count(len(relation.pairs), 'pair')}: {same} same, {len(relation.pairs) - same} different"
        )
        pairs = tuple((each.first, each.second) for each in relation.pairs)
        return _Rows(summary, pairs, "how well distances tell the same pairs from the different ones")
    roles = Counter(each.attributes["role"] for each in recordings)
    labels = len({each.attributes["label"] for each in recordings})
    queries, gallery = roles["query"] + roles["both"], roles["gallery"] + roles["both"]
    both = f", {roles['both']} of them both" if roles["both"] else ""
    summary = (
        f"{_count(queries, 'query', 'queries')} and {gallery} sounds in the gallery{both}, of {labels} labels"
    )
    return _Rows(summary, (), "how near to a query the sounds of its label are in the gallery")


def _describe_spread(rows: _Rows, recordings: Sequence[Recording]) -> list[str]:
    """Return a line that says in how many rows a sound is; none for queries, which have one row each."""
    if not rows.clips:
        return []
    counts = Counter(clip for clips in rows.clips for clip in clips)
    few, many = min(counts.values()), max(counts.values())
    if few == many:
        return [f"each sound is in {few} of them"]
    average = sum(counts.values()) / len(recordings)
    return [f"each sound is in {few} to {many} of them, {average:.1f} on average"]


def _doubt_copies(recordings: Sequence[Recording]) -> list[str]:
    """Return a note if several files have the same content. Links to one file are noted elsewhere."""
    by_size: dict[tuple[int, bytes], dict[tuple[int, int], Path]] = defaultdict(dict)
    for each in recordings:
        facts = each.path.stat()
        with open(each.path, "rb") as stream:
            by_size[facts.st_size, stream.read(HEAD_BYTES)].setdefault(
                (facts.st_dev, facts.st_ino), each.path
            )
    copies: dict[str, list[Path]] = defaultdict(list)
    for paths in by_size.values():
        for path in paths.values() if len(paths) > 1 else ():
            copies[files.file_checksum(path, "sha256")].append(path)
    several = [paths for paths in copies.values() if len(paths) > 1]
    if not several:
        return []
    count = "1 sound has" if len(several) == 1 else f"{len(several)} sounds have"
    return [
        f"{count} copies under other names, such as {several[0][0]} and {several[0][1]}; the distance "
        "between such clips is 0"
    ]


def _doubt_ratings(relation: Relation) -> list[str]:
    """Return a note about rated sounds whose pairs can't be ranked."""
    if not isinstance(relation, Ratings):
        return []
    clips = {(each.group, clip) for each in relation.pairs for clip in (each.first, each.second)}
    left_out = len(clips) - count_anchors(relation.pairs)
    if not left_out:
        return []
    return [
        f"{_count(left_out, 'sound')} of {len(clips)} without two different scores (counted in each group); "
        "such sounds have no ranking to score"
    ]


def _doubt_size(relation: Relation, recordings: Sequence[Recording]) -> list[str]:
    """Return a note if there are too few units for a confidence interval."""
    units, name = len(recordings), "sound"
    if isinstance(relation, Retrieval):
        queries = [each for each in recordings if each.attributes["role"] != "gallery"]
        units, name = len(queries), "query"
        if relation.unit:
            units, name = len({each.attributes[relation.unit] for each in queries}), "group"
    if units >= MIN_UNITS_OF_INTERVAL:
        return []
    several = "queries" if name == "query" else f"{name}s"
    return [
        f"{_count(units, name, several)}: with fewer than {MIN_UNITS_OF_INTERVAL} {several}, scores have no "
        "confidence interval"
    ]


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"
