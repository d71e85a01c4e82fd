"""Download addresses, tables and file names: helpers that several corpus modules share."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heareval.errors import HearevalError
from heareval.spec import Download

OPEN_DOWNSAMPLED = "https://github.com/hearbenchmark/hear2021-open-tasks-downsampled/raw/main/"
OTHER_DOWNSAMPLED = "https://github.com/kmarufraj/s-task/raw/main/"
# The metrics of most scene tasks; the first one selects the model.
SCENE_METRICS = ("top1_acc", "mAP", "d_prime", "aucroc")


def zenodo(record: int, file_name: str, md5: str, split: str = "train", **more: Any) -> Download:
    """Return the download of a file of a Zenodo record.

    >>> zenodo(1285212, "a.zip", "51dc70d02a06b9d96befadf320a6996f").url
    'https://zenodo.org/record/1285212/files/a.zip?download=1'
    """
    url = f"https://zenodo.org/record/{record}/files/{file_name}?download=1"
    return Download(url, md5, split, **more)


def open_downsampled(file_name: str, md5: str, split: str = "train", **more: Any) -> Download:
    """Return the download of a downsampled archive of an open task, for mode `small`."""
    return Download(OPEN_DOWNSAMPLED + file_name, md5, split, **more)


def downsampled(file_name: str, md5: str, split: str = "train", **more: Any) -> Download:
    """Return the download of a downsampled archive of another task, for mode `small`."""
    return Download(OTHER_DOWNSAMPLED + file_name, md5, split, **more)


def read_table(path: Path, delimiter: str = ",") -> Iterator[dict[str, str]]:
    """Yield the rows of a table as dictionaries whose keys are the column names of its header."""
    with open(path, encoding="utf-8-sig", newline="") as stream:
        yield from csv.DictReader(stream, delimiter=delimiter)


def sounds_below(folder: Path, pattern: str = "**/*.wav") -> list[Path]:
    """Return the audio files below a folder, sorted by path, without the extra files of macOS."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if not path.name.startswith("._") and "__MACOSX" not in path.relative_to(folder).parts
    )


def name_parts(path: Path) -> list[str]:
    """Return the parts of the description in a file name of Freesound.

    >>> name_parts(Path("224030__akshaylaya__bheem-b-001.wav"))
    ['bheem', 'b', '001']
    """
    return path.stem.split("__")[-1].split("-")


def sound_duration_s(path: Path) -> float:
    """Return the length of an audio file in seconds, according to its header.

    Raises:
        HearevalError: libsndfile cannot read the file.
    """
    import soundfile

    try:
        facts = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise HearevalError(
            f"sound {path}",
            got=str(error),
            expected="a readable audio file",
            remedy="The archive is incomplete or damaged: fetch it again.",
        ) from error
    return float(facts.frames / facts.samplerate)
