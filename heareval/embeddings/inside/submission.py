"""Load a submission, check it against the HEAR API, and describe it."""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
import types
from dataclasses import dataclass
from typing import Any

import numpy as np

from heareval.embeddings.inside.channel import Send, ignore_message
from heareval.embeddings.inside.errors import SubmissionError, blame_submission
from heareval.embeddings.inside.frameworks import Framework, find_framework

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)
API = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
ATTRIBUTES = ("sample_rate", "scene_embedding_size", "timestamp_embedding_size")


@dataclass(frozen=True)
class LoadedSubmission:
    """An imported module, its model on the device, and the framework of the model."""

    module: Any
    model: Any
    framework: Framework


def load_submission(job: dict[str, Any]) -> LoadedSubmission:
    """Import a submission, load its model, check both against the HEAR API and move the model to its device.

    Raises:
        SubmissionError: the module or the model breaks the API, or the submission's code failed.
    """
    prepare_environment(job["device"])
    name = job["module"]
    with blame_submission(f"import of {name}"):
        module = importlib.import_module(name)
    for function in API:
        if not callable(getattr(module, function, None)):
            raise SubmissionError(
                f"submission {name}",
                got=f"no function {function}",
                expected=", ".join(API),
                remedy="See the HEAR API in docs/protocol.md; heareval/embeddings/baseline.py is an example.",
            )
    with blame_submission(f"load_model of {name}"):
        model = module.load_model(job["weights_path"], **job["options"])
    for attribute in ATTRIBUTES:
        value = getattr(model, attribute, None)
        if not isinstance(value, int) or value <= 0:
            raise SubmissionError(
                f"model of {name}",
                got=f"{attribute} = {value!r}",
                expected=f"an attribute {attribute}, a positive int",
            )
    if model.sample_rate not in SAMPLE_RATES:
        raise SubmissionError(
            f"model of {name}",
            got=f"sample_rate = {model.sample_rate}",
            expected=f"one of {', '.join(map(str, SAMPLE_RATES))}",
        )
    framework = find_framework(model)(job["device"], job["precision"])
    with blame_submission(f"moving the model of {name} to its device"):
        framework.prepare(model)
    return LoadedSubmission(module, model, framework)


def prepare_environment(device: str) -> None:
    """Set the environment variables that frameworks read when they are imported."""
    # By default TensorFlow takes all memory of a GPU at once, leaving none to other processes.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    if device == "cpu":
        # Models that look for a GPU themselves must not find one.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def describe(job: dict[str, Any], send: Send = ignore_message) -> dict[str, Any]:
    """Return what the pipeline must know to plan: sample rate, embedding sizes, sources and versions."""
    submission = load_submission(job)
    module, model, framework = submission.module, submission.model, submission.framework
    # Embed a second of silence: some submissions import modules only when they embed.
    for function in (module.get_scene_embeddings, module.get_timestamp_embeddings):
        framework.compute(function, np.zeros((1, model.sample_rate), np.float32), model)
    facts = {name: getattr(model, name) for name in ATTRIBUTES}
    return {
        **facts,
        "framework": framework.name,
        "sources": list_loaded_sources(),
        "versions": list_loaded_versions(),
    }


def list_loaded_sources() -> list[str]:
    """Return the files of all loaded modules except the standard library, installed packages and ours."""
    installed = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    # Of our own modules only __main__.py is in sys.modules, also as __mp_main__ if multiprocessing is loaded.
    ours = ("__main__", "__mp_main__")
    found = {names.get("__file__") for name, names in list_loaded_namespaces() if name not in ours}
    paths = (path for path in found if isinstance(path, str))
    return sorted(path for path in paths if path.endswith(".py") and not path.startswith(installed))


def list_loaded_versions() -> dict[str, str]:
    """Return the version of every loaded top-level module that has a `__version__`."""
    versions = {name: names.get("__version__") for name, names in list_loaded_namespaces() if "." not in name}
    return {name: version for name, version in sorted(versions.items()) if isinstance(version, str)}


def list_loaded_namespaces() -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the namespace of every loaded module, without triggering lazy imports."""
    loaded = [
        (name, module) for name, module in list(sys.modules.items()) if isinstance(module, types.ModuleType)
    ]
    return [(name, object.__getattribute__(module, "__dict__")) for name, module in loaded]
