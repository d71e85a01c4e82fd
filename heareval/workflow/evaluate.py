"""Steps of rooms 2 and 3: compute the embeddings of a submission, train predictors and score them."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import luigi

from heareval import files, layout, progress
from heareval.archives.estimate import ArchiveSizes
from heareval.embeddings.embed import VERSION as EMBED_VERSION
from heareval.embeddings.embed import EmbedJob, embed_task
from heareval.embeddings.embedding_format import DEFAULT_FORMAT, EmbeddingFormat
from heareval.embeddings.resample import VERSION as RESAMPLE_VERSION
from heareval.embeddings.resample import resample_task
from heareval.embeddings.submission import Submission
from heareval.errors import HearevalError
from heareval.formats.digests import digests_to_json
from heareval.formats.embeddings_folder import find_embeddings_manifest, has_embeddings
from heareval.formats.results_folder import check_replaceable, find_scores_fingerprint
from heareval.formats.task_folder import check_task_fingerprint
from heareval.formats.task_metadata import read_task_metadata
from heareval.formats.training_progress import find_training_progress, unfinished_trainings
from heareval.memory import SHARE_OF_MEMORY, find_free_memory
from heareval.predictions import worker
from heareval.predictions.protocol import (
    PREDICTOR_VERSION,
    Protocol,
    count_concurrent_trainings,
    settings_for_fingerprint,
)
from heareval.spec import Progress
from heareval.worker_process import run_worker
from heareval.workflow.machine import ANY_MACHINE, Device, Machine, claim_device, uses_gpu
from heareval.workflow.memory_claims import NETWORK_BYTES, STEP_BYTES, claim_memory, estimate_model
from heareval.workflow.overwriting import NOTHING, Overwriting
from heareval.workflow.prepare import PublishTask
from heareval.workflow.step import NO_DISK_NEED, DataclassParameter, DiskNeed, Step, write_manifest

_NOT_BEFORE = "what was made before this time, by the clock of its folder, is made again; 0 for nothing"


class Resample(Step):
    """Write the clips of a published task at a rate that it is not prepared at, for all models of that rate.

    Its upstream is the step that publishes the task. Without one, the task folder must exist.
    """

    task_folder = luigi.Parameter()
    task_fingerprint = luigi.Parameter(description="fingerprint of the published task")
    source_rate = luigi.IntParameter()
    sample_rate = luigi.IntParameter()

    @property
    def title(self) -> str:
        return f"{self.task_folder}: clips at {self.sample_rate} Hz"

    @property
    def folder(self) -> Path:
        fingerprint = files.fingerprint(
            "resample",
            RESAMPLE_VERSION,
            content=self.task_fingerprint,
            source_rate=self.source_rate,
            sample_rate=self.sample_rate,
        )
        return self.places.stage(self.task_folder, "resampled", fingerprint)

    def requires(self) -> list[Step]:
        return self.upstream_step

    def complete(self) -> bool:
        return self.folder.exists()

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        for step in self.upstream_step:
            if isinstance(step, PublishTask):
                return DiskNeed("work", step.clips_size((self.sample_rate,), sizes))
        return NO_DISK_NEED

    def work(self, progress: Progress) -> None:
        started, task = time.monotonic(), self.places.task(self.task_folder)
        check_task_fingerprint(task, self.source_rate, self.task_fingerprint)
        with files.building_folder(self.folder) as scratch:
            digests = resample_task(
                task, scratch, source_rate=self.source_rate, sample_rate=self.sample_rate, progress=progress
            )
            check_task_fingerprint(task, self.source_rate, self.task_fingerprint)
            write_manifest(
                scratch,
                self.folder.name,
                started,
                clips=len(digests),
                resampled_from_hz=self.source_rate,
                digests=digests_to_json(digests),
            )


class Embed(Step):
    """Compute the embeddings of one submission on one published task.

    Its upstream is the step that publishes the task. Without one, the task folder must exist.
    """

    uses = ("work", "tasks", "embeddings")
    task_folder = luigi.Parameter()
    task_fingerprint = luigi.Parameter(description="fingerprint of the published task")
    submission = DataclassParameter(Submission)
    embedding_format = DataclassParameter(EmbeddingFormat, default=DEFAULT_FORMAT)
    limit = luigi.OptionalIntParameter(default=None, description="most clips of each split; None means all")
    machine = DataclassParameter(Machine, default=ANY_MACHINE, significant=False)
    not_before_s = luigi.FloatParameter(default=0.0, significant=False, description=_NOT_BEFORE)

    @property
    def resources(self) -> dict[str, int]:
        """What it claims of Luigi's scheduler."""
        return {"gpu": 1} if uses_gpu(self.machine.choose_device(self.submission)) else {}

    @property
    def title(self) -> str:
        return f"{self.submission.name} on {self.folder.name}: embeddings"

    @functools.cached_property
    def fingerprint(self) -> str:
        return files.fingerprint(
            "embed",
            EMBED_VERSION,
            content=self.task_fingerprint,
            submission=self.submission.fingerprint,
            sample_rate=self.submission.sample_rate,
            form=self.embedding_format.for_fingerprint,
            **({} if self.limit is None else {"limit": self.limit}),
        )

    @property
    def folder(self) -> Path:
        return self.places.embeddings_of(self.submission.name, self.task_folder, self.limit)

    @functools.cached_property
    def resampled(self) -> Resample | None:
        """The step that resamples the clips; None if the task is prepared at the model's rate."""
        if not self.embedding_format.resampled_from_hz:
            return None
        return Resample(
            self.places,
            task_folder=self.task_folder,
            task_fingerprint=self.task_fingerprint,
            source_rate=self.embedding_format.resampled_from_hz,
            sample_rate=self.submission.sample_rate,
            upstream=self.upstream,
        )

    def requires(self) -> list[Step]:
        return [self.resampled] if self.resampled else self.upstream_step

    def check_target(self) -> None:
        files.check_is_ours(self.folder)

    def complete(self) -> bool:
        return has_embeddings(self.folder, self.fingerprint, self.not_before_s)

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        # Only the submission knows the size of its embeddings; the plan says that it ignores them.
        return NO_DISK_NEED

    def work(self, progress: Progress) -> None:
        device = self.machine.choose_device(self.submission)
        with (
            claim_device(device, self.machine) as variables,
            claim_memory(self._estimate_memory(device), self.say),
        ):
            job = EmbedJob(
                self.submission,
                self.places.task(self.task_folder),
                self.resampled.folder if self.resampled else self.places.task(self.task_folder),
                self.folder,
                self.task_fingerprint,
                self.fingerprint,
                self.embedding_format,
                device=device,
                silence_s=self.machine.timeout_s,
                log=self.places.logs() / f"embed-{self.fingerprint}.log",
                variables=variables,
                limit=self.limit,
                not_before_s=self.not_before_s,
            )
            embed_task(job, progress)

    def _estimate_memory(self, device: Device) -> int:
        """Return the bytes that the model will take: as it did on another task, if it was measured there."""
        measured = []
        for folder in Path(self.places.embeddings, self.submission.name).glob("[!.]*"):
            # A damaged folder is reported by the step that needs it.
            with contextlib.suppress(HearevalError):
                manifest = find_embeddings_manifest(folder)
                is_alike = manifest and manifest.submission.get("weights") == self.submission.weights_sha256
                if manifest and is_alike and (manifest.device == "cuda") == uses_gpu(device):
                    measured.append(manifest.memory_bytes or 0)
        return max(measured, default=0) or estimate_model(self.submission.weights_path)


