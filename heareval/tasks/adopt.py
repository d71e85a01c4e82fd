"""A task taken over from its finished 48 kHz tarball: found by its name, and its inside checked."""

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
from heareval.formats.fields import Fields, read_fields
from heareval.formats.labels import parse_events, parse_labels, read_vocabulary
from heareval.formats.task_description import adopt_task_metadata, write_task_metadata
from heareval.formats.task_metadata import parse_task_metadata
from heareval.spec import Download, Progress, Recording, TaskSpec
from heareval.tasks.metadata import Drawn
from heareval.tasks.registry import all_tasks

VERSION = 1
# The highest rate that was published; the others are made from it.
SAMPLE_RATE = 48000
# What the names of tarballs begin with: where the benchmark put them, and our own.
EDITIONS = ("hear2021", layout.TAR_EDITION, layout.TAR_LATEST)
# A clip whose length is no whole number of frames at the corpus's rate, of 8 kHz or more, was rounded there.
SLACK_FRAMES = 3
REMEDY = "It is damaged, or no finished task: fetch it again, or prepare the task from its corpus."


@dataclass(frozen=True)
class Inside:
    """What a tarball holds.

    Args:
        folder: the extracted task folder.
        settings: its task_metadata.json, with the names that follow from the tarball's.
        is_renamed: whether the file has other names.
        is_published: False if it was made from other archives than the published ones, None if that is not
            known.
        drawn: the clips, and notes on what a reader should know.
    """

    folder: Path
    settings: Mapping[str, Any]
    is_renamed: bool
    is_published: bool | None
    drawn: Drawn


# --------------------------------------------------------------------------- the tarball


def is_url(address: str) -> bool:
    """Whether an address is of the web, not of this machine."""
    return "://" in address


def name_of(address: str) -> str:
    """The file name in a path or URL.

    >>> name_of("https://host.org/files/hear2021-esc50-v2.0.0-full-48000.tar.gz?download=1")
    'hear2021-esc50-v2.0.0-full-48000.tar.gz'
    """
    return Download(address, "").file_name if is_url(address) else Path(address).name


def mark_of(address: str) -> str:
    """What tells whether a tarball is still the same one, without reading gigabytes: size and time."""
    if is_url(address):
        return address
    facts = Path(address).stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


def check_mark(address: str, mark: str) -> None:
    """Raise HearevalError if a tarball is no longer the one that the run was planned with."""
    if not is_url(address) and (found := mark_of(address)) != mark:
        raise HearevalError(
            f"tarball {address}",
            got=found,
            expected=mark,
            remedy="It was changed while it was read: run again.",
        )


def find_tarball(source: str, task_folder: str) -> str:
    """The absolute path or the URL of a task's 48 kHz tarball.

    Args:
        source: the tarball itself, a folder that has it, also some levels deep, or the URL of either.
        task_folder: `<task>-<version>-<mode>`.

    Raises:
        HearevalError: there is none, or the file is of another task, mode or rate.
    """
    names = [f"{edition}-{task_folder}-{SAMPLE_RATE}.tar.gz" for edition in EDITIONS]
    address = source if is_url(source) else str(Path(source).absolute())
    if is_url(source) and not name_of(source).endswith(".gz"):
        return f"{source.rstrip('/')}/{names[0]}"
    if Path(address).is_dir():
        return _in_folder(address, names)
    if not is_url(source) and not Path(address).exists():
        raise HearevalError(f"--from-published {source}", got="no such file or folder", expected=names[0])
    if not name_of(address).endswith(f"-{task_folder}-{SAMPLE_RATE}.tar.gz"):
        raise HearevalError(
            f"tarball {source}",
            got=name_of(address),
            expected=names[0],
            remedy="It is of another task, version, --mode or rate.",
        )
    return address


def _in_folder(folder: str, names: list[str]) -> str:
    found = fetch.open_mirrors([folder])[0].found or {}
    for name in names:
        if paths := found.get(name):
            return str(paths[0])
    raise HearevalError(
        f"folder {folder} of --from-published", got="no tarball of the task", expected=" or ".join(names)
    )


# --------------------------------------------------------------------------- its inside


