"""Submissions opened for a run: weights fetched, environment made, model described on the right device."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from heareval import progress
from heareval.archives import fetch
from heareval.embeddings.describe import DescribeSettings, FaultyFunctionError
from heareval.embeddings.environment import Environment, find_environment, open_environment
from heareval.embeddings.modules import check_module
from heareval.embeddings.naming import name_module
from heareval.embeddings.opening import find_submission, open_submission
from heareval.embeddings.resample import check_sample_rate
from heareval.embeddings.submission import Model, Submission
from heareval.embeddings.submission_config import SubmissionArgs, SubmissionConfig, list_config_readers
from heareval.embeddings.weights import check_weights
from heareval.errors import HearevalError, file_error
from heareval.formats.embeddings_folder import find_embeddings_manifest
from heareval.layout import Places
from heareval.spec import Download
from heareval.workflow.evaluate import choose_device
from heareval.workflow.machine import Machine, claim_gpu
from heareval.workflow.run_requests import note_environment, note_weights

Notify = Callable[[str], None]


@dataclass(frozen=True)
class PreparedSubmission:
    """A submission whose weights and environment are in place; nothing of it has been imported yet."""

    config: SubmissionConfig
    model: Model
    record: tuple[str, ...]


@dataclass(frozen=True)
class OpenedSubmission:
    """A submission opened for each type of embeddings that a run needs and the submission has.

    Args:
        by_type: `scene` and `event` -> the submission, described with these embeddings.
    """

    by_type: Mapping[str, Submission]

    @property
    def name(self) -> str:
        """Name of its folder."""
        return next(iter(self.by_type.values())).name

    @property
    def sample_rate(self) -> int:
        """Sample rate of the model, in Hz."""
        return next(iter(self.by_type.values())).sample_rate


def prepare_submission(config: SubmissionConfig, places: Places, notify: Notify) -> PreparedSubmission:
    """Fetch the weights of a submission and make its environment, unless they are there.

    Both are noted as asked for, so that `heareval clean` keeps them.
    """
    weights = _fetch_weights(config, places) if "://" in config.weights else config.weights
    model = _describe_config(config, weights)
    # Checked before the environment is made, which takes longer.
    check_module(model)
    check_weights(weights, config.sha256)
    environment = Environment("", ())
    if config.needs_environment:
        environment = open_environment(
            places.environments(),
            **_describe_environment(config, places),
            announce=lambda line: notify(f"{config.name or config.module}: {line}"),
        )
    note_environment(config, Path(environment.python).parent.parent.name, places)
    return PreparedSubmission(config, replace(model, python=environment.python), environment.record)


def _describe_config(config: SubmissionConfig, weights: str) -> Model:
    """Return the model that a user describes, without its environment."""
    return Model(
        config.module_name,
        weights,
        config.options,
        is_installed=bool(config.source),
        device=config.device,
        file=config.file,
        api_object=config.api_object,
    )


def _describe_environment(config: SubmissionConfig, places: Places) -> dict[str, Any]:
    """Return what the environment of a submission is made from."""
    return {
        "source": config.source,
        "python": config.python,
        "requirements": config.requirements,
        # The folders that a run writes may lie inside the submission's source folder.
        "excluded": [Path(folder) for folder in places.folders.values()],
    }


def _place_weights(config: SubmissionConfig, places: Places) -> Path:
    """Return where the weights of a URL are kept."""
    return places.archive(config.sha256, Download(config.weights, config.sha256).file_name)


def _fetch_weights(config: SubmissionConfig, places: Places) -> str:
    """Download the weights of a submission, unless they are there; return the path of the file."""
    target = _place_weights(config, places)
    note_weights(config, places)
    if not target.exists():
        try:
            title = f"weights {target.name}"
            with progress.show_steps(1), progress.report_step(title, "bytes") as report:
                fetch.fetch(Download(config.weights, config.sha256), target, (), report)
        except HearevalError as error:
            error.remedy = "Correct weights or sha256, or download the file yourself and give its path."
            raise
    return str(target)


# --------------------------------------------------------------------------- without loading a model


@dataclass(frozen=True)
class FoundSubmission:
    """What is known of a submission without loading its model.

    Args:
        name: name of its folder, or what the user called it if that is not known yet.
        by_type: `scene` and `event` -> the submission, where its description is kept.
        lacking: `scene` and `event` -> what a run has to do before it knows the submission.
        error: why it can't be opened, in one line; "" if nothing speaks against it.
    """

    name: str
    by_type: Mapping[str, Submission] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


def find_submissions(
    args: SubmissionArgs, embedding_types: Iterable[str], places: Places, *, any_rate: bool = False
) -> list[FoundSubmission]:
    """Return what is known of the submissions of a command; nothing is loaded, fetched or made.

    Args:
        embedding_types: types of embeddings that are needed, `scene` and `event`.
        any_rate: whether models may have rates that tasks are not prepared at.
    """
    found = []
    for word, read_config in zip(args.submissions, list_config_readers(args), strict=True):
        try:
            config = read_config()
            found.append(_find_submission(word, config, list(embedding_types), places, any_rate=any_rate))
        except (HearevalError, OSError) as error:
            found.append(FoundSubmission(word, error=_with_name(word, error)))
    return found


def _find_submission(
    word: str, config: SubmissionConfig, embedding_types: Sequence[str], places: Places, *, any_rate: bool
) -> FoundSubmission:
    def lacks(what: str) -> FoundSubmission:
        return FoundSubmission(config.name or word, lacking=dict.fromkeys(embedding_types, what))

    weights = config.weights
    if "://" in weights:
        place = _place_weights(config, places)
        if not place.exists():
            return lacks(f"fetch the weights {place.name}")
        weights = str(place)
    model, environment = _describe_config(config, weights), Environment("", ())
    check_module(model)
    if config.needs_environment:
        made = find_environment(places.environments(), **_describe_environment(config, places))
        if made is None:
            return lacks("make its environment")
        environment = made
    by_type = {
        kind: submission
        for kind in embedding_types
        if (
            submission := find_submission(
                replace(model, python=environment.python),
                kind,
                _keep_descriptions(places),
                name=config.name,
                sha256=config.sha256,
                record=environment.record,
            )
        )
    }
    for submission in by_type.values():
        check_sample_rate(config.module, submission.sample_rate, any_rate=any_rate)
    name = next((each.name for each in by_type.values()), config.name or word)
    lacking = {
        kind: f"load the model to describe it ({kind})" for kind in embedding_types if kind not in by_type
    }
    return FoundSubmission(name, by_type, lacking)


def _keep_descriptions(places: Places) -> Path:
    """Return the folder of the descriptions of models."""
    return Path(places.work) / "submissions"


# --------------------------------------------------------------------------- opening


def open_prepared(
    prepared: PreparedSubmission, embedding_type: str, places: Places, machine: Machine, *, any_rate: bool
) -> Submission:
    """Return the submission with its fingerprint and sample rate; load the model if it is not known yet.

    Args:
        any_rate: whether the model may have a rate that tasks are not prepared at.
    """
    config = prepared.config
    claim = functools.partial(claim_gpu, machine.gpus)
    opened = open_submission(
        prepared.model,
        embedding_type,
        _keep_descriptions(places),
        name=config.name,
        sha256=config.sha256,
        record=prepared.record,
        settings=DescribeSettings(choose_device(prepared.model, machine), machine.timeout_s, claim),
    )
    check_sample_rate(config.module, opened.sample_rate, any_rate=any_rate)
    return opened


def open_submissions(
    args: SubmissionArgs,
    tasks: Mapping[str, Sequence[str]],
    places: Places,
    machine: Machine,
    notify: Notify,
    *,
    any_rate: bool = False,
) -> tuple[list[OpenedSubmission], list[str]]:
    """Open every submission of a command; one that cannot be opened must not stop the others.

    A submission that has embeddings of one type only is opened for that type.

    Args:
        tasks: type of embeddings -> the tasks that need them.
        notify: receives an error line for each submission that cannot be opened, or not for some tasks.
        any_rate: whether models may have rates that tasks are not prepared at.

    Returns:
        The opened submissions, and the names of the others and of tasks that are left out.

    Raises:
        HearevalError: no submission can be opened.
    """
    opened: dict[str, OpenedSubmission] = {}
    failed: list[str] = []
    for word, read_config in zip(args.submissions, list_config_readers(args), strict=True):
        try:
            prepared = prepare_submission(read_config(), places, notify)
            submission, faults = _open_by_type(prepared, tasks, places, machine, any_rate=any_rate)
            _check_name_is_new(word, submission, opened)
            _check_name_is_free(submission, places)
        except (HearevalError, OSError) as error:
            if len(args.submissions) == 1:
                # The error may be that of any program that was started for the submission.
                if isinstance(error, HearevalError) and word not in str(error):
                    error.what = f"{word}: {error.what}"
                raise
            failed.append(word)
            notify(f"error: {_with_name(word, error)}")
            continue
        opened[submission.name] = submission
        for embedding_type, fault in faults.items():
            left_out = ", ".join(tasks[embedding_type])
            failed.append(f"{word} on {left_out}")
            notify(f"error: {_with_name(word, fault)} Left out: {left_out}.")
    if not opened:
        raise HearevalError(
            "submissions",
            got=f"none of {len(failed)} can be opened: {', '.join(failed)}",
            remedy="The errors above say why.",
        )
    return list(opened.values()), failed


def _open_by_type(
    prepared: PreparedSubmission,
    embedding_types: Iterable[str],
    places: Places,
    machine: Machine,
    *,
    any_rate: bool,
) -> tuple[OpenedSubmission, dict[str, FaultyFunctionError]]:
    """Open a submission for each type of embeddings; return also why it can't be opened for some.

    Raises:
        HearevalError: it can't be opened for any.
    """
    by_type: dict[str, Submission] = {}
    faults: dict[str, FaultyFunctionError] = {}
    for embedding_type in embedding_types:
        try:
            by_type[embedding_type] = open_prepared(
                prepared, embedding_type, places, machine, any_rate=any_rate
            )
        except FaultyFunctionError as fault:
            faults[embedding_type] = fault
    if not by_type:
        raise next(iter(faults.values()))
    return OpenedSubmission(by_type), faults


def _with_name(name: str, error: HearevalError | OSError) -> str:
    text = str(file_error(error) if isinstance(error, OSError) else error)
    return text if name in text else f"{name}: {text}"


def _check_name_is_free(submission: OpenedSubmission, places: Places) -> None:
    """Raise HearevalError if a name that the user chose stands for the embeddings of another module.

    The two may consist of the same files, and then nothing else would tell them apart.
    """
    wanted = next(iter(submission.by_type.values()))
    for folder in sorted((Path(places.embeddings) / submission.name).glob("[!.]*")):
        # A damaged folder is reported by the step that needs it.
        with contextlib.suppress(HearevalError):
            manifest = find_embeddings_manifest(folder)
            recorded = manifest.submission if manifest else {}
            module, api_object = recorded.get("module", wanted.module), recorded.get("api_object", "")
            # A file in the working folder may also be given as the module that it is.
            names = name_module(Model(module, file=recorded.get("file", ""))), name_module(wanted)
            if api_object != wanted.api_object or (module != wanted.module and names[0] != names[1]):
                break
    else:
        return
    raise HearevalError(
        f"name {submission.name}",
        got=f"embeddings of {':'.join(filter(None, (module, api_object)))} under it, in {folder}",
        expected=f"those of {':'.join(filter(None, (wanted.module, wanted.api_object)))}",
        remedy="Choose another --name, or remove that folder.",
    )


def _check_name_is_new(name: str, submission: OpenedSubmission, opened: Container[str]) -> None:
    if submission.name in opened:
        raise HearevalError(
            f"submission {name}",
            got=f"the name {submission.name}, which another submission has",
            expected="a different name",
            remedy="Give it a `name`.",
        )
