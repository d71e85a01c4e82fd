"""What the files of a published model say about it: its licence and how to cite it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

# Characters of a citation that scores keep.
MOST_CHARACTERS = 1000


def read_card(source: str, where: dict[str, str]) -> dict[str, Any]:
    """Return `licence` and `citation` of a model, as far as its README.md tells.

    Args:
        source: a folder, or a name on the hub.
        where: the revision on the hub; empty for a folder.
    """
    path = Path(source) / "README.md" if not where else _find_on_hub(source, where)
    if path is None or not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8", errors="replace")
    found = {"licence": find_licence(text), "citation": find_citation(text)}
    return {key: value for key, value in found.items() if value}


def _find_on_hub(name: str, where: dict[str, str]) -> Path | None:
    """Return README.md in the cache of the hub, fetched if it is not there; None without one."""
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(name, "README.md", **where))
    except Exception:
        # Not every model has one, and without a network there is no other way to get it.
        return None


def find_licence(text: str) -> str:
    """Return the licence, or the licences, in the front matter of a README.md; "" without one.

    >>> find_licence("---\\ntags:\\n- audio\\nlicense: apache-2.0\\n---\\n# A model")
    'apache-2.0'
    >>> find_licence("---\\nlicense:\\n- mit\\n- gpl-3.0\\n---\\n")
    'mit, gpl-3.0'
    """
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:(.*(\n\s*-\s.*)*)", front.group(1), re.MULTILINE) if front else None
    listed = re.sub("#.*", "", found.group(1)) if found else ""
    return ", ".join(re.findall(r"[A-Za-z0-9][\w.+-]*", listed))


def find_citation(text: str) -> str:
    """Return the first BibTeX entry in a README.md; "" without one.

    >>> find_citation("Cite:\\n```\\n@misc{me, title={A model}}\\n```\\n")
    '@misc{me, title={A model}}'
    """
    found = re.search(r"^\s*(@\w+\{.*?)\n\s*```", text, re.DOTALL | re.MULTILINE)
    return found.group(1).strip()[:MOST_CHARACTERS] if found else ""
