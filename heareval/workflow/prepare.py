"""Room 1's last steps: clips at every rate, the published folder, its tarballs."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import luigi

from heareval import files, layout, progress
from heareval.formats.tarball_record import TarballRecord, find_tarball_record, write_tarball_record
from heareval.formats.task_manifest import Archive, SkippedClip, TaskManifest, find_task_manifest
from heareval.layout import Places
from heareval.tasks import adopt, audio, metadata, publish, tarball
from heareval.workflow.corpus import TaskJob
from heareval.workflow.draw import TaskStep
from heareval.workflow.step import Step, read_manifest, versions, write_manifest


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

    def _folder_of(self, content: str) -> Path:
        settings = {"rates": self.sample_rates, "shard": self.shard, "shards": self.shards}
        fingerprint = files.fingerprint("shard", audio.VERSION, content=content, **settings)
        return self.places.stage(self.job.folder, f"shard{self.shard:03d}", fingerprint)

    @property
    def folder(self) -> Path:
        whole = self._folder_of(self.samples_fingerprint)
        # One that was finished where bad sources are errors has no gaps, and serves where they are not, too.
        if self.job.on_bad_audio == "fail" or whole.exists():
            return whole
        return self._folder_of(f"{self.samples_fingerprint} with gaps")

    def requires(self) -> list[TaskStep]:
        return [self.draw, self.sounds] if self.sounds else [self.draw]

    def complete(self) -> bool:
        return self.folder.exists()

    def work(self, report: progress.Report) -> None:
        started = time.monotonic()
        count = sum(read_manifest(self.draw.folder)["clips"].values())
        start, end = (count * i // self.shards for i in (self.shard, self.shard + 1))
        root = self.sounds.folder if self.sounds else self.extracted_root
        clips = metadata.read_clips(self.draw.folder / metadata.CLIPS, root, start, end)
        skip_bad = self.job.on_bad_audio == "skip"
        settings = audio.AudioSettings(self.sample_rates, self.clip_duration_s, self.job.engine, skip_bad)
        with files.building_folder(self.folder) as scratch:
            skipped = audio.prepare_clips(clips, scratch, settings, report)
            facts = {"clips": len(clips), "rates": self.sample_rates, "skipped": [asdict(s) for s in skipped]}
            write_manifest(scratch, self.samples_fingerprint, started, **facts)


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
        manifest = find_task_manifest(self.folder)
        is_current = manifest and manifest.fingerprint == self.content_fingerprint
        return set(manifest.sample_rates) if manifest and is_current else set()

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
        drawn, shards = read_manifest(self.draw.folder), [shard.folder for shard in self.shards]
        skipped = [SkippedClip(**each) for shard in shards for each in read_manifest(shard)["skipped"]]
        archives = tuple(Archive(**each) for each in drawn["archives"])
        manifest = TaskManifest(
            fingerprint=self.fingerprint_without(skipped),
            task=self.job.spec.name,
            mode=self.job.mode,
            engine=self.job.engine,
            tarball=adopt.name_of(self.job.published) if self.job.published else None,
            is_the_published_corpus=_all_published([archive.published for archive in archives]),
            archives=archives,
            clips=drawn["clips"],
            dropped=tuple(drawn["dropped"]),
            warnings=tuple(drawn["warnings"]),
            skipped=tuple(skipped),
            versions=versions("heareval", "numpy", "soundfile", "soxr"),
        )
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

    @property
    def fingerprint(self) -> str:
        """Of the task's clips as they are published now, and the rate."""
        settings = {"content": self.content_fingerprint, "sample_rate": self.sample_rate}
        return files.fingerprint("tar", tarball.VERSION, **settings)

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
        record = find_tarball_record(self.path)
        if not (self.path.exists() and self.latest.exists() and record):
            return False
        return record.fingerprint == self.fingerprint

    def complete(self) -> bool:
        # Which clips there are if some may be skipped, only the published task tells.
        is_known = self.job.on_bad_audio == "fail" or self.requires().complete()
        return is_known and self.is_packed() and tarball.is_listed(self.path)

    def work(self, report: progress.Report) -> None:
        sidecar = layout.tar_manifest(self.path)
        with files.locked(sidecar.with_suffix(".lock")):
            if not self.is_packed():
                self._pack(report)
        tarball.write_checksums(self.path.parent)

    def _pack(self, report: progress.Report) -> None:
        started = time.monotonic()
        # Taken once: where clips may be skipped they follow the folder, which another run may replace.
        folder, content, fingerprint = self.requires().folder, self.content_fingerprint, self.fingerprint
        publish.check_published(folder, content, self.sample_rate)
        sha256 = tarball.pack(folder, self.sample_rate, self.path, report)
        publish.check_published(folder, content, self.sample_rate)
        with files.building_file(self.latest) as scratch:
            files.link_or_copy(self.path, scratch)
        names, seconds = (self.path.name, self.latest.name), round(time.monotonic() - started, 3)
        record = TarballRecord(sha256, self.path.stat().st_size, names, fingerprint, seconds)
        write_tarball_record(self.path, record)


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
