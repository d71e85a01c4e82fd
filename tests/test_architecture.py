"""Who may import whom, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "heareval"
FOUNDATION = (
    "heareval.formats",
    "heareval.errors",
    "heareval.spec",
    "heareval.files",
    "heareval.layout",
    "heareval.worker_process",
)
# Module or package -> what of ours it may import. The longest matching name decides.
MAY_IMPORT = {
    "heareval": (),
    "heareval.errors": (),
    "heareval.spec": (),
    "heareval.files": (),
    "heareval.progress": (),
    "heareval.layout": ("heareval.spec",),
    "heareval.worker_process": ("heareval.errors", "heareval.spec"),
    "heareval.formats": (*FOUNDATION, "heareval.formats"),
    "heareval.archives": (*FOUNDATION, "heareval.archives"),
    "heareval.tasks": (*FOUNDATION, "heareval.archives", "heareval.tasks"),
    "heareval.tasks.corpora": (
        *("heareval.errors", "heareval.spec", "heareval.tasks.sources"),
        # What one unusual corpus needs, or a few.
        *("heareval.tasks.midi", "heareval.tasks.shots", "heareval.tasks.tfds"),
    ),
    "heareval.tasks.sources": ("heareval.errors", "heareval.spec"),
    "heareval.tasks.midi": ("heareval.errors",),
    "heareval.tasks.shots": ("heareval.errors",),
    "heareval.tasks.tfds": ("heareval.errors", "heareval.spec", "heareval.tasks.sources"),
    "heareval.embeddings": (*FOUNDATION, "heareval.embeddings"),
    "heareval.embeddings.baseline": (),
    # It runs in the submission's environment.
    "heareval.embeddings.inside": ("heareval.embeddings.inside",),
    "heareval.predictions": (*FOUNDATION, "heareval.predictions", "heareval"),
    "heareval.predictions.metrics": ("heareval.errors", "heareval.predictions.metrics"),
    "heareval.workflow": (
        *(*FOUNDATION, "heareval.progress", "heareval.workflow"),
        *("heareval.archives", "heareval.tasks", "heareval.embeddings", "heareval.predictions"),
    ),
    # The doors and the command line see the corridor and all rooms.
    "heareval.doors": ("heareval",),
    "heareval.submitted": ("heareval",),
    "heareval.cli": ("heareval",),
    "heareval.tasks.runner": ("heareval",),
    "heareval.embeddings.runner": ("heareval",),
    "heareval.predictions.runner": ("heareval",),
}
OPEN_TO_ALL = (
    *("heareval.doors", "heareval.submitted", "heareval.cli"),
    *(m for m in MAY_IMPORT if m.endswith(".runner")),
)
# Third-party package -> the only modules that may import it.
ONLY_IN = {
    "luigi": ("heareval.workflow",),
    "click": OPEN_TO_ALL,
    "torch": ("heareval.predictions", "heareval.embeddings.baseline"),
    "tensorflow": (),
    "requests": ("heareval.archives.download", "heareval.archives.sizes"),
    "libarchive": ("heareval.archives.unpack.rar",),
    "matplotlib": ("heareval.predictions.figures",),
    "mido": ("heareval.tasks.midi",),
    "rich": ("heareval.progress", "heareval.predictions.table"),
    "sed_eval": ("heareval.predictions.metrics",),
}
STANDARD_LIBRARY_ONLY = (
    "heareval.spec",
    "heareval.errors",
    "heareval.layout",
    "heareval.predictions.protocol",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports anywhere in it, as full names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("module", MODULES)
def test_own_imports_go_one_way(module: str) -> None:
    rule = max((name for name in MAY_IMPORT if is_within(module, name)), key=len)
    for name in imports(MODULES[module]):
        if is_within(name, "heareval") and module not in OPEN_TO_ALL:
            allowed = [each for each in MAY_IMPORT[rule] if each != "heareval" or name == "heareval"]
            assert any(is_within(name, each) for each in allowed), f"{module} imports {name}"
            assert name not in OPEN_TO_ALL, f"{module} imports the door {name}"


@pytest.mark.parametrize("module", MODULES)
def test_third_party_imports_stay_in_their_place(module: str) -> None:
    for name in imports(MODULES[module]):
        places = ONLY_IN.get(name.split(".")[0])
        assert places is None or any(is_within(module, place) for place in places), f"{module} imports {name}"


@pytest.mark.parametrize("module", STANDARD_LIBRARY_ONLY)
def test_standard_library_only(module: str) -> None:
    for name in imports(MODULES[module]):
        assert name.split(".")[0] in {*sys.stdlib_module_names, "heareval"}, name


def test_the_graph_is_planned_without_heavy_imports() -> None:
    """A run with nothing to do must not wait for torch, and importing heareval loads nothing at all."""
    code = "import sys, heareval; print('numpy' in sys.modules); import heareval.cli"
    code += "; print(*sorted({'torch', 'sklearn', 'sed_eval', 'librosa', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False", ""]
