"""A new task of one's own: its TOML file, with all that follows from the sounds."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import soundfile

from heareval import files
from heareval.errors import HearevalError
from heareval.spec import Recording, TaskSpec
from heareval.tasks.own import task as own
from heareval.tasks.own.sounds import Sounds, find_sounds
from heareval.tasks.splits import draw_splits, labels_of

# What is tried in turn where the usual draw of train, valid and test would leave one without some label.
FOLDS_TO_TRY = (5, 4, 3)
# Most labelled sounds last longer.
SHORT_MS = 20
COMMENTS = {
    "version": "Clips of another version go to another folder.",
    "folder": "A folder of class sub-folders, from where this file lies.",
    "table": "A table of sounds and labels, from where this file lies.",
    "kind": "multiclass: a clip has one label; multilabel: it may have several.",
    "clip_duration_s": "Clips are cut to this length or filled up with silence.",
    "folds": "Instead of drawing train, valid and test: a score from every fold.",
    "metrics": "The first one chooses the predictor.",
}


def new_task(values: Mapping[str, Any], file: Path) -> list[str]:
    """Write the TOML file of a new task, with all that follows from its sounds; what was found, in lines.

    Args:
        values: keys and values of the file, as far as the user gives them.
        file: where to write; it must not be there yet.
    """
    file = file.absolute()
    if file.exists():
        raise HearevalError(
            f"task file {file}",
            got="one that is there",
            expected="a new name",
            remedy="Change it as you like, or remove it to have it made anew.",
        )
    settings = own.check_settings(values, file)
    sounds = find_sounds(file, folder=settings.folder, table=settings.table)
    if sounds.is_event and settings.clip_duration_s is None:
        settings = replace(settings, clip_duration_s=_longest_s(sounds))
    wanted, settings = settings, _with_splits_that_work(settings, sounds)
    task = own.make_task(settings, sounds)
    settings = replace(settings, kind=task.prediction_type, metrics=task.metrics)
    files.write_text(file, toml_text(settings))
    lines = _description(own.make_task(own.read_settings(file), sounds), sounds)
    reason = "drawing train, valid and test would leave one without some label, or without clips"
    return [*lines, f"  folds, because {reason}"] if settings.folds != wanted.folds else lines


def _with_splits_that_work(settings: own.Settings, sounds: Sounds) -> own.Settings:
    """The settings, with folds if drawing train, valid and test would leave one without some label."""
    if settings.folds or sounds.has_splits:
        return settings
    try:
        own.make_task(settings, sounds)
        return settings
    except HearevalError as error:
        reason = error
    for folds in FOLDS_TO_TRY:
        try:
            task = own.make_task(replace(settings, folds=folds), sounds)
            draw_splits(sounds.recordings, task.splits, need_every_label=not sounds.is_event)
            return replace(settings, folds=folds)
        except HearevalError as error:
            reason = error
    raise reason


def _longest_s(sounds: Sounds) -> float:
    """Length of the longest recording in seconds, up to the next millisecond."""
    lengths = [length_s(each) for each in sounds.recordings]
    known = [length for length in lengths if length is not None]
    if len(known) < len(lengths):
        got = f"{len(lengths) - len(known)} sounds of unknown length"
        remedy = "Say the length of the clips with --clip-seconds."
        raise HearevalError(f"{sounds.file}: clip_duration_s", got=got, remedy=remedy)
    return math.ceil(max(known) * 1000) / 1000


def length_s(recording: Recording) -> float | None:
    """Length of a recording by its file's header, in seconds; None where only ffmpeg can read it."""
    try:
        facts = soundfile.info(str(recording.path))
    except soundfile.LibsndfileError:
        return None
    return float(facts.frames / facts.samplerate)


def toml_text(settings: own.Settings) -> str:
    """The settings as a TOML file that tells people what they mean."""
    lines = [f"# A task for heareval: `heareval prepare {settings.name}.toml`"]
    for key, value in asdict(settings).items():
        if value:
            lines += [f"# {COMMENTS[key]}"] if key in COMMENTS else []
            # Of text, numbers and lists of text JSON and TOML think alike.
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _description(task: TaskSpec, sounds: Sounds) -> list[str]:
    lengths = [length_s(each) for each in sounds.recordings]
    minutes, unknown = sum(length or 0 for length in lengths) / 60, lengths.count(None)
    counts = Counter(label for each in sounds.recordings for label in labels_of(each))
    names = [" ".join(f"{label} {count}".split()) for label, count in counts.most_common()]
    sizes = f"{len(lengths)} clips, {minutes:.1f} minutes"
    sizes += f" ({unknown} of them of unknown length)" if unknown else ""
    sizes += f"; other files passed over: {sounds.passed_over}" if sounds.passed_over else ""
    given = "given" if sounds.has_splits else "drawn"
    return [
        *_doubts(sounds.recordings, lengths),
        sizes,
        f"{len(counts)} labels, {task.prediction_type}, in so many clips: {own.few(names)}",
        f"splits: {own.splits_in_words(task.splits)}, {given}",
    ]


def _doubts(recordings: Sequence[Recording], lengths: Sequence[float | None]) -> list[str]:
    """What in the times of events is hardly meant."""
    events = [(event, length) for r, length in zip(recordings, lengths, strict=True) for event in r.events]
    late = sum(length is not None and event.onset_ms >= length * 1000 for event, length in events)
    short = sum(event.offset_ms - event.onset_ms < SHORT_MS for event, _ in events)
    lines = [f"note: {late} of {len(events)} events begin after the end of their sound"] if late else []
    if 2 * short > len(events):
        lines.append(f"note: most events are shorter than {SHORT_MS} ms; are the times seconds?")
    return lines
