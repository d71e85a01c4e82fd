"""Every file and folder name on disk, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

VOCABULARY = "labelvocabulary.csv"
TASK_METADATA = "task_metadata.json"
# The protocol whose results have the plain names; every other protocol's carry its name.
PUBLISHED_PROTOCOL = "hear2021"
_SCORES = "predicted-scores.json"
SHA256SUMS = "SHA256SUMS"
# The folder inside the tarballs, as published; it names the edition of the data, not of this program.
TAR_EDITION = "hear-2021.1.1"
TAR_LATEST = "hear-LATEST"


def display_path(path: str | Path) -> str:
    """Return a path for people: relative if it lies below the working folder.

    >>> display_path(Path.cwd() / "tasks" / "esc50"), display_path("/somewhere/else")
    ('tasks/esc50', '/somewhere/else')
    """
    path = Path(path)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@dataclass(frozen=True)
class Places:
    """The folders of one run.

    Args:
        work: downloads, extracted corpora and everything in between; may be deleted after a run.
        tasks: published task folders.
        tars: published tarballs and SHA256SUMS.
        embeddings: embeddings and scores, a folder per submission.
    """

    work: str = "_workdir"
    tasks: str = "tasks"
    tars: str = "tars"
    embeddings: str = "embeddings"

    def archive(self, checksum: str, file_name: str) -> Path:
        """A downloaded archive, shared by all tasks that name the same checksum."""
        return Path(self.work) / "downloads" / checksum / file_name

    def extracted(self, checksum: str, fingerprint: str) -> Path:
        """The folder of an extracted archive: MANIFEST.json and `files/`."""
        return Path(self.work) / "corpora" / f"{checksum[:16]}-{fingerprint}"

    def stage(self, task_folder: str, stage: str, fingerprint: str) -> Path:
        """The folder of one step of one task and mode."""
        return Path(self.work) / task_folder / f"{stage}-{fingerprint}"

    def task(self, task_folder: str) -> Path:
        """A published task folder."""
        return Path(self.tasks) / task_folder

    def clip(self, task_folder: str, sample_rate: int, split: str, clip: str) -> Path:
        """The sound of a clip."""
        return self.task(task_folder) / str(sample_rate) / split / clip

    def tar(self, task_folder: str, sample_rate: int, edition: str = TAR_EDITION) -> Path:
        """A published tarball."""
        return Path(self.tars) / f"{edition}-{task_folder}-{sample_rate}.tar.gz"

    def embeddings_of(self, submission: str, task_folder: str) -> Path:
        """The embeddings and scores of one submission on one task."""
        return Path(self.embeddings) / submission / task_folder

    def environments(self) -> Path:
        """The environments of submissions that bring their own."""
        return Path(self.work) / "environments"

    def logs(self) -> Path:
        """Where runs leave their logs."""
        return Path(self.work) / "logs"


def split_json(split: str) -> str:
    """`train.json`: the clips and labels of a split."""
    return f"{split}.json"


def split_array(split: str) -> str:
    """`train.npy`: float32 or float16 `(clips, dim)` or `(clips, timestamps, dim)`, as in train.json."""
    return f"{split}.npy"


def split_timestamps(split: str) -> str:
    """`train.timestamps.npy`: float32 milliseconds, `(clips, timestamps)`."""
    return f"{split}.timestamps.npy"


def scores(protocol: str) -> str:
    """The scores that a protocol gave.

    >>> scores("hear2021"), scores("hear2021-fast")
    ('test.predicted-scores.json', 'test.hear2021-fast.predicted-scores.json')
    """
    return f"test.{_prefix(protocol)}{_SCORES}"


def predictions(protocol: str) -> str:
    """What the predictors of a protocol said about each clip."""
    return f"test.{_prefix(protocol)}predictions.npz"


def report(protocol: str) -> str:
    """The folder of a report on what a protocol's predictors said."""
    return f"report-{protocol}"


def scored_protocols(folder: Path) -> tuple[str, ...]:
    """The protocols that an embeddings folder holds scores of."""
    names = [path.name.split(".") for path in folder.glob(f"test.*{_SCORES}")]
    return tuple(sorted(name[1] if len(name) == 4 else PUBLISHED_PROTOCOL for name in names))


def _prefix(protocol: str) -> str:
    return "" if protocol == PUBLISHED_PROTOCOL else f"{protocol}."


def tar_manifest(tar: Path) -> Path:
    """The sidecar of a tarball: its fingerprint and SHA-256."""
    return tar.parent / ".manifests" / f"{tar.name}.json"


def found_checksum(archive: Path) -> Path:
    """Where the SHA-256 found of an archive is noted, if no checksum was published of it."""
    return archive.with_name(f"{archive.name}.sha256")
