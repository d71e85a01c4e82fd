"""Adopt a task from its finished 48 kHz tarball: find the tarball, and check its content."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import soundfile

from heareval import layout
from heareval.archives import fetch
from heareval.errors import HearevalError
from heareval.folders import describe_unusual_file
from heareval.formats.fields import Fields, read_fields
from heareval.formats.labels import parse_attributes, parse_events, parse_labels, read_vocabulary
from heareval.formats.relations import check_relation, read_relation
from heareval.formats.task_description import adopt_task_metadata, write_task_metadata
from heareval.formats.task_metadata import parse_task_metadata
from heareval.spec import Download, Progress, Recording, TaskSpec, ignore_progress
from heareval.tasks.metadata import SelectedClips
from heareval.tasks.registry import all_tasks

VERSION = 1
# The highest rate that was published; clips of the other rates are resampled from it.
SAMPLE_RATE = 48000
# The prefixes of tarball names: those that the benchmark published, and ours.
EDITIONS = ("hear2021", layout.TAR_EDITION, layout.TAR_LATEST)
# Clip lengths were rounded to whole frames at the rate of the corpus, which is 8 kHz or more.
SLACK_FRAMES = 3
REMEDY = "It is damaged, or not a finished task: fetch it again, or prepare the task from its corpus."


@dataclass(frozen=True)
class TarballContent:
    """The checked content of a finished tarball.

    Args:
        folder: the extracted task folder.
        settings: its task_metadata.json, with task, version and mode as the tarball's name gives them.
        is_corrected: whether task_metadata.json in the tarball differs from `settings`.
        is_published: False if it was made from other archives than the published ones; None if that is
            unknown.
        selected: the clips, and warnings for readers of the scores.
    """

    folder: Path
    settings: Mapping[str, Any]
    is_corrected: bool
    is_published: bool | None
    selected: SelectedClips


# --------------------------------------------------------------------------- the tarball


def is_url(address: str) -> bool:
    """Return whether an address is a URL, not a path.

    >>> is_url("https://host.org/a.tar.gz"), is_url("folder/a.tar.gz")
    (True, False)
    """
    return "://" in address


def file_name_of(address: str) -> str:
    """Return the file name in a path or URL.

    >>> file_name_of("https://host.org/files/hear2021-esc50-v2.0.0-full-48000.tar.gz?download=1")
    'hear2021-esc50-v2.0.0-full-48000.tar.gz'
    """
    return Download(address, "").file_name if is_url(address) else Path(address).name


def read_mark(address: str) -> str:
    """Return a mark that changes with a tarball: its size and modification time, or the URL itself.

    To hash it would take minutes, because tarballs have gigabytes.
    """
    if is_url(address):
        return address
    facts = Path(address).stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


def check_mark(address: str, mark: str) -> None:
    """Raise HearevalError if a tarball has changed since its mark was read."""
    if not is_url(address) and (found := read_mark(address)) != mark:
        raise HearevalError(
            f"tarball {address}",
            got=found,
            expected=mark,
            remedy="The file changed during the run: run again.",
        )


def find_tarball(source: str, task_folder: str) -> str:
    """Return the absolute path or the URL of a task's 48 kHz tarball.

    Args:
        source: the tarball itself, a folder that has it (also in sub-folders), or the URL of either.
        task_folder: `<task>-<version>-<mode>`.

    Raises:
        HearevalError: there is no tarball, or the file belongs to another task, mode or rate.
    """
    names = [f"{edition}-{task_folder}-{SAMPLE_RATE}.tar.gz" for edition in EDITIONS]
    address = source if is_url(source) else str(Path(source).absolute())
    if is_url(source) and not file_name_of(source).endswith(".gz"):
        return f"{source.rstrip('/')}/{names[0]}"
    if Path(address).is_dir():
        return _search_folder(address, names)
    if not is_url(source) and (unusual := describe_unusual_file(Path(address))):
        raise HearevalError(f"--from-published {source}", got=unusual, expected=names[0])
    if not file_name_of(address).endswith(f"-{task_folder}-{SAMPLE_RATE}.tar.gz"):
        raise HearevalError(
            f"tarball {source}",
            got=file_name_of(address),
            expected=names[0],
            remedy="The tarball belongs to another task, version, --mode or rate.",
        )
    return address


def _search_folder(folder: str, names: list[str]) -> str:
    found = fetch.open_mirrors([folder])[0].found or {}
    for name in names:
        if paths := found.get(name):
            return str(paths[0])
    raise HearevalError(
        f"folder {folder} of --from-published", got="no tarball of the task", expected=" or ".join(names)
    )


# --------------------------------------------------------------------------- its content


def read_content(
    extracted: Path, task: TaskSpec, mode: str, progress: Progress = ignore_progress
) -> TarballContent:
    """Check the content of a task's tarball; return its settings and clips.

    Args:
        extracted: the folder that the tarball was unpacked into.
        task: the task that the tarball's name gives.
        mode: the mode that the tarball's name gives.
        progress: called with the number of clips checked, and of all clips.

    Raises:
        HearevalError: something is missing, superfluous or different from the task.
    """
    folder, splits = _find_task_folder(extracted), task.splits_of(mode).names
    found = _read_fields(folder / layout.TASK_METADATA)
    # A published tarball of mridangam_tonic names mridangam_stroke inside. The tarball's own name is right.
    _check_task_name(found.text("task_name"), task)
    settings, warnings = adopt_task_metadata(found, task, mode)
    metadata = parse_task_metadata(replace(found, values=settings))
    _check_splits(folder, splits)
    listed = {split: _read_fields(folder / layout.split_json(split)).values for split in splits}
    if folder.name != task.folder(mode):
        warnings.insert(0, f"the tarball of {task.folder(mode)} holds a folder {folder.name}")
    clips = _check_clips(folder, listed, task, task.duration_s(mode), progress)
    selected = SelectedClips(tuple(clips), warnings=tuple(warnings))
    return TarballContent(folder, settings, settings != found.values, metadata.is_published, selected)


def copy_description(content: TarballContent, target: Path) -> None:
    """Copy a task's description into a folder; only wrong names in task_metadata.json are corrected."""
    for path in (*content.folder.glob("*.json"), *content.folder.glob(layout.VOCABULARY)):
        shutil.copyfile(path, target / path.name)
    if content.is_corrected:
        write_task_metadata(target, content.settings)


