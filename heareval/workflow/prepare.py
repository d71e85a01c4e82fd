"""Room 1 as steps: archives, labels and splits, clips, the published folder, its tarballs."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import luigi

from heareval import files, layout, progress
from heareval.layout import Places
from heareval.spec import Download, Mode, TaskSpec
from heareval.tasks import archive, audio, extract, fetch, metadata, publish
from heareval.tasks.registry import find_mode, find_task
from heareval.workflow.step import DataclassParameter, Step, read_manifest, versions, write_manifest


@dataclass(frozen=True)
class TaskJob:
    """A task to prepare, as far as it decides what comes out.

    Args:
        accepted: (archive name, checksum) of archives admitted in place of the published ones.
    """

    task: str
    mode: str
    engine: str = "soxr"
    accepted: tuple[tuple[str, str], ...] = ()

    @property
    def folder(self) -> str:
        """Name of the published folder."""
        return find_task(self.task).folder(self.mode)

    @property
    def spec(self) -> TaskSpec:
        """The task with the accepted checksums filled in."""
        task = find_task(self.task)
        mode = find_mode(task, self.mode)
        accepted = dict(self.accepted)
        downloads = tuple(replace(d, accepted=accepted.get(d.file_name, "")) for d in mode.downloads)
        return replace(task, modes={self.mode: replace(mode, downloads=downloads)})

    @property
    def mode_spec(self) -> Mode:
        """The mode with the accepted checksums filled in."""
        return self.spec.modes[self.mode]


class FetchArchive(Step):
    """An archive in the work folder, shared by every task that names its checksum."""

    download = DataclassParameter(Download)
    mirrors = luigi.TupleParameter(default=(), significant=False)
    resources = {"download": 1}  # noqa: RUF012

    @property
    def title(self) -> str:
        return f"fetch {self.download.file_name}"

    @property
    def path(self) -> Path:
        return self.places.archive(self.download.wanted, self.download.file_name)

    def complete(self) -> bool:
        return self.path.exists()

    def work(self, report: progress.Report) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fetch.fetch(self.download, self.path, self.mirrors, report)


class ExtractArchive(Step):
    """What is in an archive."""

    download = DataclassParameter(Download)
    mirrors = luigi.TupleParameter(default=(), significant=False)

    @property
    def title(self) -> str:
        return f"extract {self.download.file_name}"

    @functools.cached_property
    def fingerprint(self) -> str:
        return files.fingerprint("extract", extract.VERSION, checksum=self.download.wanted)

    @property
    def folder(self) -> Path:
        return self.places.extracted(self.download.wanted, self.fingerprint)

    def requires(self) -> FetchArchive:
        return FetchArchive(self.places, download=self.download, mirrors=self.mirrors)

    def complete(self) -> bool:
        return self.folder.exists()

    def work(self, report: progress.Report) -> None:
        started = time.monotonic()
        with files.building_folder(self.folder) as scratch:
            count = extract.extract(self.requires().path, scratch / "files", report)
            write_manifest(scratch, self.fingerprint, started, archive=self.download.file_name, files=count)


class TaskStep(Step):
    """A step of one task and mode."""

    job = DataclassParameter(TaskJob)
    mirrors = luigi.TupleParameter(default=(), significant=False)

    @property
    def name(self) -> str:
        """`speech_commands 5h`"""
        return f"{self.job.task} {self.job.mode}"

    @functools.cached_property
    def clips_fingerprint(self) -> str:
        """Changes with whatever decides which clips there are and what they are called."""
        mode = self.job.mode_spec
        settings = {
            "description": metadata.task_metadata(self.job.spec, self.job.mode, mode),
            "drop_missing_files": mode.drop_missing_files,
            "archives": [[step.download.folder, step.fingerprint] for step in self.extractions],
            "reader": _reader_digest(self.job.spec),
        }
        return files.fingerprint("clips", metadata.VERSION, **settings)

    @functools.cached_property
    def content_fingerprint(self) -> str:
        """Changes with whatever decides the clips' samples, whichever rates are asked for."""
        settings = {
            "engine": [self.job.engine, audio.engine_version(self.job.engine)],
            "duration_s": self.job.spec.duration_s(self.job.mode),
        }
        return files.fingerprint("audio", audio.VERSION, inputs=self.clips_fingerprint, **settings)

    @functools.cached_property
    def extractions(self) -> list[ExtractArchive]:
        """The archives of this task and mode, extracted."""
        return [
            ExtractArchive(self.places, download=d, mirrors=self.mirrors)
            for d in self.job.mode_spec.downloads
        ]

    @property
    def extracted_root(self) -> Path:
        return Path(self.places.work) / "corpora"


