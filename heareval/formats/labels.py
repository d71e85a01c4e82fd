"""The labels of a task: `<split>.json` for each split, and labelvocabulary.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heareval import files, layout
from heareval.errors import HearevalError, about_files, unknown_name
from heareval.formats.fields import Fields, read_fields, shorten
from heareval.formats.names import check_clip
from heareval.formats.task_metadata import PREPARE_AGAIN, TaskMetadata
from heareval.spec import Event, Label

# Segment metrics count segments up to the last event's end: a time in wrong units would fill the memory.
MAX_END_MS = 24 * 3600 * 1000.0
EVENT_KEYS = ("label", "start", "end")
HEADER = ("idx", "label")


@dataclass(frozen=True)
class LabeledClip:
    """A clip with its labels (scene tasks) or events (event tasks).

    Args:
        name: file name inside the split's folder, `5-9032-A-0.wav`.
        labels: what the clip is, as the vocabulary spells it.
        events: what happens in the clip and when; their labels are text as in the vocabulary.
    """

    name: str
    labels: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()


def read_clip_names(folder: Path, split: str, *, remedy: str = PREPARE_AGAIN) -> tuple[str, ...]:
    """Return the names of a split's clips, in the order of the rows of its embeddings.

    Args:
        folder: a task folder, or an embeddings folder, which has copies of its files.

    Raises:
        HearevalError: the file is missing or wrong, lists no clip, or one outside the split's folder.
    """
    return _clip_names(_read_split(folder, split, remedy))


def read_labels(
    folder: Path,
    split: str,
    metadata: TaskMetadata,
    vocabulary: Collection[str],
    *,
    remedy: str = PREPARE_AGAIN,
) -> tuple[LabeledClip, ...]:
    """Return the clips of a split with their labels or events, in the order of the rows of its embeddings.

    A bare text or whole number counts as a list of one label.

    Args:
        folder: a task folder, or an embeddings folder, which has copies of its files.
        vocabulary: the labels of the task.

    Raises:
        HearevalError: the file is missing or wrong, a label is not in the vocabulary, a clip of a multiclass
            task has not exactly one label, or an event's times make no sense.
    """
    fields = _read_split(folder, split, remedy)
    known = frozenset(vocabulary)
    parse = _parse_event_clip if metadata.is_event else _parse_scene_clip
    clips = []
    for name in _clip_names(fields):
        clip = parse(fields, split, name)
        where = f"{split}/{name}"
        labels = clip.labels or tuple(str(event.label) for event in clip.events)
        _check_known(labels, known, fields, where)
        if not metadata.is_multilabel and len(clip.labels) != 1:
            got = f"{len(clip.labels)} labels"
            raise fields.error(where, got, "exactly one in a multiclass task")
        clips.append(clip)
    return tuple(clips)


def _read_split(folder: Path, split: str, remedy: str) -> Fields:
    return read_fields(folder / layout.split_json(split), remedy=remedy)


def _clip_names(fields: Fields) -> tuple[str, ...]:
    if not fields.values:
        raise HearevalError(fields.where, got="no clips", expected="at least one", remedy=fields.remedy)
    for name in fields:
        check_clip(name, fields.where, fields.remedy)
    return tuple(fields)


def _check_known(labels: Iterable[str], known: frozenset[str], fields: Fields, where: str) -> None:
    for label in labels:
        if label not in known:
            error = unknown_name(f"label of {where}", label, known)
            remedy = f"{error.remedy} {fields.remedy}".strip()
            raise fields.error(error.what, error.got, error.expected, remedy)


def _parse_scene_clip(fields: Fields, split: str, name: str) -> LabeledClip:
    value = fields.values[name]
    labels = value if isinstance(value, list) else [value]
    if not all(map(is_label, labels)):
        raise fields.error(f"labels of {split}/{name}", shorten(value), "a list of texts or whole numbers")
    return LabeledClip(name, labels=tuple(map(str, labels)))


def _parse_event_clip(fields: Fields, split: str, name: str) -> LabeledClip:
    value = fields.values[name]
    if not isinstance(value, list):
        expected = f"a list of objects with the keys {', '.join(EVENT_KEYS)}"
        raise fields.error(f"events of {split}/{name}", shorten(value), expected)
    where = f"{fields.where}: an event of {split}/{name}"
    return LabeledClip(name, events=tuple(parse_event(each, where, fields.remedy) for each in value))


def parse_event(value: Any, where: str, remedy: str = "") -> Event:
    """Return the event that a JSON object describes, with its label as text.

    Args:
        where: name of the event in errors.

    Raises:
        HearevalError: keys are missing, the label is neither text nor a whole number, or the times are not
            those of a sound.

    >>> parse_event({"label": 60, "start": 0.0, "end": 250.0}, "an event of a.wav")
    Event(onset_ms=0.0, offset_ms=250.0, label='60')
    """
    if not isinstance(value, dict) or not all(key in value for key in EVENT_KEYS):
        got = f"keys {', '.join(map(ascii, value))}" if isinstance(value, dict) else shorten(value)
        raise HearevalError(where, got=got, expected=f"keys {', '.join(EVENT_KEYS)}", remedy=remedy)
    event = Fields(where, value, remedy)
    if not is_label(value["label"]):
        raise event.error("label", shorten(value["label"]), "text or a whole number")
    onset_ms, offset_ms = event.number("start"), event.number("end")
    if not 0 <= onset_ms <= offset_ms <= MAX_END_MS:
        raise HearevalError(
            where,
            got=f"from {onset_ms:g} to {offset_ms:g} ms",
            expected="0 <= start <= end, within a day",
            remedy=remedy,
        )
    return Event(onset_ms, offset_ms, str(value["label"]))


def is_label(value: Any) -> bool:
    """Return whether a JSON value can be a label: text or a whole number."""
    return isinstance(value, str | int) and not isinstance(value, bool)


# --------------------------------------------------------------------------- vocabulary


def read_vocabulary(folder: Path, *, remedy: str = PREPARE_AGAIN) -> tuple[str, ...]:
    """Return the labels of a folder's labelvocabulary.csv, in the order of their index.

    Args:
        folder: a task folder, or an embeddings folder, which has a copy of the file.

    Raises:
        HearevalError: the file is missing, or not a table of the indices 0, 1, 2 ... and different labels.
    """
    path = folder / layout.VOCABULARY
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = sorted((int(row["idx"]), _text(row["label"])) for row in csv.DictReader(stream))
    except FileNotFoundError:
        expected = "the labels of the task"
        raise HearevalError(f"{path}", got="no such file", expected=expected, remedy=remedy) from None
    except (KeyError, ValueError, TypeError, csv.Error):
        expected = f"{','.join(HEADER)} and a row for each label"
        raise HearevalError(f"{path}", got="other columns", expected=expected, remedy=remedy) from None
    except OSError as error:
        raise about_files(error) from None
    if not rows or [index for index, _ in rows] != list(range(len(rows))):
        expected = "indices 0, 1, 2 ... without a gap"
        raise HearevalError(f"{path}", got=f"{len(rows)} rows", expected=expected, remedy=remedy)
    labels = tuple(label for _, label in rows)
    if len(set(labels)) < len(labels):
        label = next(label for label in labels if labels.count(label) > 1)
        raise HearevalError(f"{path}", got=f"label {label!a} twice", expected="each once", remedy=remedy)
    return labels


def _text(cell: str | None) -> str:
    if cell is None:
        raise ValueError("a row is too short")
    return cell


# --------------------------------------------------------------------------- writing


def write_labels(folder: Path, split: str, labels: Mapping[str, Collection[Label | Event]]) -> None:
    """Write `<split>.json`: for each clip, by file name, its labels or events in the given order."""
    values = {name: [_value(each) for each in of_clip] for name, of_clip in labels.items()}
    files.write_json(folder / layout.split_json(split), values)


def _value(label: Label | Event) -> Any:
    if isinstance(label, Event):
        return dict(zip(EVENT_KEYS, (label.label, label.onset_ms, label.offset_ms), strict=True))
    return label


def write_vocabulary(folder: Path, labels: Iterable[Label]) -> None:
    """Write labelvocabulary.csv: the sorted labels with their indices."""
    files.write_text(folder / layout.VOCABULARY, format_vocabulary(labels))


def format_vocabulary(labels: Iterable[Label]) -> str:
    r"""Return labelvocabulary.csv as text.

    >>> format_vocabulary({"no", "yes"})
    'idx,label\n0,no\n1,yes\n'
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(enumerate(sorted(labels)))  # type: ignore[type-var]
    return stream.getvalue()
