"""A run as a file: models, tasks and the options of `heareval evaluate`, in TOML."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from heareval.embeddings.embedding_format import DEFAULT_FORMAT, PRECISIONS, EmbeddingFormat
from heareval.embeddings.published import is_published
from heareval.embeddings.submission_config import (
    DEVICES,
    KEY_RULES,
    MODELS,
    PYTHON_SUFFIX,
    SUFFIX,
    SubmissionArgs,
    address_model,
    read_config,
    read_toml,
    split_module,
)
from heareval.errors import HearevalError, unknown_name
from heareval.formats.fields import shorten
from heareval.layout import Places
from heareval.predictions.protocol import (
    DISTANCES,
    GRIDS,
    MAX_SEED,
    MAX_SEEDS,
    PROBES,
    PUBLISHED_GRID_POINTS,
    TRAIN_PRECISIONS,
    Protocol,
    count_seeds,
)
from heareval.spec import EMBEDDING_DTYPES, ENGINES, SAMPLE_RATES
from heareval.workflow.configuration import read_value
from heareval.workflow.jobs import ON_BAD_AUDIO, CorpusRequest
from heareval.workflow.machine import (
    DEFAULT_TIMEOUT_S,
    Machine,
    count_cores,
    is_seconds,
    is_whole,
    parse_gpus,
)
from heareval.workflow.overwriting import Overwrite
from heareval.workflow.requests import EvaluationRequest, RunSettings, notify_stderr

# Returns whether a value is right.
Check = Callable[[object], bool]
Rule = tuple[Check, str]


def _are(value: object, is_one: Check) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_one, value))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_filled(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _texts(example: str) -> Rule:
    return lambda value: _are(value, _is_filled), f"a list such as {example}"


def _whole(least: int) -> Rule:
    return lambda value: is_whole(value, least), f"a whole number of at least {least}"


def _range(least: int, most: int) -> Rule:
    return lambda value: is_whole(value, least, most), f"a whole number from {least} to {most}"


def _seconds(least: float) -> Rule:
    return lambda value: is_seconds(value, least), f"seconds, at least {least:g}"


def _choice(known: Collection[str]) -> Rule:
    return lambda value: value in known, f"one of {', '.join(known)}, in quotes"


_TEXT: Rule = (_is_text, "a text in quotes")
_FILLED: Rule = (_is_filled, "a text in quotes that is not empty")
_FOLDER: Rule = (_is_filled, 'a folder in quotes, such as "." for that of this file')
_FLAG: Rule = (lambda value: isinstance(value, bool), "true or false")
# Option of `evaluate`, without its dashes -> a function that returns whether a value is right, and what the
# value should be.
OPTIONS: Mapping[str, Rule] = {
    "tasks": _texts('["esc50", "speech"]'),
    "mode": (_is_filled, "the name of a mode in quotes"),
    "mirror": _texts('["archives", "https://HOST/FOLDER"]'),
    "accept-checksums": _FILLED,
    "engine": _choice(tuple(ENGINES)),
    "on-bad-audio": _choice(ON_BAD_AUDIO),
    "from-published": _FILLED,
    "sample-rate": (
        lambda value: _are(value, lambda rate: type(rate) is int and rate in SAMPLE_RATES),
        f"a list of some of {', '.join(map(str, SAMPLE_RATES))}",
    ),
    "tmp-dir": _FOLDER,
    "tasks-dir": _FOLDER,
    "embeddings-dir": _FOLDER,
    "device": _choice(DEVICES),
    "any-rate": _FLAG,
    "dtype": _choice(EMBEDDING_DTYPES),
    "precision": _choice(PRECISIONS),
    "chunk-seconds": _seconds(0),
    "limit": _whole(1),
    "overwrite": _choice(get_args(Overwrite)),
    "grid-points": _whole(1),
    "grid": _choice(tuple(GRIDS)),
    "shuffle": _FLAG,
    "seed": _range(0, MAX_SEED),
    "seeds": _range(1, MAX_SEEDS),
    "report": _choice(("none", "full")),
    "probe": _choice(PROBES),
    "train-precision": _choice(TRAIN_PRECISIONS),
    "deterministic": _FLAG,
    "distance": _choice(DISTANCES),
    "force": _FLAG,
    "gpus": (lambda value: is_whole(value, 0) or _is_filled(value), 'a number of GPUs, or their ids: "0,1"'),
    "timeout": _seconds(1),
    "in-memory": _FLAG,
    "train-threads": _whole(1),
    "quiet": _FLAG,
    "num-workers": _whole(1),
    "scheduler-url": _TEXT,
    "scratch-dir": _TEXT,
}
# Options whose values are paths, and those whose values may also be URLs.
PATHS = ("accept-checksums", "tmp-dir", "tasks-dir", "embeddings-dir", "scratch-dir")
PATHS_OR_URLS = ("mirror", "from-published")
# What a model is described by is said in its own table, except for the device, which may be that of all.
_OF_A_MODEL = KEY_RULES.keys() - OPTIONS.keys()


@dataclass(frozen=True)
class RunFile:
    """The content of the file of a run, checked; whether its files exist has not been checked.

    Args:
        file: the file.
        models: the models, as words of a command line.
        options: options of `evaluate`, without dashes, and their values. Paths are relative to the working
            folder, lists are tuples, and gpus is text.
    """

    file: Path
    models: tuple[str, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A run, as a function takes it.

    Args:
        request: models, tasks and protocol.
        places: the folders.
        settings: how the run is carried out.
        force: whether to start although a disk seems to have too little room.
        overwrite: what is made again although it is complete.
        has_reports: whether to write a report on each task.
    """

    request: EvaluationRequest
    places: Places
    settings: RunSettings
    force: bool
    overwrite: Overwrite
    has_reports: bool


