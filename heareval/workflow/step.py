"""What every step of the corridor shares, and how settings travel as Luigi parameters."""

from __future__ import annotations

import abc
import json
import multiprocessing
import os
import signal
import sys
import time
import typing
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import luigi

from heareval import files, progress
from heareval.errors import HearevalError, about_files
from heareval.layout import Places
from heareval.worker_process import die_with_parent


class DataclassParameter(luigi.Parameter):  # type: ignore[misc]
    """A frozen dataclass as a Luigi parameter, written as JSON."""

    def __init__(self, kind: type, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind

    def serialize(self, value: Any) -> str:
        return json.dumps(asdict(value), sort_keys=True)

    def parse(self, text: str) -> Any:
        return _build(self.kind, json.loads(text))


def _build(kind: type, values: dict[str, Any]) -> Any:
    """A dataclass from JSON; its fields may be tuples, also of dataclasses."""
    hints = typing.get_type_hints(kind)
    return kind(**{key: _value(hints[key], value) for key, value in values.items()})


def _value(hint: Any, value: Any) -> Any:
    if not isinstance(value, list):
        return value
    item = typing.get_args(hint)[0] if typing.get_args(hint) else None
    if isinstance(item, type) and is_dataclass(item):
        return tuple(_build(item, each) for each in value)
    return tuple(_value(item, each) for each in value)


class DiesWithParent:
    """Makes a step's process die with the runner, so that a killed run leaves nothing working."""

    def __init__(self, step: luigi.Task) -> None:
        self.step = step

    def __enter__(self) -> None:
        runner = multiprocessing.parent_process()
        if runner is None:
            return  # the step runs in the runner itself, which may outlive its shell
        die_with_parent()
        if os.getppid() != runner.pid:
            os._exit(1)  # the runner was killed before this process could ask to follow it
        # Ctrl-C reaches every process of the terminal; the runner ends its children itself.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def __exit__(self, *_: object) -> None:
        pass


class Step(luigi.Task):  # type: ignore[misc]
    """A step that shows itself and explains its failure in one line."""

    places = DataclassParameter(Places)
    upstream = luigi.OptionalParameter(default=None, significant=False)

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """What the person who waits reads."""

    @abc.abstractmethod
    def work(self, report: progress.Report) -> None:
        """Make the output."""

    def run(self) -> None:
        if self.complete():
            return
        with progress.step(self.title) as report:
            self.work(report)

    @property
    def upstream_step(self) -> list[Step]:
        """The step named by `upstream`, if any: its family and parameters as JSON."""
        if not self.upstream:
            return []
        family, parameters = json.loads(self.upstream)
        return [luigi.task_register.Register.get_task_cls(family).from_str_params(parameters)]

    def as_upstream(self) -> str:
        """This step as the `upstream` of another."""
        return json.dumps([self.task_family, self.to_str_params()])

    def on_failure(self, exception: BaseException) -> str:
        if isinstance(exception, OSError):
            exception = about_files(exception, self.places.work)
        is_ours = isinstance(exception, HearevalError)
        explanation = str(exception) if is_ours else f"{type(exception).__name__}: {exception}"
        progress.failed(self.title, explanation)
        return str(super().on_failure(exception))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a published folder, empty if there is none."""
    path = folder / files.MANIFEST
    return files.read_json(path) if path.exists() else {}


def write_manifest(folder: Path, fingerprint: str, started: float, **facts: Any) -> None:
    """Tell in a step's folder what it was made from and with; `started` is of time.monotonic()."""
    manifest = {"fingerprint": fingerprint, **facts, "versions": versions("heareval", "numpy")}
    files.write_json(folder / files.MANIFEST, {**manifest, "seconds": round(time.monotonic() - started, 3)})


def versions(*packages: str) -> dict[str, str]:
    """The releases of some packages, and of Python."""
    return {package: version_of(package) for package in packages} | {"python": sys.version.split()[0]}


def steps_below(roots: list[Step]) -> Iterator[Step]:
    """The steps that are not complete, each once."""
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        step = waiting.pop()
        if step.task_id not in seen and not step.complete():
            seen.add(step.task_id)
            waiting += luigi.task.flatten(step.requires())
            yield step
