"""Load a user's task from a TOML file, which names class folders or a table."""

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
from heareval.folders import describe_unusual_file
from heareval.spec import (
    EmbeddingType,
    Label,
    Mode,
    PredictionType,
    Ratings,
    Relation,
    Retrieval,
    SamePairs,
    Splits,
    TaskSpec,
    Triplets,
)
from heareval.tasks.own.labelled_sound import SPLITS
from heareval.tasks.own.sounds import Sounds, find_sounds
from heareval.tasks.sources import SCENE_METRICS
from heareval.tasks.splits import assign_splits, labels_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VERSION = 1
# VERSION stands for the code that reads folders and tables in a task's fingerprint. heareval 0.1.0 also put a
# digest of that code into the fingerprint; its value is kept, so that finished tasks stay complete.
READER_DIGEST = "227026c4667939e2f09fc5006489299d40a7b7cbe8b18aaac1caf2a22ac5b2c6"
READER_DIGEST_OF_PYTHON_3_10 = "ac6636e5ab2067a42d1b11e14635bdbbedfbc38e9da99866f87c48b28f759a64"
MODE = "full"
# The metrics of a task whose file names none.
DEFAULT_METRICS: Mapping[tuple[EmbeddingType, PredictionType], tuple[str, ...]] = {
    ("scene", "multiclass"): SCENE_METRICS,
    ("scene", "multilabel"): ("mAP", "d_prime", "aucroc", "top1_acc"),
    ("event", "multilabel"): ("event_onset_200ms_fms", "segment_1s_er"),
}
RELATION_METRICS: Mapping[type[Relation], tuple[str, ...]] = {
    Ratings: ("spearman", "kendall", "triplet_agreement"),
    SamePairs: ("pair_auc", "pair_eer", "pair_ap"),
    Triplets: ("triplet_acc",),
    Retrieval: ("mrr", "recall_at_1", "map_at_r"),
}
# The keys that say where the sounds are, and those of them that make a pairwise task.
PAIRWISE_SOURCES = ("pairs", "triplets", "queries")
SOURCES = ("folder", "table", *PAIRWISE_SOURCES)
# One fold tests, another validates and the others train. Fold names have two digits.
MIN_FOLDS, MAX_FOLDS = 3, 100
MAX_SHOWN_LABELS = 12


@dataclass(frozen=True)
class OwnTaskSettings:
    """The keys of a task's TOML file, as docs/own_tasks.md explains them; "", None and () where it has none.

    The names of the fields are keys of the file, and part of the task's fingerprint.
    """

    name: str
    version: str = "v1"
    folder: str = ""
    table: str = ""
    pairs: str = ""
    triplets: str = ""
    queries: str = ""
    kind: PredictionType | None = None
    clip_duration_s: float | None = None
    folds: int | None = None
    split_percentages: Mapping[str, float] | None = None
    metrics: tuple[str, ...] = ()

    @property
    def source(self) -> dict[str, str]:
        """The one key that says where the sounds are, with its path."""
        return {key: path for key in SOURCES if (path := getattr(self, key))}


def load_task(file: Path) -> TaskSpec:
    """Return the task that a TOML file declares.

    Raises:
        HearevalError: the file is wrong, or the sounds do not fit it.
    """
    file = file.absolute()
    settings = read_settings(file)
    return make_task(settings, find_sounds(file, **settings.source))


def get_sounds(task: TaskSpec) -> Sounds | None:
    """Return the sounds of a user's task; None for a task of the benchmark."""
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


# Key -> the function that accepts a value, and the words for what it accepts.
OWN_TASK_KEYS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "name": (_matches("[A-Za-z0-9_]+"), "letters, digits and _"),
    "version": (_matches("[A-Za-z0-9_][A-Za-z0-9_.]*"), "letters, digits, _ and dots"),
    "folder": (_matches(".+"), "the path of a folder"),
    "table": (_matches(".+"), "the path of a CSV file"),
    **{key: (_matches(".+"), "the path of a CSV file") for key in PAIRWISE_SOURCES},
    "kind": (_matches("multiclass|multilabel"), "multiclass or multilabel"),
    "clip_duration_s": (_is_positive, "seconds above 0"),
    "folds": (_is_folds, f"a whole number from {MIN_FOLDS} to {MAX_FOLDS}"),
    "split_percentages": (_are_shares, "shares of train, valid and test that add up to 100"),
    "metrics": (_are_names, "a list of different names"),
}


def read_settings(file: Path) -> OwnTaskSettings:
    """Return the settings in a TOML file, checked as far as possible without the sounds."""
    if unusual := describe_unusual_file(file):
        remedy = "Create one with `heareval tasks new`."
        raise HearevalError(f"task file {file}", got=unusual, remedy=remedy)
    try:
        values = tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        # Not only for invalid TOML: also for integers with thousands of digits, and for deep nesting.
        raise HearevalError(f"task file {file}", got=str(error), expected="TOML") from None
    return check_settings(values, file)


