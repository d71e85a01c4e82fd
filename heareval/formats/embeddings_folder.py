"""Read, check and write embeddings folders: arrays, MANIFEST.json, and copies of the task's files."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval import files, layout
from heareval.errors import HearevalError
from heareval.formats.digests import FileDigest, check_unchanged, parse_digests
from heareval.formats.fields import Fields, read_fields
from heareval.formats.names import is_inside
from heareval.formats.task_folder import TaskFolder, read_task_folder
from heareval.spec import EMBEDDING_DTYPES

# A folder whose manifest is intact counts as complete, so embedding again without removing it does nothing.
EMBED_AGAIN = "Remove the embeddings folder, and embed the task again."
# A file in the folder of unfinished embeddings that are made again: no later run continues them.
MADE_AGAIN = "made-again"


@dataclass(frozen=True)
class EmbeddingsManifest:
    """What embeddings were made from, and how.

    The attributes have the names of the keys on disk. The JSON objects among them stay as they are, because
    results repeat them.

    Args:
        fingerprint: changes with the task's clips, the submission and the format of the embeddings.
        submission: the model: its name, version, weights ...
        task: name of the task folder.
        made_from: what the task's manifest says about its corpus; {} for a task without one.
        form: the format of the embeddings.
        unusual_embedding: where that format differs from the default.
        arrays: file names of the arrays.
        clips: number of clips.
        device: `cpu` or `cuda`.
        framework: `torch` or `tensorflow`.
        versions: releases of the packages that computed the embeddings.
        seconds: duration of the last run that added to them.
        memory_bytes: largest memory of the process that computed them, without that of a GPU; None if
            it is unknown.
        limit: how many clips of each split were embedded at most; None means all.
        digests: digests of all files of the folder but those of results; {} in folders of heareval 0.1.
    """

    fingerprint: str
    submission: Mapping[str, Any]
    task: str
    made_from: Mapping[str, Any]
    form: Mapping[str, Any]
    unusual_embedding: Mapping[str, Any]
    arrays: tuple[str, ...]
    clips: int = 0
    device: str = ""
    framework: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    memory_bytes: int | None = None
    limit: int | None = None
    digests: Mapping[str, FileDigest] = field(default_factory=dict)

    @property
    def is_published_corpus(self) -> bool | None:
        """Whether the task was made from the published archives; None if nobody knows."""
        is_published: bool | None = self.made_from.get("is_the_published_corpus")
        return is_published


def find_embeddings_manifest(folder: Path) -> EmbeddingsManifest | None:
    """Return the manifest of an embeddings folder; None if it has none.

    Raises:
        HearevalError: the file can't be read, or is not a manifest of embeddings.
    """
    path = folder / files.MANIFEST
    is_there = files.has_file(folder, files.MANIFEST)
    return _parse_manifest(read_fields(path, remedy=EMBED_AGAIN)) if is_there else None


def read_embeddings_manifest(folder: Path) -> EmbeddingsManifest:
    """Return the manifest of an embeddings folder.

    Raises:
        HearevalError: the file is missing, can't be read, or is not a manifest of embeddings.

    >>> manifest = read_embeddings_manifest(Path("embeddings/my_model/esc50-v2.0.0-full"))  # doctest: +SKIP
    >>> manifest.submission["name"], manifest.arrays[0]  # doctest: +SKIP
    ('my_model', 'fold00.npy')
    """
    manifest = find_embeddings_manifest(folder)
    if manifest is None:
        missing = f"no {files.MANIFEST}, as in folders of the 2021 kit"
        raise _no_embeddings(folder, missing if folder.is_dir() else "no such folder")
    return manifest


def _parse_manifest(manifest: Fields) -> EmbeddingsManifest:
    if "arrays" not in manifest and "sample_rates" in manifest:
        raise _no_embeddings(Path(manifest.where).parent, "a task folder")
    arrays = manifest.texts("arrays")
    for name in arrays:
        if "/" in name or not is_inside(name):
            raise manifest.error("arrays", ascii(name), "names of files in the folder")
    limit = manifest.integer("limit", None)
    if limit is not None and limit < 1:
        raise manifest.error("limit", str(limit), "1 or more")
    made_from = manifest.object("made_from", {})
    made_from.flag("is_the_published_corpus", None)
    return EmbeddingsManifest(
        fingerprint=manifest.fingerprint(),
        submission=manifest.mapping("submission", {}),
        task=manifest.text("task", ""),
        made_from=made_from.values,
        form=manifest.mapping("form", {}),
        unusual_embedding=manifest.mapping("unusual_embedding", {}),
        arrays=arrays,
        clips=manifest.integer("clips", 0),
        device=manifest.text("device", ""),
        framework=manifest.text("framework", ""),
        versions=manifest.mapping("versions", {}),
        seconds=manifest.number("seconds", 0.0),
        memory_bytes=manifest.integer("memory_bytes", None),
        limit=limit,
        digests=parse_digests(manifest.object("digests", {})),
    )


def _no_embeddings(folder: Path, got: str) -> HearevalError:
    return HearevalError(
        f"embeddings folder {folder}",
        got=got,
        expected="a folder embeddings/SUBMISSION/TASK",
        remedy="Make it with `heareval embed`.",
    )


def has_embeddings(folder: Path, fingerprint: str, not_before_s: float = 0.0) -> bool:
    """Return whether a folder has all arrays of the embeddings with this fingerprint.

    Args:
        not_before_s: embeddings that were made before this time don't count; 0 for any time.

    Raises:
        HearevalError: the manifest can't be read, or is not a manifest of embeddings.
    """
    manifest = find_embeddings_manifest(folder)
    if manifest is None or manifest.fingerprint != fingerprint:
        return False
    if not files.is_written_since(folder / files.MANIFEST, not_before_s):
        return False
    return all((folder / name).exists() for name in manifest.arrays)


def lock_of_embedding(folder: Path) -> Path:
    """Return the lock that a run holds while it computes the embeddings of a folder."""
    return folder.with_name(f".{folder.name[:150]}.embed.lock")


def is_made_again(unfinished: Path) -> bool:
    """Return whether unfinished embeddings are of a run that makes complete ones again.

    Args:
        unfinished: the folder of the unfinished embeddings.
    """
    return (unfinished / MADE_AGAIN).exists()


def sweep_finished(submissions: Path) -> None:
    """Remove what killed runs left of embeddings that another run has finished since.

    Args:
        submissions: the folder of the submissions' folders.
    """
    for path in files.find_in_subfolders(submissions, f".*{files.UNFINISHED}"):
        target, _, fingerprint = path.name[1:].removesuffix(files.UNFINISHED).rpartition(".")
        # A damaged folder is reported by the step that needs it.
        with contextlib.suppress(OSError, HearevalError):
            if has_embeddings(path.with_name(target), fingerprint):
                files.remove_tree(path)


def copy_task_description(task: TaskFolder, folder: Path) -> None:
    """Copy the files that describe a task into an embeddings folder."""
    for name in task.description:
        shutil.copyfile(task.path / name, folder / name)


def read_embedded_task(folder: Path) -> TaskFolder:
    """Return the description of the task in an embeddings folder, from the copies of the task's files.

    Raises:
        HearevalError: a file is missing or wrong, or another program has changed it.

    >>> read_embedded_task(Path("embeddings/my_model/esc50-v2.0.0-full")).metadata.name  # doctest: +SKIP
    'esc50'
    """
    if not (folder / layout.TASK_METADATA).is_file():
        raise _no_embeddings(folder, f"no {layout.TASK_METADATA}" if folder.is_dir() else "no such folder")
    check_embeddings_unchanged(folder, lambda name: not name.endswith(".npy"))
    return read_task_folder(folder, remedy=EMBED_AGAIN)


def check_embeddings_unchanged(folder: Path, is_needed: Callable[[str], bool]) -> None:
    """Raise HearevalError if another program has changed a file of an embeddings folder.

    Args:
        is_needed: whether to check the file of this name.
    """
    manifest = find_embeddings_manifest(folder)
    digests = manifest.digests if manifest else {}
    needed = {name: digest for name, digest in digests.items() if is_needed(name)}
    check_unchanged(folder, needed, f"{EMBED_AGAIN} Find out which program changed it.")


# --------------------------------------------------------------------------- arrays


def array_names(splits: Sequence[str], embedding_type: str) -> list[str]:
    """Return the file names of the arrays of a task, those of the embeddings first.

    >>> array_names(["train", "test"], "event")
    ['train.npy', 'test.npy', 'train.timestamps.npy', 'test.timestamps.npy']
    """
    names = [layout.split_array(split) for split in splits]
    return names + [layout.split_timestamps(split) for split in splits if embedding_type == "event"]


def open_embeddings(folder: Path, split: str, *, clips: int, is_event: bool) -> NDArray[Any]:
    """Return the embeddings of a split, memory-mapped: float32 or float16, rows as in its JSON file.

    Args:
        clips: number of clips that the split has.
        is_event: whether the array is `(clips, timestamps, dim)` instead of `(clips, dim)`.

    Raises:
        HearevalError: the file is missing, can't be read, or has another type or shape.
    """
    axes = ("clips", "timestamps", "dim") if is_event else ("clips", "dim")
    return _open_array(folder / layout.split_array(split), axes, clips, EMBEDDING_DTYPES)


def open_timestamps(folder: Path, split: str, *, clips: int) -> NDArray[np.float32]:
    """Return the timestamps of a split, memory-mapped: milliseconds, `(clips, timestamps)`.

    Args:
        clips: number of clips that the split has.

    Raises:
        HearevalError: the file is missing, can't be read, or has another type or shape.
    """
    return _open_array(folder / layout.split_timestamps(split), ("clips", "timestamps"), clips, ("float32",))


def _open_array(path: Path, axes: Sequence[str], clips: int, dtypes: Sequence[str]) -> NDArray[Any]:
    expected = f"{' or '.join(dtypes)} ({', '.join(axes)}) with {clips} clips"
    check_embeddings_unchanged(path.parent, lambda name: name == path.name)
    try:
        # np.load would also open zip archives and pickles.
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise HearevalError(f"{path}", got="no such file", expected=expected, remedy=EMBED_AGAIN) from None
    except Exception as error:
        # numpy parses the header as Python, so a damaged one may raise nearly anything.
        raise HearevalError(
            f"{path} can't be read", got=str(error), expected=expected, remedy=EMBED_AGAIN
        ) from None
    if str(array.dtype) not in dtypes or array.ndim != len(axes) or len(array) != clips or 0 in array.shape:
        raise HearevalError(
            f"{path}", got=f"{array.dtype} {array.shape}", expected=expected, remedy=EMBED_AGAIN
        )
    return array


# --------------------------------------------------------------------------- writing


def write_embeddings_manifest(folder: Path, manifest: EmbeddingsManifest) -> None:
    """Write MANIFEST.json of an embeddings folder."""
    values = asdict(manifest)
    # As heareval 0.1 wrote it.
    if not manifest.digests:
        del values["digests"]
    # As the versions wrote it that did not measure it.
    if manifest.memory_bytes is None:
        del values["memory_bytes"]
    if manifest.limit is None:
        del values["limit"]
    files.write_json(folder / files.MANIFEST, values)
