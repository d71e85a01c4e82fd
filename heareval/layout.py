"""The names of all files and folders on disk."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from heareval.errors import HearevalError

VOCABULARY = "labelvocabulary.csv"
TASK_METADATA = "task_metadata.json"
# The relations between the clips of a pairwise task, which has no labels.
RELATIONS = "relations.json"
# The file names of results contain the name of the protocol, except those of this one.
PUBLISHED_PROTOCOL = "hear2021"
_SCORES = "predicted-scores.json"
SHA256SUMS = "SHA256SUMS"
# In published task folders and in tarballs.
LICENSE = "LICENSE.txt"
# In the folder of each sample rate of a task: the digests of its clips.
CLIP_DIGESTS = "DIGESTS.json"
# The folder inside the tarballs, as published: the version of the data, not of this program.
TAR_EDITION = "hear-2021.1.1"
TAR_LATEST = "hear-LATEST"
# The folders that machines share, by their names in `Places`.
FolderName = Literal["work", "tasks", "tars", "embeddings"]
FOLDERS: tuple[FolderName, ...] = ("work", "tasks", "tars", "embeddings")


def display_path(path: str | Path) -> str:
    """Return a path for people: relative if it lies below the working folder.

    >>> display_path(Path.cwd() / "tasks" / "esc50"), display_path("/somewhere/else")
    ('tasks/esc50', '/somewhere/else')
    """
    path = Path(path)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def check_folder_is_named(folder: str | os.PathLike[str], what: str = "folder") -> None:
    """Raise HearevalError if the name of a folder is empty, which Python takes for the current folder.

    Args:
        what: what the folder is, for the message.
    """
    if not os.fspath(folder).strip():
        expected = "a folder, such as . for the current one"
        raise HearevalError(what, got=repr(os.fspath(folder)), expected=expected)


@dataclass(frozen=True)
class Places:
    """The folders of one run.

    Args:
        work: downloads, extracted corpora and intermediate results; may be deleted after a run.
        tasks: published task folders.
        tars: published tarballs and SHA256SUMS.
        embeddings: embeddings and scores, one folder per submission.
        scratch: a folder of this machine for what is thrown away; "" without one.
        ids: (name, id) of the folders above that have an id, which is the same on every machine.

    Raises:
        HearevalError: the name of a folder is empty; the current folder is `.`.
    """

    work: str = "_workdir"
    tasks: str = "tasks"
    tars: str = "tars"
    embeddings: str = "embeddings"
    scratch: str = ""
    ids: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name, folder in self.folders.items():
            check_folder_is_named(folder, f"{name} folder")

    @property
    def folders(self) -> Mapping[FolderName, str]:
        """The path of each folder that machines share."""
        return {name: getattr(self, name) for name in FOLDERS}

    def identify(self, name: FolderName) -> str:
        """Return what tells a folder from all others: its id, or its path if it has none.

        >>> Places(ids=(("work", "5f3a-17"),)).identify("work"), Places().identify("tars")
        ('5f3a-17', 'tars')
        """
        return dict(self.ids).get(name, self.folders[name])

    def archive(self, checksum: str, file_name: str) -> Path:
        """Return the path of a downloaded archive, which all tasks with the same checksum share."""
        return Path(self.work) / "downloads" / checksum / file_name

    def extracted(self, checksum: str, fingerprint: str) -> Path:
        """Return the folder of an extracted archive, with MANIFEST.json and `files/`."""
        return Path(self.work) / "corpora" / f"{checksum[:16]}-{fingerprint}"

    def stage(self, task_folder: str, stage: str, fingerprint: str) -> Path:
        """Return the folder of one step of one task and mode."""
        return Path(self.work) / task_folder / f"{stage}-{fingerprint}"

    def task(self, task_folder: str) -> Path:
        """Return the published folder of a task."""
        return Path(self.tasks) / task_folder

    def clip(self, task_folder: str, sample_rate: int, split: str, clip: str) -> Path:
        """Return the path of a clip's WAV file."""
        return self.task(task_folder) / str(sample_rate) / split / clip

    def tar(self, task_folder: str, sample_rate: int, edition: str = TAR_EDITION) -> Path:
        """Return the path of a published tarball."""
        return Path(self.tars) / f"{edition}-{task_folder}-{sample_rate}.tar.gz"

    def embeddings_of(self, submission: str, task_folder: str, limit: int | None = None) -> Path:
        """Return the folder with the embeddings and scores of one submission on one task.

        Args:
            limit: how many clips of each split they are of, at most; None means all.
        """
        return Path(self.embeddings) / submission / name_limited(task_folder, limit)

    def environments(self) -> Path:
        """Return the folder of the Python environments that submissions ask for."""
        return Path(self.work) / "environments"

    def logs(self) -> Path:
        """Return the folder of the logs."""
        return Path(self.work) / "logs"

    def step_records(self) -> Path:
        """Return the folder that says which steps are running and which failed."""
        return Path(self.work) / "step-records"

    def run_records(self) -> Path:
        """Return the folder that says what there was before each run."""
        return Path(self.work) / "run-records"

    def task_requests(self) -> Path:
        """Return the folder of what runs were last asked for, a file per task folder."""
        return Path(self.work) / "requests" / "tasks"

    def submission_requests(self) -> Path:
        """Return the folder of what submissions last used, a file per submission."""
        return Path(self.work) / "requests" / "submissions"

    def folder_id(self, name: FolderName) -> Path:
        """Return the file that tells a shared folder from all others, whatever its path is on a machine."""
        return Path(self.folders[name]) / ".heareval.id"

    def demo_corpora(self) -> Path:
        """Return the folder of the synthetic corpora."""
        return Path(self.work) / "demo-corpora"

    def run_lock(self) -> Path:
        """Return the lock of the work folder, which runs share."""
        return Path(self.work) / ".run.lock"


