"""A submission: a model with the HEAR API, named, fingerprinted and described without importing it here."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from heareval import files
from heareval.errors import HearevalError
from heareval.worker_process import run_worker

WORKER = Path(__file__).with_name("worker.py")
VERSION = 1


@dataclass(frozen=True)
class Submission:
    """A model to evaluate.

    Args:
        module: importable module with the HEAR API.
        model: file with its weights, or "".
        weights: SHA-256 of that file, or "".
        options: further arguments of load_model, as JSON.
        fingerprint: changes with the sources, the weights, the options and the versions of what is loaded.
        sample_rate: what the model wants to hear, in Hz.
    """

    module: str
    model: str
    weights: str
    options: str
    fingerprint: str
    sample_rate: int

    @property
    def name(self) -> str:
        """Name of its folder: the module, and what tells several models of it apart."""
        weights = f"+{Path(self.model).stem}-{self.weights[:6]}" if self.model else ""
        options = f"+{hashlib.sha256(self.options.encode()).hexdigest()[:6]}" if self.options != "{}" else ""
        return f"{self.module}{weights}{options}"


def open_submission(module: str, model: str, options: str, cache: Path) -> Submission:
    """The submission with its fingerprint and sample rate; the model is loaded only if something changed.

    Args:
        cache: folder in which descriptions are kept.
    """
    canonical, weights = canonical_options(options), _weights_digest(model)
    package = _package_sources(module)
    key = files.fingerprint(
        "description",
        VERSION,
        module=str(package[0]),
        weights=weights,
        options=canonical,
        python=sys.prefix,
        installed=sorted(f"{d.name}=={d.version}" for d in metadata.distributions()),
    )
    known = cache / f"{key}.json"
    facts = files.read_json(known) if known.exists() else {}
    if not facts or facts["digests"] != _digests(facts["digests"]):
        job = {
            "do": "describe",
            "module": module,
            "model": model,
            "options": json.loads(canonical),
            "device": "auto",
            "precision": "float32",
        }
        log = cache / f"{key}.log"
        facts = run_worker([sys.executable, str(WORKER)], job, log, lambda done, total: None)
        facts["digests"] = _digests([*facts.pop("sources"), *map(str, package)])
        files.write_json(known, facts)
    fingerprint = files.fingerprint(
        "submission",
        VERSION,
        # By what they hold, not where they lie: another checkout of the same code is the same submission.
        sources=sorted(facts["digests"].values()),
        weights=weights,
        options=canonical,
        versions=facts["versions"],
    )
    return Submission(module, model, weights, canonical, fingerprint, facts["sample_rate"])


def _digests(paths: Iterable[str]) -> dict[str, str]:
    """Digest of every file, "" for one that is gone."""
    there = {path: Path(path).is_file() for path in sorted(set(paths))}
    return {p: files.file_checksum(Path(p), "sha256") if is_file else "" for p, is_file in there.items()}


def canonical_options(options: str) -> str:
    """The arguments of load_model, a JSON object, in one spelling; raises HearevalError for anything else."""
    try:
        values = json.loads(options or "{}")
    except json.JSONDecodeError as error:
        raise HearevalError(
            "model options", got=f"{options!r} ({error})", expected="a JSON object"
        ) from error
    if not isinstance(values, dict):
        raise HearevalError("model options", got=options, expected="a JSON object such as '{\"size\": 512}'")
    return json.dumps(values, sort_keys=True)


def _weights_digest(model: str) -> str:
    if not model:
        return ""
    if not Path(model).is_file():
        raise HearevalError(f"model file {model}", got="no such file", expected="the weights of the model")
    return files.file_checksum(Path(model), "sha256")


def _package_sources(module: str) -> list[Path]:
    """The module's file, then all Python files of the package it lies in: some are only loaded later."""
    file = _find(module)
    is_in_package = (file.parent / "__init__.py").exists()
    return [file, *(sorted(file.parent.rglob("*.py")) if is_in_package else [])]


def _find(module: str) -> Path:
    """The file of a module, found without importing anything of it."""
    top, *inner = module.split(".")
    # As in the worker, the folder the user works in comes first. Finding a top-level name imports nothing.
    spec = importlib.machinery.PathFinder.find_spec(top, [str(Path.cwd())]) or importlib.util.find_spec(top)
    name = top
    for part in inner:
        name = f"{name}.{part}"
        places = spec.submodule_search_locations if spec else None
        spec = importlib.machinery.PathFinder.find_spec(name, places) if places else None
    if spec is None or spec.origin is None:
        raise HearevalError(
            f"submission {module}",
            got="no such module",
            expected="an importable module",
            remedy=f"Did you mean {Path(module).stem}?"
            if module.endswith(".py")
            else "Install it with `pip install PATH`, or run in the folder that holds it.",
        )
    return Path(spec.origin)
