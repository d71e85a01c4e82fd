"""Stages and the code that decides their output; `python -m tests.stages` records both as they are now.

Fingerprints hold the VERSION of a stage, so code that changes without it passes stale output off as current.
Which modules belong to a stage follows from their imports, so a new module can't be forgotten.
"""

from __future__ import annotations

import ast
import functools
import importlib
import json
from collections.abc import Iterable
from pathlib import Path

from heareval.workflow.code_digest import digest_code

ROOT = Path(__file__).parent.parent
RECORD = Path(__file__).with_name("stages.json")
# Stage -> its version, and the modules and packages that make its output. Name here what runs in a process of
# its own, too: nothing imports it.
STAGES = {
    "listed": ("heareval.archives.fetch:LISTED_VERSION", ["heareval.archives.fetch"]),
    "extract": ("heareval.archives.unpack.extract:VERSION", ["heareval.archives.unpack"]),
    "adopt": ("heareval.tasks.adopt:VERSION", ["heareval.tasks.adopt"]),
    "own": ("heareval.tasks.own.task:VERSION", ["heareval.tasks.own.task"]),
    "clips": ("heareval.tasks.metadata:VERSION", ["heareval.tasks.metadata", "heareval.tasks.corpora"]),
    "audio": ("heareval.tasks.audio:VERSION", ["heareval.tasks.audio", "heareval.tasks.publish"]),
    "tar": ("heareval.tasks.tarball:VERSION", ["heareval.tasks.tarball"]),
    "environment": ("heareval.embeddings.environment:VERSION", ["heareval.embeddings.environment"]),
    "submission": (
        "heareval.embeddings.submission:VERSION",
        ["heareval.embeddings.opening", "heareval.embeddings.inside"],
    ),
    "embed": (
        "heareval.embeddings.embed:VERSION",
        ["heareval.embeddings.embed", "heareval.embeddings.inside"],
    ),
    "resample": ("heareval.embeddings.resample:VERSION", ["heareval.embeddings.resample"]),
    "predict": ("heareval.predictions.protocol:PREDICTOR_VERSION", ["heareval.predictions.worker"]),
}
# Each adapter to published models has a version of its own, which fingerprints hold.
ADAPTERS = ROOT / "heareval" / "embeddings" / "adapters"
STAGES |= {
    f"adapter {path.stem}": (
        f"heareval.embeddings.adapters.{path.stem}:__version__",
        [f"heareval.embeddings.adapters.{path.stem}"],
    )
    for path in sorted(ADAPTERS.glob("*.py"))
    if "__version__" in path.read_text(encoding="utf-8")
}
# Module or package -> why its code can't change the output of a stage that imports it.
WITHOUT_INFLUENCE = {
    "heareval": "holds the version of the program and loads names lazily",
    "heareval.errors": "words of error messages",
    "heareval.layout": "names of files: what is not found under a new name is made again",
    "heareval.memory": "says how much memory is free; results are the same wherever embeddings are kept",
    "heareval.progress": "shows how far the work is",
    "heareval.worker_process": "starts a process and hands on its job and its result",
    "heareval.worker_supervisor": "ends a process with all that it has started",
    "heareval.tasks.corpora": "the fingerprint of a task holds a digest of its corpus module",
}
# Packages whose modules are part of a stage, or named below.
STAGED = ("heareval.archives", "heareval.tasks", "heareval.embeddings", "heareval.predictions")
# Module or package -> why it is part of no stage.
WITHOUT_STAGE = {
    "heareval.archives.estimate": "estimates what an archive takes when it is unpacked",
    "heareval.archives.sizes": "estimates the size of a download",
    "heareval.tasks.extent": "estimates how much sound a task has, for lists and notes",
    "heareval.tasks.licences": "the text of LICENSE.txt is part of the fingerprint of tarballs",
    "heareval.tasks.demo": "makes the corpora of the demo, which are pinned by checksums",
    "heareval.tasks.own.new": "writes the template of a new task",
    "heareval.tasks.own.overview": "describes a new task to its author",
    "heareval.tasks.own.pairwise_overview": "describes a new pairwise task to its author",
    "heareval.tasks.runner": "a command",
    "heareval.embeddings.advice": "advice about a submission, written nowhere",
    "heareval.embeddings.submission_config": "what the user asks for; it reaches stages through fingerprints",
    "heareval.embeddings.live": "embeds models that have no fingerprint, anew each time",
    "heareval.embeddings.baseline": "a submission, whose fingerprint holds its sources",
    "heareval.embeddings.inside.checks": "validates a submission, anew each time",
    "heareval.embeddings.inside.measure": "measures a model for a plan, anew each time",
    "heareval.embeddings.measure": "measures a model for a plan, anew each time",
    "heareval.embeddings.new_model": "writes a new submission",
    "heareval.embeddings.runner": "a command",
    "heareval.embeddings.template": "a submission, whose fingerprint holds its sources",
    "heareval.embeddings.validate": "validates a submission, anew each time",
    "heareval.predictions.breakdowns": "part of a report, which is made anew each time",
    "heareval.predictions.card_ledger": "remembers checks, which keeps its own version",
    "heareval.predictions.card_figures": "draws the figures of cards, and keeps its own version",
    "heareval.predictions.card_checks": "checks cards, anew each time",
    "heareval.predictions.claimed_protocol": "checks cards, anew each time",
    "heareval.predictions.cards": "makes cards of results, anew each time",
    "heareval.predictions.compare": "compares scores, anew each time",
    "heareval.predictions.differences": "compares scores, anew each time",
    "heareval.predictions.diagnostics": "part of a report, which is made anew each time",
    "heareval.predictions.figures": "part of a report, which is made anew each time",
    "heareval.predictions.multiple_comparisons": "compares scores, anew each time",
    "heareval.predictions.pvalues": "compares scores, anew each time",
    "heareval.predictions.training_time": "estimates for a plan, anew each time",
    "heareval.predictions.references": "part of cards, which are made and checked anew each time",
    "heareval.predictions.report": "a report, which is made anew each time",
    "heareval.predictions.runner": "a command",
    "heareval.predictions.stored": "reads stored results for reports and comparisons",
    "heareval.predictions.table": "prints scores",
}


