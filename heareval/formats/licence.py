"""The licence of a corpus, as the manifest of a task folder names it."""

from __future__ import annotations

from dataclasses import dataclass

from heareval.formats.fields import Fields

# In place of an SPDX identifier.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Licence:
    """Under which terms a corpus may be used and redistributed, and how to cite it.

    The attributes have the names of the keys on disk.

    Args:
        spdx: SPDX identifier, or `unknown`.
        name: the licence in words.
        url: where the corpus is published; "" for a user's own sounds.
        citation: the publication to cite; "" if none is known.
        may_be_packed: whether heareval packs tarballs of the clips. A tarball is made to be redistributed.
        note: what else a reader should know; "" if there is nothing.
    """

    spdx: str
    name: str
    url: str
    citation: str
    may_be_packed: bool = True
    note: str = ""


def parse_licence(fields: Fields) -> Licence:
    """Return a licence from its JSON object; raise HearevalError if a key is missing or wrong."""
    return Licence(
        spdx=fields.text("spdx"),
        name=fields.text("name"),
        url=fields.text("url"),
        citation=fields.text("citation"),
        may_be_packed=fields.flag("may_be_packed"),
        note=fields.text("note", ""),
    )
