"""The step that loads a model nobody knows yet, to learn its sample rate, its sources and what it lacks."""

from __future__ import annotations

import contextlib
from pathlib import Path

import luigi

from heareval.archives.estimate import ArchiveSizes
from heareval.embeddings.describe import (
    DescribeSettings,
    LackingFunctionError,
    is_described,
    write_description,
)
from heareval.embeddings.submission import Model
from heareval.embeddings.weights import check_weights
from heareval.layout import Places
from heareval.spec import Progress
from heareval.workflow.machine import ANY_MACHINE, Machine, claim_device, uses_gpu
from heareval.workflow.memory_claims import claim_memory, estimate_model
from heareval.workflow.step import NO_DISK_NEED, DataclassParameter, DiskNeed, Step


class Describe(Step):
    """Describe a model for one type of embeddings.

    It succeeds as well if the model says that it has no embeddings of this type, which is written down.
    """

    uses = ("work",)
    # It is made of the model, its weights and its environment.
    key = luigi.Parameter(description="name of the file of the description, without .json")
    embedding_type = luigi.Parameter(description="scene or event")
    submission_name = luigi.Parameter(significant=False)
    model = DataclassParameter(Model, significant=False)
    weights_sha256 = luigi.Parameter(significant=False)
    machine = DataclassParameter(Machine, default=ANY_MACHINE, significant=False)

    @property
    def title(self) -> str:
        kind = "scene" if self.embedding_type == "scene" else "timestamp"
        return f"{self.submission_name}: description for {kind} embeddings"

    @property
    def resources(self) -> dict[str, int]:
        """What it claims from Luigi's scheduler."""
        return {"gpu": 1} if uses_gpu(self.machine.choose_device(self.model)) else {}

    @property
    def path(self) -> Path:
        """The file of the description."""
        return place_descriptions(self.places) / f"{self.key}.json"

    def complete(self) -> bool:
        return is_described(self.path)

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        return NO_DISK_NEED

    def work(self, progress: Progress) -> None:
        check_weights(self.model.weights_path, self.weights_sha256)
        device, needed_bytes = self.machine.choose_device(self.model), estimate_model(self.model.weights_path)
        with (
            claim_device(device, self.machine) as variables,
            claim_memory(needed_bytes, self.say),
            contextlib.suppress(LackingFunctionError),
        ):
            settings = DescribeSettings(device, self.machine.timeout_s, variables)
            write_description(self.model, self.embedding_type, self.path, settings)


def place_descriptions(places: Places) -> Path:
    """Return the folder of the descriptions of models."""
    return Path(places.work) / "submissions"
