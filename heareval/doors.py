"""What the doors share: options, one plain line for every error, and the end of a run."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from heareval.archives import fetch
from heareval.archives.sizes import readable
from heareval.embeddings.embed import DEFAULT_FORMAT, DTYPES, PRECISIONS, EmbeddingFormat
from heareval.errors import HearevalError, about_files
from heareval.layout import Places
from heareval.spec import DEFAULT_SAMPLE_RATES, SAMPLE_RATES, Download
from heareval.tasks import adopt
from heareval.tasks.audio import ENGINES
from heareval.tasks.registry import address, select
from heareval.workflow import pins
from heareval.workflow.corpus import TaskJob
from heareval.workflow.machine import ANY_MACHINE, SILENCE_S, Machine, gpus_of
from heareval.workflow.plan import FileSystem, plan_run
from heareval.workflow.run import Outcome, load_config, run
from heareval.workflow.step import Step

Command = TypeVar("Command", bound=Callable[..., Any])
# The exit code of a wrong command line, as click and most programs have it.
USAGE_EXIT_CODE = 2
# What shells give a program that Ctrl-C has ended.
INTERRUPTED_EXIT_CODE = 130
# And one whose reader has gone.
BROKEN_PIPE_EXIT_CODE = 141
# How many tasks a line names before it only counts them.
NAMED_TASKS = 4


def configured(key: str) -> Callable[[], str]:
    """The value of a key of luigi.cfg's section [heareval], when it is needed."""

    def value() -> str:
        try:
            return str(load_config().get("heareval", key, ""))
        except HearevalError as error:
            raise click.ClickException(str(error)) from error

    return value


def _folder(name: str, key: str, text: str) -> Callable[[Command], Command]:
    return click.option(name, type=click.Path(file_okay=False), default=configured(key), help=text)


tmp_dir = _folder("--tmp-dir", "tmp_dir", "Downloads and everything in between.  [_workdir]")
tasks_dir = _folder("--tasks-dir", "tasks_dir", "Published task folders.  [tasks]")
tar_dir = _folder("--tar-dir", "tar_dir", "Published tarballs and SHA256SUMS.  [tars]")
embeddings_dir = _folder("--embeddings-dir", "embeddings_dir", "Embeddings and scores.  [embeddings]")
mode = click.option("--mode", help="5h, 50h, full, small, demo or all; without it each task's default mode.")
mirror = click.option(
    "--mirror",
    multiple=True,
    help="Folder or URL to look for archives first, by file name. Repeatable.",
)
accept_checksums = click.option(
    "--accept-checksums",
    type=click.Path(dir_okay=False),
    help="File as md5sum writes it: archives admitted although they are not the published ones.",
)
from_published = click.option(
    "--from-published",
    default="",
    metavar="FILE_OR_DIR",
    help="Finished 48 kHz HEAR tarball of the task, or a folder or URL that has it, in place of its corpus.",
)
engine = click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    default="soxr",
    show_default=True,
    help="What resamples.",
)
sample_rate = click.option(
    "--sample-rate",
    "sample_rates",
    type=click.Choice([str(rate) for rate in SAMPLE_RATES]),
    multiple=True,
    help="Rate to write, in Hz. Repeatable.",
)
on_bad_audio = click.option(
    "--on-bad-audio",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="A source file without usable sound: stop, or go on without its clips, which are listed then.",
)
force = click.option("--force", is_flag=True, help="Start although the disk has no room for all of it.")
num_workers = click.option(
    "--num-workers",
    type=click.IntRange(min=1),
    default=lambda: os.cpu_count() or 1,
    help="Processes side by side.  [one per core]",
)
scheduler_url = click.option("--scheduler-url", default="", help="A luigid that several machines share.")
debug = click.option("--debug", is_flag=True, help="Show the traceback of an error.")


class Seconds(click.FloatRange):
    """A finite number of seconds on a command line."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; NaN is in every range that only has ends."""
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return seconds


