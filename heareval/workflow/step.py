"""What all steps share, and how settings travel as Luigi parameters."""

from __future__ import annotations

import abc
import contextlib
import functools
import json
import logging
import multiprocessing
import os
import signal
import sys
import time
import typing
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, ClassVar, Literal

import luigi

from heareval import files, progress
from heareval.archives.estimate import ArchiveSizes
from heareval.archives.sizes import Size
from heareval.errors import HearevalError, file_error
from heareval.layout import FolderName, Places
from heareval.spec import Progress
from heareval.worker_process import die_with_parent
from heareval.workflow.step_records import (
    StepRecord,
    begin_record,
    forget_failure,
    make_key,
    record_failure,
    recording_run,
)
from heareval.workflow.stopping import is_draining

logger = logging.getLogger("luigi-interface")
# How often a step looks for the output of another.
LOOK_EVERY_S = 0.5


class DataclassParameter(luigi.Parameter):  # type: ignore[misc]
    """A frozen dataclass as a Luigi parameter, serialized as JSON.

    If its fields hold paths, it may have a property `identifier`, which tells it from others without them.

    Args:
        kind: the dataclass.
        options: options of luigi.Parameter.
    """

    def __init__(self, kind: type, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind

    def serialize(self, value: Any) -> str:
        return _serialize(value)

    def parse(self, text: str) -> Any:
        return _build(self.kind, json.loads(text))


@functools.lru_cache(maxsize=4096)
def _serialize(value: Any) -> str:
    """Return a dataclass as JSON; thousands of steps share a few."""
    return json.dumps(asdict(value), sort_keys=True)


def _build(kind: type, values: dict[str, Any]) -> Any:
    """Return a dataclass from JSON values; its fields may be tuples, also of dataclasses."""
    hints = _type_hints(kind)
    return kind(**{key: _value(hints[key], value) for key, value in values.items()})


@functools.cache
def _type_hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(hint: Any, value: Any) -> Any:
    if not isinstance(value, list):
        return value
    item = typing.get_args(hint)[0] if typing.get_args(hint) else None
    if isinstance(item, type) and is_dataclass(item):
        return tuple(_build(item, each) for each in value)
    return tuple(_value(item, each) for each in value)


class DiesWithParent:
    """Context in which a step's process dies with the runner, so that a killed run leaves no process behind.

    luigi.cfg names it as `task_process_context`.
    """

    def __init__(self, step: luigi.Task) -> None:
        self.step = step

    def __enter__(self) -> None:
        runner = multiprocessing.parent_process()
        if runner is None:
            return  # the step runs in the runner itself, which may outlive its shell
        die_with_parent()
        if os.getppid() != runner.pid:
            os._exit(1)  # the runner was killed before die_with_parent() took effect
        # Ctrl-C reaches every process of the terminal, but the runner ends its children itself.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # A batch system may send it to all processes of a job; only the runner drains. Programs that the
        # step starts ignore it as well.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that a step will write, and the column of the disk plan in which they count."""

    column: Literal["download", "work", "task folder", "tarballs"]
    size: Size


# Of a step whose output is too small to count.
NO_DISK_NEED = DiskNeed("work", Size())


class Step(luigi.Task):  # type: ignore[misc]
    """A Luigi task that reports its progress, its disk needs and, in one line, its failure."""

    # On another machine the same folders may have other paths.
    places = DataclassParameter(Places, significant=False)
    upstream = luigi.OptionalParameter(default=None, significant=False)
    # What `work` reports as done and as total; steps that report nothing leave it.
    unit: progress.Unit = "clips"
    # The folders of `places` that it reads or writes.
    uses: ClassVar[tuple[FolderName, ...]] = ("work", "tasks")

    def to_str_params(self, only_significant: bool = False, only_public: bool = False) -> dict[str, str]:
        """Return the parameters as text.

        The significant ones, which Luigi makes the id of the step from, are the same on machines where the
        folders have other paths, and differ for other folders at the same paths.
        """
        parameters: dict[str, str] = super().to_str_params(only_significant, only_public)
        if only_significant:
            parameters |= {f"{name}_folder": self.places.identify(name) for name in self.uses}
            for name, value in self.param_kwargs.items():
                if name in parameters and (identifier := getattr(value, "identifier", "")):
                    parameters[name] = identifier
        return parameters

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """Name of the step in progress bars and error messages."""

    @property
    def output(self) -> str:
        """What the step makes; a plan counts it once if several steps make the same."""
        return str(self.task_id)

    @property
    def record_name(self) -> str:
        """What distinguishes the step from all others, whatever its settings are."""
        return self.title

    @property
    def finished_part(self) -> str:
        """What of the output an earlier run has finished, such as `5 of 12 trainings`; "" if nobody knows."""
        return ""

    @abc.abstractmethod
    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        """Return what this step, which is not complete, will write.

        Args:
            sizes: sizes of the archives that the steps of the plan fetch.
        """

    @abc.abstractmethod
    def work(self, progress: Progress) -> None:
        """Make the output.

        Args:
            progress: called with (done, total) in units of `unit` while the work goes on.
        """

    def say(self, text: str) -> None:
        """Show a line about the step while it is at work."""
        progress.report_note(f"{self.title}: {text}")

    def check_target(self) -> None:
        """Raise an error if the output would replace something that heareval did not make."""

    def run(self) -> None:
        record, folder = self.begin_record(), self.places.step_records()
        if not self.complete():
            wait_for_outputs(self.deps(), self.title)
            with recording_run(folder, record), progress.report_step(self.title, self.unit) as report:
                self.work(report)
        forget_failure(folder, record)

    @property
    def output_path(self) -> Path:
        """The file or folder that the step makes: its `folder` or `path`."""
        return Path(getattr(self, "folder", None) or self.path)

    @classmethod
    @functools.cache
    def get_params(cls) -> list[tuple[str, luigi.Parameter]]:
        """Return names and parameters; Luigi would look for them anew for each of thousands of steps."""
        return list(super().get_params())

    @property
    def record_key(self) -> str:
        """What the records of this step are found by."""
        return make_key(self.record_name)

    def begin_record(self) -> StepRecord:
        """Return the record of this step, as one that begins now."""
        return begin_record(self.record_key, self.title, self.as_upstream())

    @property
    def upstream_step(self) -> list[Step]:
        """The step that `upstream` describes, or nothing; see `as_upstream`."""
        if not self.upstream:
            return []
        return [self.from_upstream(self.upstream)]

    @staticmethod
    @functools.cache
    def from_upstream(text: str) -> Step:
        """Return the step that `as_upstream` has described; many steps have the same upstream."""
        family, parameters = json.loads(text)
        step: Step = luigi.task_register.Register.get_task_cls(family).from_str_params(parameters)
        return step

    def as_upstream(self) -> str:
        """Return this step as the `upstream` of another one: its family and parameters as JSON."""
        return self._as_upstream

    @functools.cached_property
    def _as_upstream(self) -> str:
        # The step that publishes a task is upstream of the steps of every submission.
        return json.dumps([self.task_family, self.to_str_params()])

    def on_failure(self, exception: BaseException) -> str:
        if isinstance(exception, OSError):
            exception = file_error(exception, self.places.work)
        is_ours = isinstance(exception, HearevalError)
        self.report_failure(str(exception) if is_ours else f"{type(exception).__name__}: {exception}")
        return str(super().on_failure(exception))

    def report_failure(self, explanation: str) -> None:
        """Report and record that this step failed."""
        progress.report_failure(self.title, explanation)
        record_failure(self.places.step_records(), self.begin_record(), explanation)


def forget_steps() -> None:
    """Forget the steps of earlier runs of this process.

    Luigi keeps every step, and takes steps with the same id for one. The times of `Overwriting` are no part
    of the id, nor is the machine, and a step remembers what it found on disk.
    """
    luigi.task_register.Register.clear_instance_cache()
    Step.from_upstream.cache_clear()


@Step.event_handler(luigi.Event.PROCESS_FAILURE)  # type: ignore[untyped-decorator]
def _report_death(step: Step, message: str) -> None:
    """Report that the process of a step has died, unless a signal to the whole job has ended it.

    Args:
        step: the step, which can't report it itself.
        message: of Luigi, which ends with the exit code.
    """
    if not is_draining():
        code = message.rsplit(" ", 1)[-1]
        killed = f"it was killed by signal {code[1:]}, as the system does if memory is short"
        step.report_failure(killed if code.startswith("-") else f"its process ended with exit code {code}")


def wait_for_outputs(steps: Iterable[Step], waiting: str) -> None:
    """Wait until this machine sees what steps have made, perhaps on another machine.

    Args:
        steps: steps that are done.
        waiting: what waits for them, for the log.

    Raises:
        HearevalError: it does not for long.
    """
    patience_s = luigi.configuration.get_config().getfloat("heareval", "input_wait_s", 0.0)
    started = time.monotonic()
    for step in steps:
        if not step.complete():
            logger.info("%s waits for the output of %s", waiting, step.title)
        while not step.complete():
            if time.monotonic() - started > patience_s:
                raise HearevalError(
                    f"output of `{step.title}`",
                    got=f"nothing at {step.output_path} for {patience_s:g} s",
                    expected="what a step before this one has made",
                    remedy="Check that all machines have the same folders, then run again.",
                )
            # NFS keeps the names of a folder for a while, and looks for new ones when it is opened.
            for folder in (step.output_path.parent, step.output_path):
                with contextlib.suppress(OSError):
                    list(folder.iterdir())
            time.sleep(LOOK_EVERY_S)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a step's folder, or {} if there is none."""
    path = folder / files.MANIFEST
    return files.read_json(path) if path.exists() else {}


def write_manifest(folder: Path, fingerprint: str, started: float, **facts: Any) -> None:
    """Write the manifest of a step's folder.

    Args:
        fingerprint: of the settings and inputs that the folder was made from.
        started: time.monotonic() when the step began.
        facts: further values.
    """
    manifest = {"fingerprint": fingerprint, **facts, "versions": versions("heareval", "numpy")}
    files.write_json(folder / files.MANIFEST, {**manifest, "seconds": round(time.monotonic() - started, 3)})


def versions(*packages: str) -> dict[str, str]:
    """Return the installed versions of packages, and that of Python."""
    return {package: version_of(package) for package in packages} | {"python": sys.version.split()[0]}


def incomplete_steps(roots: list[Step]) -> Iterator[Step]:
    """Yield the steps to do for these roots, each once; what a complete step requires is not looked at."""
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        step = waiting.pop()
        if step.task_id not in seen and not step.complete():
            seen.add(step.task_id)
            waiting += luigi.task.flatten(step.requires())
            yield step
