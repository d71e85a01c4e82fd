"""A submission: a model with the HEAR API, named, fingerprinted and described without importing it here."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import sys
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
        options: further arguments of load_model, as JSON.
        fingerprint: changes with the module's source, the weights, the options and torch's version.
        sample_rate: what the model wants to hear, in Hz.
    """

    module: str
    model: str
    options: str
    fingerprint: str
    sample_rate: int

    @property
    def name(self) -> str:
        """Name of its folder: the module, and what tells several editions of it apart."""
        weights = f"+{Path(self.model).stem}" if self.model else ""
        options = f"+{hashlib.sha256(self.options.encode()).hexdigest()[:6]}" if self.options != "{}" else ""
        return f"{self.module}{weights}{options}"


def open_submission(module: str, model: str, options: str, cache: Path) -> Submission:
    """The submission with its fingerprint and sample rate; the model is loaded once per fingerprint.

    Args:
        cache: folder in which descriptions are kept.
    """
    canonical = _canonical_options(options)
    fingerprint = files.fingerprint(
        "submission",
        VERSION,
        source=_source_digest(module),
        weights=_weights_digest(model),
        options=canonical,
        torch=metadata.version("torch"),
    )
    known = cache / f"{fingerprint}.json"
    if not known.exists():
        job = {"do": "describe", "module": module, "model": model, "options": json.loads(canonical)}
        log = cache / f"{fingerprint}.log"
        files.write_json(known, run_worker([sys.executable, str(WORKER)], job, log, lambda done, total: None))
    return Submission(module, model, canonical, fingerprint, files.read_json(known)["sample_rate"])


def _canonical_options(options: str) -> str:
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


def _source_digest(module: str) -> str:
    """Digest of the module's source: the file itself, or all Python files of the package it lies in."""
    file = _find(module)
    sources = sorted(file.parent.rglob("*.py")) if (file.parent / "__init__.py").exists() else [file]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(
            source.relative_to(file.parent).as_posix().encode() + b"\0" + source.read_bytes() + b"\0"
        )
    return digest.hexdigest()


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
            remedy="Install it with `pip install PATH`, or run in the folder that holds it.",
        )
    return Path(spec.origin)
