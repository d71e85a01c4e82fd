"""The pipeline as plain functions: what the commands do, without a command line.

Every function takes a few frozen dataclasses, writes into the folders of `Places`, and returns what it did.
Errors that a user can correct are HearevalError. A step that fails does not stop the others: the functions
return, and `outcome.raise_if_failed()` of what they return raises RunError.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import heareval
from heareval import files, layout, progress
from heareval.embeddings.embedding_format import DEFAULT_FORMAT, EmbeddingFormat
from heareval.embeddings.modules import BASELINE
from heareval.embeddings.opening import open_submission
from heareval.embeddings.resample import choose_source_rate
from heareval.embeddings.submission import Model, Submission
from heareval.embeddings.submission_config import SubmissionArgs, list_config_readers, read_toml
from heareval.embeddings.validate import Finding, Limits, ignore_finding, run_checks
from heareval.errors import BusyError, HearevalError, RunError
from heareval.formats.card import read_card
from heareval.formats.embeddings_folder import EmbeddingsManifest, read_embeddings_manifest
from heareval.formats.exchange import export_cards as format_cards
from heareval.formats.fields import Fields, shorten
from heareval.formats.limit import check_limit
from heareval.formats.scores import Scores
from heareval.formats.task_folder import (
    find_task_folders,
    fingerprint_task_folder,
    list_sample_rates,
    read_task_folder,
)
from heareval.formats.task_metadata import read_task_metadata
from heareval.formats.verify import Verified, verify_embeddings, verify_tarballs, verify_tasks
from heareval.layout import Places
from heareval.leaderboard.board import Origin
from heareval.leaderboard.build import build_board
from heareval.leaderboard.changes import (
    compare_scores,
    find_card_changes,
    read_earlier_card,
)
from heareval.leaderboard.commits import find_top
from heareval.leaderboard.new_rows import list_changed_facts
from heareval.leaderboard.parity import Parity, compare_with_row, find_row
from heareval.leaderboard.published import read_published
from heareval.leaderboard.references import write_references
from heareval.leaderboard.repository import write_repository
from heareval.leaderboard.site import MARK, write_site
from heareval.predictions.cpu_features import check_cpu
from heareval.predictions.protocol import Protocol
from heareval.spec import DEFAULT_SAMPLE_RATES, SAMPLE_RATES, EmbeddingType
from heareval.tasks.registry import forget_own_tasks, select
from heareval.workflow.board import (
    attach_files,
    describe_known_task,
    describe_new_rows,
    draw_cards,
    find_all_cards,
    list_pairwise_tasks,
    name_card_shortly,
    sort_cards,
)
from heareval.workflow.cleaning import LOG_DAYS, delete_leftovers, find_leftovers
from heareval.workflow.corpus import TaskJob
from heareval.workflow.disk_space import check_disk_space
from heareval.workflow.evaluate import Embed, Predict, score_task
from heareval.workflow.evaluation_plan import EvaluationPlan, PlanSetting, plan_models
from heareval.workflow.folder_ids import read_ids
from heareval.workflow.jobs import (
    CorpusRequest,
    check_tarballs_are_kept,
    find_demo_corpora,
    find_jobs,
    use_demo_corpora,
)
from heareval.workflow.loaded_models import load_models
from heareval.workflow.machine import Machine, check_train_threads, uses_gpu
from heareval.workflow.needed import find_needed
from heareval.workflow.opened_places import open_places
from heareval.workflow.overwriting import Overwrite, Overwriting, begin_overwriting
from heareval.workflow.pins import missing_archives, resolve_checksums
from heareval.workflow.plan import DiskPlan, plan_run
from heareval.workflow.prepare import PublishTask, publish_and_pack, publish_tasks
from heareval.workflow.requests import (
    ChangesChecked,
    Cleaned,
    Embedded,
    EvaluationRequest,
    LeaderboardWritten,
    Prepared,
    RunSettings,
    Scored,
    Validated,
    notify_stderr,
)
from heareval.workflow.run import Outcome, run
from heareval.workflow.run_lock import claim_work_folder
from heareval.workflow.run_records import Changes, find_changes, find_own_changes
from heareval.workflow.run_requests import note_tasks
from heareval.workflow.status import (
    Status,
    StatusRow,
    Survey,
    judge_scores,
    judge_tasks,
    list_made,
    read_records,
)
from heareval.workflow.step import Step, forget_steps
from heareval.workflow.submissions import (
    check_any_is_there,
    find_submissions,
    open_submissions,
    prepare_submission,
)
from heareval.workflow.task_extent import find_extent
from heareval.workflow.unfinished import list_unfinished

if TYPE_CHECKING:
    from heareval.predictions.card_checks import CheckedCard
    from heareval.predictions.card_figures import DrawnResult
    from heareval.predictions.compare import Comparison
    from heareval.predictions.multiple_comparisons import MultipleComparison

__all__ = [
    "DEFAULT_PLACES",
    "Changes",
    "ChangesChecked",
    "Cleaned",
    "CorpusRequest",
    "Embedded",
    "EmbeddingFormat",
    "EvaluationPlan",
    "EvaluationRequest",
    "HearevalError",
    "LeaderboardWritten",
    "Machine",
    "Overwrite",
    "Places",
    "Prepared",
    "Protocol",
    "RunError",
    "RunSettings",
    "Scored",
    "Status",
    "SubmissionArgs",
    "Validated",
    "Verified",
    "changes_since",
    "check_cards",
    "check_changes",
    "clean",
    "compare",
    "compare_each",
    "copy_references",
    "embed",
    "evaluate",
    "export_cards",
    "init_repository",
    "leaderboard",
    "make_card",
    "own_changes",
    "parity",
    "plan",
    "plan_evaluation",
    "predict",
    "prepare",
    "report",
    "resolve_places",
    "results",
    "run_demo",
    "status",
    "validate",
    "verify",
]
DEFAULT_PLACES = Places()
DEMO_TASKS = ("speech_commands", "nsynth_pitch", "dcase2016_task2")
# The published protocol trains 8 networks for up to 500 epochs. A shortened one may rank models wrongly, so
# the demo uses the probe that is recommended for a quick look. Its name in the results says so.
DEMO_PROTOCOL = Protocol(probe="linear")


# --------------------------------------------------------------------------- tasks


def prepare(
    corpus: CorpusRequest,
    places: Places = DEFAULT_PLACES,
    *,
    sample_rates: Sequence[int] = DEFAULT_SAMPLE_RATES,
    force: bool = False,
    makes_tarballs: bool = True,
    settings: RunSettings | None = None,
) -> Prepared:
    """Make the task folders and tarballs of a request.

    Args:
        sample_rates: rates to write, in Hz.
        force: start although a disk seems to have too little room.
        makes_tarballs: whether tarballs are made besides the folders.

    Raises:
        HearevalError: an unknown task or mode, damaged data, or too little room on a disk.

    Example: `prepare(CorpusRequest(("spoken_digit",), mode="small"), sample_rates=(16000,)).task_folders`
    """
    settings = settings or RunSettings()
    places = resolve_places(places, "work", "tasks", *(["tars"] if makes_tarballs else []))
    rates = check_sample_rates(sample_rates)
    with _working(places, settings) as places:
        return _prepare(corpus, places, rates, force=force, makes_tarballs=makes_tarballs, settings=settings)


def _prepare(
    corpus: CorpusRequest,
    places: Places,
    rates: tuple[int, ...],
    *,
    force: bool,
    makes_tarballs: bool,
    settings: RunSettings,
) -> Prepared:
    """Make the task folders and tarballs of a request; the arguments are those of `prepare`, checked."""
    corpus = use_demo_corpora(corpus, places)
    jobs = find_jobs(corpus)

    def pack(jobs: Sequence[TaskJob]) -> dict[TaskJob, list[Step]]:
        """Return the steps that make the folder of each task, and its tarballs if they are wanted."""
        if makes_tarballs:
            return publish_and_pack(places, jobs, rates, corpus.mirrors)
        published = publish_tasks(places, jobs, sample_rates=rates, mirrors=corpus.mirrors)
        return {job: [step] for job, step in published.items()}

    if makes_tarballs:
        check_tarballs_are_kept(jobs, places, rates)
    if not force:
        # Check before fetching archives only for their checksums: those downloads need disk space as well.
        known = resolve_checksums(jobs, places)
        check_disk_space(pack(known), places)
    note_tasks(jobs, places)
    ready, fetched = _fetch_unpinned(jobs, places, corpus.mirrors, settings)
    steps = {job.folder: each for job, each in pack(ready).items()}
    everything = [step for each in steps.values() for step in each]
    outcome = fetched.followed_by(_run(everything, places, settings))
    unfetched = {
        job.folder: missing_archives([job], places, corpus.mirrors) for job in jobs if job.folder not in steps
    }
    unfinished = list_unfinished({**steps, **unfetched}, outcome)
    not_packed = tuple(job.folder for job in jobs if makes_tarballs and not job.licence.may_be_packed)
    return Prepared(outcome, _published_folders(everything), len(jobs), unfinished, not_packed)


def plan(
    corpus: CorpusRequest,
    places: Places = DEFAULT_PLACES,
    *,
    sample_rates: Sequence[int] = DEFAULT_SAMPLE_RATES,
) -> DiskPlan:
    """Return what `prepare` would still write, and whether the disks have room for it.

    Nothing is fetched; servers are only asked for sizes.

    Example: `plan(CorpusRequest(("all",))).fits`
    """
    places = resolve_places(places, "work", "tasks", "tars")
    rates = check_sample_rates(sample_rates)
    with _planned_corpora(corpus, places) as corpus:
        jobs = resolve_checksums(find_jobs(corpus), places)
        return plan_run(publish_and_pack(places, jobs, rates, corpus.mirrors), places)


@contextlib.contextmanager
def _planned_corpora(corpus: CorpusRequest, places: Places) -> Iterator[CorpusRequest]:
    """Yield the request with demo corpora if it needs them: those of the work folder, or temporary ones."""
    _forget_earlier_calls()
    if places.demo_corpora().exists():
        yield find_demo_corpora(corpus, places)
        return
    with tempfile.TemporaryDirectory(prefix="heareval-plan-") as temporary, progress.hide_steps():
        yield use_demo_corpora(corpus, replace(places, work=temporary))


def plan_evaluation(
    request: EvaluationRequest, places: Places = DEFAULT_PLACES, *, settings: RunSettings | None = None
) -> EvaluationPlan:
    """Return what `evaluate` would still take: downloads, disk space, and minutes by a short measurement.

    Each model is loaded in its own process and embeds noise for a few seconds. Nothing is fetched or written;
    servers are only asked for sizes.

    Args:
        request: what `evaluate` will be asked for.
        places: the folders of the run.
        settings: of these, the machine matters.

    Raises:
        HearevalError: an unknown task or mode, or no model that can be opened.

    Example: `plan_evaluation(EvaluationRequest(SubmissionArgs(("mine",)), CorpusRequest(("open",)))).fits`
    """
    settings = settings or RunSettings()
    places = read_ids(resolve_places(places, "work", "tasks", "embeddings"))
    select(request.corpus.tasks, request.corpus.mode)
    check_any_is_there(request.submissions, settings.notify)
    with _planned_corpora(request.corpus, places) as corpus:
        extents = {
            job: find_extent(job, places, limit=request.protocol.limit)
            for job in resolve_checksums(find_jobs(corpus), places)
        }
        protocol = place_on_machine(request.protocol, settings.machine)

        def is_scored(job: TaskJob, submission: Submission) -> bool:
            rate = _choose_prepared_rate(submission.sample_rate)
            published = publish_tasks(places, [job], (rate,), corpus.mirrors)[job]
            form = request.embedding_format.for_rates(submission.sample_rate, rate)
            # What is damaged is reported with the state of its step.
            with contextlib.suppress(HearevalError, OSError):
                return bool(score_task(published, submission, protocol, embedding_format=form).complete())
            return False

        models = load_models(
            find_submissions(
                request.submissions,
                dict.fromkeys(job.spec.embedding_type for job in extents),
                places,
                any_rate=request.any_rate,
            ),
            extents,
            places,
            embedding_format=request.embedding_format,
            machine=settings.machine,
            any_rate=request.any_rate,
            is_scored=is_scored,
        )
        known = {each.sample_rate for each in models if each.sample_rate}
        source_rates = {rate: _choose_prepared_rate(rate) for rate in known}
        wanted = [*source_rates.values(), *request.sample_rates]
        records, _, _ = read_records(places, "")
        return plan_models(
            extents,
            models,
            places,
            mirrors=corpus.mirrors,
            # Of a model whose rate is not known, the clips are estimated at the lowest one.
            sample_rates=check_sample_rates(wanted or DEFAULT_SAMPLE_RATES[:1]),
            source_rates=source_rates,
            setting=PlanSetting(request.embedding_format, protocol, settings.machine, Survey(records)),
        )


# --------------------------------------------------------------------------- submissions


def embed(
    submission: SubmissionArgs,
    places: Places = DEFAULT_PLACES,
    *,
    tasks: Sequence[str] = ("all",),
    embedding_format: EmbeddingFormat = DEFAULT_FORMAT,
    any_rate: bool = False,
    limit: int | None = None,
    overwrite: Overwrite = "only-missing",
    settings: RunSettings | None = None,
) -> Embedded:
    """Compute the embeddings of published task folders with one submission.

    Args:
        tasks: folder names in `places.tasks`, or names of tasks; `all` means all folders.
        any_rate: resample the clips of tasks that are not prepared at the model's rate.
        limit: how many clips of each split are embedded at most, into folders of their own; None means all.
        overwrite: `all` computes again what is complete. New embeddings take the place of old ones and of the
            scores of these when they are complete.

    Raises:
        HearevalError: no such task folder, a damaged one, or a submission that cannot be opened.

    Example: `embed(SubmissionArgs(("my_model",), weights="weights.pt"), tasks=["esc50"]).folders`
    """
    check_limit(limit)
    if isinstance(tasks, str) or not tasks:
        raise HearevalError("tasks", got=repr(tasks), expected='names of tasks or folders, such as ["esc50"]')
    settings, places = settings or RunSettings(), resolve_places(places, "work", "tasks", "embeddings")
    folders = dict.fromkeys(
        folder for name in tasks for folder in find_task_folders(Path(places.tasks), name)
    )
    types = {folder: read_task_folder(folder).metadata.embedding_type for folder in folders}
    with _working(places, settings) as places:
        overwriting = begin_overwriting(overwrite, Path(places.embeddings))
        return _embed(
            submission,
            places,
            types,
            embedding_format,
            any_rate=any_rate,
            limit=limit,
            overwriting=overwriting,
            settings=settings,
        )


def _embed(
    submission: SubmissionArgs,
    places: Places,
    types: Mapping[Path, EmbeddingType],
    embedding_format: EmbeddingFormat,
    *,
    any_rate: bool,
    limit: int | None,
    overwriting: Overwriting,
    settings: RunSettings,
) -> Embedded:
    """Compute the embeddings of task folders, given with the type of embeddings that each needs."""
    by_type = _group_by_type((kind, folder.name) for folder, kind in types.items())
    opening = open_submissions(
        submission,
        by_type,
        places,
        settings.machine,
        settings.notify,
        functools.partial(_run, places=places, settings=settings),
        any_rate=any_rate,
    )
    if opening.outcome.exit_code:
        return Embedded(opening.outcome, (), "", opening.failed)
    (opened,) = opening.opened

    def find_source_rate(folder: Path) -> int:
        prepared = list_sample_rates(folder) if any_rate else []
        return choose_source_rate(opened.sample_rate, prepared or [opened.sample_rate])

    steps = [
        Embed(
            places,
            task_folder=folder.name,
            task_fingerprint=fingerprint_task_folder(folder, find_source_rate(folder)),
            submission=opened.by_type[kind],
            embedding_format=embedding_format.for_task(kind).for_rates(
                opened.sample_rate, find_source_rate(folder)
            ),
            limit=limit,
            machine=settings.machine,
            not_before_s=overwriting.embeddings_not_before_s,
        )
        for folder, kind in types.items()
        if kind in opened.by_type
    ]
    outcome = opening.outcome.followed_by(_run(steps, places, settings))
    done = tuple(step.folder for step in steps if step.complete())
    return Embedded(outcome, done, opened.name, opening.failed)


def _group_by_type(tasks: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names of the tasks of each type of embeddings, from pairs of a type and a name."""
    by_type: dict[str, list[str]] = {}
    for embedding_type, name in tasks:
        by_type.setdefault(embedding_type, []).append(name)
    return by_type


