"""Models that live in this process: found by a name where they have one, else embedded right here.

A worker process can load a module, or a class in one, by its name, and everything that belongs to it has a
fingerprint. An object made in a notebook has neither. It is embedded in this process under a random
fingerprint, so that nothing computed with it is ever taken for the output of another one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import subprocess
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heareval.embeddings.embed import EmbedJob, embed_task
from heareval.embeddings.embedding_format import EmbeddingFormat
from heareval.embeddings.inside.embed import embed
from heareval.embeddings.inside.errors import SubmissionError, blame_submission
from heareval.embeddings.inside.rounding import keep_rounding
from heareval.embeddings.inside.submission import API, FUNCTIONS, call_load_model, describe
from heareval.embeddings.modules import PROGRAM
from heareval.embeddings.naming import shorten_name
from heareval.embeddings.resample import check_sample_rate
from heareval.embeddings.submission import Submission
from heareval.embeddings.submission_config import PYTHON_SUFFIX
from heareval.errors import HearevalError
from heareval.formats.task_folder import fingerprint_task_folder, read_task_folder
from heareval.spec import Progress, ignore_progress

# Ends the name of every submission that has no fingerprint.
MARK = "unfingerprinted"
# Variables that a job sets before it loads a model.
SET_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ONEDNN_DEFAULT_FPMATH_MODE", "TF_FORCE_GPU_ALLOW_GROWTH")


def find_word(model: Any) -> str | None:
    """Return the word by which a worker process finds a model; None if it has no name there.

    Modules have one, and classes that a module holds under their own names: a worker then loads what lies on
    disk. What is defined in a notebook, or in the program that runs, has none.

    >>> from heareval.embeddings import baseline
    >>> find_word(baseline), find_word("my_model"), find_word(lambda audio: audio)
    ('heareval.embeddings.baseline', 'my_model', None)
    """
    if isinstance(model, str | os.PathLike):
        return os.fspath(model) if isinstance(os.fspath(model), str) else None
    if isinstance(model, types.ModuleType):
        return _find_module_word(model)
    name = getattr(model, "__qualname__", "")
    module = sys.modules.get(getattr(model, "__module__", None) or "")
    if not isinstance(model, type) or module is None or getattr(module, name, None) is not model:
        return None
    word = _find_module_word(module)
    return f"{word}:{name}" if word else None


def _find_module_word(module: types.ModuleType) -> str | None:
    name, file = module.__name__, getattr(module, "__file__", None)
    if name in PROGRAM or not file:
        return None
    top = name.partition(".")[0]
    here = getattr(sys.modules.get(top), "__file__", None)
    # Another module of that name may have been imported since, or this one was loaded from its file.
    if sys.modules.get(name) is module and here and _find_as_a_worker(top) == Path(here).resolve():
        return name
    is_whole = "." not in name and not hasattr(module, "__path__")
    return str(Path(file).absolute()) if is_whole and file.endswith(PYTHON_SUFFIX) else None


def _find_as_a_worker(top: str) -> Path | None:
    """Return the file that a new process imports for a top-level module; None without one.

    The search path of this process may have been changed since it began, as notebooks do.
    """
    code = "import importlib.util, sys; print(importlib.util.find_spec(sys.argv[1]).origin)"
    done = subprocess.run([sys.executable, "-c", code, top], capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()).resolve() if done.returncode == 0 else None


class LiveApi:
    """The HEAR API of a model that is loaded already; only the functions that the model has.

    Args:
        api: what has the functions.
        model: what `load_model` of it returned.
    """

    def __init__(self, api: Any, model: Any) -> None:
        self.load_model: Callable[[], Any] = lambda: model
        self.model = model
        for name in API[1:]:
            if callable(getattr(api, name, None)):
                setattr(self, name, getattr(api, name))


@dataclass(frozen=True)
class LiveSubmission(Submission):
    """A submission whose jobs run in this process; `module` is its name in sys.modules."""

    def run(
        self,
        job: dict[str, Any],
        log: Path,
        progress: Progress = ignore_progress,
        *,
        variables: Mapping[str, str] | None = None,
        **listening: Any,
    ) -> dict[str, Any]:
        """Run a job of `inside/` here and return its result; the model is left as it was found.

        Raises:
            HearevalError: the model broke the HEAR API, or failed.
        """
        on_message = listening.get("on_message")

        def send(message: dict[str, Any]) -> None:
            if "done" in message:
                progress(message["done"], message["total"])
            elif on_message:
                on_message(message)

        action = {"embed": embed, "describe": describe}[job["do"]]
        told = {"module": self.module, "weights_path": "", "options": {}, "device": self.device, **job}
        with _tell_errors(), _leaving_unchanged(sys.modules[self.module].model):
            return action(told, send)


@contextlib.contextmanager
def open_live(
    api: Any,
    embedding_types: frozenset[str],
    *,
    name: str = "",
    weights: str = "",
    options: Mapping[str, Any] | None = None,
    device: str = "auto",
    sample_rate: int = 0,
) -> Iterator[LiveSubmission]:
    """Load a model in this process and yield it, under a random fingerprint, as long as the block lasts.

    Args:
        api: an object with the functions of the HEAR API, or a class of such objects; or a function that
            returns scene embeddings `(clips, size)` for waves `(clips, samples)`.
        embedding_types: what is needed of it: `scene`, `event` or both.
        name: what results call it, before `-unfingerprinted`; "" takes that of the object or of its class.
        weights: the first argument of load_model; "" leaves it out.
        options: further arguments of load_model.
        device: `auto`, `cpu` or `cuda`.
        sample_rate: of the waves that a function takes, in Hz; 0 for its attribute `sample_rate`.

    Raises:
        HearevalError: the model lacks what is needed, failed, or has a rate that tasks are not prepared at.

    Example: `with open_live(heareval.wrap(...), frozenset({"scene"})) as submission: ...`
    """
    module = f"heareval_live_{secrets.token_hex(8)}"
    called = name or _name_live(api)
    with _tell_errors():
        if isinstance(api, type):
            with blame_submission(called):
                api = api()
        if not callable(getattr(api, API[0], None)):
            api = _wrap_function(api, called, sample_rate)
        with blame_submission(f"load_model of {called}"):
            model = call_load_model(api, weights, dict(options or {}))
    sys.modules[module] = LiveApi(api, model)  # type: ignore[assignment]
    submission = LiveSubmission(
        module,
        options=json.dumps(options or {}, sort_keys=True, default=str),
        device=device,
        name=shorten_name(f"{called}-{MARK}"),
        fingerprint=secrets.token_hex(8),
    )
    try:
        rates = set()
        for kind in sorted(embedding_types):
            job = {"do": "describe", "embedding_type": kind, "precision": "float32"}
            found = submission.run(job, Path(os.devnull))
            if fault := found.get("fault"):
                if not callable(getattr(sys.modules[module], FUNCTIONS[kind], None)):
                    fault["remedy"] = f"Choose other tasks than {kind} tasks, or add {FUNCTIONS[kind]}."
                raise HearevalError(**{**fault, "what": fault["what"].replace(module, called)})
            rates.add(int(found["sample_rate"]))
        (rate,) = rates
        check_sample_rate(called, rate, any_rate=False)
        yield LiveSubmission(**{**vars(submission), "sample_rate": rate})
    except HearevalError as error:
        error.what = error.what.replace(module, called)
        raise
    finally:
        del sys.modules[module]


def embed_live(
    submission: LiveSubmission,
    task: Path,
    target: Path,
    embedding_format: EmbeddingFormat,
    progress: Progress = ignore_progress,
    *,
    limit: int | None = None,
) -> None:
    """Embed the clips of a published task in this process.

    Args:
        submission: the model.
        task: the task's folder.
        target: the folder to make.
        embedding_format: how embeddings are computed and stored.
        progress: gets the number of clips that are done, and of all.
        limit: how many clips of each split are embedded at most; None means all.

    Raises:
        HearevalError: the model failed, or the limit leaves nothing of the task to score.
    """
    kind = read_task_folder(task).metadata.embedding_type
    fingerprint = secrets.token_hex(8)
    embed_task(
        EmbedJob(
            submission,
            task,
            task,
            target,
            fingerprint_task_folder(task, submission.sample_rate),
            fingerprint,
            embedding_format.for_task(kind),
            device=submission.device,
            silence_s=math.inf,
            log=Path(os.devnull),
            variables={},
            limit=limit,
        ),
        progress,
    )


def _name_live(model: Any) -> str:
    """Return what results call a model.

    >>> _name_live(lambda audio: audio), _name_live(3)
    ('lambda', 'int')
    """
    name = str(getattr(model, "__name__", "") or type(model).__name__)
    return re.sub(r"[^A-Za-z0-9_.+-]", "", name).lstrip("-.+") or "model"


def _wrap_function(function: Any, name: str, sample_rate: int) -> Any:
    """Return the HEAR API of a function, or of a torch.nn.Module, that returns scene embeddings.

    Raises:
        HearevalError: it is no function, or nothing says at which rate it takes its waves.
    """
    if not callable(function):
        raise HearevalError(
            f"model {name}",
            got=f"an object of type {type(function).__name__} without load_model",
            expected=f"a module, a path, an object with {', '.join(API)}, or a function of waves",
        )
    rate = sample_rate or getattr(function, "sample_rate", 0)
    if not isinstance(rate, int) or rate <= 0:
        torch: Any = sys.modules.get("torch")
        is_module = torch is not None and isinstance(function, torch.nn.Module)
        raise HearevalError(
            f"model {name}",
            got=f"a {'torch.nn.Module' if is_module else 'function'}, and no sample rate",
            expected="the rate of the waves that it takes, in Hz",
            remedy="Give sample_rate=16000, or the rate that it needs.",
        )
    # torch takes seconds to import.
    from heareval.embeddings.adapters.wrapping import wrap_scenes

    return wrap_scenes(function, rate)


@contextlib.contextmanager
def _tell_errors() -> Iterator[None]:
    """Turn what is wrong with a model into the error that users see."""
    try:
        yield
    except SubmissionError as error:
        raise HearevalError(**error.facts) from error


@contextlib.contextmanager
def _leaving_unchanged(model: Any) -> Iterator[None]:
    """Leave a model, the precision of its framework and the environment as they are when the block ends.

    The model may be one that is being trained: it must go on on its device and in its mode.
    """
    variables = {name: os.environ.get(name) for name in SET_VARIABLES}
    torch: Any = sys.modules.get("torch")
    is_torch = torch is not None and isinstance(model, torch.nn.Module)
    modes = [(each, each.training) for each in model.modules()] if is_torch else []
    device = (
        next((each.device for each in (*model.parameters(), *model.buffers())), None) if is_torch else None
    )
    try:
        with keep_rounding(torch) if is_torch else contextlib.nullcontext():
            yield
    finally:
        for module, is_training in modes:
            module.training = is_training
        if device is not None:
            model.to(device)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
