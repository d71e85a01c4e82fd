"""What the doors share that take submissions: their options, and how they are opened."""

from __future__ import annotations

import functools
import sys
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import click

from heareval import doors, progress
from heareval.archives import fetch
from heareval.doors import Command
from heareval.embeddings.describe import DescribeSettings
from heareval.embeddings.environment import Environment, open_environment
from heareval.embeddings.opening import open_submission
from heareval.embeddings.submission import Model, Submission
from heareval.embeddings.submission_config import (
    DEVICES,
    SUFFIX,
    SubmissionArgs,
    SubmissionConfig,
    list_config_readers,
)
from heareval.embeddings.weights import check_weights
from heareval.errors import HearevalError, about_files
from heareval.layout import Places
from heareval.spec import Download
from heareval.workflow.evaluate import device_of
from heareval.workflow.machine import Machine, claimed

describing = doors.options(
    click.option("--name", help="Name in tables and of its folder.  [made of module, weights and options]"),
    click.option(
        "--source",
        metavar="FOLDER_OR_REQUIREMENT",
        help="What to install into an environment of its own: a folder, or what pip takes.",
    ),
    click.option(
        "--model", "weights", metavar="FILE_OR_URL", help="The model's weights: a file, a folder or a URL."
    ),
    click.option("--sha256", help="SHA-256 of the weights; a URL needs it."),
    click.option("--python", metavar="VERSION", help="Version of its Python, as 3.10.  [the current one]"),
    click.option(
        "--requirement", "requirements", multiple=True, help="What pip installs besides. Repeatable."
    ),
    click.option(
        "--device", type=click.Choice(DEVICES), help="Where it runs.  [auto: a GPU if there is one]"
    ),
    click.option("--model-options", "options", help="Further arguments of load_model, as JSON."),
)


def submission(command: Command) -> Command:
    """Give a command one submission and the options that describe it, which come to it as `words`."""
    argument = click.argument("submissions", nargs=1, metavar=f"MODULE_OR_{SUFFIX[1:].upper()}")
    return argument(describing(_handed_over(command)))


def submissions(command: Command) -> Command:
    """The same for one or several."""
    words = f"MODULE_OR_{SUFFIX[1:].upper()}..."
    argument = click.argument("submissions", nargs=-1, required=True, metavar=words)
    return argument(describing(_handed_over(command)))


def _handed_over(command: Command) -> Command:
    """Puts what describes submissions into one value."""
    names = [name for name in SubmissionArgs.__dataclass_fields__ if name != "submissions"]

    @functools.wraps(command)
    def handing_over(*, submissions: str | tuple[str, ...], **arguments: Any) -> None:
        several = (submissions,) if isinstance(submissions, str) else submissions
        words = SubmissionArgs(several, **{name: arguments.pop(name) for name in names})
        command(words=words, **arguments)

    return handing_over  # type: ignore[return-value]


@dataclass(frozen=True)
class Ready:
    """A submission whose weights and environment are there."""

    asked: SubmissionConfig
    model: Model
    record: tuple[str, ...]


def made_ready(asked: SubmissionConfig, places: Places) -> Ready:
    """Fetch the weights of a submission and make its environment, unless they are there."""
    weights = _fetched(asked, places) if "://" in asked.weights else asked.weights
    # Before the environment, which takes longer.
    check_weights(weights, asked.sha256)
    environment = Environment("", ())
    if asked.needs_environment:
        environment = open_environment(
            places.environments(),
            source=asked.source,
            python=asked.python,
            requirements=asked.requirements,
            # What a run writes may lie in the folder of the submission.
            excluded=[Path(folder) for folder in astuple(places)],
            announce=lambda line: click.echo(f"{asked.name or asked.module}: {line}", err=True),
        )
    model = Model(
        asked.module,
        weights,
        asked.options,
        python=environment.python,
        is_installed=bool(asked.source),
        device=asked.device,
    )
    return Ready(asked, model, environment.record)


def _fetched(asked: SubmissionConfig, places: Places) -> str:
    """The file that was fetched from the URL of a submission's weights."""
    download = Download(asked.weights, asked.sha256)
    target = places.archive(asked.sha256, download.file_name)
    if not target.exists():
        try:
            with progress.showing(1), progress.step(f"weights {download.file_name}") as report:
                fetch.fetch(download, target, (), report)
        except HearevalError as error:
            error.remedy = "Correct weights or sha256, or fetch the file yourself and name its path."
            raise
    return str(target)


def opened(ready: Ready, places: Places, machine: Machine) -> Submission:
    """The submission, with its fingerprint and sample rate."""
    asked = ready.asked
    claim = functools.partial(claimed, machine.gpus)
    return open_submission(
        ready.model,
        Path(places.work) / "submissions",
        name=asked.name,
        sha256=asked.sha256,
        record=ready.record,
        settings=DescribeSettings(device_of(ready.model, machine), machine.silence_s, claim),
    )


def opened_one(words: SubmissionArgs, places: Places, machine: Machine) -> Submission:
    """The only submission of a command line."""
    return opened(ready_one(words, places), places, machine)


def ready_one(words: SubmissionArgs, places: Places) -> Ready:
    """The same before it is loaded for the first time."""
    (read,) = list_config_readers(words)
    return made_ready(read(), places)


def opened_all(words: SubmissionArgs, places: Places, machine: Machine) -> tuple[list[Submission], list[str]]:
    """The submissions that can be opened, and the words that mean the others, each told in one line.

    Ends the program if there are none.
    """
    if len(words.submissions) == 1:
        return [opened_one(words, places, machine)], []
    found: dict[str, Submission] = {}
    failed = []
    for word, read in zip(words.submissions, list_config_readers(words), strict=True):
        try:
            submission = opened(made_ready(read(), places), places, machine)
            _check_is_new(word, submission, found)
        except (HearevalError, OSError) as error:
            told = about_files(error) if isinstance(error, OSError) else error
            click.echo(f"error: {_naming(word, told)}", err=True)
            failed.append(word)
        else:
            found[submission.name] = submission
    if not found:
        sys.exit(doors.USAGE_EXIT_CODE)
    return list(found.values()), failed


def _naming(word: str, error: HearevalError) -> str:
    return str(error) if word in str(error) else f"{word}: {error}"


def _check_is_new(word: str, submission: Submission, found: dict[str, Submission]) -> None:
    if submission.name in found:
        raise HearevalError(
            f"submission {word}",
            got=f"the name {submission.name}, which another one has",
            expected="a name of its own",
            remedy="Give it a `name`.",
        )