def validate(
    submission: SubmissionArgs,
    places: Places = DEFAULT_PLACES,
    *,
    limits: Limits | None = None,
    on_finding: Callable[[Finding], None] = ignore_finding,
    settings: RunSettings | None = None,
) -> Validated:
    """Check one submission for every fault that would make a run fail or lower its scores.

    Args:
        limits: the longest audio, and time and memory that are allowed.
        on_finding: receives each finding as soon as it is known.

    Example: `[each.check for each in validate(SubmissionArgs(("mine",))).findings if each.result != "ok"]`
    """
    settings, places = settings or RunSettings(), resolve_places(places, "work")
    (read_config,) = list_config_readers(submission)
    config = read_config()
    log_folder = Path(places.work) / "validate"
    with _working(places, settings) as places:
        model = prepare_submission(config, places, settings.notify).model
        findings, ran_on = run_checks(model, log_folder, limits=limits, on_finding=on_finding)
    return Validated(model.module, tuple(findings), ran_on, log_folder)


# --------------------------------------------------------------------------- scores


def predict(
    folders: Sequence[Path],
    protocol: Protocol | None = None,
    places: Places = DEFAULT_PLACES,
    *,
    overwrite: Overwrite = "only-missing",
    settings: RunSettings | None = None,
) -> Scored:
    """Train predictors on folders of embeddings and score them, or score their distances.

    Args:
        folders: folders of embeddings, `embeddings/SUBMISSION/TASK`.
        protocol: what applies to the tasks; of pairwise ones only the distance. Its limit is that of the
            folder in any case.
        overwrite: `scores` (or `all`) makes scores again that are complete. The new ones take the place of
            the old ones when they are complete.

    Raises:
        HearevalError: a folder holds no embeddings, or those of another limit than the protocol names.

    Example: `predict([Path("embeddings/mine/esc50-v2.0.0-full")], Protocol(probe="linear")).scores`
    """
    settings, is_there = settings or RunSettings(), Path(places.embeddings).is_dir()
    # The folders may lie elsewhere.
    places = resolve_places(places, "work", *(["embeddings"] if is_there else []))
    placed = place_on_machine(protocol or Protocol(), settings.machine)
    if not folders:
        raise HearevalError("folders of embeddings", got="none", expected="at least one")
    for folder in folders:
        layout.check_folder_is_named(folder, "folder of embeddings")
    manifests = {(path := Path(folder).absolute()): read_embeddings_manifest(path) for folder in folders}
    with _working(places, settings) as places:
        steps = [
            Predict(
                places,
                path=_name_embeddings(path, places),
                embeddings_fingerprint=manifest.fingerprint,
                protocol=_choose_protocol(path, manifest, placed),
                machine=settings.machine,
                not_before_s=begin_overwriting(overwrite, path).scores_not_before_s,
            )
            for path, manifest in manifests.items()
        ]
        outcome = _run(steps, places, settings)
    return Scored(outcome, _complete_scores(steps))