def is_run_file(word: str) -> bool:
    """Return whether a word names the file of a run: TOML with `models`, or with options and no `module`.

    >>> is_run_file("my_model.py"), is_run_file("no_such_file.toml")
    (False, False)
    """
    if not word.endswith(SUFFIX) or not Path(word).is_file():
        return False
    try:
        keys = read_toml(Path(word)).keys()
    except HearevalError:
        # Whoever reads it as a model says what is wrong with it.
        return False
    return MODELS in keys or ("module" not in keys and bool(keys & OPTIONS.keys() - KEY_RULES.keys()))


def read_run_file(file: Path) -> RunFile:
    """Return the content of the file of a run.

    Raises:
        HearevalError: it is not TOML, a key is unknown, or a value is wrong.

    Example: `read_run_file(Path("run.toml")).options["tasks"]`
    """
    values = read_toml(file)
    for key, value in values.items():
        if key in _OF_A_MODEL:
            raise HearevalError(
                f"{file}: {key}",
                got="what describes a model",
                expected=f"{MODELS} and options of `evaluate`",
                remedy=f"Write it into a table of the model: [[{MODELS}]].",
            )
        if key != MODELS and key not in OPTIONS:
            raise unknown_name(f"key in {file}", key, [MODELS, *OPTIONS])
        if key != MODELS and not OPTIONS[key][0](value):
            raise HearevalError(f"{file}: {key}", got=shorten(value), expected=OPTIONS[key][1])
    models = values.pop(MODELS, None)
    if not isinstance(models, list) or not models:
        raise HearevalError(
            f"{file}: {MODELS}",
            got=shorten(models) if models is not None else "nothing",
            expected=f'a list of models, such as ["my_model", "theirs.toml"], or tables [[{MODELS}]]',
        )
    words = tuple(_name_model(file, number, model) for number, model in enumerate(models, 1))
    return RunFile(file, words, {key: _resolve(key, value, file.parent) for key, value in values.items()})


