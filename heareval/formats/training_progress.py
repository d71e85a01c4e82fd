"""The folder of trainings that a killed run left unfinished, and how far they had come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from heareval import files, layout
from heareval.errors import HearevalError
from heareval.formats.fields import read_fields

PROGRESS = "progress.json"


@dataclass(frozen=True)
class TrainingProgress:
    """How far the trainings of one evaluation have come.

    The attributes have the names of the keys on disk.

    Args:
        trainings: number of trainings.
        finished: number of finished trainings in each file that holds some, by the name of the file.
        made_by: the machine and the code that train, by what may differ.
    """

    trainings: int
    finished: Mapping[str, int] = field(default_factory=dict)
    made_by: Mapping[str, str] = field(default_factory=dict)

    @property
    def trained(self) -> int:
        """The number of finished trainings.

        >>> TrainingProgress(12, {"a.pt": 2, "b.pt": 1}).trained
        3
        """
        return sum(self.finished.values())

    def __str__(self) -> str:
        """Return a sentence part.

        >>> str(TrainingProgress(12, {"a.pt": 2}))
        '2 of 12 trainings'
        """
        return f"{self.trained} of {self.trainings} trainings"


def unfinished_trainings(folder: Path, protocol: str, fingerprint: str) -> Path:
    """Return the folder of the unfinished trainings of results.

    Args:
        folder: the embeddings folder.
        protocol: name of the results.
        fingerprint: fingerprint of the results.
    """
    return files.unfinished_path(folder / layout.scores(protocol), fingerprint)


def all_unfinished_trainings(folder: Path, protocol: str) -> list[Path]:
    """Return the folders of unfinished trainings of results, whatever their fingerprints.

    Args:
        folder: the embeddings folder.
        protocol: name of the results.
    """
    return files.all_unfinished(folder / layout.scores(protocol))


def list_unfinished_trainings(folder: Path) -> dict[Path, str]:
    """Return the folders of unfinished trainings in an embeddings folder, each with its protocol.

    Example: `list_unfinished_trainings(folder).values()` are names such as `hear2021`.
    """
    found = {}
    for path in sorted(folder.glob(f".test.*{files.UNFINISHED}")):
        scores = path.name[1:].removesuffix(files.UNFINISHED).rpartition(".")[0]
        if protocol := layout.protocol_of_scores(scores):
            found[path] = protocol
    return found


def is_of_finished_results(unfinished: Path, fingerprint: str) -> bool:
    """Return whether unfinished trainings are those of results that are there.

    Args:
        unfinished: the folder of the unfinished trainings.
        fingerprint: fingerprint of the results that are there; "" without any.
    """
    return unfinished.name.endswith(f".{fingerprint}{files.UNFINISHED}")


def find_training_progress(unfinished: Path) -> TrainingProgress | None:
    """Return how far unfinished trainings have come; None if that is not known.

    Args:
        unfinished: the folder of the unfinished trainings.
    """
    # It only informs: whatever is wrong with it, the trainings are done again.
    try:
        progress = read_fields(unfinished / PROGRESS)
        made_by = progress.object("made_by")
        return TrainingProgress(
            progress.integer("trainings"),
            progress.counts("finished"),
            {name: made_by.text(name) for name in made_by},
        )
    except (HearevalError, OSError):
        return None


def write_training_progress(unfinished: Path, progress: TrainingProgress) -> None:
    """Write how far unfinished trainings have come into their folder."""
    files.write_json(unfinished / PROGRESS, asdict(progress))