def _choose_protocol(folder: Path, manifest: EmbeddingsManifest, protocol: Protocol) -> Protocol:
    """Return the protocol as it applies to a folder of embeddings."""
    if protocol.limit not in (None, manifest.limit):
        raise HearevalError(
            f"limit of {protocol.limit} clips",
            got=f"embeddings of {manifest.limit or 'all'} clips in {layout.display_path(folder)}",
            expected="embeddings with the same limit",
            remedy=f"Make them with `heareval embed --limit {protocol.limit}`, or leave the limit out.",
        )
    limited = replace(protocol, limit=manifest.limit)
    return limited.for_task(is_pairwise=read_task_metadata(folder).is_pairwise)


def _name_embeddings(folder: Path, places: Places) -> str:
    """Return the path of a folder of embeddings as `Predict` takes it."""
    embeddings = Path(places.embeddings)
    return str(folder.relative_to(embeddings) if folder.is_relative_to(embeddings) else folder)


def evaluate(
    request: EvaluationRequest,
    places: Places = DEFAULT_PLACES,
    *,
    force: bool = False,
    overwrite: Overwrite = "only-missing",
    settings: RunSettings | None = None,
) -> Scored:
    """Score submissions: prepare the tasks, compute embeddings, train predictors.

    Only the sample rates that the models ask for are prepared, unless the request names more. Several
    submissions may be given; one that cannot be opened does not stop the others.

    Args:
        force: start although a disk seems to have too little room.
        overwrite: `only-missing` computes what is missing or out of date, `scores` also complete scores, and
            `all` also complete embeddings. What is there is replaced when the new one is complete. New
            embeddings take the place of all scores of the old ones, too.

    Raises:
        HearevalError: an unknown task or mode, no submission that can be opened, or a disk without room.

    Example: `evaluate(EvaluationRequest(SubmissionArgs(("my_model",)), CorpusRequest(("open",)))).scores`
    """
    settings, places = settings or RunSettings(), resolve_places(places, "work", "tasks", "embeddings")
    with _working(places, settings) as places:
        overwriting = begin_overwriting(overwrite, Path(places.embeddings))
        return _evaluate(request, places, force=force, overwriting=overwriting, settings=settings)


