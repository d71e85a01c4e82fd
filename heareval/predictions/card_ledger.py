"""Which cards were checked before, so that a board need not compute all of their scores again every night."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import heareval
from heareval import files
from heareval.errors import HearevalError
from heareval.formats.card import Card
from heareval.formats.fields import read_fields
from heareval.predictions.data import read_references
from heareval.predictions.references import fingerprint_references, is_published_corpus

REMEDY = "Remove it; all cards are checked again then."


def read_ledger(file: Path) -> dict[str, str]:
    """Return the cards that passed a check of this version of heareval: digest -> digest of references.

    Args:
        file: a file that `write_ledger` wrote; a missing one means that no card was checked.

    Raises:
        HearevalError: the file is damaged.
    """
    if not file.exists():
        return {}
    ledger = read_fields(file, remedy=REMEDY)
    cards = ledger.object("cards")
    passed = {digest: cards.text(digest) for digest in cards}
    return passed if ledger.text("heareval") == heareval.__version__ else {}


def write_ledger(file: Path, passed: Mapping[str, str]) -> None:
    """Write the cards that passed a check, completely or not at all."""
    files.write_json(file, {"heareval": heareval.__version__, "cards": dict(sorted(passed.items()))})


def digest_references(card: Card, tasks: Path, known: dict[str, str]) -> str:
    """Return a digest of what the checker compares a card with; "" if a task folder is missing or damaged.

    Args:
        tasks: the folder of the checker's task folders.
        known: the digests of task folders that were read before, by name; further ones are added, because
            many cards are about the same tasks.
    """
    for result in card.results:
        if result.task_folder not in known:
            known[result.task_folder] = _digest_task(tasks / result.task_folder)
    digests = {result.task_folder: known[result.task_folder] for result in card.results}
    return files.fingerprint("card-references", 2, tasks=digests) if all(digests.values()) else ""


def _digest_task(folder: Path) -> str:
    try:
        task = read_references(folder)
        return f"{fingerprint_references(task)} {is_published_corpus(task)}"
    except (HearevalError, OSError):
        return ""
