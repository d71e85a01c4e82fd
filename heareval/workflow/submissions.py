"""Submissions opened for a run: weights fetched, environment made, model described by a step of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from heareval import progress
from heareval.archives import fetch
from heareval.embeddings.describe import LackingFunctionError, place_description
from heareval.embeddings.environment import Environment, find_environment, open_environment
from heareval.embeddings.modules import check_module, list_package_sources
from heareval.embeddings.naming import name_module, name_submission
from heareval.embeddings.opening import find_submission
from heareval.embeddings.published import pin_options
from heareval.embeddings.resample import check_sample_rate
from heareval.embeddings.submission import Model, Submission
from heareval.embeddings.submission_config import SubmissionArgs, SubmissionConfig, list_config_readers
from heareval.embeddings.weights import check_weights
from heareval.errors import HearevalError, file_error
from heareval.formats.embeddings_folder import find_embeddings_manifest
from heareval.layout import Places
from heareval.spec import Download
from heareval.workflow.describe import Describe, place_descriptions
from heareval.workflow.machine import ANY_MACHINE, Machine
from heareval.workflow.run import Outcome
from heareval.workflow.run_requests import note_environment, note_weights
from heareval.workflow.step_records import now, read_step_records

Notify = Callable[[str], None]
RunSteps = Callable[[Sequence[Describe]], Outcome]
NOTHING_TO_DO = Outcome(0, 0, (), None, 0.0)


@dataclass(frozen=True)
class PreparedSubmission:
    """A submission whose weights and environment are in place; nothing of it has been imported yet.

    Args:
        config: what the user asks for.
        model: what is needed to load its model.
        record: what its environment contains; () for the environment of this process.
        weights_sha256: SHA-256 of the weights, or "".
    """

    config: SubmissionConfig
    model: Model
    record: tuple[str, ...]
    weights_sha256: str

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.config.name or name_submission(self.model, self.weights_sha256)

    def plan_description(self, embedding_type: str, places: Places, machine: Machine) -> Describe:
        """Return the step that describes it for one type of embeddings.

        Raises:
            HearevalError: there is no such module.
        """
        path = place_description(
            self.model,
            embedding_type,
            place_descriptions(places),
            weights_sha256=self.weights_sha256,
            record=self.record,
        )
        return Describe(
            places,
            key=path.stem,
            embedding_type=embedding_type,
            submission_name=self.name,
            model=self.model,
            weights_sha256=self.weights_sha256,
            machine=machine,
        )

    def find_described(self, embedding_type: str, places: Places, *, any_rate: bool) -> Submission | None:
        """Return the submission if it has been described for a type of embeddings; else None.

        Args:
            any_rate: whether the model may have a rate that tasks are not prepared at.

        Raises:
            LackingFunctionError: its model says that it has no such embeddings.
            HearevalError: the weights, the sample rate or the file of the description are wrong.
        """
        found = find_submission(
            self.model,
            embedding_type,
            place_descriptions(places),
            name=self.config.name,
            sha256=self.config.sha256,
            record=self.record,
        )
        if found:
            check_sample_rate(self.config.module, found.sample_rate, any_rate=any_rate)
        return found


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
    weights_sha256 = check_weights(weights, config.sha256)
    environment = Environment("", ())
    if config.needs_environment:
        environment = open_environment(
            places.environments(),
            **_describe_environment(config, places),
            announce=lambda line: notify(f"{config.name or config.module}: {line}"),
        )
    note_environment(config, Path(environment.python).parent.parent.name, places)
    model = replace(model, python=environment.python)
    return PreparedSubmission(config, model, environment.record, weights_sha256)


def _describe_config(config: SubmissionConfig, weights: str) -> Model:
    """Return the model that a user describes, without its environment."""
    return Model(
        config.module_name,
        weights,
        pin_options(config.module, config.options),
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
        descriptions: `scene` and `event` -> the step that describes it, where it is not described yet.
        lacking: what a run has to do before it can describe the submission; "" if nothing.
        faults: `scene` and `event` -> why it has no such embeddings, in one line.
        error: why it can't be opened, in one line; "" if nothing speaks against it.
        prepared: the submission, if its weights and environment are in place.
    """

    name: str
    by_type: Mapping[str, Submission] = field(default_factory=dict)
    descriptions: Mapping[str, Describe] = field(default_factory=dict)
    lacking: str = ""
    faults: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    prepared: PreparedSubmission | None = None


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
    weights = config.weights
    if "://" in weights:
        place = _place_weights(config, places)
        if not place.exists():
            return FoundSubmission(config.name or word, lacking=f"fetch the weights {place.name}")
        weights = str(place)
    model, environment = _describe_config(config, weights), Environment("", ())
    check_module(model)
    if config.needs_environment:
        made = find_environment(places.environments(), **_describe_environment(config, places))
        if made is None:
            return FoundSubmission(config.name or word, lacking="make its environment")
        environment = made
    model = replace(model, python=environment.python)
    prepared = PreparedSubmission(config, model, environment.record, check_weights(weights, config.sha256))
    by_type: dict[str, Submission] = {}
    descriptions: dict[str, Describe] = {}
    faults: dict[str, str] = {}
    for kind in embedding_types:
        try:
            if found := prepared.find_described(kind, places, any_rate=any_rate):
                by_type[kind] = found
            else:
                descriptions[kind] = prepared.plan_description(kind, places, ANY_MACHINE)
        except LackingFunctionError as fault:
            faults[kind] = _with_name(word, fault)
    return FoundSubmission(prepared.name, by_type, descriptions, faults=faults, prepared=prepared)


