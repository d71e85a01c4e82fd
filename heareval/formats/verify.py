"""Compare everything that heareval has published with the digests that it recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from heareval import files, layout
from heareval.errors import HearevalError
from heareval.formats.digests import FileDigest, find_changes
from heareval.formats.embeddings_folder import find_embeddings_manifest
from heareval.formats.results_folder import read_scores
from heareval.formats.tarball_record import read_tarball_record
from heareval.formats.task_folder import read_clip_digests
from heareval.formats.task_manifest import find_task_manifest


@dataclass(frozen=True)
class Verified:
    """What came of verifying a folder or a tarball.

    Args:
        path: the folder or tarball.
        files: number of files that have a digest.
        changes: a phrase for each file that is not what heareval wrote, such as `train.npy: other content`.
    """

    path: Path
    files: int
    changes: tuple[str, ...]


def verify_tasks(tasks: Path) -> Iterator[Verified]:
    """Read all files of all task folders again, and yield what differs from the digests of each folder.

    A folder without digests, from heareval 0.1 or from a tarball, has 0 files.

    Args:
        tasks: the folder of task folders.

    Example: `[each.path for each in verify_tasks(Path("tasks")) if each.changes]`
    """
    for folder in _list_folders(tasks, "*"):
        yield _verify(folder, _read_task_digests)


def _read_task_digests(folder: Path) -> dict[str, FileDigest]:
    manifest = find_task_manifest(folder)
    if manifest is None:
        return {}
    digests = dict(manifest.digests)
    for rate in manifest.sample_rates:
        clips = read_clip_digests(folder, rate)
        digests |= {f"{rate}/{name}": digest for name, digest in clips.items()}
    return digests


def verify_tarballs(tars: Path) -> Iterator[Verified]:
    """Read all tarballs that heareval packed again, and yield what differs from their records.

    Args:
        tars: the folder of tarballs.

    Example: `[each.path for each in verify_tarballs(Path("tars")) if each.changes]`
    """
    for sidecar in sorted(layout.tar_manifests(tars).glob("*.json")):
        try:
            record = read_tarball_record(sidecar)
        except HearevalError as error:
            # The other tarballs are verified all the same.
            yield Verified(sidecar, 1, (str(error),))
            continue
        digest = FileDigest(record.sha256, record.bytes, None)
        # A record without a checksum belongs to a tarball that was never finished.
        for name in record.names if record.sha256 else ():
            changes = tuple(find_changes(tars, {name: digest}, is_thorough=True))
            yield Verified(tars / name, 1, changes)


def verify_embeddings(embeddings: Path) -> Iterator[Verified]:
    """Read all embeddings, copies of labels and predictions again, and yield what differs from their digests.

    Args:
        embeddings: the folder of the submissions' folders.

    Example: `[each.path for each in verify_embeddings(Path("embeddings")) if each.changes]`
    """
    for folder in _list_folders(embeddings, "*/*"):
        yield _verify(folder, _read_embeddings_digests)


def _read_embeddings_digests(folder: Path) -> dict[str, FileDigest]:
    manifest = find_embeddings_manifest(folder)
    digests = dict(manifest.digests) if manifest else {}
    for protocol in layout.scored_protocols(folder):
        scores = read_scores(folder / layout.scores(protocol))
        if scores.predictions:
            digests[layout.predictions(protocol)] = scores.predictions
    if digests and manifest is None:
        # Scores with digests were computed from arrays that had digests as well.
        path = folder / files.MANIFEST
        raise HearevalError(f"{path}", got="no such file", expected="the digests of the embeddings")
    return digests


def _list_folders(root: Path, pattern: str) -> list[Path]:
    """Return the folders that match a pattern and are described, sorted; hidden ones are scratch."""
    # Either file may be the one that was removed.
    marks = (files.MANIFEST, layout.TASK_METADATA)
    found = sorted({path.parent for mark in marks for path in root.glob(f"{pattern}/{mark}")})
    return [folder for folder in found if not folder.name.startswith(".")]


def _verify(folder: Path, read_digests: Callable[[Path], Mapping[str, FileDigest]]) -> Verified:
    try:
        digests = read_digests(folder)
    except HearevalError as error:
        # The other folders are verified all the same.
        return Verified(folder, 1, (str(error),))
    return Verified(folder, len(digests), tuple(find_changes(folder, digests, is_thorough=True)))
