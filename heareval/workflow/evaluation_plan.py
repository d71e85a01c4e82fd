"""What evaluating models would still take: downloads, disk space and minutes; nothing is made."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from heareval import files, layout
from heareval.archives.sizes import UNKNOWN, Size, total
from heareval.embeddings.embed import JOURNAL
from heareval.embeddings.embedding_format import EmbeddingFormat
from heareval.embeddings.journal import FITTED, read_trusted_lines
from heareval.embeddings.measure import Measurement
from heareval.errors import HearevalError
from heareval.formats.results_folder import read_scores
from heareval.layout import Places
from heareval.predictions.protocol import Protocol
from heareval.predictions.training_time import estimate_training
from heareval.workflow.corpus import TaskJob
from heareval.workflow.evaluate import Embed, Predict, score_task
from heareval.workflow.loaded_models import LoadedModel
from heareval.workflow.machine import Machine, uses_gpu
from heareval.workflow.plan import COLUMNS, DiskPlan, find_file_systems, plan_facts, plan_run
from heareval.workflow.prepare import PublishTask, publish_tasks
from heareval.workflow.status import StatusRow, Survey
from heareval.workflow.task_extent import Extent

# Bytes of a number of an embedding; headers and timestamps are small.
BYTES_OF = {"float32": 4, "float16": 2}
# Columns of disk space, and the folder of `Places` that each needs room in.
EVALUATION_COLUMNS = {
    **{column: place for column, place in COLUMNS.items() if place != "tars"},
    "embeddings": "embeddings",
}
# At most so many recorded results say how long training on a task takes.
RECORDED_RESULTS = 10


@dataclass(frozen=True)
class PlannedTask:
    """What one model on one task would still take.

    Args:
        task: name of the task.
        mode: name of its mode.
        is_default_mode: whether that is the mode that is used unless the user names one.
        folder: name of its folder.
        state: `scored`, `embedded` or `prepared`, if it has come so far; `partly`, if something of it is
            there; `to do`; `interrupted`, `failed` or `running`, if a step of it is; `left out`, if the model
            has no such embeddings; `damaged`, if what is there cannot be read.
        detail: where it was interrupted, or why it failed or is left out; "" otherwise.
        extent: how much sound it has.
        embeddings: bytes of the embeddings that are still to be written.
        embed_s: about how long embedding takes, in seconds; None if that is not known.
        train_s: about how long training takes at least and at most, in seconds; None if that is not known.
    """

    task: str
    mode: str
    is_default_mode: bool
    folder: str
    state: str
    detail: str
    extent: Extent
    embeddings: Size
    embed_s: float | None
    train_s: tuple[float, float] | None


@dataclass(frozen=True)
class PlannedModel:
    """What one model would still take.

    Args:
        name: name of its folder.
        sample_rate: in Hz; None if that is not known.
        measured: what its measurements found, one for each type of embeddings.
        notes: a line on each thing that could not be found out, and why.
        tasks: what it takes on each task.
    """

    name: str
    sample_rate: int | None
    measured: tuple[Measurement, ...]
    notes: tuple[str, ...]
    tasks: tuple[PlannedTask, ...]


@dataclass(frozen=True)
class EvaluationPlan:
    """What evaluating models on tasks would still take.

    Args:
        disk: the disk space: downloads and clips of each task, and file systems, which count embeddings.
        models: the models.
        sample_rates: the rates that clips are written at, in Hz.
    """

    disk: DiskPlan
    models: tuple[PlannedModel, ...]
    sample_rates: tuple[int, ...]

    @property
    def fits(self) -> bool:
        """Whether every file system has room."""
        return self.disk.fits


@dataclass(frozen=True)
class PlanSetting:
    """What is the same for all models and tasks of a plan.

    Args:
        embedding_format: how embeddings are computed and stored.
        protocol: how predictors are trained.
        machine: the GPUs to use.
        survey: judges the steps.
    """

    embedding_format: EmbeddingFormat
    protocol: Protocol
    machine: Machine
    survey: Survey


def plan_models(
    extents: Mapping[TaskJob, Extent],
    models: Sequence[LoadedModel],
    places: Places,
    *,
    mirrors: tuple[str, ...],
    sample_rates: tuple[int, ...],
    source_rates: Mapping[int, int],
    setting: PlanSetting,
) -> EvaluationPlan:
    """Return what evaluating models on tasks would still take.

    Args:
        extents: the tasks, and how much sound they have.
        models: the models, as `load_models` returns them.
        places: the folders of the run.
        mirrors: folders and URLs to look for archives first.
        sample_rates: the rates that clips are written at, in Hz.
        source_rates: rate of a model -> the rate of the clips that it is given or that are resampled for it.
        setting: what is the same for all models and tasks.
    """
    jobs = list(extents)
    alone = {job: publish_tasks(places, [job], sample_rates, mirrors)[job] for job in jobs}

    def score(published: PublishTask, model: LoadedModel) -> Predict | None:
        """Return the step that scores a model on a task; None if it is not known, or has no such scores."""
        submission = model.by_type.get(published.job.spec.embedding_type)
        if submission is None:
            return None
        rate = submission.sample_rate
        form = setting.embedding_format.for_rates(rate, source_rates[rate])
        machine = setting.machine
        return score_task(published, submission, setting.protocol, embedding_format=form, machine=machine)

    planned = [
        PlannedModel(
            model.name,
            model.sample_rate,
            tuple(model.measured.values()),
            model.notes,
            tuple(
                _plan_task(step, score(step, model), model, extents[job], setting)
                for job, step in alone.items()
            ),
        )
        for model in models
    ]
    # As in a run, no step waits for a task whose scores are complete.
    needed = [
        job
        for place, job in enumerate(jobs)
        if not all(model.tasks[place].state == "scored" for model in planned)
    ]
    published = {**alone, **publish_tasks(places, needed, sample_rates, mirrors)}
    roots = {
        job: [step for model in models if (step := score(published[job], model))]
        # Of a model that could not be loaded, only the task is known.
        or [published[job] for model in models if job.spec.embedding_type not in model.faults][:1]
        for job in jobs
    }
    needs = plan_run(roots, places)
    tasks = tuple(
        replace(
            each,
            sizes={**each.sizes, "embeddings": total(model.tasks[place].embeddings for model in planned)},
        )
        for place, each in enumerate(needs.tasks)
    )
    disk = DiskPlan(tasks, find_file_systems(tasks, places, EVALUATION_COLUMNS))
    return EvaluationPlan(disk, tuple(planned), sample_rates)


def _plan_task(
    published: PublishTask, scored: Predict | None, model: LoadedModel, extent: Extent, setting: PlanSetting
) -> PlannedTask:
    """Return what one model on one task would still take.

    Args:
        published: the step that publishes the task.
        scored: the step that scores the model on it; None if the model is not known or lacks embeddings.
        model: the model.
        extent: how much sound the task has.
        setting: what the request says.
    """
    job, nothing = published.job, (0.0, 0.0)
    spec = job.spec
    is_default = job.mode == spec.default_mode
    row = PlannedTask(spec.name, job.mode, is_default, job.folder, "to do", "", extent, UNKNOWN, None, None)
    if fault := model.faults.get(spec.embedding_type):
        return replace(row, state="left out", detail=fault, embeddings=Size(), embed_s=0.0, train_s=nothing)
    if scored is None:
        return replace(row, state=_judge_folder(published))
    embed = next(each for each in scored.upstream_step if isinstance(each, Embed))
    state, detail, done = _judge(scored, embed, published, setting.survey)
    row = replace(row, state=state, detail=detail)
    if state == "scored":
        return replace(row, embeddings=Size(), embed_s=0.0, train_s=nothing)
    measured = model.measured.get(spec.embedding_type)
    row = replace(row, train_s=_estimate_training(scored, measured, extent, job, setting))
    if state == "embedded":
        return replace(row, embeddings=Size(), embed_s=0.0)
    if measured is None or not extent.clips or not extent.clip_s:
        return row
    size = extent.clips * measured.count_timestamps(extent.clip_s) * measured.size
    return replace(
        row,
        embeddings=Size(size * BYTES_OF[setting.embedding_format.dtype], is_exact=False),
        embed_s=measured.estimate_seconds(max(0, extent.clips - done), extent.clip_s),
    )


def _judge_folder(published: PublishTask) -> str:
    """Return the state of a task without a model."""
    with contextlib.suppress(HearevalError, OSError):
        if published.complete():
            return "prepared"
        return "partly" if published.folder.exists() or published.selection.complete() else "to do"
    return "damaged"


def _judge(scored: Predict, embed: Embed, published: PublishTask, survey: Survey) -> tuple[str, str, int]:
    """Return how far a model on a task has come: the state, its detail, and the clips that are embedded."""
    judged = survey.judge(StatusRow("scores", "missing", published.job.spec.name), scored)
    if judged.state == "complete":
        return "scored", "", 0
    if judged.state == "damaged":
        return "damaged", judged.error, 0
    if judged.state == "failed":
        return "failed", "; ".join(f"{each.title}: {each.error}" for each in judged.failed), 0
    if judged.state == "running":
        return "running", ", ".join(f"{each.title}, on {each.host}" for each in judged.running), 0
    if embed.complete():
        return "embedded", "", 0
    unfinished = files.unfinished_path(embed.folder, embed.fingerprint)
    if unfinished.is_dir():
        done = _count_embedded(unfinished / JOURNAL)
        return "interrupted", f"at embedding, after {done:,} clips", done
    if judged.state == "interrupted":
        return "interrupted", f"at {', '.join(each.title for each in judged.interrupted)}", 0
    return _judge_folder(published), "", 0


def _count_embedded(journal: Path) -> int:
    """Return how many clips an interrupted run has embedded."""
    lines, _ = read_trusted_lines(journal.read_bytes()) if journal.is_file() else ([], 0)
    return sum(line[2] for line in lines if line[0] == FITTED)


def _estimate_training(
    scored: Predict, measured: Measurement | None, extent: Extent, job: TaskJob, setting: PlanSetting
) -> tuple[float, float] | None:
    """Return the least and the most seconds that training takes: recorded for other models, or estimated."""
    name = layout.scores(scored.protocol.recorded_name)
    recorded = []
    for path in sorted(Path(scored.places.embeddings).glob(f"*/{scored.folder.name}/{name}"))[
        :RECORDED_RESULTS
    ]:
        # A damaged one is reported by the step that makes it.
        with contextlib.suppress(HearevalError, OSError):
            recorded.append(read_scores(path).seconds)
    if recorded:
        return min(recorded), max(recorded)
    is_known = measured and extent.clips and extent.clip_s and not uses_gpu(setting.machine.device)
    if not is_known or not measured or not extent.clips or not extent.clip_s:
        return None
    rows = extent.clips * measured.count_timestamps(extent.clip_s)
    return estimate_training(
        scored.protocol, job.spec.name, job.spec.splits_of(job.mode), rows, measured.size
    )


def evaluation_facts(plan: EvaluationPlan) -> dict[str, Any]:
    """Return the plan as JSON values."""
    return {
        **plan_facts(plan.disk),
        "sample_rates": list(plan.sample_rates),
        "models": [_model_facts(model) for model in plan.models],
    }


def _model_facts(model: PlannedModel) -> dict[str, Any]:
    tasks = []
    for task in model.tasks:
        facts = asdict(task)
        extent = facts.pop("extent")
        tasks.append({**facts, **extent, "embeddings": asdict(task.embeddings)})
    return {**asdict(model), "tasks": tasks}
