"""Options that several commands share, gathered into the values that heareval.api takes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import click

from heareval.archives.sizes import readable
from heareval.commands.completion import complete_files, complete_tasks
from heareval.commands.console import Command, warn, warn_of_problems
from heareval.commands.gather import Decorator, Seconds, gather
from heareval.commands.grouped import GroupedCommand
from heareval.commands.task_words import check_are_no_models, refuse_tasks, split_names
from heareval.embeddings.embedding_format import DEFAULT_FORMAT, PRECISIONS, EmbeddingFormat
from heareval.embeddings.submission_config import DEVICES, SubmissionArgs
from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.predictions.protocol import (
    DISTANCES,
    FULL_REPORT_SEEDS,
    GRIDS,
    MAX_SEED,
    MAX_SEEDS,
    PROBES,
    PUBLISHED_GRID_POINTS,
    TRAIN_PRECISIONS,
    Distance,
    GridName,
    Probe,
    Protocol,
    TrainPrecision,
    count_seeds,
)
from heareval.spec import DEFAULT_SAMPLE_RATES, EMBEDDING_DTYPES, ENGINES, SAMPLE_RATES
from heareval.tasks.extent import BYTES_PER_HOUR, estimate_hours
from heareval.tasks.registry import GROUPS, select
from heareval.workflow.configuration import read_value
from heareval.workflow.machine import DEFAULT_TIMEOUT_S, Machine, count_cores, parse_gpus

if TYPE_CHECKING:
    from heareval.api import CorpusRequest, Overwrite, RunSettings

# Luigi, numpy and requests take most of a second to import. Modules of commands import what needs them in the
# functions that act, so that `heareval COMMAND --help` and the Tab key answer at once.

# The tasks of a command that is given none.
DEFAULT_TASKS = ("open",)


# --------------------------------------------------------------------------- folders


# Folder of Places -> its option, its key in luigi.cfg, and help.
_FOLDERS = {
    "work": ("--tmp-dir", "tmp_dir", "Downloads and intermediate files.  [_workdir]"),
    "tasks": ("--tasks-dir", "tasks_dir", "Published task folders.  [tasks]"),
    "tars": ("--tar-dir", "tar_dir", "Published tarballs and SHA256SUMS.  [tars]"),
    "embeddings": ("--embeddings-dir", "embeddings_dir", "Embeddings and scores.  [embeddings]"),
}


def _build_places(names: tuple[str, ...], **folders: str | None) -> Places:
    from heareval.api import resolve_places

    chosen: dict[str, Any] = {}
    for name in names:
        _, key, _ = _FOLDERS[name]
        given = folders[key]
        chosen[name] = read_value(key) if given is None else given
    return resolve_places(Places(**chosen), *names)


def places(*names: str) -> Decorator:
    """Return the decorator for the folders that a command uses, which reach it as `places`."""
    rows = [_FOLDERS[name] for name in names]
    options = [
        click.option(option, key, type=click.Path(file_okay=False), help=text) for option, key, text in rows
    ]
    build = functools.partial(_build_places, names)
    return gather("places", build, *options, parameters=[key for _, key, _ in rows])


# --------------------------------------------------------------------------- tasks


def _build_corpus(
    tasks: tuple[str, ...],
    mode: str | None,
    mirror: tuple[str, ...],
    accept_checksums: str | None,
    engine: str,
    on_bad_audio: str,
    from_published: str,
    task_words: tuple[str, ...] | None = None,
) -> CorpusRequest:
    from heareval.api import CorpusRequest

    names = split_names((*(task_words or ()), *tasks))
    if task_words is not None and not names:
        raise click.UsageError(f"Missing task: name one or more, or {list_groups()}.")
    check_are_no_models(names, "" if task_words else "Write models without --tasks.")
    mirrors = mirror or tuple(filter(None, [read_value("mirror")]))
    return CorpusRequest(names, mode, mirrors, accept_checksums or "", engine, on_bad_audio, from_published)


def list_groups() -> str:
    """Return the names of the groups of tasks, for a sentence."""
    *names, last = [f"`{name}`" for name in GROUPS]
    return f"{', '.join(names)} or {last}"


def use_default_tasks(corpus: CorpusRequest, notify: Callable[[str], None]) -> CorpusRequest:
    """Return a request that names tasks; one without gets the open tasks, and a line says so."""
    if corpus.tasks:
        return corpus
    notify(describe_default_tasks(corpus.mode))
    return replace(corpus, tasks=DEFAULT_TASKS)


def describe_default_tasks(mode: str | None) -> str:
    """Return the line that says which tasks are used if none is named, and what all of them would take."""
    chosen, every_task = select(DEFAULT_TASKS, mode), select(("all",), mode)
    names = ", ".join(dict.fromkeys(task.name for task, _ in chosen))
    note = f"note: no --tasks given, so these are the open tasks: {names}"
    if len(every_task) == len(chosen):
        return note
    hours = sum(estimate_hours(task, name) for task, name in every_task)
    size = readable(round(hours * BYTES_PER_HOUR))
    return (
        f"{note}. `--tasks all` stands for {len(every_task)} tasks with about {hours:.0f} hours of sound: "
        f"{size} of clips at 16 kHz, besides their archives"
    )


def corpus(tasks: Decorator) -> Decorator:
    """Return the decorator for the tasks and their data, which reach a command as `corpus`.

    Args:
        tasks: the argument or option `tasks`.
    """
    return gather(
        "corpus",
        _build_corpus,
        tasks,
        click.option("--mode", help="5h, 50h, full, small, demo or all.  [each task's default mode]"),
        click.option(
            "--mirror",
            multiple=True,
            help="Folder or URL to search for archives first, by file name. Repeatable.",
        ),
        click.option(
            "--accept-checksums",
            type=click.Path(dir_okay=False),
            help="File in md5sum format: archives to accept although they are not the published ones.",
        ),
        click.option(
            "--engine", type=click.Choice(list(ENGINES)), default="soxr", show_default=True, help="Resampler."
        ),
        click.option(
            "--on-bad-audio",
            type=click.Choice(["fail", "skip"]),
            default="fail",
            show_default=True,
            help="If a source file holds no usable sound: fail, or skip its clips and list them.",
        ),
        click.option(
            "--from-published",
            default="",
            metavar="FILE_OR_DIR",
            help="Finished 48 kHz HEAR tarball of the task, or a folder or URL that has it, "
            "to use in place of its corpus.",
        ),
    )


tasks_option: Decorator = click.option(
    "--tasks",
    multiple=True,
    shell_complete=complete_tasks,
    metavar="NAMES",
    help=f"Names or TOML files of tasks, separated by commas, or {list_groups()}. Repeatable.  [open]",
)


def tasks_argument(command: Command) -> Command:
    """Give a command tasks as words, or with --tasks as other commands have them."""
    words = click.argument("task_words", nargs=-1, metavar="TASK...", shell_complete=complete_tasks)
    option = click.option(
        "--tasks",
        multiple=True,
        shell_complete=complete_tasks,
        metavar="NAMES",
        help="The same as TASK... Repeatable.",
    )
    return words(option(command))  # type: ignore[no-any-return]


def sample_rates(default: tuple[int, ...] = DEFAULT_SAMPLE_RATES) -> Decorator:
    """Return the decorator for rates in Hz, which reach a command as `sample_rates`.

    Args:
        default: the rates if none is given.
    """

    def build(sample_rates: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(sorted({int(rate) for rate in sample_rates})) or default

    return gather(
        "sample_rates",
        build,
        click.option(
            "--sample-rate",
            "sample_rates",
            type=click.Choice([str(rate) for rate in SAMPLE_RATES]),
            multiple=True,
            help="Rate to write, in Hz. Repeatable.",
        ),
    )


# --------------------------------------------------------------------------- submissions


def _build_submissions(submissions: str | tuple[str, ...], **described: Any) -> SubmissionArgs:
    return SubmissionArgs((submissions,) if isinstance(submissions, str) else submissions, **described)


_DESCRIBING: tuple[Decorator, ...] = (
    click.option("--name", help="Name in tables and of its folder.  [from module, weights and options]"),
    click.option(
        "--source",
        metavar="FOLDER_OR_REQUIREMENT",
        help="What to install into a separate environment: a folder, or a pip requirement.",
    ),
    click.option(
        "--model", "weights", metavar="FILE_OR_URL", help="The model's weights: a file, a folder or a URL."
    ),
    click.option("--sha256", help="SHA-256 of the weights; required for a URL."),
    click.option(
        "--python",
        metavar="VERSION",
        help="Python version of its environment, such as 3.10.  [the current one]",
    ),
    click.option("--requirement", "requirements", multiple=True, help="Further pip requirement. Repeatable."),
    click.option(
        "--device", type=click.Choice(DEVICES), help="Where the model runs.  [auto: a GPU if there is one]"
    ),
    click.option("--model-options", "options", help="Further arguments of load_model, as JSON."),
    click.option(
        "--trust-remote-code",
        is_flag=True,
        default=None,
        help="Run the code that comes with a published model (hf:NAME).",
    ),
)


def _described(argument: Decorator) -> Decorator:
    parameters = [each.name for each in fields(SubmissionArgs)]
    return gather("submissions", _build_submissions, argument, *_DESCRIBING, parameters=parameters)


def _name_submissions(count: int, metavar: str, *, required: bool) -> Decorator:
    argument: Decorator = click.argument(
        "submissions",
        nargs=count,
        required=required,
        metavar=metavar,
        callback=refuse_tasks,
        shell_complete=complete_files,
    )
    return _described(argument)


_METAVAR = "MODULE_OR_FILE"
# One submission, or several, with the options that describe them; they reach a command as `submissions`.
submission = _name_submissions(1, _METAVAR, required=True)
submissions = _name_submissions(-1, f"{_METAVAR}...", required=True)
some_submissions = _name_submissions(-1, f"[{_METAVAR}...]", required=False)
# The same, or tasks: the command tells them apart.
models_or_tasks = _described(
    click.argument("submissions", nargs=-1, metavar=f"{_METAVAR}...|TASK...", shell_complete=complete_tasks)
)


# Folders of embeddings, which reach a command as `folders`.
task_folders: Decorator = click.argument(
    "folders",
    nargs=-1,
    required=True,
    type=click.Path(file_okay=False),
    metavar="TASK_DIR...",
    callback=refuse_tasks,
)


def embedding_format(command: Command) -> Command:
    """Give a command the options for how embeddings are computed and stored, as `embedding_format`."""

    def build(dtype: str, precision: str, chunk_seconds: float) -> EmbeddingFormat:
        return EmbeddingFormat(dtype, precision, chunk_seconds)

    return gather(  # type: ignore[no-any-return]
        "embedding_format",
        build,
        click.option(
            "--dtype",
            type=click.Choice(list(EMBEDDING_DTYPES)),
            default=DEFAULT_FORMAT.dtype,
            show_default=True,
            help="How embeddings are stored: float16 takes half the space and keeps three digits.",
        ),
        click.option(
            "--precision",
            type=click.Choice(list(PRECISIONS)),
            default=DEFAULT_FORMAT.precision,
            show_default=True,
            help="How models compute: tf32 and bf16 are faster on some GPUs, and less exact.",
        ),
        click.option(
            "--chunk-seconds",
            type=Seconds(min=0),
            default=DEFAULT_FORMAT.chunk_s,
            help="Compute timestamp embeddings of longer clips from overlapping chunks of this length, "
            "if memory is short.  [whole clips]",
        ),
    )(command)


any_rate: Decorator = click.option(
    "--any-rate",
    is_flag=True,
    help="Resample the clips for a model at a rate that tasks are not prepared at; named in the results.",
)


limit: Decorator = click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Embed and score at most N clips of each split, for a smoke test; with --probe linear it is quick. "
    "Named in the results, which are kept apart.  [all clips]",
)


# --------------------------------------------------------------------------- predictors


class CommandOf2021(GroupedCommand):
    """A command whose switches also take True or False as the next word, as they did in 2021."""

    def parse_args(self, context: click.Context, words: list[str]) -> list[str]:
        """Parse the words of a command line."""
        options = [each for each in self.params if isinstance(each, click.Option) and each.secondary_opts]
        switches = {each.opts[0]: each.secondary_opts[0] for each in options}
        return super().parse_args(context, replace_booleans(words, switches))


def replace_booleans(words: Sequence[str], switches: Mapping[str, str]) -> list[str]:
    """Return a command line with switches in place of options that have the value True or False.

    Args:
        words: the command line.
        switches: option -> the option that says the opposite.

    >>> switches = {"--shuffle": "--no-shuffle"}
    >>> replace_booleans(["--shuffle", "True", "folder", "--shuffle=false"], switches)
    ['--shuffle', 'folder', '--no-shuffle']
    """
    replaced: list[str] = []
    for i, word in enumerate(words):
        option, _, value = word.partition("=")
        value = value.lower()
        before = words[i - 1] if i else ""
        if before in switches and word.lower() in ("true", "false"):
            replaced[-1] = before if word.lower() == "true" else switches[before]
        elif option in switches and value in ("true", "false"):
            replaced.append(option if value == "true" else switches[option])
        else:
            replaced.append(word)
    return replaced


@dataclass(frozen=True)
class Scoring:
    """How predictors are trained, and how the results are shown.

    Args:
        full_report: whether to write a report on each task.
    """

    protocol: Protocol
    full_report: bool


def _build_scoring(
    grid_points: int,
    grid: GridName,
    shuffle: bool,
    seed: int,
    seeds: int | None,
    report_kind: str,
    probe: Probe,
    deterministic: bool,
    distance: Distance,
    train_precision: TrainPrecision,
) -> Scoring:
    is_full = report_kind == "full"
    protocol = Protocol(
        grid=grid,
        grid_points=grid_points,
        order="shuffled" if shuffle else "fixed",
        seed=seed,
        seeds=count_seeds(seeds, probe, has_reports=is_full),
        deterministic=deterministic,
        probe=probe,
        distance=distance,
        train_precision=train_precision,
    )
    return Scoring(protocol, is_full)


def scoring(command: Command) -> Command:
    """Give a command the options for training predictors and showing their scores, as `scoring`."""
    return gather(  # type: ignore[no-any-return]
        "scoring",
        _build_scoring,
        click.option(
            "--grid-points",
            type=click.IntRange(min=1),
            default=PUBLISHED_GRID_POINTS,
            show_default=True,
            help="Number of settings to try, at most those of the grid (16; fast, faster: 64).",
        ),
        click.option(
            "--grid",
            type=click.Choice(list(GRIDS)),
            default="default",
            show_default=True,
            help="Grid of settings; fast and faster are named in results. They train for at most 10 to 50 "
            "epochs, which may rank models wrongly: for a quick look use --probe linear.",
        ),
        click.option(
            "--shuffle/--no-shuffle",
            default=False,
            help="Shuffle the training data; named in the results.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(min=0, max=MAX_SEED),
            default=0,
            show_default=True,
            help="Seed of the weights and of the grid points drawn.",
        ),
        click.option(
            "--seeds",
            type=click.IntRange(min=1, max=MAX_SEEDS),
            help="Repeat everything with this many seeds, from --seed on; named in the results.  "
            f"[1; with --report full {FULL_REPORT_SEEDS}]",
        ),
        click.option(
            "--report",
            "report_kind",
            type=click.Choice(["none", "full"]),
            default="none",
            show_default=True,
            help="`full`: several seeds (one for a --probe), and a report on every task.",
        ),
        click.option(
            "--probe",
            type=click.Choice(PROBES),
            default="mlp",
            show_default=True,
            help="Predictor: the protocol's network, or a simpler one with separate results. "
            "`linear` gives a quick look.",
        ),
        click.option(
            "--deterministic/--no-deterministic",
            default=True,
            show_default=True,
            help="Equal scores on equal machines.",
        ),
        click.option(
            "--distance",
            type=click.Choice(DISTANCES),
            default="l1",
            show_default=True,
            help="Distance of tasks that are scored by distances alone; named in the results.",
        ),
        click.option(
            "--train-precision",
            type=click.Choice(TRAIN_PRECISIONS),
            default="float32",
            show_default=True,
            help="Precision of products while networks are trained; named in the results. bf16 needs a CPU "
            "with AVX512-BF16 or AMX, or a GPU, and tf32 a GPU.",
        ),
    )(command)


# --------------------------------------------------------------------------- the run


def overwrite(meaning: str, *choices: Overwrite) -> Decorator:
    """Return the decorator for what a command makes again although it is complete.

    Args:
        meaning: what the words make again.
        choices: the words besides `only-missing`.
    """
    return click.option(
        "--overwrite",
        type=click.Choice(["only-missing", *choices]),
        default="only-missing",
        show_default=True,
        help=f"{meaning} What is there stays until the new one is complete.",
    )


def _parse_gpus(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    try:
        return parse_gpus(value)
    except HearevalError as error:
        raise click.BadParameter(f"got {error.got}, expected {error.expected}") from error


gpus: Decorator = click.option(
    "--gpus",
    callback=_parse_gpus,
    help="Number of GPUs (2) or their ids (0,1); `3,` or [3] is the one with id 3, 0 is the CPU. "
    "One model runs on each at a time.  [one GPU, if there is one]",
)
timeout: Decorator = click.option(
    "--timeout",
    type=Seconds(min=1),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    help="Seconds of loading, or without a finished batch, after which a model is stopped.",
)
in_memory: Decorator = click.option(
    "--in-memory/--no-in-memory",
    default=None,
    help="Hold embeddings in memory, or read them from disk when needed; the scores are the same.  "
    "[in memory, if there is room]",
)
train_threads: Decorator = click.option(
    "--train-threads",
    type=click.IntRange(min=1),
    help="Threads of each network in training; as many networks train side by side as there are cores for. "
    "On 2 cores, 1 took 0.7 to 0.9 of the time; more cores were not measured. The number of threads changes "
    "last digits of scores. CPU only.  [all cores, one network at a time]",
)
force: Decorator = click.option("--force", is_flag=True, help="Start although the disk has too little room.")
quiet: Decorator = click.option(
    "--quiet",
    "is_quiet",
    is_flag=True,
    help="Print only what has changed or failed; nothing at all otherwise.",
)
as_json: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _build_settings(
    num_workers: int | None,
    scheduler_url: str | None,
    gpus: tuple[str, ...] = (),
    timeout: float = DEFAULT_TIMEOUT_S,
    in_memory: bool | None = None,
    train_threads: int | None = None,
    scratch_dir: str | None = None,
    is_quiet: bool = False,
) -> RunSettings:
    from heareval.api import RunSettings

    scratch = read_value("scratch_dir") if scratch_dir is None else scratch_dir
    scheduler_url = choose_scheduler(scheduler_url)
    machine = Machine(gpus, timeout, in_memory, train_threads)
    notify = warn_of_problems if is_quiet else warn
    return RunSettings(num_workers or count_cores(), scheduler_url, machine, scratch, notify, is_quiet)


def choose_scheduler(url: str | None) -> str:
    """Return the URL of luigid that was given, else the one in luigi.cfg."""
    return read_value("scheduler_url") if url is None else url


scheduler_url: Decorator = click.option(
    "--scheduler-url",
    help="A luigid that several machines share.  [this process schedules its steps]",
)


def run_settings(*machine: Decorator) -> Decorator:
    """Return the decorator for how a run is carried out, which reaches a command as `settings`.

    Args:
        machine: those of `gpus`, `timeout`, `in_memory`, `train_threads` and `quiet` that matter to the
            command.
    """
    return gather(
        "settings",
        _build_settings,
        *machine,
        click.option(
            "--num-workers",
            type=click.IntRange(min=1),
            help="Worker processes that run side by side.  [one per core]",
        ),
        scheduler_url,
        click.option(
            "--scratch-dir",
            type=click.Path(file_okay=False),
            help="Folder of this machine for temporary files of models and for copies of embeddings that do "
            "not fit into memory.  [TMPDIR, and no copies]",
        ),
    )
