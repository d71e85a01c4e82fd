"""Compose and change the task_metadata.json of published task folders, byte for byte as in 2021."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from heareval import files, layout
from heareval.errors import HearevalError
from heareval.formats.fields import Fields, read_fields
from heareval.formats.task_metadata import PREPARE_AGAIN, STAND_INS
from heareval.spec import Download, TaskSpec

# Where the 2021 kit worked; the file always says so, to be the same wherever it is made.
PUBLISHED_TMP_DIR = "_workdir"
KEY_ORDER = (
    "task_name",
    "version",
    "embedding_type",
    "prediction_type",
    "split_mode",
    "nfolds",
    "sample_duration",
    "pitch_range_min",
    "pitch_range_max",
    "evaluation",
    "use_scoring_for_early_stopping",
    "evaluation_params",
    "tfds_task_name",
    "tfds_task_version",
    "extract_splits",
    "download_urls",
    "default_mode",
)


def describe_task(task: TaskSpec, mode_name: str) -> dict[str, Any]:
    """Return the JSON object of a task's task_metadata.json, with the keys in the published order.

    Args:
        mode_name: `full`, `5h` ...
    """
    general: dict[str, Any] = {
        "task_name": task.name,
        "version": task.version,
        "embedding_type": task.embedding_type,
        "prediction_type": task.prediction_type,
        "split_mode": task.splits.mode,
        **({"nfolds": task.splits.folds} if task.splits.folds else {}),
        "sample_duration": task.clip_duration_s,
        "evaluation": list(task.metrics),
        **({"download_urls": None} if task.lists_downloads else {}),
        "default_mode": task.default_mode,
        **task.settings,
    }
    order = _order_keys(task.moved_settings)
    ordered = dict(sorted(general.items(), key=lambda item: order.index(item[0])))
    # The settings of a mode keep the places of the general ones that they replace; the others follow.
    return ordered | _mode_settings(task, mode_name)


def _order_keys(moved: Mapping[str, str]) -> list[str]:
    order = list(KEY_ORDER)
    for key, before in moved.items():
        order.remove(key)
        order.insert(order.index(before) + 1, key)
    return order


def _mode_settings(task: TaskSpec, mode_name: str) -> dict[str, Any]:
    mode = task.modes[mode_name]
    settings: dict[str, Any] = {"nfolds": mode.folds} if mode.folds else {}
    if task.lists_downloads or mode_name != task.default_mode:
        settings["download_urls"] = [_download_entry(d) for d in mode.downloads]
    if mode.split_percentages:
        settings["split_percentage"] = dict(mode.split_percentages)
    names = task.splits_of(mode_name).names
    if task.splits.mode == "trainvaltest":
        settings["max_task_duration_by_split"] = {name: mode.limit_s(name) for name in names}
    elif not task.is_pairwise:
        settings["max_task_duration_by_fold"] = mode.max_duration_s
    if mode.clip_duration_s:
        settings["sample_duration"] = mode.clip_duration_s
    settings |= {"tmp_dir": PUBLISHED_TMP_DIR, "mode": mode_name, "splits": list(names)}
    stand_ins = [d for download in mode.downloads for d in download.files if not d.is_published]
    if stand_ins:
        settings[STAND_INS] = [
            {"archive": d.file_name, "published": d.checksum, "used": d.accepted} for d in stand_ins
        ]
    return settings


def _download_entry(download: Download) -> dict[str, Any]:
    if download.volumes:
        volumes = [{"url": d.url, "md5": d.checksum} for d in download.files]
        return {"split": download.split, "multipart_zip_urls": volumes, "zipname": download.file_name}
    entry = {"split": download.split, "name": download.name, "url": download.url}
    return {key: text for key, text in entry.items() if text} | {"md5": download.checksum}


def write_task_metadata(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write task_metadata.json with the keys in the given order."""
    files.write_json(folder / layout.TASK_METADATA, settings)


def record_skipped_clips(folder: Path, skipped: Iterable[str], *, has_corpus: bool) -> None:
    """Add the clips that a task folder lacks to its task_metadata.json, which tarballs hold too.

    Args:
        skipped: `<split>/<clip id>` each.
        has_corpus: whether the task has a published corpus, from which it then differs.

    Raises:
        HearevalError: the file is missing or wrong.
    """
    settings = dict(read_fields(folder / layout.TASK_METADATA, remedy=PREPARE_AGAIN).values)
    settings["skipped"] = sorted(skipped)
    if has_corpus:
        settings.setdefault(STAND_INS, [])
    write_task_metadata(folder, settings)


# --------------------------------------------------------------------------- finished tarballs


def adopt_task_metadata(found: Fields, task: TaskSpec, mode: str) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of a finished task under the names that it is published by, and notes on changes.

    Older editions of the benchmark leave out some keys, which are filled in.

    Args:
        found: the task_metadata.json of the finished task.

    Raises:
        HearevalError: a setting that embeddings and scores depend on is not the task's.
    """
    names = {"task_name": task.name, "version": task.version, "mode": mode}
    required = {
        "embedding_type": task.embedding_type,
        "prediction_type": task.prediction_type,
        "split_mode": task.splits.mode,
        "splits": list(task.splits_of(mode).names),
    }
    for key, value in required.items():
        if key in found.values and found.values[key] != value:
            raise HearevalError(
                f"{found.where}: {key}",
                got=repr(found.values[key]),
                expected=repr(value),
                remedy=found.remedy,
            )
    # Manifests on disk and results repeat these notes, so their text stays.
    notes = [
        f"{key} {found.values.get(key)!r} of the tarball has become {name!r}, as its name says"
        for key, name in names.items()
        if found.values.get(key) != name
    ]
    metrics = list(task.metrics)
    if found.values.get("evaluation") != metrics:
        notes.append(f"metrics of the tarball: {found.values.get('evaluation')}, of the task: {metrics}")
    missing = {key: value for key, value in required.items() if key not in found.values}
    return {**found.values, **names, **missing}, notes