def _evaluate(
    request: EvaluationRequest,
    places: Places,
    *,
    force: bool,
    overwriting: Overwriting,
    settings: RunSettings,
) -> Scored:
    """Score the submissions of a request; the arguments are those of `evaluate`, checked."""
    # A mistyped name of a task or model must not cost the time that corpora take.
    select(request.corpus.tasks, request.corpus.mode)
    check_any_is_there(request.submissions, settings.notify)
    protocol = place_on_machine(request.protocol, settings.machine)
    corpus = find_demo_corpora(request.corpus, places)
    jobs = find_jobs(corpus)
    by_type = _group_by_type((job.spec.embedding_type, job.folder) for job in jobs)
    opening = open_submissions(
        request.submissions,
        by_type,
        places,
        settings.machine,
        settings.notify,
        functools.partial(_run, places=places, settings=settings),
        any_rate=request.any_rate,
    )
    opened = opening.opened
    if opening.outcome.exit_code:
        return Scored(opening.outcome, (), (), tuple(each.name for each in opened), opening.failed)
    # Nor must a model that cannot be opened.
    if (built := use_demo_corpora(corpus, places)) != corpus:
        corpus, jobs = built, find_jobs(built)
    jobs = [job for job in jobs if any(job.spec.embedding_type in each.by_type for each in opened)]
    source_rates = {each.sample_rate: _choose_prepared_rate(each.sample_rate) for each in opened}
    rates = check_sample_rates([*source_rates.values(), *request.sample_rates])
    publish = functools.partial(publish_tasks, places, sample_rates=rates, mirrors=corpus.mirrors)
    score = functools.partial(
        score_task,
        protocol=protocol,
        machine=settings.machine,
        overwriting=overwriting,
    )

    def score_all(published: PublishTask) -> list[Predict]:
        kind = published.job.spec.embedding_type
        steps = []
        for each in opened:
            form = request.embedding_format.for_rates(each.sample_rate, source_rates[each.sample_rate])
            if kind in each.by_type:
                steps.append(score(published, each.by_type[kind], embedding_format=form))
        return steps

    def publish_in_order(jobs: Sequence[TaskJob]) -> dict[TaskJob, PublishTask]:
        """Return the step that publishes each task. No step waits for a task whose scores are complete."""
        alone = {job: publish([job])[job] for job in jobs}
        needed = [
            job
            for job, step in alone.items()
            if request.sample_rates or not all(each.complete() for each in score_all(step))
        ]
        return {**alone, **publish(needed)}

    if not force:
        # Check before fetching archives only for their checksums: those downloads need disk space as well.
        known = resolve_checksums(jobs, places)
        check_disk_space({job: score_all(step) for job, step in publish_in_order(known).items()}, places)
    note_tasks(jobs, places)
    ready, fetched = _fetch_unpinned(jobs, places, corpus.mirrors, settings)
    fetched = opening.outcome.followed_by(fetched)
    published = list(publish_in_order(ready).values())
    lacking: dict[str, Sequence[Step]] = {}
    if corpus.on_bad_audio == "skip":
        # Which clips there are to embed is only known when they have been made.
        fetched = fetched.followed_by(_run(published, places, settings))
        lacking = {step.name: [each] for each in published for step in score_all(each) if not each.complete()}
        published = [each for each in published if each.complete()]
    scored = [step for each in published for step in score_all(each)]
    lacking |= {step.name: [step] for step in scored}
    fetched_folders = {job.folder for job in ready}
    for job in (each for each in jobs if each.folder not in fetched_folders):
        fetches = missing_archives([job], places, corpus.mirrors)
        lacking |= {step.name: fetches for step in score_all(publish([job])[job])}
    # Embeddings that are complete don't require a task folder, but the user may want one at more rates.
    roots = [*published, *scored] if request.sample_rates else scored
    outcome = fetched.followed_by(_run(roots, places, settings))
    return Scored(
        outcome,
        _complete_scores(scored),
        _published_folders(published),
        tuple(each.name for each in opened),
        opening.failed,
        list_unfinished(lacking, outcome),
    )