def _wrong(where: str, got: str, expected: str) -> HearevalError:
    return HearevalError(f"in the tarball, {where}", got=got, expected=expected, remedy=REMEDY)


def _find_task_folder(extracted: Path) -> Path:
    """Return the task's folder, `<edition>/tasks/<task>/`; raise HearevalError if there is anything else."""
    folder = extracted
    for name in ("", "tasks", ""):
        found = sorted(folder.iterdir())
        if len(found) != 1 or not found[0].is_dir() or found[0].name != (name or found[0].name):
            where = f"{folder.relative_to(extracted)}/" if folder != extracted else "the top"
            got = ", ".join(path.name for path in found[:3]) + ("..." if len(found) > 3 else "")
            raise _wrong(where, got or "nothing", "<edition>/tasks/<task>/ and nothing else")
        folder = found[0]
    return folder


def _check_task_name(found: str, task: TaskSpec) -> None:
    """Raise HearevalError for another task's name, unless its labels are different ones."""
    other = all_tasks().get(found)
    if found != task.name and not (other and task.labels and not {*task.labels} & {*other.labels}):
        raise _wrong(f"task_name of {layout.TASK_METADATA}", found, task.name)


def _check_splits(folder: Path, splits: Sequence[str]) -> None:
    others = (layout.TASK_METADATA, layout.RELATIONS)
    described = {path.stem for path in folder.glob("*.json") if path.name not in others}
    if described != set(splits):
        raise _wrong("splits", ", ".join(sorted(described)) or "none", ", ".join(splits))
    rate_folder = folder / str(SAMPLE_RATE)
    found = {path.name for path in rate_folder.iterdir()} if rate_folder.is_dir() else set()
    if not found or not found <= set(splits):
        raise _wrong(f"folders of {SAMPLE_RATE}/", ", ".join(sorted(found)) or "none", ", ".join(splits))


def _read_fields(path: Path) -> Fields:
    return read_fields(path, remedy=REMEDY, where=f"in the tarball, {path.name}")


# --------------------------------------------------------------------------- its clips


def _check_clips(
    folder: Path,
    listed: Mapping[str, Mapping[str, Any]],
    task: TaskSpec,
    duration_s: float | None,
    progress: Progress,
) -> list[Recording]:
    """Return the clips of all splits, sorted by split and file name, after checking labels and audio."""
    vocabulary, clips = set() if task.is_pairwise else _read_vocabulary(folder, task), []
    if task.is_pairwise:
        _check_relation(folder, listed)
    _check_splits_are_disjoint(listed)
    total = sum(len(labels) for labels in listed.values())
    for split, labels in sorted(listed.items()):
        clip_folder = folder / str(SAMPLE_RATE) / split
        _check_listed(split, set(labels), {path.name for path in clip_folder.glob("*.wav")})
        for name in sorted(labels):
            where = f"{SAMPLE_RATE}/{split}/{name}"
            frames = _check_audio(where, clip_folder / name, duration_s)
            if not task.is_pairwise:
                _check_labels(where, labels[name], task, vocabulary, frames)
            clips.append(Recording(clip_folder / name, name.removesuffix(".wav"), split=split))
            progress(len(clips), total)
    return clips


