"""Rooms 2 and 3 as steps: embeddings of a submission, and the scores of a predictor on them."""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import asdict
from pathlib import Path

import luigi

from heareval import files, layout, progress
from heareval.embeddings import store
from heareval.embeddings.submission import Model, Submission
from heareval.formats.embeddings_folder import has_embeddings
from heareval.formats.results_folder import find_scores_fingerprint
from heareval.predictions import worker
from heareval.predictions.protocol import PREDICTOR_VERSION, Protocol, settings_for_fingerprint
from heareval.worker_process import run_worker
from heareval.workflow.machine import ANY_MACHINE, Machine, claimed
from heareval.workflow.prepare import PublishTask
from heareval.workflow.step import DataclassParameter, Step


class Embed(Step):
    """The embeddings of one submission on one published task.

    Its upstream is the step that publishes the task; without one the task folder is there already.
    """

    task_folder = luigi.Parameter()
    content = luigi.Parameter(description="fingerprint of the published task")
    submission = DataclassParameter(Submission)
    form = DataclassParameter(store.Form, default=store.USUAL_FORM)
    machine = DataclassParameter(Machine, default=ANY_MACHINE, significant=False)
    resources = {"gpu": 1}  # noqa: RUF012

    @property
    def title(self) -> str:
        return f"{self.submission.name} on {self.task_folder}: embeddings"

    @functools.cached_property
    def fingerprint(self) -> str:
        return files.fingerprint(
            "embed",
            store.VERSION,
            content=self.content,
            submission=self.submission.fingerprint,
            sample_rate=self.submission.sample_rate,
            form=asdict(self.form),
        )

    @property
    def folder(self) -> Path:
        return self.places.embeddings_of(self.submission.name, self.task_folder)

    def requires(self) -> list[Step]:
        return self.upstream_step

    def complete(self) -> bool:
        return has_embeddings(self.folder, self.fingerprint)

    def work(self, report: progress.Report) -> None:
        with claimed(self.machine.gpus) as variables:
            job = store.EmbedJob(
                self.submission,
                self.places.task(self.task_folder),
                self.folder,
                self.content,
                self.fingerprint,
                self.form,
                device=device_of(self.submission, self.machine),
                silence_s=self.machine.silence_s,
                log=self.places.logs() / f"embed-{self.fingerprint}.log",
                variables=variables,
            )
            store.embed_task(job, report)


class Predict(Step):
    """The predictor and the scores of one folder of embeddings.

    Its upstream is the step that embeds; without one the embeddings are there already.
    """

    folder = luigi.Parameter()
    embeddings = luigi.Parameter(description="fingerprint of the embeddings")
    protocol = DataclassParameter(Protocol)
    machine = DataclassParameter(Machine, default=ANY_MACHINE, significant=False)
    resources = {"gpu": 1}  # noqa: RUF012

    @property
    def title(self) -> str:
        folder = Path(self.folder)
        return f"{folder.parent.name} on {folder.name}: predictor"

    @functools.cached_property
    def fingerprint(self) -> str:
        settings = settings_for_fingerprint(self.protocol)
        return files.fingerprint("predict", PREDICTOR_VERSION, protocol=settings, embeddings=self.embeddings)

    def requires(self) -> list[Step]:
        return self.upstream_step

    @property
    def scores(self) -> Path:
        """The file of the scores."""
        return Path(self.folder) / layout.scores(self.protocol.recorded_name)

    def complete(self) -> bool:
        return find_scores_fingerprint(Path(self.folder), self.protocol.recorded_name) == self.fingerprint

    def work(self, report: progress.Report) -> None:
        job = {
            "folder": self.folder,
            "embeddings": self.embeddings,
            "protocol": asdict(self.protocol),
            "fingerprint": self.fingerprint,
            "in_memory": self.machine.in_memory,
        }
        log = self.places.logs() / f"predict-{self.fingerprint}.log"
        command = [sys.executable, "-m", "heareval.predictions.worker"]
        with claimed(self.machine.gpus) as variables:
            run_worker(command, job, log, report, variables={**worker.ENVIRONMENT, **os.environ, **variables})


def device_of(model: Model, machine: Machine) -> str:
    """Where a model runs: the CPU if it or the user wants that, a GPU if one of them asks for it."""
    asked = (model.device, machine.device)
    return next((device for device in ("cpu", "cuda") if device in asked), "auto")


def score_task(
    published: PublishTask,
    submission: Submission,
    protocol: Protocol,
    *,
    form: store.Form = store.USUAL_FORM,
    machine: Machine = ANY_MACHINE,
) -> Predict:
    """The step that scores a submission on a task, standing on those that embed and publish it."""
    places = published.places
    embedded = Embed(
        places,
        task_folder=published.job.folder,
        content=published.content_fingerprint,
        submission=submission,
        form=form.of(published.job.spec.embedding_type),
        machine=machine,
        upstream=published.as_upstream(),
    )
    return Predict(
        places,
        folder=str(embedded.folder),
        embeddings=embedded.fingerprint,
        protocol=protocol,
        machine=machine,
        upstream=embedded.as_upstream(),
    )