def check_settings(values: Mapping[str, Any], file: Path) -> OwnTaskSettings:
    """Return the keys and values of a TOML file as settings.

    Raises:
        HearevalError: a key is unknown or missing, or a value is wrong; `file` is named in the message.
    """
    for key, value in values.items():
        if key not in OWN_TASK_KEYS:
            raise unknown_name(f"key in {file}", key, OWN_TASK_KEYS)
        accepts, expected = OWN_TASK_KEYS[key]
        if not accepts(value):
            raise HearevalError(f"{file}: {key}", got=repr(value), expected=expected)
    if "name" not in values:
        raise HearevalError(f"{file}: name", got="nothing", expected=OWN_TASK_KEYS["name"][1])
    sources = [key for key in SOURCES if key in values]
    if len(sources) != 1:
        got, expected = " and ".join(sources) or "none", f"exactly one of {', '.join(SOURCES)}"
        raise HearevalError(f"{file}: where the sounds are", got=got, expected=expected)
    for key in ("kind", "folds", "split_percentages"):
        if key in values and sources[0] in PAIRWISE_SOURCES:
            expected = "no labels and no splits, because nothing is trained"
            raise HearevalError(
                f"{file}: {key}", got=f"{key} with {sources[0]}", expected=expected, remedy=f"Remove {key}."
            )
    if "folds" in values and "split_percentages" in values:
        raise HearevalError(f"{file}: folds and split_percentages", got="both", expected="at most one")
    return OwnTaskSettings(**{**values, "metrics": tuple(values.get("metrics", ()))})


# --------------------------------------------------------------------------- the task


def make_task(settings: OwnTaskSettings, sounds: Sounds) -> TaskSpec:
    """Return the task with these settings and sounds.

    Raises:
        HearevalError: they do not fit each other, for example labels that cannot be in every split.
    """
    if sounds.relation is not None:
        return _make_pairwise_task(settings, sounds, RELATION_METRICS[type(sounds.relation)])
    kind = _choose_kind(settings, sounds)
    embedding_type: EmbeddingType = "event" if sounds.is_event else "scene"
    if sounds.is_event and settings.clip_duration_s is None:
        expected = "seconds, because all clips with events have one length"
        raise HearevalError(f"{sounds.file}: clip_duration_s", got="nothing", expected=expected)
    task = TaskSpec(
        name=settings.name,
        version=settings.version,
        embedding_type=embedding_type,
        prediction_type=kind,
        splits=_choose_splits(settings, sounds),
        clip_duration_s=settings.clip_duration_s,
        metrics=settings.metrics or DEFAULT_METRICS[embedding_type, kind],
        modes={MODE: _make_mode(settings, sounds)},
        default_mode=MODE,
        read_recordings=sounds.read_recordings,
        lists_downloads=False,
        content=_digest_content(settings, sounds),
    )
    _check_splits(task, sounds)
    return task


def _make_pairwise_task(settings: OwnTaskSettings, sounds: Sounds, metrics: tuple[str, ...]) -> TaskSpec:
    return TaskSpec(
        name=settings.name,
        version=settings.version,
        embedding_type="scene",
        prediction_type="pairwise",
        splits=Splits("test_only"),
        clip_duration_s=settings.clip_duration_s,
        metrics=settings.metrics or metrics,
        modes={MODE: _make_mode(settings, sounds)},
        default_mode=MODE,
        read_recordings=sounds.read_recordings,
        lists_downloads=False,
        content=_digest_content(settings, sounds),
        read_relation=sounds.read_relation,
    )


def _digest_content(settings: OwnTaskSettings, sounds: Sounds) -> str:
    """Return the digest of all that decides the clips of a task."""
    values = list_identifying_settings(settings)
    return files.fingerprint("own", VERSION, settings=values, sounds=sounds.digest)


def list_identifying_settings(settings: OwnTaskSettings) -> dict[str, Any]:
    """Return the settings that are part of the fingerprint of a task.

    Other tasks have no keys of pairwise tasks, so that those made before there were any stay complete.
    """
    return {key: v for key, v in asdict(settings).items() if v or key not in PAIRWISE_SOURCES}


def _make_mode(settings: OwnTaskSettings, sounds: Sounds) -> Mode:
    shares = settings.split_percentages
    return Mode((), split_percentages=shares, published=False, clips=len(sounds.recordings))


def _choose_kind(settings: OwnTaskSettings, sounds: Sounds) -> PredictionType:
    """Return the kind in the settings, or else the one that follows from the labels."""
    several = next((r for r in sounds.recordings if len(r.labels) > 1), None)
    if sounds.is_event or several:
        if settings.kind == "multiclass":
            got = f"several labels of {several.path}" if several else "labels with times"
            raise HearevalError(f"{sounds.file}: kind", got=f"multiclass and {got}", expected="multilabel")
        return "multilabel"
    return settings.kind or "multiclass"