def _read_vocabulary(folder: Path, task: TaskSpec) -> set[str]:
    name = f"in the tarball, {layout.VOCABULARY}"
    vocabulary = set(read_vocabulary(folder, remedy=REMEDY, where=name, is_exact=True))
    if unknown := vocabulary - set(map(str, task.labels or vocabulary)):
        raise _wrong(layout.VOCABULARY, f"label {min(unknown)}", ", ".join(map(str, task.labels)))
    return vocabulary


def _check_relation(folder: Path, listed: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise HearevalError unless the relation of a pairwise task fits the clips and their attributes."""
    where = f"in the tarball, {layout.RELATIONS}"
    attributes = {
        name.removesuffix(".wav"): parse_attributes(value, f"in the tarball, {split}/{name}", REMEDY)
        for split, clips in listed.items()
        for name, value in clips.items()
    }
    check_relation(read_relation(folder, remedy=REMEDY, where=where), attributes, where, REMEDY)


def _check_splits_are_disjoint(listed: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise HearevalError if a clip is in two splits."""
    split_of: dict[str, str] = {}
    for split, labels in sorted(listed.items()):
        for name in labels:
            if name in split_of:
                raise _wrong(f"{split}.json", f"{name}, which is also in {split_of[name]}", "it in one split")
            split_of[name] = split


def _check_listed(split: str, listed: set[str], found: set[str]) -> None:
    missing, unlisted = sorted(listed - found), sorted(found - listed)
    if missing:
        got = f"no {missing[0]} ({len(missing)} missing)"
        raise _wrong(f"{SAMPLE_RATE}/{split}", got, f"all of {split}.json")
    if unlisted:
        got = f"no {unlisted[0]} ({len(unlisted)} missing)"
        raise _wrong(f"{split}.json", got, f"all of {SAMPLE_RATE}/{split}")


def _check_audio(where: str, path: Path, duration_s: float | None) -> int:
    """Return the length of a clip in frames; raise HearevalError if it is not audio of the task."""
    try:
        facts = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise _wrong(where, str(error), "a readable WAV file") from error
    if (facts.subtype, facts.channels, facts.samplerate) != ("PCM_16", 1, SAMPLE_RATE):
        got = f"{facts.subtype}, {facts.channels} channels, {facts.samplerate} Hz"
        raise _wrong(where, got, f"PCM_16, 1 channel, {SAMPLE_RATE} Hz")
    frames = int(facts.frames)
    if duration_s is not None and abs(frames - round(duration_s * SAMPLE_RATE)) > SLACK_FRAMES:
        raise _wrong(where, f"{frames} frames", f"{round(duration_s * SAMPLE_RATE)} ({duration_s:g} s)")
    if not frames:
        raise _wrong(where, "no samples", "at least one")
    return frames


def _check_labels(where: str, value: Any, task: TaskSpec, vocabulary: set[str], frames: int) -> None:
    """Raise HearevalError unless the labels fit the task and its vocabulary, and events lie in the clip."""
    is_event = task.embedding_type == "event"
    is_one = not is_event and task.prediction_type == "multiclass"
    if not isinstance(value, list) or not value or (is_one and len(value) != 1):
        expected = "events" if is_event else "one label" if is_one else "labels"
        raise _wrong(where, f"{value!r}"[:80], f"a list of {expected}")
    what = f"in the tarball, {where}"
    events = parse_events(value, what, REMEDY) if is_event else ()
    labels = [str(event.label) for event in events] or parse_labels(value, what, REMEDY)
    if unknown := [label for label in labels if label not in vocabulary]:
        raise _wrong(where, f"label {unknown[0]!r}", f"one of {layout.VOCABULARY}")
    end_ms = (frames + SLACK_FRAMES) / SAMPLE_RATE * 1000
    for event in events:
        if event.offset_ms > end_ms:
            got = f"an event from {event.onset_ms} to {event.offset_ms} ms"
            raise _wrong(where, got, f"one within the clip, {end_ms:.0f} ms")
