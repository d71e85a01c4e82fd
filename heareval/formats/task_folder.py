"""Find, open, check and fingerprint task folders."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heareval import files, layout
from heareval.errors import HearevalError, replaced_error, unknown_name
from heareval.formats.digests import FileDigest, check_unchanged, digests_to_json, parse_digests
from heareval.formats.fields import read_fields
from heareval.formats.labels import LabeledClip, read_clip_names, read_labels, read_vocabulary
from heareval.formats.relations import check_relation, read_relation
from heareval.formats.task_manifest import find_task_manifest
from heareval.formats.task_metadata import PREPARE_AGAIN, TaskMetadata, read_task_metadata
from heareval.spec import Relation

CHANGED = (
    "Remove the task folder and _workdir, prepare the task again, and find out which program changed it."
)


@dataclass(frozen=True)
class TaskFolder:
    """A task's description: what it is, its labels and its clips.

    Args:
        path: the folder.
        metadata: what its task_metadata.json says.
        vocabulary: the labels, in the order of their index; () for a pairwise task.
        clips: the clips of each split, in the order of the rows of its embeddings.
        relation: how the clips of a pairwise task relate to each other; None for other tasks.
    """

    path: Path
    metadata: TaskMetadata
    vocabulary: tuple[str, ...]
    clips: Mapping[str, tuple[LabeledClip, ...]]
    relation: Relation | None = None

    @property
    def description(self) -> tuple[str, ...]:
        """The names of the files that describe the task."""
        table = layout.RELATIONS if self.metadata.is_pairwise else layout.VOCABULARY
        return (layout.TASK_METADATA, table, *map(layout.split_json, self.metadata.splits))


def read_task_folder(folder: Path, *, remedy: str = PREPARE_AGAIN) -> TaskFolder:
    """Return the description of a task, with every label checked.

    Args:
        folder: a task folder, or an embeddings folder, which has copies of its files.
        remedy: advice for the user if a file is missing or wrong.

    Raises:
        HearevalError: a file is missing or wrong; the error names the file, and the clip if it is about one.

    >>> task = read_task_folder(Path("tasks/esc50-v2.0.0-full"))  # doctest: +SKIP
    >>> task.metadata.metrics, task.clips["fold00"][0].labels  # doctest: +SKIP
    (('top1_acc', 'mAP', 'd_prime', 'aucroc'), ('dog',))
    """
    if not (folder / layout.TASK_METADATA).is_file():
        raise HearevalError(
            f"task folder {folder}",
            got=f"no {layout.TASK_METADATA}" if folder.is_dir() else "no such folder",
            expected="a published task folder",
            remedy="Make it with `heareval prepare`, or unpack its tarball.",
        )
    metadata = read_task_metadata(folder, remedy=remedy)
    vocabulary = () if metadata.is_pairwise else read_vocabulary(folder, remedy=remedy)
    clips = {
        split: read_labels(folder, split, metadata, vocabulary, remedy=remedy) for split in metadata.splits
    }
    if not metadata.is_pairwise:
        return TaskFolder(folder, metadata, vocabulary, clips)
    relation = read_relation(folder, remedy=remedy)
    attributes = {clip.clip_id: clip.attributes for of_split in clips.values() for clip in of_split}
    check_relation(relation, attributes, str(folder / layout.RELATIONS), remedy)
    return TaskFolder(folder, metadata, vocabulary, clips, relation)


# --------------------------------------------------------------------------- finding


def find_task_folders(tasks: Path, name: str = "all") -> list[Path]:
    """Return the task folders that a name stands for, sorted.

    Hidden folders are never tasks: they are scratch of a run, or copies made by an editor. A damaged folder
    that was not asked for does not matter.

    Args:
        tasks: the folder of task folders.
        name: the name of a folder, the name of a task (for all its modes), or `all`.

    Raises:
        HearevalError: there is none, or the only ones with this name are damaged.

    >>> find_task_folders(Path("tasks"), "nsynth_pitch")  # doctest: +SKIP
    [PosixPath('tasks/nsynth_pitch-v2.2.3-50h'), PosixPath('tasks/nsynth_pitch-v2.2.3-5h')]
    """
    found = sorted(path.parent for path in tasks.glob(f"*/{layout.TASK_METADATA}"))
    found = [folder for folder in found if not folder.name.startswith(".")]
    if not found:
        raise HearevalError(
            f"tasks folder {tasks}",
            got="no published task",
            expected=f"folders with {layout.TASK_METADATA}",
            remedy="Run `heareval prepare` first.",
        )
    if name == "all":
        return found
    task_names: dict[Path, str] = {}
    damaged: dict[Path, HearevalError] = {}
    for folder in found:
        try:
            task_names[folder] = read_task_metadata(folder).name
        except HearevalError as reason:
            damaged[folder] = reason
    chosen = [folder for folder in found if name in (folder.name, task_names.get(folder))]
    if chosen:
        return chosen
    # A folder is called `<task>-<version>-<mode>`, so a damaged one may be what was asked for.
    for folder, error in damaged.items():
        if folder.name.startswith(f"{name}-"):
            raise error
    raise unknown_name("task folder", name, {*(folder.name for folder in found), *task_names.values()})


# --------------------------------------------------------------------------- fingerprint


def fingerprint_task_folder(folder: Path, sample_rate: int) -> str:
    """Return the fingerprint of a task folder at one rate: that of its manifest, or a digest of its files.

    A folder that was unpacked from a tarball has no manifest, so all its clips are read. LICENSE.txt does not
    count: a tarball with one and an earlier one without hold the same task.

    Args:
        sample_rate: in Hz.

    Raises:
        HearevalError: a description is wrong, or a listed clip or the rate is missing.

    >>> fingerprint_task_folder(Path("tasks/esc50-v2.0.0-full"), 16000)  # doctest: +SKIP
    '2e1f0f1c54a1c5a9'
    """
    manifest = find_task_manifest(folder)
    if manifest:
        return manifest.fingerprint
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.name != layout.LICENSE):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for path in sorted(find_clips(folder, sample_rate)):
        digest.update(f"{path.relative_to(folder)}\0{files.file_checksum(path, 'sha256')}\n".encode())
    return digest.hexdigest()[: files.FINGERPRINT_DIGITS]


def list_sample_rates(folder: Path) -> list[int]:
    """Return the rates in Hz that a task folder has clips at, in increasing order."""
    names = [path.name for path in folder.iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal() and name != "0")


def find_clips(folder: Path, sample_rate: int) -> list[Path]:
    """Return the sound files of all clips of a task folder at one rate, in the order of its descriptions.

    Raises:
        HearevalError: the rate or a clip is missing.
    """
    sounds = folder / str(sample_rate)
    if not sounds.is_dir():
        rates = ", ".join(map(str, list_sample_rates(folder)))
        raise HearevalError(
            f"task folder {folder}",
            got=f"sample rates {rates or 'none'}",
            expected=f"{sample_rate}, which the model asks for",
            remedy=f"Run `heareval prepare` with --sample-rate {sample_rate}, unpack that tarball, or use "
            "--any-rate, which resamples the clips for the model.",
        )
    paths = []
    for split in read_task_metadata(folder).splits:
        names = read_clip_names(folder, split)
        paths += [sounds / split / name for name in names]
        # Path.is_file raises an error on names that are too long for the file system.
        missing = [name for name in names if not os.path.isfile(sounds / split / name)]  # noqa: PTH113
        if missing:
            raise HearevalError(
                f"clip {missing[0]} of {folder / layout.split_json(split)}",
                got=f"no such file in {sounds / split} ({len(missing)} missing)",
                expected="a sound file for every clip",
                remedy=PREPARE_AGAIN,
            )
    return paths


def check_task_fingerprint(folder: Path, sample_rate: int, expected: str) -> None:
    """Raise HearevalError if a task folder is no longer the one that a run was planned with.

    If the folder has a manifest, its description and its clips at this rate are compared with their digests.
    """
    found = fingerprint_task_folder(folder, sample_rate)
    if found != expected:
        raise replaced_error(f"task folder {folder}", found, expected)
    check_task_unchanged(folder, sample_rate)


# --------------------------------------------------------------------------- digests


def check_task_unchanged(folder: Path, sample_rate: int) -> None:
    """Raise HearevalError if another program has changed a task's description, or its clips at a rate."""
    manifest = find_task_manifest(folder)
    if manifest:
        check_unchanged(folder, manifest.digests, CHANGED)
        check_unchanged(folder / str(sample_rate), read_clip_digests(folder, sample_rate), CHANGED)


def read_clip_digests(folder: Path, sample_rate: int) -> dict[str, FileDigest]:
    """Return the digests of a task's clips at one rate, by `split/clip`; {} if none were recorded.

    Raises:
        HearevalError: the file can't be read, or is damaged.
    """
    path = folder / str(sample_rate) / layout.CLIP_DIGESTS
    return parse_digests(read_fields(path, remedy=CHANGED)) if path.exists() else {}


def write_clip_digests(folder: Path, sample_rate: int, digests: Mapping[str, FileDigest]) -> None:
    """Write the digests of a task's clips at one rate."""
    files.write_json(folder / str(sample_rate) / layout.CLIP_DIGESTS, digests_to_json(digests))
