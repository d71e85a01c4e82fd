"""Read a table of sounds and labels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from heareval.errors import HearevalError
from heareval.tasks.own.csv_table import parse_number, read_csv
from heareval.tasks.own.labelled_sound import LabelledSound, LabelledSounds

COLUMNS = ("path", "label", "split", "group", "start_ms", "end_ms")
# What people put between several labels in one cell.
BETWEEN_LABELS = re.compile("[,;|]")


def read_table(path: Path) -> LabelledSounds:
    """Return the sounds in a table with their labels.

    Raises:
        HearevalError: there is no such table, or something in it is wrong.
    """
    table = read_csv(path, COLUMNS[:2], COLUMNS[2:], may_be_empty=("group",))
    if not {"start_ms", "end_ms"}.isdisjoint(table.columns):
        table.check_columns(COLUMNS[:2] + COLUMNS[-2:])
    sounds = [
        LabelledSound(
            row.where,
            table.find_path(row.cells["path"]),
            row.cells["label"],
            row.cells.get("split", ""),
            row.cells.get("group", ""),
            *_parse_times(row.cells, row.where),
        )
        for row in table.rows
    ]
    return LabelledSounds(sounds, doubts=(*table.doubts, *_doubt_labels({sound.label for sound in sounds})))


def _parse_times(row: Mapping[str, str], where: str) -> tuple[float, float] | tuple[None, None]:
    """Return the start and end of an event in milliseconds, or None for both if the table has no times."""
    if "start_ms" not in row:
        return None, None
    try:
        start, end = parse_number(row["start_ms"]), parse_number(row["end_ms"])
    except ValueError as error:
        raise HearevalError(where, got=str(error), expected="milliseconds such as 1250.5") from None
    # This also rejects NaN, with which every comparison is false.
    if not 0 <= start <= end < math.inf:
        got = f"start_ms {start:g} and end_ms {end:g}"
        raise HearevalError(where, got=got, expected="0 or later, and an end that is not before the start")
    return start, end


def _doubt_labels(labels: set[str]) -> list[str]:
    """Return a note if cells seem to contain several labels each."""
    joined = sorted(label for label in labels if BETWEEN_LABELS.search(label))
    if not joined:
        return []
    count = "1 label contains" if len(joined) == 1 else f"{len(joined)} labels contain"
    return [
        f"{count} a comma, semicolon or bar, such as {joined[0]!r}; a cell is always one label, and several "
        "labels of a sound are several rows"
    ]