def run_demo(folder: Path = Path("demo"), *, settings: RunSettings | None = None) -> Scored:
    """Run the whole pipeline on small synthetic corpora, at four sample rates, with the built-in baseline."""
    layout.check_folder_is_named(folder)
    settings = settings or RunSettings()
    work, tasks, tars, embeddings = (
        str(Path(folder) / name) for name in ("_workdir", "tasks", "tars", "embeddings")
    )
    places = resolve_places(Places(work, tasks, tars, embeddings))
    with _working(places, settings) as places:
        return _run_demo(places, settings)


def _run_demo(places: Places, settings: RunSettings) -> Scored:
    """Run the demo in these folders."""
    corpus = use_demo_corpora(CorpusRequest(DEMO_TASKS, mode="demo"), places)
    jobs = find_jobs(corpus)
    note_tasks(jobs, places)
    cache = Path(places.work) / "submissions"
    submissions = {kind: open_submission(Model(BASELINE), kind, cache) for kind in get_args(EmbeddingType)}
    packed = publish_and_pack(places, jobs, DEFAULT_SAMPLE_RATES, corpus.mirrors)
    steps = [step for each in packed.values() for step in each]
    published = [step for step in steps if isinstance(step, PublishTask)]
    scored = [
        score_task(
            step,
            submissions[step.job.spec.embedding_type],
            place_on_machine(DEMO_PROTOCOL, settings.machine),
            machine=settings.machine,
        )
        for step in published
    ]
    outcome = _run([*steps, *scored], places, settings)
    return Scored(outcome, _complete_scores(scored), _published_folders(published), (BASELINE,))


def compare(a: str, b: str, places: Places = DEFAULT_PLACES) -> Comparison:
    """Compare two submissions on every task and protocol that both have scores for.

    Nothing is trained: the evaluation keeps what was predicted for each clip.

    Args:
        a: name of a submission in `places.embeddings`, or the path of its folder.
        b: the same for the other one.

    Raises:
        HearevalError: no such submission, or nothing that both have scores for.

    Example: `compare("my_model", "heareval.embeddings.baseline").differences[0].p`
    """
    # scikit-learn and scipy take seconds to import.
    from heareval.predictions import compare as comparing

    embeddings = Path(resolve_places(places, "embeddings").embeddings)
    return comparing.compare(*(comparing.find_submission(name, embeddings) for name in (a, b)))


def compare_each(submissions: Sequence[str], places: Places = DEFAULT_PLACES) -> MultipleComparison:
    """Compare three or more submissions, each with each, on every task that two or more have scores for.

    This can take minutes, so its progress is shown.

    Args:
        submissions: names of submissions in `places.embeddings`, or paths of their folders.

    Raises:
        HearevalError: no such submission, one that is named twice, or nothing to compare.

    Example: `compare_each(["my_small", "my_large", "heareval.embeddings.baseline"]).to_dicts()`
    """
    # scikit-learn and scipy take seconds to import.
    from heareval.predictions import compare as comparing
    from heareval.predictions import multiple_comparisons

    embeddings = Path(resolve_places(places, "embeddings").embeddings)
    folders = [comparing.find_submission(name, embeddings) for name in submissions]
    title = f"comparison of {len(folders)} submissions"
    with progress.show_steps(1), progress.report_step(title, "results") as report:
        return multiple_comparisons.compare_each(folders, report)


def parity(submission: str, row: str, places: Places = DEFAULT_PLACES) -> Parity:
    """Compare the scores of a submission with a row that was published.

    Args:
        submission: name of a submission in `places.embeddings`, or the path of its folder.
        row: name of a published row, such as `CREPE`.

    Raises:
        HearevalError: no such submission or row, or the submission has no scores.

    Example: `[each.verdict for each in parity("my_crepe", "CREPE").tasks]`
    """
    # scikit-learn and scipy take seconds to import.
    from heareval.predictions.compare import find_submission

    # A mistyped row is found before anything is read.
    published = find_row(read_published(), row)
    folder = find_submission(submission, Path(resolve_places(places, "embeddings").embeddings))
    return compare_with_row(folder.name, results(folder), published)


def report(
    folder: Path,
    places: Places = DEFAULT_PLACES,
    *,
    protocols: Sequence[str] = (),
    clips: Sequence[str] = (),
    out: Path | None = None,
    notify: Callable[[str], None] = notify_stderr,
) -> list[Path]:
    """Write a report, JSON and figures, on each result in a folder of embeddings; return the report folders.

    Args:
        folder: `embeddings/SUBMISSION/TASK`, with scores.
        protocols: report on these only; empty means all.
        clips: clips of an event task to plot beside the worst ones.
        out: where reports go; None means beside the scores.
        notify: receives a line for each part that a report lacks, because the embeddings are gone or changed.

    Raises:
        HearevalError: the folder has no scores, or not those of a protocol that is named.

    Example: `report(Path("embeddings/mine/esc50-v2.0.0-full"))[0] / "report.json"`
    """
    # matplotlib takes a while to import.
    from heareval.predictions.report import write_reports

    places = resolve_places(places, "tasks")
    for each in (folder, "." if out is None else out):
        layout.check_folder_is_named(each)
    target = None if out is None else Path(out).absolute()
    return write_reports(
        Path(folder).absolute(), tuple(protocols), places, out=target, clips=tuple(clips), notify=notify
    )


def results(folder: Path) -> list[Scores]:
    """Return the scores in a folder of embeddings: of one task, of one submission, or of all submissions.

    They are checked against the predictions and labels in the folder, if these are there.

    Args:
        folder: `embeddings/SUBMISSION/TASK`, `embeddings/SUBMISSION` or `embeddings`.

    Raises:
        HearevalError: there are no scores, or a file is damaged.

    Example: `[(each.task, each.scores[each.metrics[0]].value) for each in results(Path("embeddings/mine"))]`
    """
    # torch and scipy take seconds to import.
    from heareval.predictions.stored import read_checked_scores

    layout.check_folder_is_named(folder)
    folder = Path(folder)
    inside = sorted(path for pattern in ("[!.]*", "[!.]*/[!.]*") for path in folder.glob(pattern))
    found = [
        read_checked_scores(task / layout.scores(protocol))
        for task in (folder, *inside)
        for protocol in layout.scored_protocols(task)
    ]
    if not found:
        got = "no scores" if folder.is_dir() else "no such folder"
        raise HearevalError(f"{folder}", got=got, remedy="Run `heareval evaluate` first.")
    return found


