"""Models loaded for a plan: described and measured in processes of their own, and nothing of that is kept.

Nothing is downloaded either: a model is loaded from what is there, or not at all.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from heareval.embeddings.describe import LackingFunctionError
from heareval.embeddings.embedding_format import EmbeddingFormat
from heareval.embeddings.measure import Measurement, measure_model
from heareval.embeddings.submission import Model, Submission
from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.spec import ignore_progress
from heareval.workflow.corpus import TaskJob
from heareval.workflow.machine import Machine, claim_device
from heareval.workflow.submissions import FoundSubmission
from heareval.workflow.task_extent import Extent

# How long the measurements of a model take together, in seconds, besides loading it.
BUDGET_S = 8.0
# Clips of this length are measured where the lengths of the tasks are not known, in seconds.
USUAL_CLIP_S = 4.0
# What keeps a model's process from writing beside its source, and from downloading.
OFFLINE = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    # Nobody listens there. Libraries that know nothing of the variables above ask a proxy.
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
}


@dataclass(frozen=True)
class LoadedModel:
    """What is known of a model after it was loaded.

    Args:
        name: name of its folder.
        by_type: `scene` and `event` -> the submission, described with these embeddings.
        measured: `scene` and `event` -> what its measurement found.
        faults: `scene` and `event` -> why it has no such embeddings, in one line.
        notes: a line on each thing that could not be found out, and why.
    """

    name: str
    by_type: Mapping[str, Submission] = field(default_factory=dict)
    measured: Mapping[str, Measurement] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def sample_rate(self) -> int | None:
        """Sample rate of the model in Hz; None if it could not be loaded."""
        return next((each.sample_rate for each in self.by_type.values()), None)


def load_models(
    found: Sequence[FoundSubmission],
    extents: Mapping[TaskJob, Extent],
    places: Places,
    *,
    embedding_format: EmbeddingFormat,
    machine: Machine,
    any_rate: bool,
    is_scored: Callable[[TaskJob, Submission], bool],
) -> list[LoadedModel]:
    """Describe models that are not described yet, and measure what is not scored; nothing of that is kept.

    Args:
        found: the models, as `find_submissions` returns them.
        extents: the tasks, and how much sound they have.
        places: the folders of the run.
        embedding_format: how embeddings are computed.
        machine: the GPUs to use.
        any_rate: whether models may have rates that tasks are not prepared at.
        is_scored: returns whether a submission has scores on a task.
    """

    def list_lengths(kind: str, submission: Submission) -> list[float]:
        """Return the lengths of clips to measure, in seconds; none if all is scored."""
        left = [
            extent
            for job, extent in extents.items()
            if job.spec.embedding_type == kind and not is_scored(job, submission)
        ]
        hours: dict[float, float] = {}
        for extent in left:
            if clip_s := extent.clip_s:
                hours[round(clip_s, 2)] = hours.get(round(clip_s, 2), 0) + (extent.hours or 0)
        # Most of the time goes to the lengths of which there are most hours, so these are measured first.
        return sorted(hours, key=lambda length: -hours[length]) or ([USUAL_CLIP_S] if left else [])

    with _offline(), tempfile.TemporaryDirectory(prefix="heareval-plan-") as temporary:
        elsewhere = replace(places, work=temporary)
        return [
            _load_model(each, list_lengths, elsewhere, embedding_format, machine, any_rate=any_rate)
            for each in found
        ]


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep the processes that are started while the block lasts from downloading and from caching code."""
    before = {name: os.environ.get(name) for name in OFFLINE}
    os.environ.update(OFFLINE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _load_model(
    found: FoundSubmission,
    list_lengths: Callable[[str, Submission], list[float]],
    elsewhere: Places,
    embedding_format: EmbeddingFormat,
    machine: Machine,
    *,
    any_rate: bool,
) -> LoadedModel:
    if found.prepared is None:
        reason = found.error or f"{found.name}: a run would first {found.lacking}"
        return LoadedModel(found.name, notes=(f"not measured: {reason}",))
    by_type, faults, notes = dict(found.by_type), dict(found.faults), list[str]()
    measured: dict[str, Measurement] = {}
    for kind in found.descriptions:
        try:
            found.prepared.plan_description(kind, elsewhere, machine).work(ignore_progress)
            if described := found.prepared.find_described(kind, elsewhere, any_rate=any_rate):
                by_type[kind] = described
        except LackingFunctionError as fault:
            faults[kind] = str(fault)
        except HearevalError as error:
            notes.append(f"{found.name}: {error}")
    lengths = {kind: left for kind, each in by_type.items() if (left := list_lengths(kind, each))}
    for kind, durations_s in lengths.items():
        try:
            measured[kind] = _measure(
                by_type[kind],
                kind,
                durations_s,
                elsewhere,
                embedding_format,
                machine,
                BUDGET_S / len(lengths),
            )
        except HearevalError as error:
            notes.append(f"{found.name}: not measured: {error}")
    return LoadedModel(found.name, by_type, measured, faults, tuple(notes))


def _measure(
    model: Model,
    embedding_type: str,
    durations_s: Sequence[float],
    elsewhere: Places,
    embedding_format: EmbeddingFormat,
    machine: Machine,
    budget_s: float,
) -> Measurement:
    device = machine.choose_device(model)
    with claim_device(device, machine) as variables:
        return measure_model(
            model,
            embedding_type,
            durations_s,
            elsewhere.logs(),
            embedding_format=embedding_format,
            budget_s=budget_s,
            device=device,
            variables=variables,
            silence_s=machine.timeout_s,
        )