def read_inside(extracted: Path, task: TaskSpec, mode: str, progress: Progress) -> Inside:
    """Check what was in a tarball of a task and mode, and list its clips.

    Args:
        extracted: the folder that the tarball was unpacked into.
        progress: told how many clips are checked, of how many.

    Raises:
        HearevalError: something is missing, too much, or not as the task has it.
    """
    folder, splits = _task_folder(extracted), task.splits_of(mode).names
    found = _read_fields(folder / layout.TASK_METADATA)
    # One published tarball of mridangam_tonic has mridangam_stroke inside, and scores go by these names.
    _check_relation(found.text("task_name"), task)
    settings, notes = adopt_task_metadata(found, task, mode)
    metadata = parse_task_metadata(replace(found, values=settings))
    _check_splits(folder, splits)
    listed = {split: _read_fields(folder / layout.split_json(split)).values for split in splits}
    if folder.name != task.folder(mode):
        notes.insert(0, f"the tarball of {task.folder(mode)} holds a folder {folder.name}")
    clips = _check_clips(folder, listed, task, task.duration_s(mode), progress)
    is_renamed = settings != found.values
    return Inside(folder, settings, is_renamed, metadata.is_published, Drawn(tuple(clips), (), tuple(notes)))


def copy_description(inside: Inside, target: Path) -> None:
    """Put the descriptions into a folder as they are, save wrong names in task_metadata.json."""
    for path in (*inside.folder.glob("*.json"), inside.folder / layout.VOCABULARY):
        shutil.copyfile(path, target / path.name)
    if inside.is_renamed:
        write_task_metadata(target, inside.settings)


def _wrong(where: str, got: str, expected: str) -> HearevalError:
    return HearevalError(f"in the tarball, {where}", got=got, expected=expected, remedy=REMEDY)


def _task_folder(extracted: Path) -> Path:
    """The one folder of a task, `<edition>/tasks/<task>/`."""
    folder = extracted
    for name in ("", "tasks", ""):
        found = sorted(folder.iterdir())
        if len(found) != 1 or not found[0].is_dir() or found[0].name != (name or found[0].name):
            where = f"{folder.relative_to(extracted)}/" if folder != extracted else "the top"
            got = ", ".join(path.name for path in found[:3]) + ("..." if len(found) > 3 else "")
            raise _wrong(where, got or "nothing", "<edition>/tasks/<task>/ and nothing else")
        folder = found[0]
    return folder


def _check_relation(found: str, task: TaskSpec) -> None:
    """Another task's name may stand in the tarball only if the labels can tell the two tasks apart."""
    other = all_tasks().get(found)
    if found != task.name and not (other and task.labels and not {*task.labels} & {*other.labels}):
        raise _wrong(f"task_name of {layout.TASK_METADATA}", found, task.name)


def _check_splits(folder: Path, splits: Sequence[str]) -> None:
    described = {path.stem for path in folder.glob("*.json") if path.name != layout.TASK_METADATA}
    if described != set(splits):
        raise _wrong("splits", ", ".join(sorted(described)) or "none", ", ".join(splits))
    sounds = folder / str(SAMPLE_RATE)
    found = {path.name for path in sounds.iterdir()} if sounds.is_dir() else set()
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
    """The clips of all splits, sorted by split and file name, each with its labels and sound checked."""
    name = f"in the tarball, {layout.VOCABULARY}"
    vocabulary, clips = set(read_vocabulary(folder, remedy=REMEDY, where=name, is_exact=True)), []
    if unknown := vocabulary - set(map(str, task.labels or vocabulary)):
        raise _wrong(layout.VOCABULARY, f"label {min(unknown)}", ", ".join(map(str, task.labels)))
    _check_apart(listed)
    total = sum(len(labels) for labels in listed.values())
    for split, labels in sorted(listed.items()):
        sounds = folder / str(SAMPLE_RATE) / split
        _check_names(split, set(labels), {path.name for path in sounds.glob("*.wav")})
        for name in sorted(labels):
            where = f"{SAMPLE_RATE}/{split}/{name}"
            frames = _check_sound(where, sounds / name, duration_s)
            _check_labels(where, labels[name], task, vocabulary, frames)
            clips.append(Recording(sounds / name, name.removesuffix(".wav"), split=split))
            progress(len(clips), total)
    return clips


def _check_apart(listed: Mapping[str, Mapping[str, Any]]) -> None:
    """No clip is in two splits."""
    split_of: dict[str, str] = {}
    for split, labels in sorted(listed.items()):
        for name in labels:
            if name in split_of:
                raise _wrong(f"{split}.json", f"{name}, which is in {split_of[name]} too", "it in one split")
            split_of[name] = split


def _check_names(split: str, listed: set[str], found: set[str]) -> None:
    lost, more = sorted(listed - found), sorted(found - listed)
    if lost:
        raise _wrong(f"{SAMPLE_RATE}/{split}", f"no {lost[0]} ({len(lost)} missing)", f"all of {split}.json")
    if more:
        raise _wrong(f"{split}.json", f"no {more[0]} ({len(more)} missing)", f"all of {SAMPLE_RATE}/{split}")


def _check_sound(where: str, path: Path, duration_s: float | None) -> int:
    """The length of a clip in frames."""
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
    """The labels of a clip are of the task's kind and in its vocabulary, and events lie in the clip."""
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
