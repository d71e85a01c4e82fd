"""Room 1 as steps: archives, labels and splits, clips, the published folder, its tarballs."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path

import luigi

from heareval import files, layout, progress
from heareval.layout import Places
from heareval.spec import LISTED
from heareval.tasks import adopt, archive, audio, metadata, publish
from heareval.workflow.corpus import CorpusStep, ExtractPublished, FetchListed, TaskJob, reader_digest
from heareval.workflow.step import Step, read_manifest, versions, write_manifest


class TaskStep(CorpusStep):
    """A step that makes something of a task's corpus."""

    @functools.cached_property
    def clips_fingerprint(self) -> str:
        """Changes with whatever decides which clips there are and what they are called."""
        if self.job.published:
            inputs = [self.job.folder, self.tarball.fingerprint]
            return files.fingerprint("adopt", adopt.VERSION, inputs=inputs)
        mode = self.job.mode_spec
        settings = {
            "description": metadata.task_metadata(self.job.spec, self.job.mode, mode),
            "drop_missing_files": mode.drop_missing_files,
            "archives": [[step.download.folder, step.fingerprint] for step in self.extractions],
            "listed": [step.fingerprint for step in self.listed],
            "reader": reader_digest(self.job.spec),
            "content": self.job.spec.content,
        }
        return files.fingerprint("clips", metadata.VERSION, **settings)

    @functools.cached_property
    def content_fingerprint(self) -> str:
        """Changes with whatever decides the clips' samples, whichever rates are asked for."""
        settings = {
            "engine": [self.job.engine, audio.engine_version(self.job.engine)],
            "duration_s": self.clip_duration_s,
        }
        return files.fingerprint("audio", audio.VERSION, inputs=self.clips_fingerprint, **settings)

    @functools.cached_property
    def listed(self) -> list[FetchListed]:
        """The step that fetches the single files which the archives name, if they do."""
        if self.job.mode_spec.listed_files is None:
            return []
        return [FetchListed(self.places, job=self.job, mirrors=self.mirrors)]

    @property
    def clip_duration_s(self) -> float | None:
        """What clips are trimmed or padded to; those of a finished tarball keep the length that they have."""
        return None if self.job.published else self.job.spec.duration_s(self.job.mode)

    @property
    def tarball(self) -> ExtractPublished:
        """The step that brings the finished tarball of a job which names one."""
        return ExtractPublished(self.places, job=self.job, mirrors=self.mirrors)

    @property
    def draw(self) -> DrawClips | AdoptClips:
        """The step that decides which clips there are."""
        step = AdoptClips if self.job.published else DrawClips
        return step(self.places, job=self.job, mirrors=self.mirrors)

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

    def requires(self) -> list[Step]:
        return [*self.extractions, *self.listed]

    def complete(self) -> bool:
        return self.folder.exists()

    def work(self, report: progress.Report) -> None:
        started = time.monotonic()
        task, mode = self.job.spec, self.job.mode
        listed = {LISTED: self.listed[0].folder / "files"} if self.listed else {}
        archives = {**self.archives(), **listed}
        drawn = metadata.draw_clips(task, mode, task.read_recordings(archives, mode))
        with files.building_folder(self.folder) as scratch:
            metadata.write_description(scratch, task, mode, drawn)
            metadata.write_clips(scratch / metadata.CLIPS, drawn, self.extracted_root)
            counts = {split: len(drawn.of_split(split)) for split in task.splits_of(mode).names}
            facts = {"clips": counts, "dropped": drawn.dropped, "warnings": drawn.warnings}
            facts["archives"] = [each for step in (*self.extractions, *self.listed) for each in step.facts()]
            write_manifest(scratch, self.clips_fingerprint, started, **facts)


class AdoptClips(TaskStep):
    """The labels and splits of a finished tarball, as they are, and where each clip comes from."""

    @property
    def title(self) -> str:
        return f"{self.name}: labels and splits of the tarball"

    @property
    def folder(self) -> Path:
        return self.places.stage(self.job.folder, "clips", self.clips_fingerprint)

    def requires(self) -> ExtractPublished:
        return self.tarball

    def complete(self) -> bool:
        return self.folder.exists()

    def work(self, report: progress.Report) -> None:
        started = time.monotonic()
        task, mode, source = self.job.spec, self.job.mode, self.tarball.folder
        inside = adopt.read_inside(source / "files", task, mode, report)
        with files.building_folder(self.folder) as scratch:
            adopt.copy_description(inside, scratch)
            metadata.write_clips(scratch / metadata.CLIPS, inside.drawn, self.extracted_root)
            counts = {split: len(inside.drawn.of_split(split)) for split in task.splits_of(mode).names}
            facts = {"clips": counts, "dropped": [], "warnings": inside.drawn.warnings}
            facts["archives"] = [{**read_manifest(source)["archive"], "published": inside.is_published}]
            write_manifest(scratch, self.clips_fingerprint, started, **facts)


class PrepareClips(TaskStep):
    """One shard of a task's clips at some rates."""

    sample_rates = luigi.TupleParameter()
    shard = luigi.IntParameter()

    @property
    def shards(self) -> int:
        return self.job.spec.shards(self.job.mode)

    @property
    def title(self) -> str:
        return f"{self.name}: clips {self.shard + 1}/{self.shards}"

    @property
    def folder(self) -> Path:
        settings = {"rates": self.sample_rates, "shard": self.shard, "shards": self.shards}
        fingerprint = files.fingerprint("shard", audio.VERSION, content=self.content_fingerprint, **settings)
        return self.places.stage(self.job.folder, f"shard{self.shard:03d}", fingerprint)

    def requires(self) -> TaskStep:
        return self.draw

    def complete(self) -> bool:
        return self.folder.exists()

    def work(self, report: progress.Report) -> None:
        started = time.monotonic()
        clips = metadata.read_clips(self.draw.folder / metadata.CLIPS, self.extracted_root)
        start, end = (len(clips) * i // self.shards for i in (self.shard, self.shard + 1))
        settings = audio.AudioSettings(self.sample_rates, self.clip_duration_s, self.job.engine)
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
    def shards(self) -> list[PrepareClips]:
        options = {"job": self.job, "mirrors": self.mirrors, "sample_rates": self.missing_rates}
        shards = range(self.job.spec.shards(self.job.mode))
        return [PrepareClips(self.places, shard=i, **options) for i in shards]

    def requires(self) -> list[TaskStep]:
        return [self.draw, *self.shards]

    def complete(self) -> bool:
        return set(self.sample_rates) <= self.rates_there()

    def work(self, report: progress.Report) -> None:
        drawn = files.read_json(self.draw.folder / files.MANIFEST)
        manifest = {
            "fingerprint": self.content_fingerprint,
            "task": self.job.spec.name,
            "mode": self.job.mode,
            "engine": self.job.engine,
            "tarball": adopt.name_of(self.job.published) if self.job.published else None,
            "is_the_published_corpus": _all_published([a["published"] for a in drawn["archives"]]),
            **{key: drawn[key] for key in ("archives", "clips", "dropped", "warnings")},
            "versions": versions("heareval", "numpy", "soundfile", "soxr"),
        }
        shards = [shard.folder for shard in self.shards]
        publish.publish_task(self.folder, self.draw.folder, shards, self.missing_rates, manifest)


def _all_published(published: list[bool | None]) -> bool | None:
    """Whether all archives are the published ones; None where nobody can know it."""
    if False in published:
        return False
    return True if published and None not in published else None


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
