"""Submissions: models with the HEAR API, which run in separate processes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heareval.embeddings.interpreter import clean_variables
from heareval.spec import Progress, ignore_progress
from heareval.worker_process import run_worker

# The program that the submission's interpreter runs.
INSIDE = Path(__file__).with_name("inside")
VERSION = 1
# Field of Submission -> its key on disk, where that is another.
RECORDED_KEYS = {
    "weights_path": "model",
    "weights_sha256": "weights",
    "description_path": "described",
    "sources_fingerprint": "sources",
}


@dataclass(frozen=True)
class Model:
    """What is needed to load a model in another process.

    Args:
        module: name of the module with the HEAR API.
        file: absolute path of the module's file; "" for a module that Python finds by its name.
        api_object: name of the object in the module that has the functions of the API; "" for the module.
        weights_path: file or folder with the weights, or "".
        options: further arguments of load_model, as JSON.
        python: interpreter of the submission's environment; "" is the interpreter of this process, on
            whichever machine a step runs.
        is_installed: whether the module is installed in that environment; a module of the same name in the
            working folder must then not hide it.
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
    """

    module: str
    weights_path: str = ""
    options: str = "{}"
    python: str = ""
    is_installed: bool = False
    device: str = "auto"
    file: str = ""
    api_object: str = ""

    def run(
        self,
        job: dict[str, Any],
        log: Path,
        progress: Progress = ignore_progress,
        *,
        variables: Mapping[str, str] | None = None,
        **listening: Any,
    ) -> dict[str, Any]:
        """Run a job of `inside/` in the model's interpreter and return its result.

        Args:
            job: what to do, as `inside/__main__.py` describes it; what loads the model is added.
            log: where the output of the submission goes.
            progress: gets the progress.
            variables: further environment variables.
            listening: `on_message` and `silence_s` of `run_worker`.

        Raises:
            HearevalError: as `run_worker`.
        """
        job = {
            "module": self.module,
            "file": self.file,
            "api_object": self.api_object,
            "weights_path": self.weights_path,
            "options": json.loads(self.options),
            "device": self.device,
            "is_installed": self.is_installed,
            **job,
        }
        inherited = clean_variables(Path(self.python)) if self.python else os.environ
        command = [self.python or sys.executable, str(INSIDE)]
        variables = {**inherited, **(variables or {})}
        return run_worker(command, job, log, progress, variables=variables, **listening)


@dataclass(frozen=True)
class Submission(Model):
    """A model to evaluate.

    Args:
        name: name of its folder.
        weights_sha256: SHA-256 of the weights, or "".
        fingerprint: changes with the sources, the record of the environment, the weights, the options and the
            versions of the loaded packages.
        sample_rate: sample rate of the model, in Hz.
        description_path: file with the paths and the SHA-256 of its sources.
        sources_fingerprint: changes with any of these SHA-256.
        facts: what the model says of itself, as JSON; "" if it says nothing.
    """

    name: str = ""
    weights_sha256: str = ""
    fingerprint: str = ""
    sample_rate: int = 0
    description_path: str = ""
    sources_fingerprint: str = ""
    facts: str = ""

    @property
    def identifier(self) -> str:
        """What tells it from other submissions, on machines where its files have other paths, too."""
        return json.dumps([self.name, self.fingerprint, self.sample_rate, self.device])

    def as_recorded(self) -> dict[str, Any]:
        """Return the submission as manifests and results record it."""
        values = {RECORDED_KEYS.get(field, field): value for field, value in asdict(self).items()}
        # Only published models, and those that `heareval.wrap` made, have facts.
        return {key: value for key, value in values.items() if key != "facts" or value}
