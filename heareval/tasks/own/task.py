"""A task of one's own, without writing Python: a small TOML file that names class folders or a table."""

from __future__ import annotations

import math
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heareval import files
from heareval.errors import HearevalError, unknown_name
from heareval.spec import EmbeddingType, Label, Mode, PredictionType, Splits, TaskSpec
from heareval.tasks.own.sounds import SPLITS, Sounds, find_sounds
from heareval.tasks.sources import SCENE_METRICS
from heareval.tasks.splits import draw_splits, labels_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VERSION = 1
MODE = "full"
# What a task is scored by unless it says otherwise.
DEFAULT_METRICS: Mapping[tuple[EmbeddingType, PredictionType], tuple[str, ...]] = {
    ("scene", "multiclass"): SCENE_METRICS,
    ("scene", "multilabel"): ("mAP", "d_prime", "aucroc", "top1_acc"),
    ("event", "multilabel"): ("event_onset_200ms_fms", "segment_1s_er"),
}
METRICS: Mapping[EmbeddingType, tuple[str, ...]] = {
    "scene": (*SCENE_METRICS, "pitch_acc", "chroma_acc"),
    "event": (
        *("event_onset_200ms_fms", "event_onset_50ms_fms"),
        *("event_onset_offset_50ms_20perc_fms", "segment_1s_er"),
    ),
}
# Of k folds one is tested, another validates and the others train; their names have two digits.
MIN_FOLDS, MAX_FOLDS = 3, 100
MANY_LABELS = 12


@dataclass(frozen=True)
class Settings:
    """What a task's TOML file says; "", None and () where it says nothing."""

    name: str
    version: str = "v1"
    folder: str = ""
    table: str = ""
    kind: PredictionType | None = None
    clip_duration_s: float | None = None
    folds: int | None = None
    split_percentages: Mapping[str, float] | None = None
    metrics: tuple[str, ...] = ()


def load_task(file: Path) -> TaskSpec:
    """The task that a TOML file declares; raises HearevalError for what is wrong in it or its data."""
    file = file.absolute()
    settings = read_settings(file)
    return make_task(settings, find_sounds(file, folder=settings.folder, table=settings.table))


def sounds_of(task: TaskSpec) -> Sounds | None:
    """What lies behind a task of one's own; None for the tasks of the benchmark."""
    owner = getattr(task.read_recordings, "__self__", None)
    return owner if isinstance(owner, Sounds) else None


# --------------------------------------------------------------------------- the TOML file


def _matches(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value))


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _is_folds(value: object) -> bool:
    return isinstance(value, int) and MIN_FOLDS <= value <= MAX_FOLDS


def _are_shares(value: object) -> bool:
    if not isinstance(value, dict) or set(value) != set(SPLITS):
        return False
    return all(map(_is_positive, value.values())) and math.isclose(sum(value.values()), 100)


def _are_names(value: object) -> bool:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        return False
    return bool(value) and len(set(value)) == len(value)


# Key -> whether a value is right, and what it should be.
CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "name": (_matches("[A-Za-z0-9_]+"), "letters, digits and _"),
    "version": (_matches("[A-Za-z0-9_][A-Za-z0-9_.]*"), "letters, digits, _ and dots"),
    "folder": (_matches(".+"), "the path of a folder"),
    "table": (_matches(".+"), "the path of a CSV file"),
    "kind": (_matches("multiclass|multilabel"), "multiclass or multilabel"),
    "clip_duration_s": (_is_positive, "seconds above 0"),
    "folds": (_is_folds, f"a whole number from {MIN_FOLDS} to {MAX_FOLDS}"),
    "split_percentages": (_are_shares, "shares of train, valid and test that make 100"),
    "metrics": (_are_names, "a list of different names"),
}


def read_settings(file: Path) -> Settings:
    """What a TOML file says, checked as far as it can be without the sounds."""
    try:
        values = tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        remedy = "Make one with `heareval tasks new`."
        raise HearevalError(f"task file {file}", got="no such file", remedy=remedy) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HearevalError(f"task file {file}", got=str(error), expected="TOML") from None
    return check_settings(values, file)


def check_settings(values: Mapping[str, Any], file: Path) -> Settings:
    """The settings, if every key and value is right."""
    for key, value in values.items():
        if key not in CHECKS:
            raise unknown_name(f"key in {file}", key, CHECKS)
        is_right, expected = CHECKS[key]
        if not is_right(value):
            raise HearevalError(f"{file}: {key}", got=repr(value), expected=expected)
    if "name" not in values:
        raise HearevalError(f"{file}: name", got="nothing", expected=CHECKS["name"][1])
    if ("folder" in values) == ("table" in values):
        got = "both" if "folder" in values else "neither"
        raise HearevalError(f"{file}: folder and table", got=got, expected="one of them")
    if "folds" in values and "split_percentages" in values:
        raise HearevalError(f"{file}: folds and split_percentages", got="both", expected="one at most")
    return Settings(**{**values, "metrics": tuple(values.get("metrics", ()))})


# --------------------------------------------------------------------------- the task


