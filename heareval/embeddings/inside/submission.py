"""Load a submission, check it against the HEAR API, and describe it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import json
import os
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heareval.embeddings.inside.channel import Send, ignore_message
from heareval.embeddings.inside.errors import (
    SubmissionError,
    blame_submission,
    describe_exception,
    list_library_folders,
    shorten,
)
from heareval.embeddings.inside.frameworks import Framework, find_framework

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)
API = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
ATTRIBUTES = ("sample_rate", "scene_embedding_size", "timestamp_embedding_size")
# Type of a task's embeddings -> the function that computes them, and the attribute with their size.
FUNCTIONS = {"scene": API[1], "event": API[2]}
SIZES = {"scene": ATTRIBUTES[1], "event": ATTRIBUTES[2]}


# Our own modules that a submission may use, and the packages around them.
ADAPTERS = "heareval.embeddings.adapters"
AROUND_ADAPTERS = ("heareval", "heareval.embeddings")


class IncompleteSubmissionError(SubmissionError):
    """The submission lacks a function or a size that one type of embeddings needs."""


@dataclass(frozen=True)
class LoadedSubmission:
    """An imported module, its model on the device, and the framework of the model."""

    module: Any
    model: Any
    framework: Framework


def load_submission(job: dict[str, Any]) -> LoadedSubmission:
    """Import a submission, load its model, check both against the HEAR API and move the model to its device.

    Only what the job's `embedding_type` needs is asked for: a model may have scene embeddings alone.

    Raises:
        IncompleteSubmissionError: it lacks what this type of embeddings needs.
        SubmissionError: the module or the model breaks the API, or the submission's code failed.
    """
    prepare_environment(job["device"])
    name, embedding_type = job["module"], job["embedding_type"]
    module = import_submission(job)
    for function in (API[0], FUNCTIONS[embedding_type]):
        if not callable(getattr(module, function, None)):
            raise IncompleteSubmissionError(
                f"submission {name}",
                got=f"no function {function}",
                expected=f"{API[0]} and {FUNCTIONS[embedding_type]}",
                remedy="See the HEAR API in docs/protocol.md; heareval/embeddings/baseline.py is an example.",
            )
    lacks_weights = not job["weights_path"] and needs_weights_argument(
        find_weights_parameter(module.load_model), job["options"]
    )
    given = ', given "" because there is no --model' if lacks_weights else ""
    with blame_submission(f"load_model of {name}{given}"):
        model = call_load_model(module, job["weights_path"], job["options"])
    kind_of_framework = find_framework(model)
    attributes = {ATTRIBUTES[0]: SubmissionError, SIZES[embedding_type]: IncompleteSubmissionError}
    for attribute, kind in attributes.items():
        with blame_submission(f"{attribute} of the model of {name}"):
            value = getattr(model, attribute, None)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise kind(
                f"model of {name}",
                got=shorten(f"{attribute} = {value!r}"),
                expected=f"an attribute {attribute}, a positive int",
            )
    framework = kind_of_framework(job["device"], job["precision"])
    with blame_submission(f"moving the model of {name} to its device"):
        framework.prepare(model)
    return LoadedSubmission(module, model, framework)


def refuse_name(job: dict[str, Any], send: Send = ignore_message) -> dict[str, Any]:
    """Raise the error for a module whose name is taken in this process before anything is imported."""
    raise SubmissionError(
        f"submission {job.get('file') or job['module']}",
        got="the name of a module that Python or numpy has loaded already",
        expected="a module with a name of its own",
        remedy="Rename the module.",
    )


def import_submission(job: dict[str, Any]) -> Any:
    """Return what has the functions of the HEAR API: a module, or an object in one; a class is called first.

    Raises:
        SubmissionError: there is no such file or object, or the import failed.
    """
    name, file, api_object = job["module"], job.get("file"), job.get("api_object")
    with blame_submission(f"import of {file or name}"):
        if file and name not in sys.modules:
            # By its path: a package or another file of that name could be found first.
            spec: Any = importlib.util.spec_from_file_location(name, file)
            sys.modules[name] = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(sys.modules[name])
            except ImportError as error:
                if "relative import" not in str(error):
                    raise
                raise SubmissionError(
                    f"import of {file}",
                    got=describe_exception(error),
                    expected="imports that work without a package",
                    remedy=f"Go to the folder above its package, and give the module: PACKAGE.{name}.",
                ) from error
        found = importlib.import_module(name)
    if not api_object:
        return found
    if not hasattr(found, api_object):
        classes = [key for key, value in vars(found).items() if isinstance(value, type)]
        raise SubmissionError(
            f"submission {file or name}",
            got=f"nothing named {api_object} in it",
            expected=f"a class or an object with {', '.join(API)}",
            remedy=f"It has {', '.join(classes)}." if classes else "",
        )
    found = getattr(found, api_object)
    with blame_submission(f"{api_object} of {file or name}"):
        return found() if isinstance(found, type) else found


def call_load_model(module: Any, weights_path: str, options: dict[str, Any]) -> Any:
    """Return what load_model returns: given the weights as its first argument, or without that argument.

    Raises:
        SubmissionError: there are weights, and load_model takes none.
    """
    parameter = find_weights_parameter(module.load_model)
    if not weights_path:
        return module.load_model(*([""] if needs_weights_argument(parameter, options) else []), **options)
    if parameter is None:
        raise SubmissionError(
            "load_model of the submission",
            got="no parameter that could take the weights",
            expected="model_file_path as its first parameter",
            remedy="Add it, or leave --model out.",
        )
    return module.load_model(weights_path, **options)


def find_weights_parameter(load_model: Any) -> inspect.Parameter | None:
    """Return the first parameter that can be given by its position, whatever its name; None without one."""
    try:
        parameters = inspect.signature(load_model).parameters.values()
    except (TypeError, ValueError):
        # Python can't tell the parameters of some functions that are written in C.
        return inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)
    by_keyword = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    return next((each for each in parameters if each.kind not in by_keyword), None)


def needs_weights_argument(parameter: inspect.Parameter | None, options: dict[str, Any]) -> bool:
    """Return whether load_model must be given "" if there are no weights: its first parameter is required.

    A default may stand for trained weights, so it must hold. In 2021 the argument was always left out.
    """
    if parameter is None or parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return False
    return parameter.default is inspect.Parameter.empty and parameter.name not in options


def describe_default_weights(module: Any, options: dict[str, Any]) -> str:
    """Return how load_model is called without weights, in words."""
    parameter = find_weights_parameter(module.load_model)
    if needs_weights_argument(parameter, options):
        return 'none given: load_model gets ""'
    if parameter is None or parameter.default is inspect.Parameter.empty:
        return "none given: load_model gets no argument"
    return f"none given: load_model uses its default, {shorten(f'{parameter.name} = {parameter.default!r}')}"


def find_default_weights(job: dict[str, Any], module: Any) -> list[str] | None:
    """Return the files of the weights that load_model uses by default, as far as its signature names them.

    Returns None if it has no default of its own: it was given weights, requires them, or has the default "".
    """
    parameter = find_weights_parameter(module.load_model)
    if job["weights_path"] or needs_weights_argument(parameter, job["options"]):
        return None
    default = parameter.default if parameter else None
    if not isinstance(default, (str, os.PathLike)):
        return []
    if default == "":
        return None
    path = Path(default).resolve()
    if path.is_dir() and path not in (Path.cwd(), *Path.cwd().parents):
        return sorted(find_files(path))
    return [str(path)] if path.is_file() else []


def find_files(folder: Path) -> Iterator[str]:
    """Yield the regular files in a folder; links are followed, and each folder is read once.

    Folders that cannot be read are passed over: the submission cannot read them either.
    """
    seen: set[str] = set()
    for parent, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        yield from (path for name in names if os.path.isfile(path := os.path.join(parent, name)))  # noqa: PTH113, PTH118


def prepare_environment(device: str) -> None:
    """Set the environment variables that frameworks read when they are imported."""
    # By default TensorFlow takes all memory of a GPU at once, leaving none to other processes.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # Others let oneDNN, which multiplies on CPUs, round float32 to bf16.
    os.environ["ONEDNN_DEFAULT_FPMATH_MODE"] = "STRICT"
    if device == "cpu":
        # Models that look for a GPU themselves must not find one.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def describe(job: dict[str, Any], send: Send = ignore_message) -> dict[str, Any]:
    """Return what the pipeline must know to plan: sample rate, sources and versions.

    Only the function for the job's `embedding_type` is called, on a model that nothing else has touched: what
    the other one does, or leaves behind, must not matter. If it is missing or fails, `fault` says how, and
    `is_lacking` whether the submission has no such embeddings, as opposed to a function that fails.
    """
    try:
        submission = load_submission(job)
    except IncompleteSubmissionError as error:
        return {"fault": error.facts, "is_lacking": True, "sources": list_loaded_sources()}
    module, model, framework = submission.module, submission.model, submission.framework
    # Embed a second of silence: some submissions import modules only when they embed.
    try:
        name = FUNCTIONS[job["embedding_type"]]
        framework.compute(name, getattr(module, name), np.zeros((1, model.sample_rate), np.float32), model)
    except SubmissionError as error:
        if not is_refusal(error.__cause__):
            return {"fault": error.facts, "is_lacking": False}
        return {"fault": describe_refusal(job, error), "is_lacking": True, "sources": list_loaded_sources()}
    default_weights = find_default_weights(job, module)
    return {
        **describe_facts(model),
        "sample_rate": model.sample_rate,
        "framework": framework.name,
        "default_weights": default_weights is not None,
        "sources": sorted({*list_loaded_sources(), *(default_weights or ())}),
        "versions": list_loaded_versions(),
    }


def describe_facts(model: Any) -> dict[str, str]:
    """Return what a model says of itself in `heareval_facts`, as JSON; {} if it says nothing."""
    with contextlib.suppress(Exception):
        if facts := getattr(model, "heareval_facts", None):
            return {"facts": json.dumps(facts, sort_keys=True)}
    return {}


def is_refusal(error: BaseException | None) -> bool:
    """Return whether the error of a function says that the submission has no embeddings of its type.

    PyTorch raises the same exception for an operator, named `aten::...`, that this device does not have.
    """
    return isinstance(error, NotImplementedError) and "aten::" not in str(error)


def describe_refusal(job: dict[str, Any], error: SubmissionError) -> dict[str, str]:
    """Return what to tell of a submission that has no embeddings of one type."""
    function = FUNCTIONS[job["embedding_type"]]
    return {
        "what": f"submission {job['module']}",
        "got": f"{describe_exception(error.__cause__ or error)} from {function}",
        "expected": f"embeddings for {job['embedding_type']} tasks",
        "remedy": "Choose tasks of the other type, or implement it.",
    }


def list_loaded_sources() -> list[str]:
    """Return the files of all loaded modules except the standard library, installed packages and ours.

    A module may be compiled.
    """
    installed = list_library_folders()
    # Of our own modules only __main__.py is in sys.modules, also as __mp_main__ if multiprocessing is loaded.
    ours = ("__main__", "__mp_main__")
    found = {
        names.get("__file__")
        for name, names in list_loaded_namespaces()
        if name not in ours and not name.startswith(ADAPTERS)
    }
    paths = (path for path in found if isinstance(path, str))
    return sorted(path for path in paths if not path.startswith(installed) and not is_compiled_package(path))


def is_compiled_package(path: str) -> bool:
    """Return whether a file is a compiled module of a package, wherever that is installed.

    The versions of packages count instead; their compiled modules may be large.
    """
    return not path.endswith(".py") and not {"site-packages", "dist-packages"}.isdisjoint(Path(path).parts)


def list_loaded_versions() -> dict[str, str]:
    """Return the version of every loaded top-level module, and of our adapters, that has a `__version__`."""
    versions = {
        name: names.get("__version__")
        for name, names in list_loaded_namespaces()
        if "." not in name or name.startswith(ADAPTERS)
    }
    return {name: version for name, version in sorted(versions.items()) if isinstance(version, str)}


def list_loaded_namespaces() -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the namespace of every loaded module, without triggering lazy imports.

    The packages around our adapters are left out if nothing else of them is loaded: the version of heareval
    does not matter then.
    """
    loaded = [
        (name, module) for name, module in list(sys.modules.items()) if isinstance(module, types.ModuleType)
    ]
    ours = {name for name, _ in loaded if name.partition(".")[0] == "heareval"}
    adapters = {name for name in ours if name.startswith(ADAPTERS)}
    if adapters and ours - adapters <= set(AROUND_ADAPTERS):
        loaded = [(name, module) for name, module in loaded if name not in AROUND_ADAPTERS]
    return [(name, object.__getattribute__(module, "__dict__")) for name, module in loaded]
