"""Write small recordings, and the files that declare tasks of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from heareval.spec import TaskSpec
from heareval.tasks import metadata
from heareval.tasks.metadata import SelectedClips
from heareval.tasks.own import task as own

CLASSES = {"crow": 400.0, "owl": 900.0, "wren": 2500.0}
RATE = 16000


def write_sound(path: Path, hertz: float = 500.0, seconds: float = 0.2) -> None:
    """Write a tone, a little different for every path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    phase = 2 * np.pi * (hertz + 10 * len(path.name)) * np.arange(round(seconds * RATE)) / RATE
    soundfile.write(path, 0.3 * np.sin(phase), RATE)


def write_birds(folder: Path) -> Path:
    """Write ten sounds of each of three classes to `recordings`."""
    for label, hertz in CLASSES.items():
        for number in range(10):
            write_sound(folder / "recordings" / label / f"{number}.wav", hertz)
    return folder


def write_task(folder: Path, *lines: str) -> Path:
    file = folder / "birds.toml"
    file.write_text("\n".join(['name = "birds"', *lines]))
    return file


def write_table(folder: Path, header: str, *rows: str) -> Path:
    """Write a table, the sounds in it, and the TOML file of its task; return that file."""
    for row in rows:
        if not (folder / row.split(",")[0]).exists():
            write_sound(folder / row.split(",")[0])
    (folder / "clips.csv").write_text("\n".join([header, *rows]) + "\n")
    return write_task(folder, 'table = "clips.csv"')


def selected_clips(task: TaskSpec) -> SelectedClips:
    return metadata.select_clips(task, own.MODE, task.read_recordings({}, own.MODE))


def splits_by_clip(task: TaskSpec) -> dict[str, str]:
    return {clip.clip_id: clip.split for clip in selected_clips(task).clips}


def rows_of(*, folds: int = 3, columns: str = "") -> list[str]:
    """Return a row for each of three clips of two labels in each fold; `columns` may contain `{fold}`."""
    return [
        f"{label}/{fold}{copy}.wav,{label}" + columns.format(fold=fold)
        for fold in range(folds)
        for label in ("crow", "owl")
        for copy in "abc"
    ]
