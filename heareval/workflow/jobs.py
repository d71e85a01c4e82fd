"""From the tasks that a user asks for to jobs: tasks and modes, with all that decides their clips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heareval import layout, progress
from heareval.archives import fetch
from heareval.errors import HearevalError, unknown_name
from heareval.layout import Places
from heareval.spec import ENGINES, Download, TaskSpec
from heareval.tasks import adopt, demo
from heareval.tasks.own.task import get_sounds
from heareval.tasks.registry import address, select
from heareval.workflow.corpus import TaskJob

# What to do with a clip whose source file holds no usable audio.
ON_BAD_AUDIO = ("fail", "skip")


@dataclass(frozen=True)
class CorpusRequest:
    """Which tasks to prepare, and from which data.

    Args:
        tasks: names of tasks and TOML files of own tasks, or the groups `open`, `all`, `pairwise` and
            `everything`.
        mode: `5h`, `50h`, `full`, `small`, `demo`, or `all` for every published mode; None means each task's
            default mode.
        mirrors: folders and URLs to search for archives first, by file name.
        accept_checksums: file in md5sum format; its archives are accepted although they are not the published
            ones.
        engine: `soxr` or `ffmpeg`, which resamples.
        on_bad_audio: `fail`, or `skip` to leave out clips whose source file holds no usable sound.
        from_published: finished 48 kHz tarball, or a folder or URL that has it, used in place of the corpus.

    >>> CorpusRequest(("esc50", "open"), mode="small").engine
    'soxr'
    """

    tasks: tuple[str, ...]
    mode: str | None = None
    mirrors: tuple[str, ...] = ()
    accept_checksums: str = ""
    engine: str = "soxr"
    on_bad_audio: str = "fail"
    from_published: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.tasks, str):
            raise HearevalError("tasks of a request", got=repr(self.tasks), expected="a tuple of names")
        if self.mode == "":
            raise HearevalError(
                "mode of a request",
                got="''",
                expected="the name of a mode, or None for the default of each task",
            )
        for kind, name, known in (
            ("engine", self.engine, ENGINES),
            ("on_bad_audio", self.on_bad_audio, ON_BAD_AUDIO),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)


def find_jobs(request: CorpusRequest) -> list[TaskJob]:
    """Return a job for every task and mode of a request.

    Raises:
        HearevalError: an unknown task or mode, or no tarball of a task in `from_published`.
    """
    accepted = _read_accepted(request.accept_checksums)
    selected = select(request.tasks, request.mode)
    for task, _ in selected:
        check_own_metrics(task)
    jobs = [
        TaskJob(
            address(task),
            mode,
            request.engine,
            _accepted_for(task.modes[mode].downloads, accepted),
            on_bad_audio=request.on_bad_audio,
        )
        for task, mode in selected
    ]
    return [_from_tarball(job, request.from_published) for job in jobs] if request.from_published else jobs


def check_own_metrics(task: TaskSpec) -> None:
    """Raise HearevalError if an own task names a metric that does not score tasks of its kind.

    It is checked here because rooms do not import each other, and before the task is prepared.
    """
    sounds = get_sounds(task)
    if not sounds:
        return
    # scipy takes a while to import.
    from heareval.predictions.metrics import METRICS
    from heareval.predictions.pairwise_metrics import METRICS_OF_RELATION

    of_kind = {name: metric for name, metric in METRICS.items() if metric.kind == task.embedding_type}
    known = METRICS_OF_RELATION[type(sounds.relation)] if sounds.relation is not None else of_kind
    for name in task.metrics:
        if name not in known:
            raise unknown_name(f"metric in {sounds.file}", name, known)


def _read_accepted(file: str) -> dict[str, str]:
    return fetch.read_accepted_checksums(Path(file)) if file else {}


def _accepted_for(downloads: Sequence[Download], accepted: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return (archive name, checksum) where an accepted checksum differs from the published one."""
    archives = [file for download in downloads for file in download.files]
    pairs = {(each.file_name, accepted.get(each.file_name, each.checksum)) for each in archives}
    return tuple(sorted(pairs - {(each.file_name, each.checksum) for each in archives}))


def _from_tarball(job: TaskJob, source: str) -> TaskJob:
    """Return the job that adopts a finished tarball; it fetches no archive, so it accepts none either."""
    if not job.licence.may_be_packed:
        raise HearevalError(
            f"--from-published for {job.folder}",
            got="a task that has no tarballs, because its corpus may not be redistributed",
            expected="tasks that are packed",
            remedy="Prepare it from its corpus, without --from-published.",
        )
    tarball = adopt.find_tarball(source, job.folder)
    return replace(job, accepted=(), published=tarball, published_mark=adopt.read_mark(tarball))


def use_demo_corpora(request: CorpusRequest, places: Places) -> CorpusRequest:
    """Build the synthetic corpora for a request in mode `demo` and point the request at them.

    A request in another mode, or with data of its own, is returned as it is.
    """
    if not _needs_demo_corpora(request):
        return request
    select(request.tasks, request.mode)  # report unknown names before the work
    folder = places.demo_corpora()
    if not folder.exists():
        with progress.show_steps(1), progress.report_step("demo corpora", "archives") as report:
            demo.build_demo_corpora(folder, report)
    return find_demo_corpora(request, places)


def find_demo_corpora(request: CorpusRequest, places: Places) -> CorpusRequest:
    """Point a request in mode `demo` at the synthetic corpora, if they are there.

    Any other request is returned as it is.
    """
    folder = places.demo_corpora()
    if not _needs_demo_corpora(request) or not folder.exists():
        return request
    return replace(request, mirrors=(str(folder),), accept_checksums=str(folder / demo.MD5SUMS))


def _needs_demo_corpora(request: CorpusRequest) -> bool:
    return request.mode == "demo" and not request.mirrors and not request.from_published


def check_tarballs_are_kept(jobs: Iterable[TaskJob], places: Places, sample_rates: Sequence[int]) -> None:
    """Raise HearevalError if a run would overwrite the tarball that it reads."""
    for job in jobs:
        editions = (layout.TAR_EDITION, layout.TAR_LATEST)
        written = [places.tar(job.folder, rate, edition) for rate in sample_rates for edition in editions]
        if (
            job.published
            and job.licence.may_be_packed
            and Path(job.published).resolve() in [path.resolve() for path in written]
        ):
            raise HearevalError(
                f"tarball {job.published}",
                got="the path that this run writes its own tarball to",
                expected="a tarball elsewhere",
                remedy="Move it to another folder, or choose another --tar-dir.",
            )
