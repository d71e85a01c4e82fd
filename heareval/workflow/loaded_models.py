"""Models loaded for a plan: described and measured in processes of their own, and nothing of that is kept.

Nothing is downloaded either: a model is loaded from what is there, or not at all.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from heareval.embeddings.describe import LackingFunctionError
from heareval.embeddings.embed import EmbeddingFormat
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
) -> list[LoadedModel]:
    """Describe models that are not described yet, and measure all of them; nothing of that is kept.

    Args:
        found: the models, as `find_submissions` returns them.
        extents: the tasks, and how much sound they have.
        places: the folders of the run.
        embedding_format: how embeddings are computed.
        machine: the GPUs to use.
        any_rate: whether models may have rates that tasks are not prepared at.
    """
    by_type: dict[str, dict[float, float]] = {}
    for job, extent in extents.items():
        hours_of = by_type.setdefault(job.spec.embedding_type, {})
        if clip_s := extent.clip_s:
            hours_of[round(clip_s, 2)] = hours_of.get(round(clip_s, 2), 0) + (extent.hours or 0)
    # Most of the time goes to the lengths of which there are most hours, so these are measured first.
    lengths = {
        kind: sorted(hours, key=lambda s: -hours[s]) or [USUAL_CLIP_S] for kind, hours in by_type.items()
    }
    with _offline(), tempfile.TemporaryDirectory(prefix="heareval-plan-") as temporary:
        elsewhere = replace(places, work=temporary)
        return [
            _load_model(each, lengths, elsewhere, embedding_format, machine, any_rate=any_rate)
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
    lengths: Mapping[str, Sequence[float]],
    elsewhere: Places,
    embedding_format: EmbeddingFormat,
    machine: Machine,
    *,
    any_rate: bool,
) -> LoadedModel:
    if found.prepared is None:
        reason = found.error or f"{found.name}: a run would first {found.lacking}"
        return LoadedModel(found.name, notes=(f"{reason}; not measured",))
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
    for kind, submission in by_type.items():
        try:
            measured[kind] = _measure(
                submission, kind, lengths[kind], elsewhere, embedding_format, machine, BUDGET_S / len(by_type)
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