# --------------------------------------------------------------------------- opening


@dataclass(frozen=True)
class Opening:
    """The submissions of a command, as far as they could be opened.

    Args:
        opened: the opened submissions.
        failed: names of the others, and of tasks that are left out.
        outcome: how the run that described models ended; 0 unless that run ended too early.
    """

    opened: tuple[OpenedSubmission, ...]
    failed: tuple[str, ...]
    outcome: Outcome


def open_submissions(
    args: SubmissionArgs,
    tasks: Mapping[str, Sequence[str]],
    places: Places,
    machine: Machine,
    notify: Notify,
    run_steps: RunSteps,
    *,
    any_rate: bool = False,
) -> Opening:
    """Open every submission of a command; one that cannot be opened must not stop the others.

    A submission that has embeddings of one type only is opened for that type. Models that nobody knows yet
    are loaded by steps, which a luigid gives to one machine each.

    Args:
        tasks: type of embeddings -> the tasks that need them.
        notify: receives an error line for each submission that cannot be opened, or not for some tasks.
        run_steps: runs steps that describe models.
        any_rate: whether models may have rates that tasks are not prepared at.

    Raises:
        HearevalError: no submission can be opened.
    """
    prepared: dict[str, PreparedSubmission] = {}
    failed: dict[str, list[str]] = {word: [] for word in args.submissions}
    steps: dict[str, Describe] = {}

    def fail(word: str, error: HearevalError | OSError) -> None:
        if len(args.submissions) == 1:
            raise _naming(word, error)
        failed[word].append(word)
        notify(f"error: {_with_name(word, error)}")

    for word, read_config in zip(args.submissions, list_config_readers(args), strict=True):
        try:
            submission = prepare_submission(read_config(), places, notify)
            _check_name_is_new(word, submission, prepared.values())
            _check_name_is_free(submission, places)
            planned = [submission.plan_description(kind, places, machine) for kind in tasks]
            missing = [step for step in planned if not step.complete()]
        except (HearevalError, OSError) as error:
            fail(word, error)
            continue
        prepared[word] = submission
        # Two submissions may be the same model under two names.
        steps |= {step.task_id: step for step in missing if step.task_id not in steps}
    began = now()
    outcome = run_steps(list(steps.values())) if steps else NOTHING_TO_DO
    errors = _find_errors(steps.values(), outcome, places, began)
    is_early = bool(outcome.exit_code) and any(
        not step.complete() and step.task_id not in errors for step in steps.values()
    )
    opened: list[OpenedSubmission] = []
    for word, submission in prepared.items():
        try:
            by_type, faults = _open_by_type(submission, tasks, places, errors, any_rate=any_rate)
            if not by_type and not is_early:
                raise next(iter(faults.values()))
        except (HearevalError, OSError) as error:
            fail(word, error)
            continue
        if by_type:
            opened.append(OpenedSubmission(by_type))
        for embedding_type, fault in ({} if is_early else faults).items():
            left_out = ", ".join(tasks[embedding_type])
            failed[word].append(f"{word} on {left_out}")
            notify(f"error: {_with_name(word, fault)} Left out: {left_out}.")
    names = tuple(name for each in failed.values() for name in each)
    # What failed has been told; what was described is not counted, as it is nothing that was asked for.
    told = (
        replace(outcome, steps=0, failures=())
        if is_early
        else replace(NOTHING_TO_DO, seconds=outcome.seconds)
    )
    if not opened and not is_early:
        raise _none_opened(names)
    return Opening(tuple(opened), names, told)


