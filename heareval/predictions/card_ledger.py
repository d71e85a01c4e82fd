"""Which cards were checked before, so that a board need not compute all of their scores again every night."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import heareval
from heareval import files
from heareval.errors import HearevalError
from heareval.formats.card import Card
from heareval.formats.fields import read_fields
from heareval.predictions.data import read_references
from heareval.predictions.references import fingerprint_references

REMEDY = "Remove it; all cards are checked again then."


def read_ledger(file: Path) -> dict[str, str]:
    """Return the cards that passed a check of this version of heareval: fingerprint -> digest of references.

    Args:
        file: a file that `write_ledger` wrote; a missing one means that no card was checked.

    Raises:
        HearevalError: the file is damaged.
    """
    if not file.exists():
        return {}
    ledger = read_fields(file, remedy=REMEDY)
    cards = ledger.object("cards")
    passed = {fingerprint: cards.text(fingerprint) for fingerprint in cards}
    return passed if ledger.text("heareval") == heareval.__version__ else {}


def write_ledger(file: Path, passed: Mapping[str, str]) -> None:
    """Write the cards that passed a check, completely or not at all."""
    files.write_json(file, {"heareval": heareval.__version__, "cards": dict(sorted(passed.items()))})


def digest_references(card: Card, tasks: Path) -> str:
    """Return a digest of what the checker compares a card with; "" if a task folder is missing or damaged.

    Args:
        tasks: the folder of the checker's task folders.
    """
    digests = {result.task_folder: _digest_task(tasks / result.task_folder) for result in card.results}
    return files.fingerprint("card-references", 1, tasks=digests) if all(digests.values()) else ""


@functools.cache
def _digest_task(folder: Path) -> str:
    # Many cards are about the same tasks, and reading one takes a while.
    try:
        return fingerprint_references(read_references(folder))
    except (HearevalError, OSError):
        return ""