def _name_model(file: Path, number: int, model: object) -> str:
    """Return the word of a model of a run: its own, or where it is described if that depends on the place."""
    if isinstance(model, dict):
        # What is wrong in the file itself must not cost the time that its other models take.
        read_config(address_model(file, number), {})
        return address_model(file, number)
    if not isinstance(model, str) or not model:
        raise HearevalError(
            f"{file}: model {number}",
            got=shorten(model),
            expected="a module, a file or a table with `module`",
        )
    if model.endswith(SUFFIX):
        return _place(model, file.parent)
    has_path = is_published(model) or split_module(model)[0].endswith(PYTHON_SUFFIX)
    return address_model(file, number) if has_path and file.parent != Path() else model


def _resolve(key: str, value: Any, folder: Path) -> Any:
    """Return the value of an option with paths relative to the working folder instead of that of the file."""
    if key == "gpus":
        return str(value)
    if key == "tasks":
        return tuple(_place(name, folder) if name.endswith(SUFFIX) else name for name in value)
    if key in PATHS or key in PATHS_OR_URLS:
        # An empty scratch-dir means none.
        several = [each if not each or "://" in each else _place(each, folder) for each in _list(value)]
        return tuple(several) if isinstance(value, list) else several[0]
    return tuple(value) if isinstance(value, list) else value


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _place(path: str, folder: Path) -> str:
    """Return a path that is relative to a folder as one that is relative to the working folder."""
    return str(folder / Path(path).expanduser())


def read_run(file: Path) -> Run:
    """Return the run of a file, as `heareval evaluate` would carry it out; luigi.cfg holds here as well.

    Raises:
        HearevalError: the file is wrong.

    Example: `read_run(Path("run.toml")).request.corpus.tasks`
    """
    run_file = read_run_file(file)
    given = run_file.options

    def choose(key: str, cfg_key: str) -> str:
        return str(given[key]) if key in given else read_value(cfg_key)

    has_reports, probe = given.get("report") == "full", given.get("probe", "mlp")
    protocol = Protocol(
        grid=given.get("grid", "default"),
        grid_points=given.get("grid-points", PUBLISHED_GRID_POINTS),
        order="shuffled" if given.get("shuffle") else "fixed",
        seed=given.get("seed", 0),
        seeds=count_seeds(given.get("seeds"), probe, has_reports=has_reports),
        deterministic=given.get("deterministic", True),
        probe=probe,
        distance=given.get("distance", "l1"),
        limit=given.get("limit"),
        train_precision=given.get("train-precision", "float32"),
    )
    corpus = CorpusRequest(
        given.get("tasks", ("open",)),
        given.get("mode"),
        given.get("mirror") or tuple(filter(None, [read_value("mirror")])),
        given.get("accept-checksums", ""),
        given.get("engine", ENGINES[0]),
        given.get("on-bad-audio", ON_BAD_AUDIO[0]),
        given.get("from-published", ""),
    )
    request = EvaluationRequest(
        SubmissionArgs(run_file.models, device=given.get("device")),
        corpus,
        EmbeddingFormat(
            given.get("dtype", DEFAULT_FORMAT.dtype),
            given.get("precision", DEFAULT_FORMAT.precision),
            given.get("chunk-seconds", DEFAULT_FORMAT.chunk_s),
        ),
        protocol,
        given.get("any-rate", False),
        tuple(sorted(given.get("sample-rate", ()))),
    )
    machine = Machine(
        parse_gpus(given.get("gpus")),
        given.get("timeout", DEFAULT_TIMEOUT_S),
        given.get("in-memory"),
        given.get("train-threads"),
    )
    settings = RunSettings(
        given.get("num-workers") or count_cores(),
        choose("scheduler-url", "scheduler_url"),
        machine,
        choose("scratch-dir", "scratch_dir"),
        notify_stderr,
        given.get("quiet", False),
    )
    places = Places(
        choose("tmp-dir", "tmp_dir"),
        choose("tasks-dir", "tasks_dir"),
        embeddings=choose("embeddings-dir", "embeddings_dir"),
    )
    overwrite = given.get("overwrite", "only-missing")
    return Run(request, places, settings, given.get("force", False), overwrite, has_reports)