def module_name(path: Path) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / "heareval").rglob("*.py"))}


def is_within(module: str, packages: Iterable[str]) -> bool:
    """Return whether a module is one of these, or inside one of these packages."""
    return any(module == package or module.startswith(package + ".") for package in packages)


@functools.cache
def imported_modules(module: str) -> tuple[str, ...]:
    """Return the modules of heareval that a module imports anywhere in its code, and their packages.

    A string that is the name of a module counts as well: `python -m` and `importlib` take such strings.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        for name in names:
            while name.startswith("heareval"):
                found.add(name)
                name = name.rpartition(".")[0]
    return tuple(found & set(MODULES))


@functools.cache
def stage_modules(stage: str) -> list[str]:
    """Return the modules whose code can change the output of a stage."""
    _, entries = STAGES[stage]
    # A package stands for all that it holds, except for what is exempt.
    waiting = [m for m in MODULES if is_within(m, entries) and not is_within(m, WITHOUT_STAGE)]
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            if module not in WITHOUT_INFLUENCE:
                waiting.extend(imported_modules(module))
    return sorted(module for module in seen if not _is_without_influence(module))


def _is_without_influence(module: str) -> bool:
    return module in WITHOUT_INFLUENCE or is_within(module, set(WITHOUT_INFLUENCE) - {"heareval"})


def stage_version(stage: str) -> int | str:
    """Return the VERSION of a stage."""
    module, _, attribute = STAGES[stage][0].partition(":")
    version: int | str = getattr(importlib.import_module(module), attribute)
    return version


def current() -> dict[str, dict[str, object]]:
    """Return the version of every stage and the code digests of its modules, as they are now."""
    digests = {name: digest_code(path.read_text(encoding="utf-8"))[:16] for name, path in MODULES.items()}
    return {
        stage: {
            "version": stage_version(stage),
            "modules": {module: digests[module] for module in stage_modules(stage)},
        }
        for stage in STAGES
    }


if __name__ == "__main__":
    RECORD.write_text(json.dumps(current(), indent=1) + "\n", encoding="utf-8")
