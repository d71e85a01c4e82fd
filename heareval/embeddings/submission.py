"""A submission: a model with the HEAR API, named, fingerprinted and described without importing it here."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from heareval import files
from heareval.embeddings.interpreter import clean_variables
from heareval.errors import HearevalError
from heareval.spec import Progress
from heareval.worker_process import run_worker

WORKER = Path(__file__).with_name("worker.py")
VERSION = 1
# Of a name made here: what is written beside a folder carries more than its name, and 255 bytes are all.
NAME_BYTES = 150
# Letters of wrong options that an error repeats.
SHOWN_LENGTH = 200


@dataclass(frozen=True)
class Model:
    """What it takes to load a model in a process of its own.

    Args:
        module: importable module with the HEAR API.
        model: file with its weights, or "".
        options: further arguments of load_model, as JSON.
        python: interpreter of its own environment; "" is the one of this process, wherever a step is done.
        is_installed: the module is in that environment, so the folder the user works in must not hide it.
        device: `auto` for a GPU if there is one, `cpu` or `cuda`.
    """

    module: str
    model: str = ""
    options: str = "{}"
    python: str = ""
    is_installed: bool = False
    device: str = "auto"

    def run(
        self,
        script: Path,
        job: dict[str, Any],
        log: Path,
        progress: Progress,
        *,
        variables: Mapping[str, str] | None = None,
        **listening: Any,
    ) -> dict[str, Any]:
        """The result of a script of ours that the model's interpreter runs; see `run_worker`.

        Args:
            variables: environment variables beside those that it has anyway.
        """
        job = {
            "module": self.module,
            "model": self.model,
            "options": json.loads(self.options),
            "device": self.device,
            "is_installed": self.is_installed,
            **job,
        }
        inherited = clean_variables(Path(self.python)) if self.python else os.environ
        command = [self.python or sys.executable, str(script)]
        variables = {**inherited, **(variables or {})}
        return run_worker(command, job, log, progress, variables=variables, **listening)


@dataclass(frozen=True)
class Submission(Model):
    """A model to evaluate.

    Args:
        name: name of its folder.
        weights: SHA-256 of the file with its weights, or "".
        fingerprint: changes with the sources, what is installed beside them, the weights, the options and the
            versions of what is loaded.
        sample_rate: what the model wants to hear, in Hz.
        described: file that tells its sources and their digests.
        sources: what changes with these digests.
    """

    name: str = ""
    weights: str = ""
    fingerprint: str = ""
    sample_rate: int = 0
    described: str = ""
    sources: str = ""


@dataclass(frozen=True)
class Describing:
    """Where and how long a model may be loaded to describe it.

    Args:
        device: `auto`, `cpu` or `cuda`.
        silence_s: one that is not described in so long is killed; None waits for ever.
        claim: gives it a GPU for itself, as environment variables, for as long as the context lasts.
    """

    device: str = "auto"
    silence_s: float | None = None
    claim: Callable[[], contextlib.AbstractContextManager[Mapping[str, str]]] = lambda: (
        contextlib.nullcontext({})
    )


def open_submission(
    model: Model,
    cache: Path,
    *,
    name: str = "",
    sha256: str = "",
    record: tuple[str, ...] = (),
    describing: Describing | None = None,
) -> Submission:
    """The submission with its fingerprint and sample rate; the model is loaded only if something changed.

    Args:
        cache: folder in which descriptions are kept.
        name: of its folder; "" makes one of the module, the weights and the options.
        sha256: that the weights must have; "" = any.
        record: what its own environment holds.
        describing: where it is loaded; None = where it wants to be.
    """
    weights = checked_weights(model.model, sha256)
    package = _package_sources(model)
    installed = record or sorted(f"{d.name}=={d.version}" for d in metadata.distributions())
    settings = {"weights": weights, "options": model.options}
    key = files.fingerprint(
        "description",
        VERSION,
        module=[model.module, *map(str, package[:1])],
        python=model.python or sys.prefix,
        installed=installed,
        **settings,
    )
    known = cache / f"{key}.json"
    facts = files.read_json(known) if known.exists() else {}
    if not facts or facts["digests"] != _digests(facts["digests"]):
        facts = _description(model, cache / f"{key}.log", describing or Describing(model.device))
        facts["digests"] = _digests([*facts.pop("sources"), *map(str, package)])
        files.write_json(known, facts)
    # Not the device: what it changes is rounding, and nobody wants to embed again on another machine.
    fingerprint = files.fingerprint(
        "submission",
        VERSION,
        # By what they hold, not where they lie: another checkout of the same code is the same submission.
        sources=[*sorted(facts["digests"].values()), *record],
        versions=facts["versions"],
        **settings,
    )
    return Submission(
        **asdict(model),
        name=name or _name(model, weights),
        weights=weights,
        fingerprint=fingerprint,
        sample_rate=facts["sample_rate"],
        described=str(known),
        sources=_fingerprint_of(facts["digests"]),
    )


def _description(model: Model, log: Path, describing: Describing) -> dict[str, Any]:
    """What the worker tells of a model that it has loaded: sources, versions and sample rate."""
    job = {"do": "describe", "precision": "float32", "device": describing.device}
    with describing.claim() as variables:
        return model.run(
            WORKER,
            job,
            log,
            lambda done, total: None,
            variables=variables,
            silence_s=describing.silence_s,
        )


def check_unchanged(submission: Submission) -> None:
    """Raise HearevalError if weights or sources are no longer those that a submission was opened with."""
    checked_weights(submission.model, submission.weights)
    if not submission.described:
        return
    known = files.read_json(Path(submission.described))["digests"]
    found = _digests(known)
    if _fingerprint_of(found) != submission.sources:
        changed = [path for path, digest in known.items() if found[path] != digest]
        raise HearevalError(
            f"submission {submission.name}",
            got=f"{changed[0] if changed else 'a source'} changed since the run began",
            expected="the same as it was then",
            remedy="Run again, and the changed one is embedded.",
        )


def _fingerprint_of(digests: dict[str, str]) -> str:
    return files.fingerprint("sources", 1, digests=sorted(digests.values()))


def _name(model: Model, weights: str) -> str:
    """Name of its folder: the module, and what tells several models of it apart."""
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(model.model).stem)[:60]
    of_weights = f"+{stem}-{weights[:6]}" if model.model else ""
    digest = hashlib.sha256(model.options.encode()).hexdigest()
    of_options = f"+{digest[:6]}" if model.options != "{}" else ""
    return short_name(f"{model.module}{of_weights}{of_options}")


def short_name(name: str) -> str:
    """The name of a folder or file, the end of a long one replaced by its digest.

    >>> short_name("my_model"), len(short_name("x" * 1000))
    ('my_model', 150)
    """
    encoded = name.encode()
    if len(encoded) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:12]
    return f"{encoded[: NAME_BYTES - 13].decode(errors='ignore')}-{digest}"


def _digests(paths: Iterable[str]) -> dict[str, str]:
    """Digest of every file, "" for one that is gone."""
    there = {path: Path(path).is_file() for path in sorted(set(paths))}
    return {p: files.file_checksum(Path(p), "sha256") if is_file else "" for p, is_file in there.items()}


def canonical_options(options: str) -> str:
    """The arguments of load_model, a JSON object, in one spelling; raises HearevalError for anything else."""
    try:
        values = json.loads(options or "{}")
    except (ValueError, RecursionError) as error:
        got = f"{options[:SHOWN_LENGTH]!r} ({error})"
        raise HearevalError("model options", got=got, expected="a JSON object") from error
    if not isinstance(values, dict):
        expected = "a JSON object such as '{\"size\": 512}'"
        raise HearevalError("model options", got=options[:SHOWN_LENGTH], expected=expected)
    return json.dumps(values, sort_keys=True)


def checked_weights(model: str, sha256: str) -> str:
    """SHA-256 of the weights, which must be this one unless it is ""; "" for no weights.

    Of a folder, as TensorFlow saves models, it is that of the names and digests of all files in it.
    """
    if not model:
        return ""
    path = Path(model)
    if not path.exists():
        raise HearevalError(f"model file {model}", got="no such file", expected="the weights of the model")
    if path.is_dir():
        inside = sorted((str(file.relative_to(path)), file) for file in path.rglob("*") if file.is_file())
        lines = "".join(f"{_file_digest(file)}  {name}\n" for name, file in inside)
        digest = hashlib.sha256(lines.encode()).hexdigest()
    else:
        digest = _file_digest(path)
    if sha256 not in ("", digest):
        remedy = "These are other weights, or the file is damaged: replace it, or correct sha256."
        raise HearevalError(f"model file {model}", got=f"SHA-256 {digest}", expected=sha256, remedy=remedy)
    return digest


def _file_digest(file: Path) -> str:
    state = file.stat()
    return _digest_as_of(file, state.st_size, state.st_mtime_ns)


@functools.cache
def _digest_as_of(file: Path, size: int, modified_ns: int) -> str:
    """SHA-256 of a file as it was at that time."""
    return files.file_checksum(file, "sha256")


def _package_sources(model: Model) -> list[Path]:
    """The module's file, then all Python files of the package it lies in: some are only loaded later.

    Empty for a module that is only found in an environment of its own, of which there is a record.
    """
    if model.is_installed:
        return []
    file = _find(model.module, only_here=bool(model.python))
    if file is None:
        return []
    is_in_package = (file.parent / "__init__.py").exists()
    return [file, *(sorted(file.parent.rglob("*.py")) if is_in_package else [])]


def _find(module: str, *, only_here: bool) -> Path | None:
    """The file of a module, found without importing anything of it.

    Args:
        only_here: look in the folder the user works in, and else give None.
    """
    top, *inner = module.split(".")
    # As in the worker, the folder the user works in comes first. Finding a top-level name imports nothing.
    spec = importlib.machinery.PathFinder.find_spec(top, [str(Path.cwd())])
    if not spec and not only_here:
        spec = importlib.util.find_spec(top)
    name = top
    for part in inner:
        name = f"{name}.{part}"
        places = spec.submodule_search_locations if spec else None
        spec = importlib.machinery.PathFinder.find_spec(name, places) if places else None
    if spec and spec.origin:
        return Path(spec.origin)
    if only_here:
        return None
    near = module.endswith(".py")
    remedy = "Install it with `pip install PATH`, or run in the folder that holds it."
    raise HearevalError(
        f"submission {module}",
        got="no such module",
        expected="an importable module",
        remedy=f"Did you mean {Path(module).stem}?" if near else remedy,
    )
