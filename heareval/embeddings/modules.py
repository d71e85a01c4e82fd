"""Find the source files of a module without importing it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

from heareval.embeddings.published import PREFIXES
from heareval.embeddings.submission import Model
from heareval.errors import HearevalError

# The submission that heareval brings.
BASELINE = f"{__package__}.baseline"
# Python gives these names to the program that runs, not to a file.
PROGRAM = ("__main__", "__mp_main__")


def check_module(model: Model) -> None:
    """Raise HearevalError for a file that is missing, and for a module of Python or of heareval itself."""
    if model.module in PREFIXES:
        return
    if model.file:
        if not Path(model.file).is_file():
            raise HearevalError(f"submission {model.file}", got="no such file", expected="a Python file")
        return
    top = model.module.partition(".")[0]
    kind = ""
    if top in PROGRAM:
        kind = "the name of the program that runs"
    elif model.is_installed:
        return
    elif top == "heareval" and model.module != BASELINE:
        kind = "a module of heareval itself"
    elif top in sys.stdlib_module_names and not _find_in_folder(top):
        kind = "a module of Python's standard library"
    if kind:
        remedy = f"heareval's own submission is {BASELINE}." if top == "heareval" else ""
        raise HearevalError(
            f"submission {model.module}", got=kind, expected="a module with the HEAR API", remedy=remedy
        )


def list_package_sources(model: Model) -> list[Path]:
    """Return the file of a model's module, then all Python files of its package: some are imported late.

    Returns an empty list for a module that only the submission's environment has; its record covers that.
    Our adapters count by their versions.

    Raises:
        HearevalError: there is no such module.
    """
    if model.is_installed or model.module in PREFIXES:
        return []
    file = Path(model.file) if model.file else find_module_file(model.module, only_here=bool(model.python))
    if file is None:
        return []
    is_in_package = (file.parent / "__init__.py").exists()
    from heareval.embeddings.inside.submission import find_files

    found = find_files(file.parent) if is_in_package else ()
    return [file, *sorted(Path(path) for path in found if path.endswith(".py"))]


def find_module_file(module: str, *, only_here: bool) -> Path | None:
    """Return the file of a module.

    Args:
        module: full name of the module.
        only_here: search only the working folder, and return None if the module is not there.

    Raises:
        HearevalError: there is no such module.
    """
    top, *rest = module.split(".")
    # Submissions find modules in the working folder first. Finding a top-level module imports nothing.
    # A folder without __init__.py, such as a clone of heareval, counts only if no other module has its name.
    spec = _find_in_folder(top)
    if not only_here and not (spec and spec.origin):
        spec = importlib.util.find_spec(top) or spec
    name = top
    for part in rest:
        name = f"{name}.{part}"
        places = spec.submodule_search_locations if spec else None
        spec = importlib.machinery.PathFinder.find_spec(name, places) if places else None
    if spec and spec.origin:
        return Path(spec.origin)
    if only_here:
        return None
    raise HearevalError(
        f"submission {module}",
        got=f"no module named {module}",
        expected="an importable module",
        remedy="Install it with `pip install PATH`, run in the folder that contains it, or give its path.",
    )


def _find_in_folder(module: str) -> importlib.machinery.ModuleSpec | None:
    """Return the spec of a top-level module in the working folder."""
    return importlib.machinery.PathFinder.find_spec(module, [str(Path.cwd())])