def verify(places: Places = DEFAULT_PLACES) -> Iterator[Verified]:
    """Read task folders, tarballs and embeddings again, and yield what differs from the recorded digests.

    Raises:
        HearevalError: none of the folders exists.

    Example: `[each.path for each in verify() if each.changes]`
    """
    places = resolve_places(places, "tasks", "tars", "embeddings")
    _check_any_exists(places.tasks, places.tars, places.embeddings)
    folders = [Path(folder) for folder in (places.tasks, places.tars, places.embeddings)]
    for verify_folder, folder in zip(
        (verify_tasks, verify_tarballs, verify_embeddings), folders, strict=True
    ):
        yield from verify_folder(folder)


# --------------------------------------------------------------------------- status


def status(
    request: EvaluationRequest | CorpusRequest | None = None,
    places: Places = DEFAULT_PLACES,
    *,
    sample_rates: Sequence[int] = DEFAULT_SAMPLE_RATES,
    scheduler_url: str = "",
) -> Status:
    """Return what is complete, what is missing, what failed and what runs where; nothing is done or loaded.

    Args:
        request: what `evaluate` or `prepare` was or will be asked for; None means what lies in the folders.
        sample_rates: those that `prepare` is asked for, in Hz.
        scheduler_url: a luigid, which knows best what is running; "" reads it from the work folder.

    Raises:
        HearevalError: an unknown task or mode; without a request, none of the folders exists.

    Example: `[row.task for row in status(CorpusRequest(("all",))).rows if row.state == "failed"]`
    """
    _forget_earlier_calls()
    places = read_ids(resolve_places(places))
    if request is None:
        _check_any_exists(places.tasks, places.tars, places.embeddings, places.work)
    records, notes, answered = read_records(places, scheduler_url)
    if request is None:
        rows = list_made(places, records)
    elif isinstance(request, CorpusRequest):
        rows = judge_tasks(_plan_tasks(request, places, sample_rates), Survey(records))
    else:
        rows = _judge_evaluation(request, places, Survey(records))
    return Status(tuple(rows), notes, answered)


def changes_since(since: str = "last", places: Places = DEFAULT_PLACES) -> Changes:
    """Return what has changed of task folders, tarballs, embeddings and scores since a time, and what failed.

    Args:
        since: `last` for the time when the last run with something to do began; a date, or a date and time,
            in ISO 8601.

    Raises:
        HearevalError: it is no time, or there is no record of a run.

    Example: `[each.output.task_folder for each in changes_since("2026-11-29").changes]`
    """
    return find_changes(resolve_places(places), since)


def own_changes(places: Places = DEFAULT_PLACES) -> Changes:
    """Return what has changed since the first run of this process began; nothing if it has run nothing.

    Example: `prepare(CorpusRequest(("esc50",))); [each.output.task_folder for each in own_changes().changes]`
    """
    return find_own_changes(resolve_places(places))


def _check_any_exists(*folders: str) -> None:
    if not any(Path(folder).is_dir() for folder in folders):
        names = ", ".join(layout.display_path(folder) for folder in folders)
        raise HearevalError(f"folders {names}", got="none of them", expected="what heareval has made")


def _plan_tasks(
    request: CorpusRequest, places: Places, sample_rates: Sequence[int]
) -> dict[TaskJob, list[Step]]:
    """Return the steps that make the folder and the tarballs of each task; no task waits for another one."""
    corpus, rates = find_demo_corpora(request, places), check_sample_rates(sample_rates)
    jobs = resolve_checksums(find_jobs(corpus), places)
    return {job: publish_and_pack(places, [job], rates, corpus.mirrors)[job] for job in jobs}


def _judge_evaluation(request: EvaluationRequest, places: Places, survey: Survey) -> Iterator[StatusRow]:
    corpus = find_demo_corpora(request.corpus, places)
    jobs = resolve_checksums(find_jobs(corpus), places)
    types = dict.fromkeys(job.spec.embedding_type for job in jobs)
    found = find_submissions(request.submissions, types, places, any_rate=request.any_rate)
    known = [submission for each in found for submission in each.by_type.values()]
    source_rates = {each.sample_rate: _choose_prepared_rate(each.sample_rate) for each in known}
    if not (wanted := (*source_rates.values(), *request.sample_rates)):
        yield from judge_scores({job: [] for job in jobs}, found, request.protocol, survey)
        return
    rates = check_sample_rates(wanted)
    published = {job: publish_tasks(places, [job], rates, corpus.mirrors)[job] for job in jobs}
    if request.sample_rates:
        yield from judge_tasks({job: [step] for job, step in published.items()}, survey)
    scored = {
        job: [
            score_task(
                step,
                each.by_type[job.spec.embedding_type],
                request.protocol,
                embedding_format=request.embedding_format.for_rates(
                    rate := each.by_type[job.spec.embedding_type].sample_rate, source_rates[rate]
                ),
            )
            for each in found
            if job.spec.embedding_type in each.by_type
        ]
        for job, step in published.items()
    }
    yield from judge_scores(scored, found, request.protocol, survey)


def clean(places: Places = DEFAULT_PLACES, *, delete: bool = False, log_days: int = LOG_DAYS) -> Cleaned:
    """List what no current task or submission needs, and delete it if asked to; nothing published is touched.

    Args:
        places: all folders of the runs: what is published decides what is needed.
        delete: delete what is listed.
        log_days: logs that nothing was written to for this many days are listed.

    Raises:
        HearevalError: there is no work folder, or it is not known what is needed.
        BusyError: a run uses the work folder, and `delete` was asked for.

    Example: `clean().bytes`
    """
    places = resolve_places(places)
    work = layout.display_path(places.work)
    if not Path(places.work).is_dir():
        raise HearevalError(f"work folder {work}", got="no such folder", expected="that of earlier runs")
    with claim_work_folder(places) as is_alone:
        if delete and not is_alone:
            raise BusyError(
                f"work folder {work}",
                got="a run that is using it",
                expected="none while files are deleted",
                remedy="Wait until it has ended, or stop it: it resumes where it was.",
            )
        now_s = files.read_clock(Path(places.work))
        needed = find_needed(places, now_s)
        leftovers = find_leftovers(places, needed, now_s, is_alone=is_alone, log_days=log_days)
        failures = delete_leftovers(leftovers, places) if delete else []
    return Cleaned(tuple(leftovers), delete, not is_alone, tuple(failures))


# --------------------------------------------------------------------------- cards


