"""A new submission, as a file to fill in."""

from __future__ import annotations

import keyword
import sys
from pathlib import Path

from heareval import files
from heareval.errors import HearevalError

TEMPLATE = Path(__file__).with_name("template.py")
PLACEHOLDER = "MODEL_NAME"


def write_model(name: str, folder: Path) -> Path:
    """Write a submission that runs as it is, with random weights; return its file.

    Args:
        name: name of the module, without `.py`.
        folder: where the file goes.

    Raises:
        HearevalError: Python can't import a module of this name, or the file exists.

    Example: `write_model("my_model", Path())`
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name in {*sys.stdlib_module_names, "heareval"}:
        raise HearevalError(
            "name of a model",
            got=repr(name),
            expected="letters, digits and underscores, and no module of Python or heareval",
            remedy="For example: my_model.",
        )
    file = folder / f"{name}.py"
    for path in (file, folder / name):
        # Python imports a folder in place of a file of the same name.
        if path.exists():
            raise HearevalError(f"{path} already exists", remedy="Choose another name.")
    text = TEMPLATE.read_text(encoding="utf-8").replace(PLACEHOLDER, name)
    with files.building_file(file) as scratch:
        scratch.write_text(text, encoding="utf-8")
    return file
