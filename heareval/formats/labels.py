"""Read, check and write the labels of a task: `<split>.json` for each split, and labelvocabulary.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heareval import files, layout
from heareval.errors import HearevalError, file_error
from heareval.formats.fields import Fields, read_fields, shorten
from heareval.formats.names import check_clip
from heareval.formats.task_metadata import PREPARE_AGAIN, TaskMetadata
from heareval.spec import Event, Label

# Segment metrics count segments up to the last event's end: a time in the wrong unit would exhaust memory.
MAX_END_MS = 24 * 3600 * 1000.0
EVENT_KEYS = ("label", "start", "end")
HEADER = ("idx", "label")


@dataclass(frozen=True)
class LabeledClip:
    """A clip with its labels (scene tasks), events (event tasks) or attributes (pairwise tasks).

    Args:
        name: file name inside the split's folder, `5-9032-A-0.wav`.
        labels: what the clip is, as the vocabulary spells it.
        events: what happens in the clip and when; their labels are text as in the vocabulary.
        attributes: what relations between clips are made of, such as the speaker.
    """

    name: str
    labels: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def clip_id(self) -> str:
        """The file name without `.wav`."""
        return self.name.removesuffix(".wav")


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
    """Return the clips of a split with their labels, events or attributes, in the order of its embeddings.

    A bare text or whole number counts as a list of one label.

    Args:
        folder: a task folder, or an embeddings folder, which has copies of its files.
        vocabulary: the labels of the task; () for a pairwise task, which has none.

    Raises:
        HearevalError: the file is missing or wrong, a label is not in the vocabulary, a clip of a multiclass
            task has not exactly one label, or an event's times make no sense.

    >>> vocabulary = read_vocabulary(folder)  # doctest: +SKIP
    >>> read_labels(folder, "fold00", read_task_metadata(folder), vocabulary)[0]  # doctest: +SKIP
    LabeledClip(name='1-100032-A-0.wav', labels=('dog',), events=())
    """
    fields = _read_split(folder, split, remedy)
    known = frozenset(vocabulary)
    clips = []
    for name in _clip_names(fields):
        where = f"{fields.where}: {split}/{name}"
        if metadata.is_pairwise:
            attributes = parse_attributes(fields.values[name], where, fields.remedy)
            clips.append(LabeledClip(name, attributes=attributes))
            continue
        clip = _parse_clip(name, fields, where, is_event=metadata.is_event)
        labels = clip.labels or tuple(str(event.label) for event in clip.events)
        if unknown := [label for label in labels if label not in known]:
            raise fields.unknown_name(f"label of {split}/{name} in {fields.where}", unknown[0], known)
        if not metadata.is_multilabel and len(labels) != 1:
            expected = "exactly one in a multiclass task"
            raise HearevalError(where, got=f"{len(labels)} labels", expected=expected, remedy=remedy)
        clips.append(clip)
    return tuple(clips)


def _parse_clip(name: str, fields: Fields, where: str, *, is_event: bool) -> LabeledClip:
    value = fields.values[name]
    if is_event:
        return LabeledClip(name, events=parse_events(value, where, fields.remedy))
    return LabeledClip(name, labels=parse_labels(value, where, fields.remedy))


def _read_split(folder: Path, split: str, remedy: str) -> Fields:
    return read_fields(folder / layout.split_json(split), remedy=remedy)


def _clip_names(fields: Fields) -> tuple[str, ...]:
    if not fields.values:
        raise HearevalError(fields.where, got="no clips", expected="at least one", remedy=fields.remedy)
    for name in fields:
        check_clip(name, fields.where, fields.remedy)
    return tuple(fields)


def parse_labels(value: Any, where: str, remedy: str = "") -> tuple[str, ...]:
    """Return the labels of a clip as text; a bare text or whole number counts as a list of one.

    Args:
        where: name of the clip in errors.

    Raises:
        HearevalError: the value is something else.

    >>> parse_labels([60, 64], "train/a.wav"), parse_labels("dog", "train/b.wav")
    (('60', '64'), ('dog',))
    """
    labels = value if isinstance(value, list) else [value]
    if not all(map(is_label, labels)):
        raise HearevalError(
            where, got=shorten(value), expected="a list of labels (text or whole numbers)", remedy=remedy
        )
    return tuple(map(str, labels))


def parse_attributes(value: Any, where: str, remedy: str = "") -> Mapping[str, str]:
    """Return the attributes of a clip, text by name.

    Args:
        where: name of the clip in errors.

    Raises:
        HearevalError: the value is something else.

    >>> parse_attributes({"speaker": "jackson"}, "test/a.wav")
    {'speaker': 'jackson'}
    """
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        expected = "an object of texts, the attributes of the clip"
        raise HearevalError(where, got=shorten(value), expected=expected, remedy=remedy)
    return value


def parse_events(value: Any, where: str, remedy: str = "") -> tuple[Event, ...]:
    """Return the events of a clip, with their labels as text.

    Args:
        where: name of the clip in errors.

    Raises:
        HearevalError: the value is not a list of events.

    >>> parse_events([{"label": 60, "start": 0.0, "end": 250.0}], "train/a.wav")
    (Event(onset_ms=0.0, offset_ms=250.0, label='60'),)
    """
    if not isinstance(value, list):
        expected = f"a list of events with {', '.join(EVENT_KEYS)}"
        raise HearevalError(where, got=shorten(value), expected=expected, remedy=remedy)
    return tuple(_parse_event(each, where, remedy) for each in value)


def _parse_event(value: Any, where: str, remedy: str) -> Event:
    if not isinstance(value, dict) or not all(key in value for key in EVENT_KEYS):
        expected = f"events with {', '.join(EVENT_KEYS)}"
        raise HearevalError(where, got=shorten(value), expected=expected, remedy=remedy)
    event = Fields(f"{where}: an event", value, remedy)
    if not is_label(value["label"]):
        raise event.error("label", shorten(value["label"]), "text or a whole number")
    onset_ms, offset_ms = event.number("start"), event.number("end")
    if not 0 <= onset_ms <= offset_ms <= MAX_END_MS:
        got, expected = f"from {onset_ms:g} to {offset_ms:g} ms", "0 <= start <= end, within a day"
        raise HearevalError(event.where, got=got, expected=expected, remedy=remedy)
    return Event(onset_ms, offset_ms, str(value["label"]))


def is_label(value: Any) -> bool:
    """Return whether a JSON value can be a label: text or a whole number."""
    return isinstance(value, str | int) and not isinstance(value, bool)


# --------------------------------------------------------------------------- vocabulary


def read_vocabulary(
    folder: Path, *, remedy: str = PREPARE_AGAIN, where: str = "", is_exact: bool = False
) -> tuple[str, ...]:
    """Return the labels of a folder's labelvocabulary.csv, in the order of their index.

    Args:
        folder: a task folder, or an embeddings folder, which has a copy of the file.
        remedy: advice for the user if the file is missing or wrong.
        where: name of the file in errors; "" means its path.
        is_exact: whether extra columns and rows in a different order are errors as well.

    Raises:
        HearevalError: the file is missing, or not a table of the indices 0, 1, 2 ... and different labels.
    """
    path = folder / layout.VOCABULARY
    where = where or str(path)
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            header, *table = [row for row in csv.reader(stream) if row]
        index_at, label_at = map(header.index, HEADER)
        rows = [(int(row[index_at]), row[label_at]) for row in table]
    except FileNotFoundError:
        expected = "the labels of the task"
        raise HearevalError(where, got="no such file", expected=expected, remedy=remedy) from None
    except UnicodeDecodeError as error:
        raise HearevalError(where, got=str(error), expected="text in UTF-8", remedy=remedy) from None
    except (ValueError, IndexError, csv.Error):
        raise _wrong_columns(where, remedy) from None
    except OSError as error:
        raise file_error(error) from None
    if is_exact and (tuple(header) != HEADER or any(len(row) != len(HEADER) for row in table)):
        raise _wrong_columns(where, remedy)
    rows = rows if is_exact else sorted(rows)
    if not rows or [index for index, _ in rows] != list(range(len(rows))):
        expected = "indices 0, 1, 2 ... without a gap"
        raise HearevalError(where, got=f"{len(rows)} rows", expected=expected, remedy=remedy)
    labels = tuple(label for _, label in rows)
    if len(set(labels)) < len(labels):
        label = next(label for label in labels if labels.count(label) > 1)
        raise HearevalError(where, got=f"label {label!a} twice", expected="each once", remedy=remedy)
    return labels


def _wrong_columns(where: str, remedy: str) -> HearevalError:
    expected = f"{','.join(HEADER)} and a row for each label"
    return HearevalError(where, got="other columns", expected=expected, remedy=remedy)


# --------------------------------------------------------------------------- writing


def write_labels(folder: Path, split: str, labels: Mapping[str, Collection[Label | Event]]) -> None:
    """Write `<split>.json`: for each clip, by file name, its labels or events in the given order."""
    values = {name: [_value(each) for each in of_clip] for name, of_clip in labels.items()}
    files.write_json(folder / layout.split_json(split), values)


def _value(label: Label | Event) -> Any:
    if isinstance(label, Event):
        return dict(zip(EVENT_KEYS, (label.label, label.onset_ms, label.offset_ms), strict=True))
    return label


def write_attributes(folder: Path, split: str, attributes: Mapping[str, Mapping[str, str]]) -> None:
    """Write `<split>.json` of a pairwise task: for each clip, by file name, its attributes."""
    values = {name: dict(of_clip) for name, of_clip in attributes.items()}
    files.write_json(folder / layout.split_json(split), values)


def remove_clips(folder: Path, split: str, clip_ids: Collection[str]) -> set[Label]:
    """Remove clips from `<split>.json`, and return the labels that the remaining clips have.

    Args:
        clip_ids: file names without `.wav`.

    Raises:
        HearevalError: no clip remains.
    """
    kept = drop_clips(folder, split, clip_ids)
    return {
        each["label"] if isinstance(each, dict) else each
        for labels in kept.values()
        for each in (labels if isinstance(labels, list) else [labels])
    }


def drop_clips(folder: Path, split: str, clip_ids: Collection[str]) -> Mapping[str, Any]:
    """Remove clips from `<split>.json`, and return the JSON values of the remaining ones by file name.

    Args:
        clip_ids: file names without `.wav`.

    Raises:
        HearevalError: no clip remains.
    """
    fields = _read_split(folder, split, PREPARE_AGAIN)
    kept = {
        name: labels for name, labels in fields.values.items() if name.removesuffix(".wav") not in clip_ids
    }
    if not kept:
        raise HearevalError(f"split {split}", got="no clip with usable audio", expected="at least one")
    files.write_json(folder / layout.split_json(split), kept)
    return kept


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