def name_limited(name: str, limit: int | None) -> str:
    """Return the name of a protocol, or of a folder of embeddings, with the limit of clips of each split.

    >>> name_limited("hear2021", 20), name_limited("hear2021", None)
    ('hear2021-limit20', 'hear2021')
    """
    return name if limit is None else f"{name}-limit{limit}"


def find_limit(protocol: str) -> int | None:
    """Return how many clips of each split a protocol scores at most, by its name; None means all.

    >>> find_limit("probe-linear-limit20"), find_limit("hear2021")
    (20, None)
    """
    found = re.search("-limit([1-9][0-9]*)$", protocol)
    return int(found[1]) if found else None


def split_json(split: str) -> str:
    """Return the name of the file with the clips and labels of a split.

    >>> split_json("train")
    'train.json'
    """
    return f"{split}.json"


def split_array(split: str) -> str:
    """Return the name of the array with the embeddings of a split, such as `train.npy`.

    Shape `(clips, dim)` or `(clips, timestamps, dim)` in the order of train.json, float32 or float16.
    """
    return f"{split}.npy"


def split_timestamps(split: str) -> str:
    """Return the name of the array with the timestamps of a split, such as `train.timestamps.npy`.

    Shape `(clips, timestamps)`, float32, in milliseconds.
    """
    return f"{split}.timestamps.npy"


def scores(protocol: str) -> str:
    """Return the name of the file with the scores of a protocol.

    >>> scores("hear2021"), scores("hear2021-fast")
    ('test.predicted-scores.json', 'test.hear2021-fast.predicted-scores.json')
    """
    return f"test.{_prefix(protocol)}{_SCORES}"


def predictions(protocol: str) -> str:
    """Return the name of the file with the predictions of a protocol.

    >>> predictions("hear2021")
    'test.predictions.npz'
    """
    return f"test.{_prefix(protocol)}predictions.npz"


def report(protocol: str) -> str:
    """Return the name of the folder with the report on a protocol's predictions."""
    return f"report-{protocol}"


def scored_protocols(folder: Path) -> tuple[str, ...]:
    """Return the protocols that an embeddings folder has scores of, in alphabetical order."""
    return tuple(sorted(protocol_of_scores(path.name) for path in folder.glob(f"test.*{_SCORES}")))


def protocol_of_scores(name: str) -> str:
    """Return the protocol of a file with scores; "" if the name is not that of one.

    >>> protocol_of_scores("test.predicted-scores.json"), protocol_of_scores(scores("hear2021-fast"))
    ('hear2021', 'hear2021-fast')
    """
    parts = name.removesuffix(_SCORES).split(".")
    if not name.endswith(_SCORES) or parts[0] != "test":
        return ""
    return parts[1] or PUBLISHED_PROTOCOL


def _prefix(protocol: str) -> str:
    return "" if protocol == PUBLISHED_PROTOCOL else f"{protocol}."


def tar_manifests(tars: Path) -> Path:
    """Return the folder of the files that describe the tarballs in a folder."""
    return tars / ".manifests"


def tar_manifest(tar: Path) -> Path:
    """Return the path of the file with the fingerprint and SHA-256 of a tarball."""
    return tar_manifests(tar.parent) / f"{tar.name}.json"


def found_checksum(archive: Path) -> Path:
    """Return the path of the file with the SHA-256 of an archive that has no published checksum."""
    return archive.with_name(f"{archive.name}.sha256")
