"""Who may import whom, read from the source."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from heareval.commands import COMMANDS

PACKAGE = Path(__file__).parent.parent / "heareval"
# Module or package -> its floor. The longest matching name decides; a module imports lower floors, and its
# own package.
FLOORS = {
    "heareval": 0,
    "heareval.bars": 0,
    "heareval.drawing": 0,
    "heareval.errors": 0,
    "heareval.files": 0,
    "heareval.folders": 0,
    "heareval.frames": 0,
    "heareval.layout": 0,
    "heareval.markdown": 0,
    "heareval.memory": 0,
    "heareval.progress": 0,
    "heareval.resampling": 0,
    "heareval.spec": 0,
    "heareval.terminal": 0,
    "heareval.worker_process": 0,
    "heareval.worker_supervisor": 0,
    "heareval.archives": 1,
    "heareval.formats": 1,
    "heareval.tasks": 2,
    "heareval.embeddings": 2,
    "heareval.predictions": 2,
    "heareval.leaderboard": 2,
    "heareval.workflow": 3,
    "heareval.api": 4,
    "heareval.scripting": 5,
    "heareval.commands": 6,
    "heareval.__main__": 7,
}
# Three lines each, for `python -m`: the only files that import upward.
DOORS = {
    "heareval.tasks.runner": "prepare",
    "heareval.embeddings.runner": "embed",
    "heareval.predictions.runner": "predict",
}
# Floor 0 is small enough to say who imports whom.
FOUNDATION = {
    "heareval": (),
    "heareval.errors": (),
    "heareval.spec": (),
    "heareval.drawing": ("heareval.errors",),
    "heareval.files": (),
    "heareval.folders": ("heareval.errors",),
    "heareval.frames": ("heareval.errors",),
    "heareval.markdown": ("heareval.errors",),
    "heareval.memory": (),
    "heareval.bars": (),
    "heareval.progress": ("heareval.bars", "heareval.spec", "heareval.terminal"),
    "heareval.terminal": ("heareval.errors",),
    "heareval.resampling": (),
    "heareval.layout": ("heareval.spec",),
    "heareval.worker_process": (
        *("heareval.errors", "heareval.files", "heareval.spec"),
        "heareval.worker_supervisor",
    ),
    "heareval.worker_supervisor": (),
}
# Packages that are stricter than their floor: what of ours they may import.
STRICTER = {
    "heareval.tasks.corpora": (
        *("heareval.errors", "heareval.spec", "heareval.tasks.sources"),
        # Pairwise tasks share the readers of other tasks, and one shares the folds that another draws.
        *("heareval.tasks.corpora", "heareval.tasks.splits"),
        # What one unusual corpus needs, or a few.
        *("heareval.tasks.midi", "heareval.tasks.shots", "heareval.tasks.tfds"),
    ),
    "heareval.tasks.sources": ("heareval.errors", "heareval.spec"),
    "heareval.tasks.midi": ("heareval.errors",),
    "heareval.tasks.shots": ("heareval.errors",),
    "heareval.tasks.tfds": ("heareval.errors", "heareval.spec", "heareval.tasks.sources"),
    "heareval.embeddings.baseline": (),
    # It becomes a file of the user's.
    "heareval.embeddings.template": ("heareval",),
    # It runs in the submission's environment, where nothing else of heareval needs to work.
    "heareval.embeddings.inside": ("heareval.embeddings.inside",),
    "heareval.embeddings.adapters": ("heareval.embeddings.adapters",),
    "heareval.predictions.metrics": ("heareval.errors", "heareval.predictions.metrics"),
}
# An adapter that takes mel filters from transformers.
MEL_FILTERS = ("heareval.embeddings.adapters.spectrogram_transformer",)
# Third-party package -> the only modules that may import it.
ONLY_IN = {
    "luigi": ("heareval.workflow",),
    "click": ("heareval.commands",),
    "torch": (
        *("heareval.predictions", "heareval.embeddings.baseline", "heareval.embeddings.adapters"),
        "heareval.embeddings.template",
    ),
    # Late: each adapter needs the library of its models only.
    "transformers": ("heareval.embeddings.adapters.huggingface", *MEL_FILTERS),
    "huggingface_hub": ("heareval.embeddings.adapters.model_card",),
    "torchaudio": ("heareval.embeddings.adapters.torchaudio_bundles",),
    "s3prl": ("heareval.embeddings.adapters.s3prl_upstreams",),
    "tensorflow": (),
    "requests": ("heareval.archives.download", "heareval.archives.sizes"),
    "libarchive": ("heareval.archives.unpack.rar",),
    "matplotlib": ("heareval.drawing", "heareval.predictions.figures", "heareval.leaderboard.figures"),
    "jinja2": ("heareval.leaderboard.site",),
    "mido": ("heareval.tasks.midi",),
    "rich": ("heareval.bars", "heareval.progress", "heareval.predictions.table"),
    "sed_eval": ("heareval.predictions.metrics",),
    "yaml": ("heareval.formats",),
    # Late, in frames; the others name the type of what it makes.
    "pandas": (
        "heareval.frames",
        "heareval.scripting",
        "heareval.predictions.compare",
        "heareval.predictions.multiple_comparisons",
    ),
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


@functools.cache
def imports(path: Path) -> list[str]:
    """The modules that a file imports anywhere in it, as full names."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.append(full if full in MODULES else str(node.module))
    return names


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def imports_of_ours(module: str) -> list[str]:
    return [name for name in imports(MODULES[module]) if is_within(name, "heareval")]