def make_card(
    submission: str,
    places: Places = DEFAULT_PLACES,
    *,
    about: Path | None = None,
    out: Path = Path("cards"),
    protocols: Sequence[str] = (),
    missing: Mapping[str, str] | None = None,
    missing_others: str = "",
) -> Path:
    """Make a card of a submission's results, and return its folder, `out/NAME/REVISION`.

    Args:
        submission: name of a submission in `places.embeddings`, or the path of its folder.
        about: a TOML file with facts about the model; its keys are those of `formats.card.ModelFacts`.
        out: the folder of cards.
        protocols: protocols whose results are taken; empty means all.
        missing: the reason for each task of the benchmark that has no result.
        missing_others: the reason for all further ones.

    Raises:
        HearevalError: no such submission, a damaged result, a task that is missing without a reason, or facts
            that are unknown or contradict what was measured.

    Example: `make_card("my_model", about=Path("my_model.toml"), missing_others="speech only")`
    """
    # torch and scipy take seconds to import.
    from heareval.predictions.cards import CardRequest
    from heareval.predictions.cards import make_card as make
    from heareval.predictions.compare import find_submission

    layout.check_folder_is_named(out, "folder of cards")
    folder = find_submission(submission, Path(resolve_places(places, "embeddings").embeddings))
    facts = _read_facts(about) if about else Fields("--about", {})
    request = CardRequest(
        folder,
        Path(out).absolute(),
        facts,
        tuple(protocols),
        missing or {},
        missing_others,
        list_pairwise_tasks(),
    )
    return make(request)


def _read_facts(file: Path) -> Fields:
    # TOML has a type for dates.
    values = {
        key: value.isoformat() if isinstance(value, datetime.date) else value
        for key, value in read_toml(file).items()
    }
    return Fields(str(file), values)


def check_cards(folders: Sequence[Path], places: Places = DEFAULT_PLACES) -> Iterator[CheckedCard]:
    """Compute every number of cards again from their predictions, and yield what came of each card.

    The labels are those of `places.tasks`, never those of the card.

    Args:
        folders: cards, or folders of cards.

    Raises:
        HearevalError: a folder has no card.

    Example: `[each.problems for each in check_cards([Path("cards")]) if not each.is_recomputed]`
    """
    # torch and scipy take seconds to import.
    from heareval.predictions.card_checks import check_card

    tasks = Path(resolve_places(places, "tasks").tasks)
    for card in find_all_cards(folders):
        yield check_card(card, tasks, list_pairwise_tasks())


def export_cards(folders: Sequence[Path], form: str, *, protocol: str = "") -> str:
    """Return cards in the format of another leaderboard.

    Args:
        folders: cards, or folders of cards.
        form: `eval-results`, `every-eval-ever` or `hear2021-csv`.
        protocol: the protocol whose results are exported; "" means all, or `hear2021` in the CSV file.

    Raises:
        HearevalError: a folder has no card, or a card no such results.

    Example: `export_cards([Path("cards/my_model/v1")], "hear2021-csv")`
    """
    cards = [read_card(folder) for folder in find_all_cards(folders)]
    return format_cards(cards, form, protocol=protocol, now=datetime.datetime.now(datetime.timezone.utc))


def leaderboard(
    cards: Sequence[Path],
    out: Path = Path("site"),
    places: Places = DEFAULT_PLACES,
    *,
    checks: bool = True,
    ledger: Path | None = None,
    allows_none: bool = False,
    has_figures: bool = False,
    has_published: bool = True,
    title: str = "HEAR leaderboard",
    exported_at: datetime.datetime | None = None,
    notify: Callable[[str], None] = notify_stderr,
) -> LeaderboardWritten:
    """Write the site of a leaderboard, whole or not at all, and return what it shows.

    Every card is checked against the task folders of `places.tasks`. One that fails is left out, and the site
    says so. One whose task folders are missing is shown as submitted, not as recomputed.

    Args:
        cards: cards, or folders of cards.
        out: the site; an existing folder is replaced only if it is one.
        checks: False shows all cards as submitted, without a check.
        ledger: a file that keeps which cards passed; they are checked again only if they, their task folders
            or heareval changed. None checks all of them.
        allows_none: whether folders may have no card.
        has_figures: whether the pages of recomputed models show the figures of `report`. Drawing them takes
            seconds for each task of each card; with a ledger they are kept beside it, in `LEDGER.figures`.
        has_published: whether the rows of the leaderboard of 2021, and later ones, are shown as well.
        exported_at: the time that some exports of a model need; None leaves these out, so that the same cards
            give the same bytes.
        notify: receives a line about each card that is left out or not checked.

    Raises:
        HearevalError: a folder has no card, the ledger is damaged, or figures are asked for without checks.
        FileExistsError: `out` is a folder that heareval did not make.

    Example: `leaderboard([Path("cards")], Path("site")).refused`
    """
    if has_figures and not checks:
        raise HearevalError(
            "figures of cards",
            got="cards that are not checked",
            expected="predictions that were compared with references",
            remedy="Leave out --figures or --no-check.",
        )
    # Checking many cards takes hours, so say first that the site could not be written.
    files.check_is_ours(Path(out), MARK)
    tasks = Path(resolve_places(places, "tasks").tasks)
    folders = find_all_cards(cards, allows_none=allows_none)
    by_origin, refused = sort_cards(folders, tasks if checks else None, ledger, notify)
    with contextlib.ExitStack() as stack:
        drawn: dict[tuple[str, str], tuple[DrawnResult, ...]] = {}
        if has_figures:
            kept = f"{ledger}.figures" if ledger else stack.enter_context(tempfile.TemporaryDirectory())
            drawn = draw_cards(by_origin, refused, tasks, Path(kept), notify)
        board = build_board(
            by_origin,
            read_published() if has_published else (),
            describe_task=describe_known_task,
            title=title,
            refused=refused,
        )
        shown = [card for several in by_origin.values() for card in several]
        write_site(board, Path(out), attach_files(board, shown, drawn, exported_at))
    recomputed, submitted = len(by_origin[Origin.RECOMPUTED]), len(by_origin[Origin.SUBMITTED])
    return LeaderboardWritten(board, Path(out), recomputed, submitted, len(refused))


def init_repository(folder: Path, *, requirement: str = f"heareval=={heareval.__version__}") -> None:
    """Write a results repository, with workflows that check its cards, into a new or empty folder.

    Args:
        requirement: what pip is told to install in the workflows.

    Raises:
        HearevalError: the folder is not empty or is the working folder, or the requirement is no single line.

    Example: `init_repository(Path("results"))`
    """
    write_repository(folder, requirement)