def make_task(settings: Settings, sounds: Sounds) -> TaskSpec:
    """The task with these settings and sounds, if they fit each other."""
    kind = _kind(settings, sounds)
    embedding_type: EmbeddingType = "event" if sounds.is_event else "scene"
    if sounds.is_event and settings.clip_duration_s is None:
        expected = "seconds: clips with events have one length"
        raise HearevalError(f"{sounds.file}: clip_duration_s", got="nothing", expected=expected)
    for name in settings.metrics:
        if name not in METRICS[embedding_type]:
            raise unknown_name(f"metric in {sounds.file}", name, METRICS[embedding_type])
    task = TaskSpec(
        name=settings.name,
        version=settings.version,
        embedding_type=embedding_type,
        prediction_type=kind,
        splits=_splits(settings, sounds),
        clip_duration_s=settings.clip_duration_s,
        metrics=settings.metrics or DEFAULT_METRICS[embedding_type, kind],
        modes={MODE: _mode(settings, sounds)},
        default_mode=MODE,
        read_recordings=sounds.read_recordings,
        lists_downloads=False,
        content=files.fingerprint("own", VERSION, settings=asdict(settings), sounds=sounds.content),
    )
    _check_splits(task, sounds)
    return task


def _mode(settings: Settings, sounds: Sounds) -> Mode:
    shares = settings.split_percentages
    return Mode((), split_percentages=shares, published=False, clips=len(sounds.recordings))


def _kind(settings: Settings, sounds: Sounds) -> PredictionType:
    """What the task says that it is, or else what its labels are."""
    several = next((r for r in sounds.recordings if len(r.labels) > 1), None)
    if sounds.is_event or several:
        if settings.kind == "multiclass":
            got = f"several labels of {several.path}" if several else "labels with times"
            raise HearevalError(f"{sounds.file}: kind", got=f"multiclass and {got}", expected="multilabel")
        return "multilabel"
    return settings.kind or "multiclass"


def _splits(settings: Settings, sounds: Sounds) -> Splits:
    """How clips come to their splits: as given, in new folds, or drawn."""
    if not sounds.has_splits:
        return Splits("new_split_kfold", settings.folds) if settings.folds else Splits("trainvaltest")
    given = {r.split for r in sounds.recordings}
    splits = Splits("trainvaltest")
    if not given <= set(SPLITS):
        splits = Splits("presplit_kfold", len(given))
        if given != set(splits.names) or not _is_folds(len(given)):
            expected = f"train and test, also valid, or fold00 to fold{MIN_FOLDS - 1:02d} or more"
            raise HearevalError(f"{sounds.file}: splits", got=", ".join(sorted(given)), expected=expected)
    elif "train" not in given:
        raise HearevalError(f"{sounds.file}: splits", got=", ".join(sorted(given)), expected="train too")
    draws = splits.mode == "trainvaltest" and set(SPLITS) - given
    if settings.folds or (settings.split_percentages and not draws):
        key = "folds" if settings.folds else "split_percentages"
        remedy = f"Remove {key}, or the splits that are given."
        raise HearevalError(f"{sounds.file}: {key}", got="splits that are given", remedy=remedy)
    return splits


def _check_splits(task: TaskSpec, sounds: Sounds) -> None:
    """Tell what is amiss with the labels of the splits before anything is prepared."""
    labels = set().union(*map(labels_of, sounds.recordings))
    if task.embedding_type == "scene" and len(labels) < 2:
        got = f"only {', '.join(map(str, labels))}"
        raise HearevalError(f"{sounds.file}: labels", got=got, expected="two or more")
    if task.splits.mode == "new_split_kfold":
        _check_counts(task, sounds)
        return
    _check_groups(task, sounds)
    shares = task.modes[MODE].split_percentages
    split_of = draw_splits(sounds.recordings, task.splits, shares, need_every_label=False)
    seen: dict[str, set[Label]] = defaultdict(set)
    for each in sounds.recordings:
        seen[split_of[each.clip_id]] |= labels_of(each)
    for split in task.splits.names:
        # Where several labels sound at once, the benchmark lets a split do without one.
        if task.embedding_type == "scene" and labels - seen[split]:
            lacking = sorted(map(str, labels - seen[split]))
            raise HearevalError(
                f"{sounds.file}: split {split}",
                got=f"no clip of {few(lacking)}",
                expected="every label in every split",
                remedy="More clips of it help, or folds = 5, or splits of your own in a table.",
            )


def _check_counts(task: TaskSpec, sounds: Sounds) -> None:
    """Every fold needs a clip of every label, or at least a clip; clips of one group go together."""
    folds, keys = len(task.splits.names), defaultdict(set)
    for each in sounds.recordings:
        for label in labels_of(each) if task.embedding_type == "scene" else {"all labels together"}:
            keys[label].add(each.split_key)
    for label, of_label in keys.items():
        if len(of_label) < folds:
            raise HearevalError(
                f"{sounds.file}: {label}",
                got=f"{len(of_label)} clips or groups",
                expected=f"{folds} or more, one for each fold",
                remedy="Give it more clips, say fewer folds, or leave the label out.",
            )


def _check_groups(task: TaskSpec, sounds: Sounds) -> None:
    """A group with rows in several given splits would be torn, or moved, when the others are drawn."""
    split_of: dict[str, str] = {}
    for each in sounds.recordings:
        split = split_of.setdefault(each.split_key, each.split)
        if split != each.split:
            got = f"{min(split, each.split)} and {max(split, each.split)}"
            raise HearevalError(f"{sounds.file}: group {each.group}", got=got, expected="one split")


def few(words: list[str]) -> str:
    """The first words, and how many more there are."""
    more = len(words) - MANY_LABELS
    return ", ".join(words[:MANY_LABELS]) + (f" and {more} more" if more > 0 else "")


def splits_in_words(splits: Splits) -> str:
    """The splits in a few words.

    >>> splits_in_words(Splits("new_split_kfold", 5))
    '5 folds'
    """
    return f"{splits.folds} folds" if splits.folds else ", ".join(splits.names)
