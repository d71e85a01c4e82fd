"""The notebook of docs/ runs as it stands, and shows what it showed when it was written."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "python.ipynb"
CELL_END = "---- end of cell ----"


def read_code_cells() -> list[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def show_last_value(source: str) -> str:
    """Return the code of a cell, made to print the value that a notebook would show."""
    tree = ast.parse(source)
    if isinstance(last := tree.body[-1], ast.Expr) and not ast.unparse(last).startswith("print("):
        tree.body[-1] = ast.parse(f"print(repr({ast.unparse(last)}))").body[0]
    return f"{ast.unparse(tree)}\nprint({CELL_END!r})"


def hide_numbers(text: str) -> str:
    """Return text without scores, which differ a little between machines, and in one line."""
    return " ".join(re.sub(r"\d+\.\d", "#", text).split())


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_showed(tmp_path: Path) -> None:
    cells = read_code_cells()
    script = tmp_path / "script.py"
    script.write_text("\n".join(show_last_value("".join(cell["source"])) for cell in cells))
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.split(CELL_END)[:-1]
    for cell, now in zip(cells, shown, strict=True):
        texts = [each.get("text") or each["data"]["text/plain"] for each in cell["outputs"]]
        assert hide_numbers(now) == hide_numbers("".join("".join(text) for text in texts))
