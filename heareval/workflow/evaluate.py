"""Rooms 2 and 3 as steps: embeddings of a submission, and the scores of a predictor on them."""

from __future__ import annotations

import functools
import sys
from dataclasses import asdict
from pathlib import Path

import luigi

from heareval import files, layout, progress
from heareval.embeddings import store
from heareval.embeddings.submission import Submission
from heareval.layout import Places
from heareval.predictions.protocol import PREDICTOR_VERSION, Protocol, settings_for_fingerprint
from heareval.worker_process import run_worker
from heareval.workflow.prepare import PublishTask, TaskJob
from heareval.workflow.step import DataclassParameter, Step, read_manifest


class Embed(Step):
    """The embeddings of one submission on one published task.

    Its upstream is the step that publishes the task; without one the task folder is there already.
    """

    task_folder = luigi.Parameter()
    content = luigi.Parameter(description="fingerprint of the published task")
    submission = DataclassParameter(Submission)
    resources = {"gpu": 1}  # noqa: RUF012

    @property
    def title(self) -> str:
        return f"{self.task_folder}: embeddings"

    @functools.cached_property
    def fingerprint(self) -> str:
        settings = {"content": self.content, "submission": self.submission.fingerprint}
        return files.fingerprint("embed", store.VERSION, sample_rate=self.submission.sample_rate, **settings)

    @property
    def folder(self) -> Path:
        return self.places.embeddings_of(self.submission.name, self.task_folder)

    def requires(self) -> list[Step]:
        return self.upstream_step

    def complete(self) -> bool:
        return bool(read_manifest(self.folder).get("fingerprint") == self.fingerprint)

    def work(self, report: progress.Report) -> None:
        log = self.places.logs() / f"embed-{self.fingerprint}.log"
        store.embed_task(
            self.submission, self.places.task(self.task_folder), self.folder, self.fingerprint, log, report
        )


class Predict(Step):
    """The predictor and the scores of one folder of embeddings.

    Its upstream is the step that embeds; without one the embeddings are there already.
    """

    folder = luigi.Parameter()
    embeddings = luigi.Parameter(description="fingerprint of the embeddings")
    protocol = DataclassParameter(Protocol)
    resources = {"gpu": 1}  # noqa: RUF012

    @property
    def title(self) -> str:
        return f"{Path(self.folder).name}: predictor"

    @functools.cached_property
    def fingerprint(self) -> str:
        settings = settings_for_fingerprint(self.protocol)
        return files.fingerprint("predict", PREDICTOR_VERSION, protocol=settings, embeddings=self.embeddings)

    def requires(self) -> list[Step]:
        return self.upstream_step

    def complete(self) -> bool:
        scores = Path(self.folder) / layout.SCORES
        return scores.exists() and bool(files.read_json(scores).get("fingerprint") == self.fingerprint)

    def work(self, report: progress.Report) -> None:
        job = {"folder": self.folder, "protocol": asdict(self.protocol), "fingerprint": self.fingerprint}
        log = self.places.logs() / f"predict-{self.fingerprint}.log"
        run_worker([sys.executable, "-m", "heareval.predictions.worker"], job, log, report)


def score_task(
    places: Places, job: TaskJob, submission: Submission, protocol: Protocol, mirrors: tuple[str, ...]
) -> Predict:
    """The step that scores a submission on a task, standing on those that embed and prepare it."""
    published = PublishTask(places, job=job, mirrors=mirrors)
    embedded = Embed(
        places,
        task_folder=job.folder,
        content=published.content_fingerprint,
        submission=submission,
        upstream=published.as_upstream(),
    )
    return Predict(
        places,
        folder=str(embedded.folder),
        embeddings=embedded.fingerprint,
        protocol=protocol,
        upstream=embedded.as_upstream(),
    )