def _choose_splits(settings: OwnTaskSettings, sounds: Sounds) -> Splits:
    """Return how clips are split: as given, into new folds, or drawn into train, valid and test."""
    if not sounds.has_splits:
        return Splits("new_split_kfold", settings.folds) if settings.folds else Splits("trainvaltest")
    given = {r.split for r in sounds.recordings}
    splits = Splits("trainvaltest")
    if not given <= set(SPLITS):
        splits = Splits("presplit_kfold", len(given))
        if given != set(splits.names) or not _is_folds(len(given)):
            expected = f"train, test and perhaps valid; or fold00 to fold{MIN_FOLDS - 1:02d}, perhaps more"
            raise HearevalError(f"{sounds.file}: splits", got=", ".join(sorted(given)), expected=expected)
    elif "train" not in given:
        raise HearevalError(f"{sounds.file}: splits", got=", ".join(sorted(given)), expected="train as well")
    draws = splits.mode == "trainvaltest" and set(SPLITS) - given
    if settings.folds or (settings.split_percentages and not draws):
        key = "folds" if settings.folds else "split_percentages"
        remedy = f"Remove {key}, or the given splits."
        raise HearevalError(f"{sounds.file}: {key}", got="splits that are already given", remedy=remedy)
    return splits


def _check_splits(task: TaskSpec, sounds: Sounds) -> None:
    """Raise HearevalError if a split would lack a label, before anything is prepared."""
    labels = set().union(*map(labels_of, sounds.recordings))
    if task.embedding_type == "scene" and len(labels) < 2:
        got = f"only {', '.join(map(str, labels))}"
        raise HearevalError(f"{sounds.file}: labels", got=got, expected="two or more")
    if task.splits.mode == "new_split_kfold":
        _check_folds(task, sounds)
        return
    _check_groups(task, sounds)
    shares = task.modes[MODE].split_percentages
    split_of = assign_splits(sounds.recordings, task.splits, shares, need_every_label=False)
    labels_in: dict[str, set[Label]] = defaultdict(set)
    for each in sounds.recordings:
        labels_in[split_of[each.clip_id]] |= labels_of(each)
    given = {each.split for each in sounds.recordings} if sounds.has_splits else set()
    for split in task.splits.names:
        # For events, which may overlap, the benchmark tolerates a split without some label.
        if task.embedding_type == "scene" and labels - labels_in[split]:
            lacking = sorted(map(str, labels - labels_in[split]))
            raise HearevalError(
                f"{sounds.file}: split {split}",
                got=f"no clip of {join_some(lacking)}",
                expected="every label in every split",
                remedy=_suggest_for(lacking[0], split, sounds, is_drawn=split not in given),
            )


def _suggest_for(label: str, split: str, sounds: Sounds, *, is_drawn: bool) -> str:
    """Return what helps against a label without a clip in a split, and does not lead to the next error."""
    if sounds.has_splits:
        how = f"give {split} as well" if is_drawn else f"move one to {split}"
        return f"Add clips of it, {how}, leave the label out, or give no splits at all."
    keys = {each.split_key for each in sounds.recordings if label in map(str, labels_of(each))}
    if len(keys) < MIN_FOLDS:
        return f"Add clips of it, or leave the label out: {len(keys)} clips or groups are too few."
    return f"Add clips of it, set folds = {min(5, len(keys))}, or give the splits in a table."


def _check_folds(task: TaskSpec, sounds: Sounds) -> None:
    """Raise HearevalError if the folds cannot have a clip of every label each, or a clip at all."""
    folds, keys = len(task.splits.names), defaultdict(set)
    for each in sounds.recordings:
        for label in labels_of(each) if task.embedding_type == "scene" else {"all labels together"}:
            keys[label].add(each.split_key)
    for label, label_keys in keys.items():
        if len(label_keys) < folds:
            raise HearevalError(
                f"{sounds.file}: {label}",
                got=f"{len(label_keys)} clips or groups",
                expected=f"at least {folds}, one for each fold",
                remedy="Add clips of it, use fewer folds, or leave the label out.",
            )


def _check_groups(task: TaskSpec, sounds: Sounds) -> None:
    """Raise HearevalError for a group in several given splits, which drawing the other splits might move."""
    split_of: dict[str, str] = {}
    for each in sounds.recordings:
        split = split_of.setdefault(each.split_key, each.split)
        if split != each.split:
            got = f"{min(split, each.split)} and {max(split, each.split)}"
            raise HearevalError(f"{sounds.file}: group {each.group}", got=got, expected="one split")


def join_some(words: list[str]) -> str:
    """Return the first words, and how many more there are.

    >>> join_some([str(i) for i in range(15)])
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 3 more'
    """
    more = len(words) - MAX_SHOWN_LABELS
    return ", ".join(words[:MAX_SHOWN_LABELS]) + (f" and {more} more" if more > 0 else "")


def describe_splits(splits: Splits) -> str:
    """Return a short description of the splits.

    >>> describe_splits(Splits("new_split_kfold", 5))
    '5 folds'
    """
    return f"{splits.folds} folds" if splits.folds else ", ".join(splits.names)
