"""Describe a model: load it in its own process, and keep what it reports until something changes."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from heareval import files
from heareval.embeddings.modules import list_package_sources
from heareval.embeddings.published import ADAPTERS, find_adapter_version
from heareval.embeddings.submission import Model
from heareval.errors import HearevalError
from heareval.formats.fields import Fields, read_fields

# 2: a description for each type of embeddings, and default weights. 3: compiled modules are sources.
DESCRIPTION_VERSION = 3
DESCRIBE_AGAIN = "Remove this file: the model is then described again."


class FaultyFunctionError(HearevalError):
    """A model has no embeddings of one type: the function for them is missing or fails."""


@dataclass(frozen=True)
class DescribeSettings:
    """Where a model is loaded to describe it, and how long that may take.

    Args:
        device: `auto`, `cpu` or `cuda`.
        silence_s: a process that reports nothing for this long is killed; None = no limit.
        claim_gpu: a context that reserves a GPU, and gives the environment variables that select it.
    """

    device: str = "auto"
    silence_s: float | None = None
    claim_gpu: Callable[[], contextlib.AbstractContextManager[Mapping[str, str]]] = lambda: (
        contextlib.nullcontext({})
    )


@dataclass(frozen=True)
class Description:
    """What a model reports of itself when one type of its embeddings is computed.

    Args:
        path: the file that the description is kept in.
        sample_rate: in Hz.
        has_default_weights: whether load_model was left to use its own default for the weights.
        versions: versions of the loaded packages.
        source_sha256: path -> SHA-256 of each source file, and of the files of default weights; "" for a
            missing file.
        facts: what the model says of itself for the scores, as JSON; "" if it says nothing.
    """

    path: Path
    sample_rate: int
    has_default_weights: bool
    versions: Mapping[str, str]
    source_sha256: Mapping[str, str]
    facts: str = ""

    @property
    def sources_fingerprint(self) -> str:
        """A fingerprint that changes with the content of any source file."""
        return fingerprint_sources(self.source_sha256)


def describe_model(
    model: Model,
    embedding_type: str,
    cache: Path,
    *,
    weights_sha256: str,
    record: tuple[str, ...],
    settings: DescribeSettings,
) -> Description:
    """Return the description of a model; load the model only if the kept description is outdated.

    Args:
        model: the model.
        embedding_type: `scene` or `event`: only the function for these embeddings is called.
        cache: folder in which descriptions are kept, one for each type of embeddings.
        weights_sha256: SHA-256 of the weights.
        record: what its environment contains; () for the environment of this process.
        settings: where and how long it may be loaded.

    Raises:
        FaultyFunctionError: the function for these embeddings is missing, or it failed.
        HearevalError: the submission breaks the HEAR API, or it failed.
    """
    path, package = _find_place(model, embedding_type, cache, weights_sha256, record)
    if known := _read_description(path):
        return known
    facts = _load_and_describe(model, embedding_type, path.with_suffix(".log"), settings)
    facts["digests"] = hash_sources([*facts.pop("sources"), *map(str, package)])
    files.write_json(path, facts)
    return _parse_description(path, facts)


def find_description(
    model: Model, embedding_type: str, cache: Path, *, weights_sha256: str, record: tuple[str, ...]
) -> Description | None:
    """Return the kept description of a model; None if there is none, or the model has changed since.

    The arguments are those of `describe_model`; the model is never loaded.

    Raises:
        HearevalError: there is no such module.
    """
    path, _ = _find_place(model, embedding_type, cache, weights_sha256, record)
    return _read_description(path)


def _find_place(
    model: Model, embedding_type: str, cache: Path, weights_sha256: str, record: tuple[str, ...]
) -> tuple[Path, list[Path]]:
    """Return the file that a description is kept in, and the source files of the model's package."""
    package = list_package_sources(model)
    key = files.fingerprint(
        "description",
        DESCRIPTION_VERSION,
        embedding_type=embedding_type,
        module=[model.module, *map(str, package[:1]), model.api_object],
        python=model.python or sys.prefix,
        installed=record or _list_installed(),
        weights=weights_sha256,
        options=model.options,
    )
    return cache / f"{key}.json", package


# Several submissions of one command share the environment of this process, which takes a while to list.
@functools.cache
def _list_installed() -> tuple[str, ...]:
    return tuple(sorted(f"{d.name}=={d.version}" for d in metadata.distributions()))


def _read_description(path: Path) -> Description | None:
    """Return a kept description; None if there is none, or a source file has changed since."""
    if not path.exists():
        return None
    description = _parse_description(path, read_fields(path, remedy=DESCRIBE_AGAIN).values)
    digests = description.source_sha256
    # Our adapters count by their versions, which only the loaded ones have.
    adapters = {name: text for name, text in description.versions.items() if name.startswith(ADAPTERS)}
    is_current = adapters == {name: find_adapter_version(name) for name in adapters}
    return description if is_current and digests == hash_sources(digests) else None


def _parse_description(path: Path, facts: Mapping[str, Any]) -> Description:
    fields = Fields(str(path), facts, DESCRIBE_AGAIN)
    return Description(
        path,
        fields.integer("sample_rate"),
        fields.flag("default_weights"),
        fields.mapping("versions"),
        fields.mapping("digests"),
        fields.text("facts") if "facts" in facts else "",
    )


def _load_and_describe(
    model: Model, embedding_type: str, log: Path, settings: DescribeSettings
) -> dict[str, Any]:
    """Load a model in its own process and return what it reports; see `inside/submission.py`."""
    job = {
        "do": "describe",
        "embedding_type": embedding_type,
        "precision": "float32",
        "device": settings.device,
    }
    with settings.claim_gpu() as variables:
        facts = model.run(job, log, variables=variables, silence_s=settings.silence_s)
    if fault := facts.get("fault"):
        fault["remedy"] = fault["remedy"] or f"Its log is in {log.parent}."
        raise FaultyFunctionError(**fault)
    return facts


def hash_sources(paths: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of every file, "" for a missing one, in the order of the paths."""
    is_there = {path: Path(path).is_file() for path in sorted(set(paths))}
    return {p: files.file_checksum(Path(p), "sha256") if is_file else "" for p, is_file in is_there.items()}


def fingerprint_sources(source_sha256: Mapping[str, str]) -> str:
    """Return a fingerprint of the contents of source files, wherever they are."""
    return files.fingerprint("sources", 1, digests=sorted(source_sha256.values()))


def read_source_sha256(path: Path) -> dict[str, str]:
    """Return path and SHA-256 of each source file, as a kept description has them."""
    return dict(files.read_json(path)["digests"])
