"""Where corpora come from and how their tables are read: what several corpus modules share."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import soundfile

from heareval.errors import HearevalError
from heareval.spec import Download

OPEN_DOWNSAMPLED = "https://github.com/hearbenchmark/hear2021-open-tasks-downsampled/raw/main/"
OTHER_DOWNSAMPLED = "https://github.com/kmarufraj/s-task/raw/main/"
# What most scene tasks are scored by; the first decides model selection.
SCENE_METRICS = ("top1_acc", "mAP", "d_prime", "aucroc")


def zenodo(record: int, file_name: str, md5: str, split: str = "train", **more: Any) -> Download:
    """A file of a Zenodo record."""
    url = f"https://zenodo.org/record/{record}/files/{file_name}?download=1"
    return Download(url, md5, split, **more)


def open_downsampled(file_name: str, md5: str, split: str = "train", **more: Any) -> Download:
    """An archive of the benchmark's downsampled open tasks, for mode `small`."""
    return Download(OPEN_DOWNSAMPLED + file_name, md5, split, **more)


def downsampled(file_name: str, md5: str, split: str = "train", **more: Any) -> Download:
    """An archive of the benchmark's other downsampled tasks, for mode `small`."""
    return Download(OTHER_DOWNSAMPLED + file_name, md5, split, **more)


def read_table(path: Path, delimiter: str = ",") -> Iterator[dict[str, str]]:
    """The rows of a table with a header, by column name."""
    with open(path, encoding="utf-8-sig", newline="") as stream:
        yield from csv.DictReader(stream, delimiter=delimiter)


def sounds_below(folder: Path, pattern: str = "**/*.wav") -> list[Path]:
    """The sounds of a folder in the order of their paths, without what macOS leaves in archives."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if not path.name.startswith("._") and "__MACOSX" not in path.relative_to(folder).parts
    )


def name_parts(path: Path) -> list[str]:
    """The description in a Freesound-like file name, in its parts.

    >>> name_parts(Path("224030__akshaylaya__bheem-b-001.wav"))
    ['bheem', 'b', '001']
    """
    return path.stem.split("__")[-1].split("-")


def sound_duration_s(path: Path) -> float:
    """Length of a sound file by its header, in seconds."""
    try:
        facts = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise HearevalError(
            f"sound {path}",
            got=str(error),
            expected="a readable file",
            remedy="The archive is incomplete or damaged: fetch it again.",
        ) from error
    return float(facts.frames / facts.samplerate)
