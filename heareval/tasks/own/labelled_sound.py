"""A sound with one of its labels, as folders and tables give it."""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class LabelledSound:
    """A sound with one of its labels: a row of a table, or a file in a class folder.

    Args:
        where: names the row or folder in errors.
        path: the audio file, relative to the folder or table.
        label: the label.
        split: the split, "" where none is given.
        group: sounds of one group stay in one split; "" means that the sound is a group by itself.
        start_ms: onset of an event in milliseconds; None for a label of the whole sound.
        end_ms: its offset.
    """

    where: str
    path: str
    label: str
    split: str = ""
    group: str = ""
    start_ms: float | None = None
    end_ms: float | None = None


@dataclass(frozen=True)
class LabelledSounds:
    """What a folder or a table contains.

    Args:
        rows: the sounds with their labels.
        left_out: what does not belong to the task, in words.
        doubts: what is probably a mistake, in words.
    """

    rows: list[LabelledSound]
    left_out: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
