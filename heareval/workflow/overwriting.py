"""What a run makes again although it is complete."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from heareval import files
from heareval.errors import unknown_name

Overwrite = Literal["only-missing", "scores", "all"]


@dataclass(frozen=True)
class Overwriting:
    """The times before which what was made is made again, in seconds; 0 keeps what is complete.

    A step compares them with the time of its output. So every process of a run, on every machine, knows what
    is done. What is there stays until the new one is complete.

    Args:
        embeddings_not_before_s: of embeddings.
        scores_not_before_s: of scores.
    """

    embeddings_not_before_s: float = 0.0
    scores_not_before_s: float = 0.0


NOTHING = Overwriting()


def begin_overwriting(overwrite: Overwrite, folder: Path) -> Overwriting:
    """Return what a run that begins now makes again.

    Args:
        overwrite: `only-missing` for nothing, `scores`, or `all` for embeddings and scores.
        folder: where the embeddings are; its clock tells the time.

    Raises:
        HearevalError: an unknown word.

    >>> begin_overwriting("only-missing", Path("embeddings")) == NOTHING
    True
    """
    if overwrite not in get_args(Overwrite):
        raise unknown_name("overwrite", overwrite, get_args(Overwrite))
    if overwrite == "only-missing":
        return NOTHING
    now_s = files.read_clock(folder)
    return Overwriting(now_s if overwrite == "all" else 0.0, now_s)