def check_any_is_there(args: SubmissionArgs, notify: Notify) -> None:
    """Raise HearevalError if no submission can be opened, because of its description, module or weights.

    It is called before anything is downloaded or made. If one of several submissions is wrong, the others are
    evaluated, and `open_submissions` reports it.

    Args:
        notify: receives an error line for each of several submissions.
    """
    errors: dict[str, HearevalError | OSError] = {}
    for word, read_config in zip(args.submissions, list_config_readers(args), strict=True):
        try:
            config = read_config()
            model = _describe_config(config, "")
            check_module(model)
            if "://" not in config.weights:
                check_weights(config.weights)
            if not config.needs_environment:
                list_package_sources(model)
        except (HearevalError, OSError) as error:
            errors[word] = error
    if not args.submissions:
        raise HearevalError("submissions", got="none", expected="at least one model")
    if len(errors) < len(args.submissions):
        return
    if len(errors) == 1:
        raise _naming(*errors.popitem())
    for word, fault in errors.items():
        notify(f"error: {_with_name(word, fault)}")
    raise _none_opened(errors)


def _naming(word: str, error: HearevalError | OSError) -> HearevalError | OSError:
    """Return the error of the only submission, which it names.

    It may be that of any program that was started for the submission.
    """
    if isinstance(error, HearevalError) and word not in str(error):
        error.what = f"{word}: {error.what}"
    return error


def _none_opened(names: Collection[str]) -> HearevalError:
    return HearevalError(
        "submissions",
        got=f"none of {len(names)} can be opened: {', '.join(names)}",
        remedy="The errors above say why.",
    )


def _find_errors(
    steps: Iterable[Describe], outcome: Outcome, places: Places, began: str
) -> dict[str, HearevalError]:
    """Return the errors of the steps that failed in this run, here or on another machine, by their ids.

    Args:
        steps: the steps of the run.
        outcome: how it ended.
        began: when it began; a record of an earlier failure says nothing about this run.
    """
    here = dict(outcome.failures)
    elsewhere = {
        each.key: f"{each.error} (on {each.host})"
        for each in read_step_records(places.step_records()).failed
        if each.last >= began
    }
    errors = {}
    for step in steps:
        if not step.complete() and (error := here.get(step.title) or elsewhere.get(step.record_key)):
            errors[step.task_id] = HearevalError(error)
    return errors


def _open_by_type(
    prepared: PreparedSubmission,
    embedding_types: Iterable[str],
    places: Places,
    errors: Mapping[str, HearevalError],
    *,
    any_rate: bool,
) -> tuple[dict[str, Submission], dict[str, HearevalError]]:
    """Return the submission for each type of embeddings, and why it can't be opened for some.

    Args:
        errors: the errors of steps that did not describe it, by their ids.
    """
    by_type: dict[str, Submission] = {}
    faults: dict[str, HearevalError] = {}
    for embedding_type in embedding_types:
        step = prepared.plan_description(embedding_type, places, ANY_MACHINE)
        if step.task_id in errors:
            faults[embedding_type] = errors[step.task_id]
            continue
        try:
            if found := prepared.find_described(embedding_type, places, any_rate=any_rate):
                by_type[embedding_type] = found
            else:
                faults[embedding_type] = HearevalError(
                    f"submission {prepared.name}", got="a change after it was described", remedy="Run again."
                )
        except LackingFunctionError as fault:
            faults[embedding_type] = fault
    return by_type, faults


def _with_name(name: str, error: HearevalError | OSError) -> str:
    text = str(file_error(error) if isinstance(error, OSError) else error)
    return text if name in text else f"{name}: {text}"


def _check_name_is_free(submission: PreparedSubmission, places: Places) -> None:
    """Raise HearevalError if a name that the user chose stands for the embeddings of another module.

    The two may consist of the same files, and then nothing else would tell them apart.
    """
    wanted = submission.model
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


def _check_name_is_new(
    word: str, submission: PreparedSubmission, others: Iterable[PreparedSubmission]
) -> None:
    if submission.name in [other.name for other in others]:
        raise HearevalError(
            f"submission {word}",
            got=f"the name {submission.name}, which another submission has",
            expected="a different name",
            remedy="Give it a `name`.",
        )