class DrawClips(TaskStep):
    """The labels and splits of a task, and where each clip comes from."""

    @property
    def title(self) -> str:
        return f"{self.name}: labels and splits"

    @property
    def folder(self) -> Path:
        return self.places.stage(self.job.folder, "clips", self.clips_fingerprint)

    def requires(self) -> list[ExtractArchive]:
        return self.extractions

    def complete(self) -> bool:
        return self.folder.exists()

    def work(self, report: progress.Report) -> None:
        started = time.monotonic()
        task, mode = self.job.spec, self.job.mode
        archives = {step.download.folder: step.folder / "files" for step in self.extractions}
        drawn = metadata.draw_clips(task, mode, task.read_recordings(archives, mode))
        with files.building_folder(self.folder) as scratch:
            metadata.write_description(scratch, task, mode, drawn)
            metadata.write_clips(scratch / metadata.CLIPS, drawn, self.extracted_root)
            counts = {split: len(drawn.of_split(split)) for split in task.splits.names}
            facts = {"clips": counts, "dropped": drawn.dropped, "warnings": drawn.warnings}
            write_manifest(scratch, self.clips_fingerprint, started, **facts)


class PrepareClips(TaskStep):
    """One shard of a task's clips at some rates."""

    sample_rates = luigi.TupleParameter()
    shard = luigi.IntParameter()

    @property
    def shards(self) -> int:
        return self.job.mode_spec.shards

    @property
    def title(self) -> str:
        return f"{self.name}: clips {self.shard + 1}/{self.shards}"

    @property
    def folder(self) -> Path:
        settings = {"rates": self.sample_rates, "shard": self.shard, "shards": self.shards}
        fingerprint = files.fingerprint("shard", audio.VERSION, content=self.content_fingerprint, **settings)
        return self.places.stage(self.job.folder, f"shard{self.shard:03d}", fingerprint)

    def requires(self) -> DrawClips:
        return DrawClips(self.places, job=self.job, mirrors=self.mirrors)

    def complete(self) -> bool:
        return self.folder.exists()

    def work(self, report: progress.Report) -> None:
        started = time.monotonic()
        clips = metadata.read_clips(self.requires().folder / metadata.CLIPS, self.extracted_root)
        start, end = (len(clips) * i // self.shards for i in (self.shard, self.shard + 1))
        settings = audio.AudioSettings(
            self.sample_rates, self.job.spec.duration_s(self.job.mode), self.job.engine
        )
        with files.building_folder(self.folder) as scratch:
            audio.prepare_clips(clips[start:end], scratch, settings, report)
            write_manifest(
                scratch, self.content_fingerprint, started, clips=end - start, rates=settings.sample_rates
            )


class PublishTask(TaskStep):
    """The published folder of a task, at least at the rates asked for."""

    sample_rates = luigi.TupleParameter()

    @property
    def title(self) -> str:
        return f"{self.name}: task folder"

    @property
    def folder(self) -> Path:
        return self.places.task(self.job.folder)

    def rates_there(self) -> set[int]:
        """The rates that the folder has of these very clips."""
        manifest = read_manifest(self.folder)
        is_current = manifest.get("fingerprint") == self.content_fingerprint
        return set(manifest["sample_rates"]) if is_current else set()

    @functools.cached_property
    def missing_rates(self) -> tuple[int, ...]:
        """The rates that were not there when the run was planned; only they are made."""
        return tuple(rate for rate in self.sample_rates if rate not in self.rates_there())

    @property
    def draw(self) -> DrawClips:
        return DrawClips(self.places, job=self.job, mirrors=self.mirrors)

    @property
    def shards(self) -> list[PrepareClips]:
        options = {"job": self.job, "mirrors": self.mirrors, "sample_rates": self.missing_rates}
        return [PrepareClips(self.places, shard=i, **options) for i in range(self.job.mode_spec.shards)]

    def requires(self) -> list[TaskStep]:
        return [self.draw, *self.shards]

    def complete(self) -> bool:
        return set(self.sample_rates) <= self.rates_there()

    def work(self, report: progress.Report) -> None:
        drawn = files.read_json(self.draw.folder / files.MANIFEST)
        downloads = self.job.mode_spec.downloads
        manifest = {
            "fingerprint": self.content_fingerprint,
            "task": self.job.task,
            "mode": self.job.mode,
            "engine": self.job.engine,
            "archives": [
                {"name": d.file_name, "checksum": d.wanted, "published": d.is_published} for d in downloads
            ],
            "is_the_published_corpus": all(d.is_published for d in downloads),
            **{key: drawn[key] for key in ("clips", "dropped", "warnings")},
            "versions": versions("heareval", "numpy", "soundfile", "soxr"),
        }
        shards = [shard.folder for shard in self.shards]
        publish.publish_task(self.folder, self.draw.folder, shards, self.missing_rates, manifest)


class PackTar(TaskStep):
    """The tarball of one rate of a published task, under both of its names, and its line in SHA256SUMS."""

    sample_rates = luigi.TupleParameter()
    sample_rate = luigi.IntParameter()

    @property
    def title(self) -> str:
        return f"{self.name}: tarball {self.sample_rate}"

    @functools.cached_property
    def fingerprint(self) -> str:
        settings = {"content": self.content_fingerprint, "sample_rate": self.sample_rate}
        return files.fingerprint("tar", archive.VERSION, **settings)

    @property
    def path(self) -> Path:
        return self.places.tar(self.job.folder, self.sample_rate)

    @property
    def latest(self) -> Path:
        return self.places.tar(self.job.folder, self.sample_rate, layout.TAR_LATEST)

    def requires(self) -> PublishTask:
        options = {"job": self.job, "mirrors": self.mirrors, "sample_rates": self.sample_rates}
        return PublishTask(self.places, **options)

    def is_packed(self) -> bool:
        """Whether the tarballs are there and their sidecar tells this fingerprint."""
        sidecar = layout.tar_manifest(self.path)
        if not (self.path.exists() and self.latest.exists() and sidecar.exists()):
            return False
        return bool(files.read_json(sidecar)["fingerprint"] == self.fingerprint)

    def complete(self) -> bool:
        return self.is_packed() and archive.is_listed(self.path)

    def work(self, report: progress.Report) -> None:
        sidecar = layout.tar_manifest(self.path)
        with files.locked(sidecar.with_suffix(".lock")):
            if not self.is_packed():
                self._pack(sidecar, report)
        archive.write_checksums(self.path.parent)

    def _pack(self, sidecar: Path, report: progress.Report) -> None:
        started = time.monotonic()
        folder = self.requires().folder
        publish.check_published(folder, self.content_fingerprint, self.sample_rate)
        sha256 = archive.pack(folder, self.sample_rate, self.path, report)
        publish.check_published(folder, self.content_fingerprint, self.sample_rate)
        with files.building_file(self.latest) as scratch:
            files.link_or_copy(self.path, scratch)
        facts = {"sha256": sha256, "bytes": self.path.stat().st_size}
        facts |= {"names": [self.path.name, self.latest.name], "fingerprint": self.fingerprint}
        files.write_json(sidecar, {**facts, "seconds": round(time.monotonic() - started, 3)})


def publish_and_pack(
    places: Places, jobs: Sequence[TaskJob], sample_rates: tuple[int, ...], mirrors: tuple[str, ...]
) -> list[Step]:
    """The steps whose completion means that task folders and tarballs are there."""
    steps: list[Step] = []
    for job in jobs:
        options = {"job": job, "sample_rates": sample_rates, "mirrors": mirrors}
        steps.append(PublishTask(places, **options))
        steps += [PackTar(places, sample_rate=rate, **options) for rate in sample_rates]
    return steps


def _reader_digest(task: TaskSpec) -> str:
    """Digest of the corpus module's code: another way to read labels must never pass for the old one."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(task.read_recordings) or task.read_recordings))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()
