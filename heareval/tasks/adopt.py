"""A task taken over from its finished 48 kHz tarball: found by its name, and its inside checked."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from heareval import files, layout
from heareval.archives import fetch
from heareval.errors import HearevalError
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
        drawn: the clips, and notes on what a reader should know.
    """

    folder: Path
    settings: Mapping[str, Any]
    is_renamed: bool
    drawn: Drawn

    @property
    def is_published(self) -> bool | None:
        """False if it was made from other archives than the published ones, None if that is not known."""
        return False if "not_the_published_corpus" in self.settings else None


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
    found = _read_json(folder / layout.TASK_METADATA)
    # One published tarball of mridangam_tonic has mridangam_stroke inside, and scores go by these names.
    names = {"task_name": task.name, "version": task.version, "mode": mode}
    _check_relation(str(found.get("task_name")), task)
    expected = _expected(task, splits)
    # Older editions of the benchmark tell less.
    settings = {**found, **names, **{key: value for key, value in expected.items() if key not in found}}
    _check_settings(settings, expected)
    _check_splits(folder, splits)
    listed = {split: _read_json(folder / layout.split_json(split)) for split in splits}
    notes = _notes(folder, found, names, task)
    clips = _check_clips(folder, listed, task, task.duration_s(mode), progress)
    return Inside(folder, settings, settings != found, Drawn(tuple(clips), (), tuple(notes)))


def copy_description(inside: Inside, target: Path) -> None:
    """Put the descriptions into a folder as they are, save wrong names in task_metadata.json."""
    for path in (*inside.folder.glob("*.json"), inside.folder / layout.VOCABULARY):
        shutil.copyfile(path, target / path.name)
    if inside.is_renamed:
        files.write_json(target / layout.TASK_METADATA, inside.settings)


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


def _notes(folder: Path, found: dict[str, Any], names: dict[str, str], task: TaskSpec) -> list[str]:
    """What may differ, and a reader should know."""
    right = f"{task.name}-{task.version}-{names['mode']}"
    notes = [f"the tarball of {right} holds a folder {folder.name}"] if folder.name != right else []
    for key, name in names.items():
        if found.get(key) != name:
            notes.append(f"{key} {found.get(key)!r} of the tarball has become {name!r}, as its name says")
    metrics = list(task.metrics)
    if found.get("evaluation") != metrics:
        notes.append(f"metrics of the tarball: {found.get('evaluation')}, of the task: {metrics}")
    return notes


def _check_relation(found: str, task: TaskSpec) -> None:
    """Another task's name may stand in the tarball only if the labels can tell the two tasks apart."""
    other = all_tasks().get(found)
    if found != task.name and not (other and task.labels and not {*task.labels} & {*other.labels}):
        raise _wrong(f"task_name of {layout.TASK_METADATA}", found, task.name)


def _expected(task: TaskSpec, splits: Sequence[str]) -> dict[str, Any]:
    """What embeddings and scores depend on must be as the task has it."""
    return {
        "embedding_type": task.embedding_type,
        "prediction_type": task.prediction_type,
        "split_mode": task.splits.mode,
        "splits": list(splits),
    }


def _check_settings(settings: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for key, value in expected.items():
        if settings.get(key) != value:
            raise _wrong(f"{key} of {layout.TASK_METADATA}", repr(settings.get(key)), repr(value))


def _check_splits(folder: Path, splits: Sequence[str]) -> None:
    described = {path.stem for path in folder.glob("*.json") if path.name != layout.TASK_METADATA}
    if described != set(splits):
        raise _wrong("splits", ", ".join(sorted(described)) or "none", ", ".join(splits))
    sounds = folder / str(SAMPLE_RATE)
    found = {path.name for path in sounds.iterdir()} if sounds.is_dir() else set()
    if not found or not found <= set(splits):
        raise _wrong(f"folders of {SAMPLE_RATE}/", ", ".join(sorted(found)) or "none", ", ".join(splits))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise _wrong(path.name, "no such file", "one")
    try:
        value = files.read_json(path)
    except ValueError as error:
        raise _wrong(path.name, str(error), "JSON") from error
    if not isinstance(value, dict):
        raise _wrong(path.name, f"a {type(value).__name__}", "an object")
    return value


def _read_vocabulary(path: Path) -> set[str]:
    """The labels as text."""
    if not path.is_file():
        raise _wrong(path.name, "no such file", "one")
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines(keepends=True)))
    except (ValueError, csv.Error) as error:
        raise _wrong(path.name, str(error), "a table") from error
    labels = [row[-1] for row in rows[1:] if row]
    right = [["idx", "label"], *([str(index), label] for index, label in enumerate(labels))]
    if not labels or rows != right:
        raise _wrong(path.name, f"{len(rows)} rows of another form", "idx,label and indices 0, 1, 2 ...")
    return set(labels)


# --------------------------------------------------------------------------- its clips


def _check_clips(
    folder: Path,
    listed: Mapping[str, Mapping[str, Any]],
    task: TaskSpec,
    duration_s: float | None,
    progress: Progress,
) -> list[Recording]:
    """The clips of all splits, sorted by split and file name, each with its labels and sound checked."""
    vocabulary, clips = _read_vocabulary(folder / layout.VOCABULARY), []
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


def _check_labels(where: str, labels: Any, task: TaskSpec, vocabulary: set[str], frames: int) -> None:
    """The labels of a clip are of the task's kind and in its vocabulary, and events lie in the clip."""
    is_event = task.embedding_type == "event"
    is_one = not is_event and task.prediction_type == "multiclass"
    if not isinstance(labels, list) or not labels or (is_one and len(labels) != 1):
        expected = "events" if is_event else "one label" if is_one else "labels"
        raise _wrong(where, f"{labels!r}"[:80], f"a list of {expected}")
    for each in labels:
        label = _event_label(where, each, (frames + SLACK_FRAMES) / SAMPLE_RATE * 1000) if is_event else each
        if str(label) not in vocabulary:
            raise _wrong(where, f"label {label!r}", f"one of {layout.VOCABULARY}")


def _event_label(where: str, event: Any, end_ms: float) -> Any:
    """The label of an event whose times are those of a sound in the clip."""
    keys = ("label", "start", "end")
    if not isinstance(event, dict) or not all(key in event for key in keys):
        raise _wrong(where, f"{event!r}"[:80], f"events with {', '.join(keys)}")
    start, end = event["start"], event["end"]
    if not (_is_number(start) and _is_number(end) and 0 <= start <= end <= end_ms):
        raise _wrong(where, f"an event from {start} to {end} ms", f"one within the clip, {end_ms:.0f} ms")
    return event["label"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
