"""Find the source files of a module without importing it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

from heareval.embeddings.submission import Model
from heareval.errors import HearevalError


def list_package_sources(model: Model) -> list[Path]:
    """Return the file of a model's module, then all Python files of its package: some are imported late.

    Returns an empty list for a module that only the submission's environment has; its record covers that.

    Raises:
        HearevalError: there is no such module.
    """
    if model.is_installed:
        return []
    file = find_module_file(model.module, only_here=bool(model.python))
    if file is None:
        return []
    is_in_package = (file.parent / "__init__.py").exists()
    return [file, *(sorted(file.parent.rglob("*.py")) if is_in_package else [])]


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
    spec = importlib.machinery.PathFinder.find_spec(top, [str(Path.cwd())])
    if not spec and not only_here:
        spec = importlib.util.find_spec(top)
    name = top
    for part in rest:
        name = f"{name}.{part}"
        places = spec.submodule_search_locations if spec else None
        spec = importlib.machinery.PathFinder.find_spec(name, places) if places else None
    if spec and spec.origin:
        return Path(spec.origin)
    if only_here:
        return None
    is_file_name = module.endswith(".py")
    remedy = "Install it with `pip install PATH`, or run in the folder that contains it."
    raise HearevalError(
        f"submission {module}",
        got="no such module",
        expected="an importable module",
        remedy=f"Did you mean {Path(module).stem}?" if is_file_name else remedy,
    )