class Predict(Step):
    """Train predictors on one folder of embeddings and score them, or score its distances.

    Its upstream is the step that computes the embeddings. Without one, they must exist.
    """

    uses = ("work", "embeddings")
    path = luigi.Parameter(description="path of the folder inside `places.embeddings`, or an absolute path")
    embeddings_fingerprint = luigi.Parameter(description="fingerprint of the embeddings")
    protocol = DataclassParameter(Protocol)
    machine = DataclassParameter(Machine, default=ANY_MACHINE, significant=False)
    not_before_s = luigi.FloatParameter(default=0.0, significant=False, description=_NOT_BEFORE)

    @property
    def resources(self) -> dict[str, int]:
        """What it claims of Luigi's scheduler."""
        return {"gpu": 1} if uses_gpu(self.machine.device) else {}

    @property
    def unit(self) -> progress.Unit:  # type: ignore[override]
        """Networks are trained one by one; the settings of a probe share one fit."""
        return "hundredths of trainings" if self.is_network else "hundredths"

    @property
    def is_network(self) -> bool:
        """Whether networks are trained, not a probe, and something is trained at all."""
        return self.protocol.probe == "mlp" and not self.protocol.is_pairwise

    @property
    def folder(self) -> Path:
        """The folder of embeddings."""
        return Path(self.places.embeddings, self.path)

    @property
    def name(self) -> str:
        """The submission and the task folder."""
        return f"{self.folder.parent.name} on {self.folder.name}"

    @property
    def title(self) -> str:
        return f"{self.name}: {'distances' if self.protocol.is_pairwise else 'predictor'}"

    @property
    def record_name(self) -> str:
        return f"{self.title} {self.protocol.recorded_name}"

    @functools.cached_property
    def fingerprint(self) -> str:
        return files.fingerprint(
            "predict",
            PREDICTOR_VERSION,
            protocol=settings_for_fingerprint(self.protocol),
            embeddings=self.embeddings_fingerprint,
        )

    def requires(self) -> list[Step]:
        return self.upstream_step

    @property
    def scores(self) -> Path:
        """The JSON file with the scores."""
        return self.folder / layout.scores(self.protocol.recorded_name)

    def complete(self) -> bool:
        is_there = find_scores_fingerprint(self.folder, self.protocol.recorded_name) == self.fingerprint
        return is_there and files.is_written_since(self.scores, self.not_before_s)

    @property
    def finished_part(self) -> str:
        protocol = self.protocol.recorded_name
        found = find_training_progress(unfinished_trainings(self.folder, protocol, self.fingerprint))
        return str(found) if found else ""

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        return NO_DISK_NEED

    def work(self, progress: Progress) -> None:
        if not self.not_before_s:
            check_replaceable(self.folder, self.protocol.recorded_name)
        networks = self._count_networks()
        job = {
            "folder": str(self.folder),
            "embeddings": self.embeddings_fingerprint,
            "protocol": asdict(self.protocol),
            "fingerprint": self.fingerprint,
            "in_memory": self.machine.in_memory,
            "scratch": self.places.scratch,
            "train_threads": self.machine.train_threads,
            "side_by_side": networks,
        }
        log = self.places.logs() / f"predict-{self.fingerprint}.log"
        command = [sys.executable, "-m", "heareval.predictions.worker"]
        with (
            claim_device(self.machine.device, self.machine) as variables,
            claim_memory(STEP_BYTES + self._measure_embeddings() + (networks - 1) * NETWORK_BYTES, self.say),
        ):
            environment = {**worker.ENVIRONMENT, **os.environ, **variables}
            run_worker(command, job, log, progress, on_message=self._hand_on, variables=environment)

    def _hand_on(self, message: dict[str, Any]) -> None:
        """Show a line that the worker has for people."""
        if "note" in message:
            self.say(message["note"])

    def _count_networks(self) -> int:
        """Return how many networks train at the same time at most; 1 if none does."""
        most = self.machine.networks_side_by_side if self.is_network else 1
        # The worker reports a damaged folder.
        with contextlib.suppress(HearevalError):
            if most > 1:
                task = read_task_metadata(self.folder)
                return min(most, count_concurrent_trainings(self.protocol, task))
        return 1

    def _measure_embeddings(self) -> int:
        """Return the bytes of the embeddings if they will be kept in this machine's memory; else 0."""
        if self.machine.in_memory is False or uses_gpu(self.machine.device):
            return 0
        manifest = find_embeddings_manifest(Path(self.folder))
        arrays = [Path(self.folder, name) for name in manifest.arrays] if manifest else []
        # They are kept as float32.
        factor = 2 if manifest and manifest.form.get("dtype") == "float16" else 1
        size = factor * sum(array.stat().st_size for array in arrays if array.is_file())
        is_kept = self.machine.in_memory or size <= SHARE_OF_MEMORY * find_free_memory()
        # Those that are trained on are also kept as bf16.
        taken = size + size // 2 if self.protocol.train_precision == "bf16" else size
        return taken if is_kept or self.protocol.probe != "mlp" else 0


def score_task(
    published: PublishTask,
    submission: Submission,
    protocol: Protocol,
    *,
    embedding_format: EmbeddingFormat = DEFAULT_FORMAT,
    machine: Machine = ANY_MACHINE,
    overwriting: Overwriting = NOTHING,
) -> Predict:
    """Return the step that scores a submission on a task, downstream of those that embed and publish it."""
    places = published.places
    embedded = Embed(
        places,
        task_folder=published.job.folder,
        task_fingerprint=published.task_fingerprint,
        submission=submission,
        embedding_format=embedding_format.for_task(published.job.spec.embedding_type),
        limit=protocol.limit,
        machine=machine,
        not_before_s=overwriting.embeddings_not_before_s,
        upstream=published.as_upstream(),
    )
    return Predict(
        places,
        path=f"{submission.name}/{embedded.folder.name}",
        embeddings_fingerprint=embedded.fingerprint,
        protocol=protocol.for_task(is_pairwise=published.job.spec.is_pairwise),
        machine=machine,
        not_before_s=overwriting.scores_not_before_s,
        upstream=embedded.as_upstream(),
    )
