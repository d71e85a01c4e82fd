"""What the author of a new task should know about it: how many clips there are, and what is doubtful."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import soundfile

from heareval.spec import Label, Recording, TaskSpec
from heareval.tasks.metadata import SelectedClips
from heareval.tasks.own.sounds import Sounds
from heareval.tasks.own.task import MAX_SHOWN_LABELS, describe_splits, join_some
from heareval.tasks.splits import labels_of

# With fewer test clips of a label, a single clip moves its score by more than 20 points.
FEW_TEST_CLIPS = 5
# More splits than this do not fit beside each other.
MAX_SHOWN_SPLITS = 6
# The formats whose headers libsndfile reads. What it cannot read of them is damaged, or something else.
READABLE_SUFFIXES = (".wav", ".flac", ".aiff", ".aif", ".ogg")
# How much of a file shows whether it is text, and how much of that is quoted.
TEXT_BYTES, QUOTED_CHARACTERS = 512, 40
# Real events are rarely shorter; times in seconds instead of milliseconds are.
SHORT_MS = 20


def describe_new_task(
    task: TaskSpec, sounds: Sounds, clips: SelectedClips, *, has_chosen_folds: bool
) -> list[str]:
    """Return lines for the author of a task: what is doubtful or was left out, and the numbers of clips.

    Args:
        task: the task.
        sounds: its sounds.
        clips: the same with their splits.
        has_chosen_folds: whether it has folds only because train, valid and test could not be drawn.
    """
    lengths = [read_length_s(each) for each in sounds.recordings]
    unknown = lengths.count(None)
    counts = Counter(label for each in sounds.recordings for label in labels_of(each))
    names = [f"{_format_label(label)} {count}" for label, count in counts.most_common()]
    sizes = f"{len(lengths)} clips, {describe_length(lengths)}"
    sizes += f" ({unknown} of them of unknown length)" if unknown else ""
    given = "given" if sounds.has_splits else "drawn"
    reason = (
        "  folds, because drawing train, valid and test would leave one without some label, or without clips"
    )
    notes = [
        *sounds.doubts,
        *doubt_contents(sounds.recordings, lengths),
        *_doubt_times(sounds.recordings, lengths),
        *_doubt_small_tests(clips, task, are_drawn=not sounds.has_splits),
    ]
    return [
        *(f"note: {note}" for note in notes),
        *([f"left out: {', '.join(sounds.left_out)}"] if sounds.left_out else []),
        sizes,
        f"{len(counts)} labels, {task.prediction_type}, with their numbers of clips: {join_some(names)}",
        f"splits: {describe_splits(task.splits)}, {given}",
        *([reason] if has_chosen_folds else []),
        *count_clips(clips, task),
    ]


def count_clips(clips: SelectedClips, task: TaskSpec) -> list[str]:
    """Return lines with the numbers of clips of each split and label.

    At most MAX_SHOWN_LABELS labels make a table; if there are more than MAX_SHOWN_SPLITS folds, it has the
    fewest and the most clips of a fold. More labels make a line for each split, with the labels of which it
    has the fewest and the most clips.
    """
    splits = task.splits.names
    counts = {split: Counter(_list_labels(clips.of_split(split))) for split in splits}
    labels = sorted(set().union(*counts.values()), key=lambda label: (isinstance(label, str), label))
    if len(labels) > MAX_SHOWN_LABELS:
        return [f"  {split}: {_describe_extremes(labels, counts[split])}" for split in splits]
    if len(splits) > MAX_SHOWN_SPLITS:
        rows = [["label", "fewest in a fold", "most in a fold"]]
        for label in labels:
            of_label = [counts[split][label] for split in splits]
            rows.append([_format_label(label), str(min(of_label)), str(max(of_label))])
    else:
        rows = [["label", *splits]]
        rows += [[_format_label(label), *(str(counts[split][label]) for split in splits)] for label in labels]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(["", row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _describe_extremes(labels: Sequence[Label], counts: Counter[Label]) -> str:
    ordered = sorted(labels, key=lambda label: counts[label])
    few, many = (f"{counts[each]} of {_format_label(each)}" for each in (ordered[0], ordered[-1]))
    return f"from {few} to {many}"


def _format_label(label: Label) -> str:
    """Return a label without line breaks, which would break a table."""
    return " ".join(str(label).split())


def _list_labels(clips: Sequence[Recording]) -> list[Label]:
    return [label for clip in clips for label in labels_of(clip)]


def _doubt_small_tests(clips: SelectedClips, task: TaskSpec, *, are_drawn: bool) -> list[str]:
    """Return a note if some labels have few test clips. Every clip of a fold is a test clip once."""
    tested = clips.clips if task.splits.folds else clips.of_split("test")
    counts = Counter(_list_labels(tested))
    few = [label for label in {*_list_labels(clips.clips)} if counts[label] < FEW_TEST_CLIPS]
    if not few:
        return []
    few.sort(key=lambda label: (counts[label], str(label)))
    names = join_some([f"{_format_label(label)} {counts[label]}" for label in few])
    can_set_folds = are_drawn and not task.splits.folds
    remedy = "add clips, or set folds, which test every clip once" if can_set_folds else "add clips"
    return [
        f"fewer than {FEW_TEST_CLIPS} test clips of some labels ({names}): the confidence intervals of such "
        f"scores mean little; {remedy}"
    ]


def doubt_contents(recordings: Sequence[Recording], lengths: Sequence[float | None]) -> list[str]:
    """Return notes about sounds that are probably no sounds; only `prepare` reads them as a whole."""
    silent = [each.path for each, length in zip(recordings, lengths, strict=True) if length == 0]
    unread = [
        each.path
        for each, length in zip(recordings, lengths, strict=True)
        if length is None and each.path.name.lower().endswith(READABLE_SUFFIXES)
    ]
    texts = {path: text for path in unread if (text := _read_text(path))}
    others = [path for path in unread if path not in texts]
    lines = []
    if texts:
        path, text = next(iter(texts.items()))
        lines.append(
            f"{_count_sounds(len(texts))} text and no audio, such as {path}, which begins with {text!r}; "
            "`prepare` will stop there"
        )
    if others:
        lines.append(
            f"{_count_sounds(len(others))} damaged or of another format than the name says, such as "
            f"{others[0]}; `prepare` stops there if ffmpeg can't read it"
        )
    if silent:
        lines.append(f"{_count_sounds(len(silent))} without samples, such as {silent[0]}")
    return lines


def _count_sounds(number: int) -> str:
    return "1 sound is" if number == 1 else f"{number} sounds are"


def _read_text(path: Path) -> str:
    """Return the beginning of a text file; "" for any other."""
    with open(path, "rb") as stream:
        content = stream.read(TEXT_BYTES)
    # The last character may be cut off.
    text = content.decode("utf-8", "ignore" if len(content) == TEXT_BYTES else "replace")
    is_text = all(character.isprintable() or character.isspace() for character in text)
    return text[:QUOTED_CHARACTERS] if is_text and "\ufffd" not in text else ""


def _doubt_times(recordings: Sequence[Recording], lengths: Sequence[float | None]) -> list[str]:
    """Return notes about times of events that are probably mistakes."""
    events = [(event, length) for r, length in zip(recordings, lengths, strict=True) for event in r.events]
    late = sum(length is not None and event.onset_ms >= length * 1000 for event, length in events)
    short = sum(event.offset_ms - event.onset_ms < SHORT_MS for event, _ in events)
    lines = [f"{late} of {len(events)} events begin after the end of their sound"] if late else []
    if 2 * short > len(events):
        lines.append(f"most events are shorter than {SHORT_MS} ms; are the times in seconds?")
    return lines


def describe_length(lengths_s: Sequence[float | None]) -> str:
    """Return the length of all recordings together, in minutes from one minute on; unknown ones are left out.

    >>> describe_length([30.0, 60.0, None]), describe_length([1.5]), describe_length([59.97])
    ('1.5 minutes', '1.5 seconds', '1.0 minutes')
    """
    seconds = sum(length or 0 for length in lengths_s)
    return f"{seconds / 60:.1f} minutes" if seconds >= 59.95 else f"{seconds:.1f} seconds"


def read_length_s(recording: Recording) -> float | None:
    """Return the length of a recording in seconds by its header; None if only ffmpeg can read the file."""
    try:
        facts = soundfile.info(str(recording.path))
    except soundfile.LibsndfileError:
        return None
    return float(facts.frames / facts.samplerate)