def _gpus(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    try:
        return gpus_of(value)
    except HearevalError as error:
        raise click.BadParameter(f"got {error.got}, expected {error.expected}") from error


gpus = click.option(
    "--gpus",
    callback=_gpus,
    help="How many GPUs, or which: 2, or 0,1, or 3, for one alone; a model on each at a time. 0 is the CPU.  "
    "[one, if there is one]",
)
timeout = click.option(
    "--timeout",
    type=Seconds(min=1),
    default=SILENCE_S,
    show_default=True,
    help="Seconds of loading, or without a finished batch, after which a model is stopped.",
)


def machine(command: Command) -> Command:
    """What a run may use of the machine, its `gpus` and `timeout`, handed on as one `machine`."""

    @functools.wraps(command)
    def gathered(gpus: tuple[str, ...], timeout: float = SILENCE_S, **others: Any) -> None:
        command(machine=Machine(gpus, timeout), **others)

    return gathered  # type: ignore[return-value]


def form_options(command: Command) -> Command:
    """How embeddings are computed and stored, handed on as one `form`."""

    @click.option(
        "--dtype",
        type=click.Choice(list(DTYPES)),
        default=DEFAULT_FORMAT.dtype,
        show_default=True,
        help="How embeddings are stored: float16 takes half the room, rounded to three digits.",
    )
    @click.option(
        "--precision",
        type=click.Choice(list(PRECISIONS)),
        default=DEFAULT_FORMAT.precision,
        show_default=True,
        help="How models compute: tf32 and bf16 are faster on some GPUs, and rounded.",
    )
    @click.option(
        "--chunk-seconds",
        type=Seconds(min=0),
        default=DEFAULT_FORMAT.chunk_s,
        help="Timestamp embeddings of longer clips from overlapping chunks of this length, where memory is "
        "short.  [in one piece]",
    )
    @functools.wraps(command)
    def gathered(dtype: str, precision: str, chunk_seconds: float, **others: Any) -> None:
        command(form=EmbeddingFormat(dtype, precision, chunk_seconds), **others)

    return gathered  # type: ignore[return-value]


def options(*several: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, shown in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(several):
            command = option(command)
        return command

    return decorate


corpus_options = options(mirror, accept_checksums, engine, on_bad_audio)
gpu_options = options(gpus, machine)
machine_options = options(gpus, timeout, machine)
run_options = options(num_workers, scheduler_url, debug)


def places_of(**folders: str) -> Places:
    """The folders of a run as absolute paths, so that a shared luigid never mixes up two of them."""
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        # The names of clips would be read as others, and tarballs of the same sounds would differ.
        raise HearevalError("names of files", got=encoding, expected="utf-8", remedy="Set PYTHONUTF8=1.")
    return Places(**{name: _absolute(folder) for name, folder in folders.items()})


def _absolute(folder: str) -> str:
    path = str(Path(folder).absolute())
    try:
        path.encode()
    except UnicodeEncodeError:
        got, remedy = "a name that is not UTF-8", "Rename it, or name another folder."
        raise HearevalError(f"folder {path!a}", got=got, expected="UTF-8", remedy=remedy) from None
    return path


def rates_of(given: Sequence[str]) -> tuple[int, ...]:
    """The sample rates of the command line, in Hz, or the four default ones."""
    return tuple(sorted({int(rate) for rate in given})) or DEFAULT_SAMPLE_RATES


def task_jobs(
    names: tuple[str, ...],
    mode_name: str | None,
    *,
    engine_name: str,
    accepted_file: str | None,
    published: str = "",
    on_bad: str = "fail",
) -> list[TaskJob]:
    """The tasks and modes that the words of a command line mean.

    Args:
        published: finished tarball to make them from, or a folder or URL that has theirs; "" = the corpora.
        on_bad: what to do about a source without usable sound, `fail` or `skip`.
    """
    accepted = fetch.read_accepted_checksums(Path(accepted_file)) if accepted_file else {}
    jobs = [
        TaskJob(
            address(task),
            chosen,
            engine_name,
            _accepted_for(task.modes[chosen].downloads, accepted),
            on_bad_audio=on_bad,
        )
        for task, chosen in select(words_of(names), mode_name)
    ]
    return [_from_tarball(job, published) for job in jobs] if published else jobs


def pinned_jobs(
    jobs: list[TaskJob], places: Places, mirrors: tuple[str, ...], *, workers: int, scheduler: str
) -> list[TaskJob]:
    """The jobs with a checksum for every archive; those that none was published of are fetched to find it."""

    def bring(steps: Sequence[Step]) -> None:
        run_steps(steps, places, workers=workers, scheduler=scheduler)

    return pins.pinned(jobs, places, mirrors, bring)


def words_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """The task names of a command line, whether spaces or commas stand between them.

    >>> words_of(("esc50,fsd50k", "open"))
    ('esc50', 'fsd50k', 'open')
    """
    return tuple(filter(None, (word.strip() for name in names for word in name.split(","))))


def _from_tarball(job: TaskJob, source: str) -> TaskJob:
    """The same, from a finished tarball; no archive is fetched, so none is accepted either."""
    tarball = adopt.find_tarball(source, job.folder)
    return replace(job, accepted=(), published=tarball, published_mark=adopt.mark_of(tarball))


def _accepted_for(downloads: Sequence[Download], accepted: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Only what differs from the published sums counts, and only for archives of the task."""
    archives = [file for download in downloads for file in download.files]
    pairs = {(d.file_name, accepted.get(d.file_name, d.checksum)) for d in archives}
    return tuple(sorted(pairs - {(d.file_name, d.checksum) for d in archives}))


def mirrors_of(given: tuple[str, ...]) -> tuple[str, ...]:
    """The mirrors of the command line, or the one of luigi.cfg."""
    return given or tuple(filter(None, [configured("mirror")()]))


def shown(path: str | Path) -> str:
    """A path as people like it: relative if it lies below the working folder."""
    path = Path(path)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def say(text: str) -> None:
    """A line for the user, also where stdout has no letters for all of it."""
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))


def say_end(outcome: Outcome, where: str) -> None:
    """The last line of a run: what it did, how long it took and where things are."""
    noun = "step" if outcome.steps == 1 else "steps"
    done = f"{outcome.steps} {noun} done" if outcome.steps else "nothing to do, everything is there"
    say(f"{done}; {outcome.seconds:.1f} s; {where}")


def check_room(roots: Mapping[TaskJob, Sequence[Step]], places: Places) -> None:
    """Refuse to start what the disks have no room for, as far as that is known.

    Args:
        roots: for each task and mode its last steps.
    """
    for system in plan_run(roots, places).file_systems:
        if not system.fits:
            more = len(system.tasks) - NAMED_TASKS
            tasks = ", ".join(system.tasks[:NAMED_TASKS]) + (f" and {more} more" if more > 0 else "")
            raise HearevalError(
                _folders_of(system),
                got=f"{readable(system.free_bytes)} free",
                expected=f"{system.needed} for {tasks}",
                remedy="Free some, name other folders, fewer tasks or rates, or --force.",
            )


def room_of(system: FileSystem) -> str:
    """The line of a plan that tells whether a file system has room."""
    verdict = "does not fit" if not system.fits else "fits"
    if system.fits and not system.needed.is_whole:
        verdict = "fits as far as known"
    free = readable(system.free_bytes)
    return f"{_folders_of(system)}: {system.needed} needed, {free} free: {verdict}"


def _folders_of(system: FileSystem) -> str:
    *others, last = (shown(folder) for folder in system.folders)
    return f"{', '.join(others)} and {last}" if others else last


def run_steps(
    roots: Sequence[Step],
    places: Places,
    *,
    workers: int,
    scheduler: str,
    machine: Machine = ANY_MACHINE,
    tell: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run the steps and tell what there is; an unsuccessful end has its lines and its exit code."""
    outcome = run(
        roots,
        workers=max(workers, len(machine.gpus)),
        gpus=len(machine.gpus),
        scheduler_url=scheduler,
        log_folder=places.logs(),
    )
    tell()
    if outcome.exit_code:
        for title, explanation in outcome.failures:
            click.echo(f"error: {title}: {explanation}", err=True)
        if not outcome.failures:
            click.echo("error: not everything is done, and no step of this runner failed", err=True)
        click.echo(f"log: {outcome.log}", err=True)
        sys.exit(outcome.exit_code)
    return outcome


def told_in_one_line(command: Command) -> Command:
    """Turn errors that users can mend into one line on stderr, unless `--debug` asks for the traceback."""

    def guarded(**arguments: Any) -> None:
        show_traceback = arguments.pop("debug")
        try:
            command(**arguments)
        except BrokenPipeError:
            # Who read our lines has seen enough; nothing more can be said, not even by Python as it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(BROKEN_PIPE_EXIT_CODE)
        except (HearevalError, OSError) as error:
            if show_traceback:
                raise
            told = about_files(error) if isinstance(error, OSError) else error
            click.echo(f"error: {told}", err=True)
            sys.exit(USAGE_EXIT_CODE)
        except KeyboardInterrupt:
            click.echo("stopped; the same command goes on from here", err=True)
            sys.exit(INTERRUPTED_EXIT_CODE)

    guarded.__name__, guarded.__doc__ = command.__name__, command.__doc__
    return guarded  # type: ignore[return-value]