def copy_references(folder: Path, places: Places = DEFAULT_PLACES) -> tuple[Path, ...]:
    """Copy the descriptions of all task folders, which cards are compared with, and return the copies.

    Args:
        folder: where the copies go, such as `references` in a results repository.

    Raises:
        HearevalError: there is no task folder, or one is damaged.

    Example: `copy_references(Path("results/references"))`
    """
    layout.check_folder_is_named(folder)
    return write_references(Path(resolve_places(places, "tasks").tasks), folder)


def check_changes(base: str, places: Places = DEFAULT_PLACES, *, repository: Path = Path()) -> ChangesChecked:
    """Check the cards of a results repository that HEAD changes since it left another branch.

    Changed cards are checked as by `check_cards`, and must keep every score that they had.

    Args:
        base: name of the other branch, such as `origin/main`.
        places: `tasks` are the references.
        repository: a folder in the repository.

    Raises:
        HearevalError: it is no git repository, there is no such branch, or files are not committed.

    Example: `check_changes("origin/main", Places(tasks="references")).problems`
    """
    tasks = Path(resolve_places(places, "tasks").tasks)
    top = find_top(repository)
    changes = find_card_changes(top, base)
    if changes.problems:
        return ChangesChecked(changes, 0, changes.problems, (), ())
    # torch and scipy take seconds to import.
    from heareval.predictions.card_checks import check_card

    notes = [f"{folder} is removed: {shorten(reason)}" for folder, reason in changes.removed.items()]
    problems: list[str] = []
    checked = [check_card(top / folder, tasks, list_pairwise_tasks()) for folder in changes.touched]
    for folder, one in zip(changes.touched, checked, strict=True):
        problems += [name_card_shortly(problem, one.folder) for problem in one.problems]
        if one.card and folder in changes.changed:
            try:
                before = read_earlier_card(top, changes.base, folder)
            except HearevalError as error:
                problems.append(str(error))
                continue
            problems += compare_scores(before, one.card)
            facts = list_changed_facts(before.model, one.card.model)
            notes += [f"{folder} changes {fact}" for fact in facts]
    lacking = tuple(each for one in checked for each in one.lacking)
    if not problems and not lacking:
        notes += describe_new_rows(top, changes)
    passed = sum(one.is_recomputed for one in checked)
    return ChangesChecked(changes, passed, tuple(problems), lacking, tuple(notes))


# --------------------------------------------------------------------------- running


def _choose_prepared_rate(sample_rate: int) -> int:
    """Return the rate to prepare for a model: its own, or the one that its clips are resampled from."""
    if sample_rate in SAMPLE_RATES:
        return sample_rate
    return choose_source_rate(sample_rate, DEFAULT_SAMPLE_RATES)


def check_sample_rates(rates: Sequence[int]) -> tuple[int, ...]:
    """Return sample rates in Hz, sorted and each once.

    >>> check_sample_rates([44100, 16000, 16000])
    (16000, 44100)

    Raises:
        HearevalError: no rate, or one that tasks are not published at.
    """
    unknown = sorted(set(rates) - set(SAMPLE_RATES))
    if unknown or not rates:
        raise HearevalError(
            "sample rates",
            got=", ".join(map(str, unknown)) or "none",
            expected=f"some of {', '.join(map(str, SAMPLE_RATES))} Hz",
        )
    return tuple(sorted(set(rates)))


def resolve_places(places: Places, *names: str) -> Places:
    """Return the folders of a run with absolute paths, so that runs that share a luigid never mix them up.

    Args:
        names: the folders that the run uses; empty means all. The others stay as they are.

    Raises:
        HearevalError: file names are not UTF-8 on this machine, or a path is not.
    """
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        # Clips would get other names, and tarballs of the same sounds would differ.
        raise HearevalError(
            "encoding of file names", got=encoding, expected="utf-8", remedy="Set PYTHONUTF8=1."
        )
    used = names or layout.FOLDERS
    absolute: dict[str, Any] = {name: _absolute(getattr(places, name)) for name in used}
    return replace(places, **absolute)


def _absolute(folder: str) -> str:
    path = str(Path(folder).absolute())
    try:
        path.encode()
    except UnicodeEncodeError:
        got, remedy = "a name that is not UTF-8", "Rename it, or choose another folder."
        raise HearevalError(f"folder {path!a}", got=got, expected="UTF-8", remedy=remedy) from None
    return path


@contextlib.contextmanager
def _working(places: Places, settings: RunSettings) -> Iterator[Places]:
    """Open the folders of a run while the block lasts, and show its progress if that is wanted."""
    _forget_earlier_calls()
    with open_places(places, settings) as opened, _showing(settings):
        yield opened


def _forget_earlier_calls() -> None:
    """Forget what earlier calls of this process planned and read: files may have changed since."""
    forget_steps()
    forget_own_tasks()


def _showing(settings: RunSettings) -> contextlib.AbstractContextManager[None]:
    """Show the progress of runs while the block lasts, if that is wanted."""
    return progress.hide_steps() if settings.is_quiet else contextlib.nullcontext()


def place_on_machine(protocol: Protocol, machine: Machine) -> Protocol:
    """Return the protocol on the device that the user chose; the device does not decide its results.

    Raises:
        HearevalError: networks would be trained on the CPU, which does not gain from their precision, or with
            a number of threads that the machine does not have.
    """
    check_train_threads(machine)
    if not uses_gpu(machine.device):
        check_cpu(protocol.train_precision)
    return replace(protocol, device=machine.device)


def _fetch_unpinned(
    jobs: list[TaskJob], places: Places, mirrors: tuple[str, ...], settings: RunSettings
) -> tuple[list[TaskJob], Outcome]:
    """Fetch the archives that no checksum was published for.

    Returns the jobs whose archives all have a checksum now, and how the run ended.
    """
    outcome = _run(missing_archives(jobs, places, mirrors), places, settings)
    ready = [job for job in jobs if not missing_archives([job], places, mirrors)]
    return resolve_checksums(ready, places), outcome


def _run(steps: Sequence[Step], places: Places, settings: RunSettings) -> Outcome:
    """Run steps and all that they require; failures are in the outcome."""
    gpus = len(settings.machine.gpus)
    return run(
        steps,
        workers=max(settings.num_workers, gpus),
        gpus=gpus,
        scheduler_url=settings.scheduler_url,
        log_folder=places.logs(),
    )


def _published_folders(steps: Sequence[Step]) -> tuple[Path, ...]:
    return tuple(step.folder for step in steps if isinstance(step, PublishTask) and step.complete())


def _complete_scores(steps: Sequence[Predict]) -> tuple[Path, ...]:
    return tuple(step.scores for step in steps if step.complete())
