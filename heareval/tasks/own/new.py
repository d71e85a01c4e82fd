"""Create the TOML file of a new task from a user's sounds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from heareval import files
from heareval.errors import HearevalError
from heareval.tasks.metadata import relate_clips, select_clips
from heareval.tasks.own.overview import describe_new_task, read_length_s
from heareval.tasks.own.pairwise_overview import describe_pairwise_task
from heareval.tasks.own.sounds import Sounds, find_sounds
from heareval.tasks.own.task import MODE, OwnTaskSettings, check_settings, make_task, read_settings
from heareval.tasks.splits import assign_splits

# Numbers of folds to try in turn, if drawing train, valid and test would leave one without some label.
FOLDS_TO_TRY = (5, 4, 3)
COMMENTS = {
    "version": "Every version has its own folder of clips.",
    "folder": "A folder with a sub-folder for each class, relative to this file.",
    "table": "A table of sounds and labels, relative to this file.",
    "pairs": "A table of pairs with scores, or of same and different pairs, relative to this file.",
    "triplets": "A table of triplets, relative to this file.",
    "queries": "A table of queries and a gallery, relative to this file.",
    "kind": "multiclass: a clip has one label; multilabel: it may have several.",
    "clip_duration_s": "Clips are cut or padded with silence to this length, in seconds.",
    "folds": "Cross-validation with this many folds, instead of train, valid and test.",
    "metrics": "The first metric is the main score, and selects the predictor where one is trained.",
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
        raise HearevalError(f"{file} already exists", remedy="Edit it, or remove it to create it again.")
    settings = check_settings(values, file)
    sounds = find_sounds(file, **settings.source)
    if sounds.is_event and settings.clip_duration_s is None:
        settings = replace(settings, clip_duration_s=_find_longest_s(sounds))
    requested, settings = settings, _choose_splits(settings, sounds)
    task = make_task(settings, sounds)
    kind = None if task.is_pairwise else task.prediction_type
    settings = replace(settings, kind=kind, metrics=task.metrics)
    # Selected as `prepare` will do it, so that nothing is written that it would refuse.
    clips = select_clips(task, MODE, sounds.recordings)
    if sounds.relation is not None:
        relate_clips(task, replace(clips, relation=sounds.relation))
    files.write_text(file, format_toml(settings))
    task = make_task(read_settings(file), sounds)
    if sounds.relation is not None:
        return describe_pairwise_task(task, sounds, sounds.relation)
    return describe_new_task(task, sounds, clips, has_chosen_folds=settings.folds != requested.folds)


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


def format_toml(settings: OwnTaskSettings) -> str:
    """Return the settings as the text of a TOML file, with comments that explain the keys."""
    lines = [f"# A task for heareval: `heareval prepare {settings.name}.toml`"]
    for key, value in asdict(settings).items():
        if value:
            lines += [f"# {COMMENTS[key]}"] if key in COMMENTS else []
            # JSON and TOML write text, numbers and lists of text alike.
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
