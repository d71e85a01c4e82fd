"""Errors that an adapter shows to its user."""

from __future__ import annotations


class AdapterError(Exception):
    """A published model that can't be used as asked.

    The worker turns an exception with `facts` into the one line that users see.

    Args:
        what: the thing that is wrong.
        got: what was found.
        expected: what should have been there.
        remedy: what the user can do about it.
    """

    def __init__(self, what: str, got: str, expected: str = "", remedy: str = "") -> None:
        wanted = f", expected {expected}" if expected else ""
        super().__init__(f"{what}: got {got}{wanted}{f'. {remedy}' if remedy else ''}")
        self.facts = {"what": what, "got": got, "expected": expected, "remedy": remedy}


class SceneOnlyError(NotImplementedError):
    """A model has scene embeddings only."""
