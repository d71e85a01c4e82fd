"""Create the TOML file of a new task from a user's sounds."""

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
from heareval.tasks.own.sounds import Sounds, find_sounds
from heareval.tasks.own.task import (
    OwnTaskSettings,
    check_settings,
    describe_splits,
    join_some,
    make_task,
    read_settings,
)
from heareval.tasks.splits import assign_splits, labels_of

# Numbers of folds to try in turn, if drawing train, valid and test would leave one without some label.
FOLDS_TO_TRY = (5, 4, 3)
# Real events are rarely shorter; times in seconds instead of milliseconds are.
SHORT_MS = 20
COMMENTS = {
    "version": "Every version has its own folder of clips.",
    "folder": "A folder with a sub-folder for each class, relative to this file.",
    "table": "A table of sounds and labels, relative to this file.",
    "kind": "multiclass: a clip has one label; multilabel: it may have several.",
    "clip_duration_s": "Clips are cut or padded with silence to this length, in seconds.",
    "folds": "Cross-validation with this many folds, instead of train, valid and test.",
    "metrics": "The first metric selects the predictor.",
}


def new_task(values: Mapping[str, Any], file: Path) -> list[str]:
    """Write the TOML file of a new task, with defaults that fit its sounds; return lines that describe it.

    Args:
        values: the keys and values of the file that the user gives.
        file: the file to write; it must not exist yet.

    Raises:
        HearevalError: the file exists, a value is wrong, or the sounds make no task.
    """
    file = file.absolute()
    if file.exists():
        raise HearevalError(
            f"task file {file}",
            got="an existing file",
            expected="a new name",
            remedy="Edit the file, or remove it to create it again.",
        )
    settings = check_settings(values, file)
    sounds = find_sounds(file, folder=settings.folder, table=settings.table)
    if sounds.is_event and settings.clip_duration_s is None:
        settings = replace(settings, clip_duration_s=_find_longest_s(sounds))
    requested, settings = settings, _choose_splits(settings, sounds)
    task = make_task(settings, sounds)
    settings = replace(settings, kind=task.prediction_type, metrics=task.metrics)
    files.write_text(file, format_toml(settings))
    lines = _describe(make_task(read_settings(file), sounds), sounds)
    if settings.folds == requested.folds:
        return lines
    reason = "drawing train, valid and test would leave one without some label, or without clips"
    return [*lines, f"  folds, because {reason}"]


def _choose_splits(settings: OwnTaskSettings, sounds: Sounds) -> OwnTaskSettings:
    """Return the settings, with folds if drawing train, valid and test would leave one without some label."""
    if settings.folds or sounds.has_splits:
        return settings
    try:
        make_task(settings, sounds)
        return settings
    except HearevalError as error:
        reason = error
    for folds in FOLDS_TO_TRY:
        try:
            task = make_task(replace(settings, folds=folds), sounds)
            assign_splits(sounds.recordings, task.splits, need_every_label=not sounds.is_event)
            return replace(settings, folds=folds)
        except HearevalError as error:
            reason = error
    raise reason


def _find_longest_s(sounds: Sounds) -> float:
    """Return the length of the longest recording in seconds, rounded up to milliseconds."""
    lengths = [read_length_s(each) for each in sounds.recordings]
    known = [length for length in lengths if length is not None]
    if len(known) < len(lengths):
        got = f"{len(lengths) - len(known)} sounds of unknown length"
        remedy = "Give the length of the clips with --clip-seconds."
        raise HearevalError(f"{sounds.file}: clip_duration_s", got=got, remedy=remedy)
    return math.ceil(max(known) * 1000) / 1000


def read_length_s(recording: Recording) -> float | None:
    """Return the length of a recording in seconds by its header; None if only ffmpeg can read the file."""
    try:
        facts = soundfile.info(str(recording.path))
    except soundfile.LibsndfileError:
        return None
    return float(facts.frames / facts.samplerate)


def format_toml(settings: OwnTaskSettings) -> str:
    """Return the settings as the text of a TOML file, with comments that explain the keys."""
    lines = [f"# A task for heareval: `heareval prepare {settings.name}.toml`"]
    for key, value in asdict(settings).items():
        if value:
            lines += [f"# {COMMENTS[key]}"] if key in COMMENTS else []
            # JSON and TOML write text, numbers and lists of text alike.
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _describe(task: TaskSpec, sounds: Sounds) -> list[str]:
    lengths = [read_length_s(each) for each in sounds.recordings]
    minutes, unknown = sum(length or 0 for length in lengths) / 60, lengths.count(None)
    counts = Counter(label for each in sounds.recordings for label in labels_of(each))
    names = [" ".join(f"{label} {count}".split()) for label, count in counts.most_common()]
    sizes = f"{len(lengths)} clips, {minutes:.1f} minutes"
    sizes += f" ({unknown} of them of unknown length)" if unknown else ""
    sizes += f"; other files ignored: {sounds.ignored_files}" if sounds.ignored_files else ""
    given = "given" if sounds.has_splits else "drawn"
    return [
        *_list_suspicions(sounds.recordings, lengths),
        sizes,
        f"{len(counts)} labels, {task.prediction_type}, with their numbers of clips: {join_some(names)}",
        f"splits: {describe_splits(task.splits)}, {given}",
    ]


def _list_suspicions(recordings: Sequence[Recording], lengths: Sequence[float | None]) -> list[str]:
    """Return notes about times of events that are probably mistakes."""
    events = [(event, length) for r, length in zip(recordings, lengths, strict=True) for event in r.events]
    late = sum(length is not None and event.onset_ms >= length * 1000 for event, length in events)
    short = sum(event.offset_ms - event.onset_ms < SHORT_MS for event, _ in events)
    lines = [f"note: {late} of {len(events)} events begin after the end of their sound"] if late else []
    if 2 * short > len(events):
        lines.append(f"note: most events are shorter than {SHORT_MS} ms; are the times in seconds?")
    return lines
