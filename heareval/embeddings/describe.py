"""Describe a model: load it in its own process, and keep what it reports until something changes."""

from __future__ import annotations

import functools
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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


class LackingFunctionError(FaultyFunctionError):
    """A model says that it has no embeddings of one type; this is kept like a description."""


@dataclass(frozen=True)
class DescribeSettings:
    """Where a model is loaded to describe it, and how long that may take.

    Args:
        device: `auto`, `cpu` or `cuda`.
        silence_s: a process that reports nothing for this long is killed; None = no limit.
        variables: further environment variables of that process.
    """

    device: str = "auto"
    silence_s: float | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


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
    path = place_description(model, embedding_type, cache, weights_sha256=weights_sha256, record=record)
    return read_description(path) or write_description(model, embedding_type, path, settings)


def write_description(
    model: Model, embedding_type: str, path: Path, settings: DescribeSettings
) -> Description:
    """Load a model, write its description to a file and return it.

    What a model says that it lacks is written down as well.

    Args:
        model: the model.
        embedding_type: `scene` or `event`: only the function for these embeddings is called.
        path: the file, as `place_description` returns it.
        settings: where and how long the model may be loaded.

    Raises:
        LackingFunctionError: the model has no embeddings of this type.
        FaultyFunctionError: the function for them failed.
        HearevalError: the submission breaks the HEAR API, or it failed.
    """
    facts = _load_and_describe(model, embedding_type, path.with_suffix(".log"), settings)
    package = map(str, list_package_sources(model))
    facts["digests"] = hash_sources([*facts.pop("sources"), *package])
    files.write_json(path, facts)
    return _parse_description(path, facts)


def place_description(
    model: Model, embedding_type: str, cache: Path, *, weights_sha256: str, record: tuple[str, ...]
) -> Path:
    """Return the file in which the description of a model is kept, whether it is there or not.

    The arguments are those of `describe_model`; the model is never loaded.

    Raises:
        HearevalError: there is no such module.
    """
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
    return cache / f"{key}.json"


def _list_installed() -> tuple[str, ...]:
    """Return the packages that a worker of this process could import, with their versions."""
    libraries = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    # pkg_resources puts a folder within setuptools on the path, which a new process does not have.
    folders = [each for each in map(Path, sys.path) if each.exists() and not libraries & {*each.parents}]
    return _list_installed_in(tuple((str(each), each.stat().st_mtime_ns) for each in folders))


# Several submissions of one command share the environment of this process, which takes a while to list. In a
# notebook, packages may be installed meanwhile.
@functools.lru_cache(maxsize=1)
def _list_installed_in(folders: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    # A project that is installed in place is found a second time if its folder is on the path.
    found = metadata.distributions(path=[folder for folder, _ in folders])
    return tuple(sorted({f"{each.name}=={each.version}" for each in found}))


def read_description(path: Path) -> Description | None:
    """Return a kept description; None if there is none, or a source file has changed since.

    Raises:
        LackingFunctionError: the model has said that it has no embeddings of this type.
        HearevalError: the file is damaged.
    """
    if not is_described(path):
        return None
    return _parse_description(path, read_fields(path, remedy=DESCRIBE_AGAIN).values)


def is_described(path: Path) -> bool:
    """Return whether a file holds what a model has said of itself, and no source file has changed since.

    Raises:
        HearevalError: the file is damaged.
    """
    if not path.exists():
        return False
    fields = read_fields(path, remedy=DESCRIBE_AGAIN)
    digests = fields.mapping("digests")
    # Our adapters count by their versions, which only the loaded ones have.
    versions = fields.mapping("versions") if "versions" in fields else {}
    adapters = {name: version for name, version in versions.items() if name.startswith(ADAPTERS)}
    is_current = adapters == {name: find_adapter_version(name) for name in adapters}
    return is_current and dict(digests) == hash_sources(digests)


def _parse_description(path: Path, facts: Mapping[str, Any]) -> Description:
    fields = Fields(str(path), facts, DESCRIBE_AGAIN)
    if "fault" in fields:
        fault = fields.object("fault")
        what, got, expected = (fault.text(key, "") for key in ("what", "got", "expected"))
        raise LackingFunctionError(what, got=got, expected=expected, remedy=fault.text("remedy", ""))
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
    facts = model.run(job, log, variables=settings.variables, silence_s=settings.silence_s)
    if fault := facts.get("fault"):
        fault["remedy"] = fault["remedy"] or f"Its log is in {log.parent}."
        if not facts.pop("is_lacking"):
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