def owner(name: str, owners: dict[str, object] | dict[str, int]) -> str:
    """The longest name in a table that a module lies within."""
    return max((each for each in owners if is_within(name, each)), key=len)


def test_every_module_has_a_floor() -> None:
    """A new package must say where it stands; `heareval` itself is no floor for its modules."""
    assert [name for name in MODULES if name != "heareval" and owner(name, FLOORS) == "heareval"] == []


# Each rule for all modules is one test, which names all that break it: hundreds of tests take seconds to be
# collected and reported.
def test_imports_go_down() -> None:
    faults = []
    for module in sorted(MODULES.keys() - DOORS.keys()):
        mine = owner(module, FLOORS)
        for name in imports_of_ours(module):
            theirs = owner(name, FLOORS)
            # Who imports whom on the ground floor is listed above.
            is_allowed = mine == theirs or name == "heareval" or FLOORS[mine] == 0
            if not is_allowed and FLOORS[theirs] >= FLOORS[mine]:
                faults.append(f"{module} (floor {FLOORS[mine]}) imports {name} (floor {FLOORS[theirs]})")
    assert faults == []


@pytest.mark.parametrize("module", DOORS)
def test_doors_only_call_their_command(module: str) -> None:
    assert set(imports_of_ours(module)) == {"heareval.commands"}
    lines = MODULES[module].read_text().splitlines()
    assert len(lines) <= 6
    assert lines[-1] == f'    run_command("{DOORS[module]}")'


@pytest.mark.parametrize("module", FOUNDATION)
def test_the_foundation_is_thin(module: str) -> None:
    for name in imports_of_ours(module):
        allowed = (*FOUNDATION[module], "heareval.errors") if module != "heareval.errors" else ()
        assert name in allowed, f"{module} imports {name}; allowed: {', '.join(allowed)}"


def test_stricter_packages() -> None:
    faults = []
    for module in (name for name in MODULES if any(is_within(name, each) for each in STRICTER)):
        allowed = STRICTER[owner(module, dict.fromkeys(STRICTER, 0) | {"heareval": 0})]
        for name in imports_of_ours(module):
            if not any(is_within(name, each) for each in allowed):
                faults.append(f"{module} imports {name}; allowed: {', '.join(allowed)}")
    assert faults == []


def test_third_party_imports_stay_in_their_place() -> None:
    faults = []
    for module, path in MODULES.items():
        for name in imports(path):
            places = ONLY_IN.get(name.partition(".")[0])
            if places is not None and not any(is_within(module, place) for place in places):
                faults.append(f"{module} imports {name}")
    assert faults == []


@pytest.mark.parametrize("module", STANDARD_LIBRARY_ONLY)
def test_standard_library_only(module: str) -> None:
    for name in imports(MODULES[module]):
        assert name.split(".")[0] in {*sys.stdlib_module_names, "heareval"}, name


def test_help_imports_little() -> None:
    """`heareval --help` and a mistyped command answer at once, however busy the machine is."""
    code = "import sys; before = set(sys.modules); from heareval.commands import main"
    code += "\ntry: main(['--help'])\nfinally: print(*sorted({*sys.modules} - before), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage:")
    imported = done.stderr.split()
    others = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    assert others == {"click", "heareval"}
    # 103 when this was written.
    assert len(imported) < 150, imported


# Shows the help of every command, and answers the Tab key as the shell asks for it.
SHOW_ALL_HELP = """
import os, sys
before = {*sys.modules}
import click
from heareval.commands import main

def show(command, *words):
    try: main([*words, "--help"], standalone_mode=False)
    except SystemExit: pass
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                show(command.get_command(context, name), *words, name)

show(main)
os.environ |= {"_HEAREVAL_COMPLETE": "bash_complete", "COMP_CWORD": "4"}
os.environ["COMP_WORDS"] = "heareval evaluate my_model --tasks nsynth_pitch,esc50"
try: main(prog_name="heareval")
except SystemExit: pass
print(*sorted({*sys.modules} - before), file=sys.stderr)
"""


def test_help_of_commands_and_the_tab_key_import_little() -> None:
    """Luigi, numpy, requests and libsndfile take most of a second to import."""
    done = subprocess.run([sys.executable, "-c", SHOW_ALL_HELP], capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage:") >= len(COMMANDS)
    assert done.stdout.endswith("plain,nsynth_pitch,esc50\nplain,nsynth_pitch,esc50_retrieval\n")
    imported = {name.partition(".")[0] for name in done.stderr.split()}
    # Python 3.10 has no tomllib.
    assert imported - sys.stdlib_module_names <= {"click", "heareval", "tomli"}


def test_the_graph_is_planned_without_heavy_imports() -> None:
    """A run with nothing to do must not wait for torch, and importing heareval loads nothing at all."""
    code = "import sys, heareval; print('numpy' in sys.modules); import heareval.commands"
    code += "; print('numpy' in sys.modules, 'luigi' in sys.modules); import heareval.api"
    code += "; print(*sorted({'torch', 'sklearn', 'sed_eval', 'librosa', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False", "False False", ""]


@pytest.mark.parametrize(
    "module", [name for name in MODULES if is_within(name, "heareval.embeddings.adapters")]
)
def test_adapters_have_a_version_or_no_influence(module: str) -> None:
    """Versions of adapters are part of fingerprints, in place of their code."""
    without_influence = ("adapters", "errors", "model_card")
    has_version = re.search(r'^__version__ = "[0-9]+"$', MODULES[module].read_text(), re.MULTILINE)
    assert bool(has_version) != (module.rpartition(".")[2] in without_influence)
