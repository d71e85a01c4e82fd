"""Open a submission: check its weights, describe its model, name it and compute its fingerprint."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from heareval import files
from heareval.embeddings.describe import (
    DescribeSettings,
    Description,
    describe_model,
    fingerprint_sources,
    hash_sources,
    place_description,
    read_description,
    read_source_sha256,
)
from heareval.embeddings.naming import name_submission
from heareval.embeddings.published import identify_options
from heareval.embeddings.submission import VERSION, Model, Submission
from heareval.embeddings.weights import check_weights
from heareval.errors import HearevalError


def open_submission(
    model: Model,
    embedding_type: str,
    cache: Path,
    *,
    name: str = "",
    sha256: str = "",
    record: tuple[str, ...] = (),
    settings: DescribeSettings | None = None,
) -> Submission:
    """Return a submission with its fingerprint and sample rate; load its model only if something changed.

    Args:
        model: the model.
        embedding_type: the embeddings that are wanted, `scene` or `event`; nothing is asked of the model that
            they don't need.
        cache: folder in which descriptions are kept.
        name: name of its folder; "" makes one from the module, the weights and the options.
        sha256: SHA-256 that the weights must have; "" = any.
        record: what its environment contains; () for the environment of this process.
        settings: where and how long the model may be loaded; None = on its own device, without limit.

    Raises:
        FaultyFunctionError: it has no embeddings of this type.
        HearevalError: the weights are wrong, or the submission breaks the HEAR API or failed.
    """
    weights_sha256 = check_weights(model.weights_path, sha256)
    description = describe_model(
        model,
        embedding_type,
        cache,
        weights_sha256=weights_sha256,
        record=record,
        settings=settings or DescribeSettings(model.device),
    )
    return _name_described(model, description, weights_sha256, name, record)


def find_submission(
    model: Model,
    embedding_type: str,
    cache: Path,
    *,
    name: str = "",
    sha256: str = "",
    record: tuple[str, ...] = (),
) -> Submission | None:
    """Return a submission as `open_submission` does, but never load its model: None if that is needed.

    The arguments are those of `open_submission`.

    Raises:
        LackingFunctionError: its model has said that it has no embeddings of this type.
        HearevalError: the weights are wrong, or there is no such module.

    Example: `find_submission(Model("my_model"), "scene", Path("_workdir/submissions"))`
    """
    weights_sha256 = check_weights(model.weights_path, sha256)
    path = place_description(model, embedding_type, cache, weights_sha256=weights_sha256, record=record)
    description = read_description(path)
    return _name_described(model, description, weights_sha256, name, record) if description else None


def _name_described(
    model: Model, description: Description, weights_sha256: str, name: str, record: tuple[str, ...]
) -> Submission:
    """Return the submission that a described model is."""
    return Submission(
        **asdict(model),
        name=name or name_submission(model, weights_sha256),
        weights_sha256=weights_sha256,
        fingerprint=fingerprint_submission(
            description,
            weights_sha256,
            identify_options(model.module, model.options),
            record,
            api_object=model.api_object,
        ),
        sample_rate=description.sample_rate,
        description_path=str(description.path),
        sources_fingerprint=description.sources_fingerprint,
        facts=description.facts,
    )


def fingerprint_submission(
    description: Description,
    weights_sha256: str,
    options: str,
    record: tuple[str, ...],
    *,
    api_object: str = "",
) -> str:
    """Return the fingerprint of a submission.

    It does not depend on the device: that changes only rounding, and a run on another machine should not
    compute all embeddings again.
    """
    return files.fingerprint(
        "submission",
        VERSION,
        # Contents, not paths: another checkout of the same code is the same submission.
        sources=[*sorted(description.source_sha256.values()), *record],
        versions=description.versions,
        # Until 0.1.0 load_model was given "" in place of its default: such embeddings may come from an
        # untrained model.
        weights="the default of load_model" if description.has_default_weights else weights_sha256,
        options=options,
        # Absent for a module: the fingerprints of earlier releases stay.
        **({"api_object": api_object} if api_object else {}),
    )


def check_unchanged(submission: Submission) -> None:
    """Raise HearevalError if the weights or the sources have changed since a submission was opened."""
    changed: list[str] = []
    if check_weights(submission.weights_path) != submission.weights_sha256:
        changed = [submission.weights_path]
    elif submission.description_path:
        known = read_source_sha256(Path(submission.description_path))
        found = hash_sources(known)
        if fingerprint_sources(found) != submission.sources_fingerprint:
            changed = [path for path, digest in known.items() if found[path] != digest] or ["a source"]
    if changed:
        raise HearevalError(
            f"submission {submission.name}",
            got=f"{changed[0]} changed since the run began",
            expected="an unchanged submission",
            remedy="Run again to embed the changed one.",
        )
